"""Five questions of three in the morning: each is answered by one page and by one shell command, alike.

The answer is read from what a person sees, the text of the page and the lines of the shell. Inputs are drawn anew, so
that no constant is right twice.
"""

import re
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from benchmarks.crawl import Document
from db.security import seeing_all_tenants
from db.transaction import SYSTEM
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_stripe_event, a_tenant, job_row
from tests.cli.shell import Shell
from tests.drain import drain
from tests.seeds import seeded
from web.ops.app import ops_routes
from workers.app import App
from workers.jobs.generation import generate_concepts
from workers.settings import Settings

ROUNDS = range(3)


class Asked:
    """Whoever asks: of a page, and of the shell, as a person reads them: words with single spaces, no markup."""

    def __init__(self, client: TestClient, viral: Shell) -> None:
        self._client = client
        self._viral = viral

    def page(self, path: str) -> str:
        response = self._client.get(path)
        assert response.status_code == 200, path
        return Document(response.text).text

    def shell(self, *words: object) -> str:
        result = self._viral(*words)
        assert result.code == 0, result.err
        return " ".join(result.out.split())

    def both(self, path: str, *words: object) -> tuple[str, str]:
        page = self.page(path)
        line = " ".join(["viral", *map(str, words)])
        assert line in page, "the page shows the line that says the same"
        return page, self.shell(*words)


@pytest.fixture
def asked(
    app: App, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Asked:
    environment = {
        "DATABASE_URL": settings.database_url,
        "DIRECT_URL": settings.direct_url,
        "REDIS_URL": settings.redis_url,
        "VIRAL_HOME": str(tmp_path / "home"),
        "COLUMNS": "400",
        "STRIPE_PRO_PRICE_ID": "price_pro,price_pro_yearly",
    }
    routes = Starlette(routes=ops_routes(app))
    client = TestClient(routes, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000))
    return Asked(client, Shell(environment, monkeypatch, capsys))


@pytest.fixture(params=ROUNDS)
def rng(request: pytest.FixtureRequest) -> Random:
    return seeded("five questions", request.node.name, request.param)


def answers(pattern: str, *texts: str) -> list[str]:
    """The answer that each text gives."""
    found = [re.search(pattern, text) for text in texts]
    assert all(found), [text[:600] for text, each in zip(texts, found, strict=True) if not each]
    return [each[1] for each in found if each]


def test_why_does_this_job_not_run(app: App, asked: Asked, rng: Random) -> None:
    tenant_id = a_tenant(app)
    minutes = rng.randrange(61, 600)
    with app.db.transaction(tenant_id) as tx:
        later = generate_concepts.with_options(delay=timedelta(minutes=minutes)).enqueue(tx, tenant_id)
        now = generate_concepts.enqueue(tx, tenant_id)
    paused = rng.random() < 0.5
    if paused:
        with app.db.transaction(SYSTEM) as tx:
            tx.queues.pause("llm")
    page, shell = asked.both(f"/ops/jobs/{now}", "jobs", "explain", now)
    assert [("paused" in text.partition("Attempts")[0]) for text in (page, shell)] == [paused, paused]
    due = job_row(app, later)["scheduled_for"].strftime("%Y-%m-%d %H:%M:%S")
    page, shell = asked.both(f"/ops/jobs/{later}", "jobs", "explain", later)
    assert due in shell
    assert due in page


def test_why_has_this_tenant_so_many_concepts_left(app: App, asked: Asked, rng: Random) -> None:
    limit, used, held = 50, rng.randrange(1, 30), rng.randrange(1, 15)
    tenant_id = a_tenant(app, monthly_quota=limit, subscription_tier="PRO", created_at=NOV_22)
    job_ids = [uuid4(), uuid4()]
    with app.db.transaction(tenant_id) as tx:
        now = tx.now()
        tx.quota.hold(tenant_id, job_ids[0], used, now)
        tx.quota.settle(tenant_id, job_ids[0], used)
        tx.quota.hold(tenant_id, job_ids[1], held, now)
    left = limit - used - held
    page = asked.page(f"/ops/tenants/{tenant_id}")
    assert f"viral quota explain {tenant_id}" in page
    shell = asked.shell("quota", "explain", tenant_id)
    assert answers(r"Why (\d+) concepts? (?:is|are) left", page) == [str(left)]
    assert answers(r"\b(\d+) (?:concepts? )?(?:of [\d,]+ )?(?:is|are) left", page, shell) == [str(left), str(left)]
    assert answers(r"(\d+) (?:were|was) taken", page, shell) == [str(used + held)] * 2
    assert answers(r"(\d+) of these (?:are|is) held", page, shell) == [str(held)] * 2


def test_what_became_of_this_stripe_event(app: App, asked: Asked, rng: Random) -> None:
    customer, is_ours = f"cus_{rng.randrange(10**6)}", rng.random() < 0.5
    if is_ours:
        a_tenant(app, stripe_customer_id=customer)
    body = stripe_event("customer.created", {"id": customer, "object": "customer", "created": 1_700_000_000}, at=NOV_22)
    job_id = a_stripe_event(app, body)
    drain(app)
    event_id = job_row(app, job_id)["payload"]["event_id"]
    with app.db.transaction(SYSTEM) as tx:
        row = tx.events.find(str(event_id))
    assert row is not None
    page, shell = asked.both(f"/ops/events/{event_id}", "events", "show", event_id)
    for text in (page, shell):
        assert customer in text
        assert str(row["external_id"]) in text
        assert re.search(rf"\b{re.escape(row['status'])}", text), text[:600]


DEPLOYED = """
INSERT INTO changes (kind, subject, at, after)
VALUES ('deploy', 'worker', now() - make_interval(mins => %s), jsonb_build_object('release', %s::text))
"""
FAILED = """
WITH job AS (
    INSERT INTO job_queue (job_type, queue, status, completed_at) VALUES ('videos.render', 'media', 'failed', now())
    RETURNING id
)
INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, release, ended_at)
SELECT id, 1, 'failed', 'ValueError', 'no frames', %(release)s, now() - make_interval(secs => %(ago)s) FROM job
"""


def test_which_release_made_failures_rise(asked: Asked, database_url: str, rng: Random) -> None:
    """Three releases in three hours; with one of the last two failures rose."""
    releases = [f"{rng.randrange(2, 9)}.{n}.{rng.randrange(100)}" for n in range(3)]
    bad = rng.randrange(1, 3)
    with psycopg.connect(seeing_all_tenants(database_url)) as connection:
        for n, release in enumerate(releases):
            begins = 210 - 60 * n
            connection.execute(DEPLOYED, (begins, release))
            for minute in range(2, 58, 2 if n >= bad else 28):
                connection.execute(FAILED, {"release": release, "ago": 60 * (begins - minute)})
    page, shell = asked.both("/ops/failures", "failures", "list")
    assert answers(r"rose with (\d+[.]\d+[.]\d+)", page) == [releases[bad]]
    assert re.search(rf"{re.escape(releases[bad])}\b", shell)


def test_which_posts_may_be_live_without_our_knowing(app: App, asked: Asked, database_url: str, rng: Random) -> None:
    posts = some_posts(
        database_url, a_tenant(app), [rng.choice(["unconfirmed", "published", "cancelled"]) for _ in range(9)]
    )
    posts |= some_posts(database_url, a_tenant(app), ["unconfirmed", "published"])
    doubtful = {str(post_id) for post_id, status in posts.items() if status == "unconfirmed"}
    page, shell = asked.both("/ops/posts", "waiting")
    for text in (page, shell):
        assert {str(post_id) for post_id in posts if str(post_id) in text} == doubtful


def some_posts(url: str, tenant_id: UUID, statuses: list[str]) -> dict[UUID, str]:
    posts = {uuid4(): status for status in statuses}
    with psycopg.connect(seeing_all_tenants(url)) as connection:
        account_id = uuid4()
        connection.execute(
            "INSERT INTO social_accounts (id, tenant_id, platform, external_id) VALUES (%s, %s, 'tiktok', '1')",
            (account_id, tenant_id),
        )
        for post_id, status in posts.items():
            video_id = uuid4()
            connection.execute("INSERT INTO videos (id, tenant_id) VALUES (%s, %s)", (video_id, tenant_id))
            connection.execute(
                "INSERT INTO social_posts (id, tenant_id, video_id, account_id, status, submitted_at) "
                "VALUES (%s, %s, %s, %s, %s, now())",
                (post_id, tenant_id, video_id, account_id, status),
            )
    return posts
