import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert
from starlette.applications import Starlette
from starlette.testclient import TestClient

from benchmarks.crawl import Document
from cli.commands.schedules import calendar
from db.schema.queue import schedule_fires
from db.transaction import SYSTEM
from tests.builders import an_ended_job
from web.ops.app import PAGES, ops_routes
from workers.app import App

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def ran(app: App, schedule: str, ago: timedelta, *, status: str = "completed") -> str:
    job_id = an_ended_job(app, status, ended=datetime.now(UTC) - ago)
    with app.db.transaction(SYSTEM) as tx:
        row = {"schedule": schedule, "fire_at": HOUR - ago, "job_id": job_id}
        tx.sql.execute(insert(schedule_fires).values(row))
    return str(job_id)


def line_of(ops: TestClient, schedule: str) -> str:
    text = ops.get("/ops/schedules").text
    return next(row for row in text.split("<tr") if f">{schedule}</th>" in row)


def test_every_schedule_is_there_with_its_timetable_and_its_next_run(ops: TestClient) -> None:
    for each in calendar():
        line = line_of(ops, each.name)
        assert each.timetable in line
        assert "on time" in line
        assert "no run with a job" in line
    text = Document(ops.get("/ops/schedules").text).text
    assert "viral schedules list" in text
    assert "viral schedules next" in text


def test_a_last_run_leads_to_its_job_and_an_overdue_one_says_for_how_long(app: App, ops: TestClient) -> None:
    late = ran(app, "billing.reconcile", timedelta(days=9), status="failed")
    line = line_of(ops, "billing.reconcile")
    assert f'href="/ops/jobs/{late}"' in line
    assert "failed" in line
    assert "overdue" in line
    assert re.search(r"overdue</span>\s+for \d+[dh]", line), line
    assert ops.get(f"/ops/jobs/{late}").status_code == 200
    assert "no scheduler seems to run" in ops.get("/ops/schedules").text


def test_without_a_calendar_the_page_says_so(app: App) -> None:
    client = TestClient(Starlette(routes=ops_routes(app)), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5))
    assert "knows no calendar" in client.get("/ops/schedules").text


@pytest.mark.parametrize(
    "titles",
    ["Start Queues Jobs Failures Events Tenants Posts Learning Providers Workers Schedules Notices Changes Actions"],
)
def test_the_menu_has_its_order(titles: str) -> None:
    assert [page.title.split()[0] for page in PAGES if page.in_menu][1:] == titles.split()[1:]
