"""A connection that is cut during COMMIT says nothing about what happened: the row does."""

from dataclasses import replace
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from tests.builders import job_row
from tests.conftest import Servers
from tests.proxy import Proxy, proxied
from workers.app import App, build
from workers.engine.job import Context, job
from workers.settings import Settings


@pytest.fixture
def proxy(servers: Servers):  # type: ignore[no-untyped-def]
    with proxied("127.0.0.1", servers.postgres.port) as proxy:
        yield proxy


def behind(proxy: Proxy, settings: Settings) -> App:
    """An app whose only way to Postgres is the proxy."""
    through = settings.model_copy(update={"database_url": proxy.url(settings.database_url) + "?sslmode=disable"})

    @job("testing.cut_off", system=True)
    def cut_off(ctx: Context) -> None:
        with ctx.finish() as tx:
            tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('effect', 1)")
            proxy.deaf_after = b"COMMIT"

    return replace(build(through, name="proxied"), job_types={"testing.cut_off": cut_off})


def test_a_commit_whose_answer_was_lost_is_found_to_have_happened(proxy: Proxy, settings: Settings, app: App) -> None:
    cut_off = behind(proxy, settings)
    job_id = enqueue(app, cut_off)
    cut_off.runner().run_one(job_id)
    row = job_row(app, job_id)
    assert proxy.cuts == 1
    assert (row["status"], row["attempts"]) == ("completed", 1)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT count(*) FROM system_metrics").fetchone() == (1,)
        assert tx.jobs.attempts(job_id) == []
    cut_off.close()


def enqueue(app: App, other: App) -> UUID:
    [job_type] = other.job_types.values()
    with app.db.transaction(SYSTEM) as tx:
        return job_type.enqueue(tx)
