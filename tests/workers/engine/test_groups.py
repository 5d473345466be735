"""Jobs that share a commit: each as if it were alone. The effects are rows without any unique constraint."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from db.transaction import SYSTEM, Tx
from domain.errors import Rejected
from tests.builders import a_tenant, job_row
from tests.conftest import Servers
from tests.proxy import Proxy, proxied
from workers.app import App, build
from workers.engine.job import Context, JobType, job
from workers.engine.runner import Runner
from workers.settings import Settings

Act = Callable[[Context, Tx, str], None]


def mark(tx: Tx, name: str) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))


class Process:
    """A worker process whose jobs, one a name, do as they are told."""

    def __init__(self, app: App) -> None:
        self.before: dict[str, Callable[[Context], object]] = {}
        self.acts: dict[str, Act] = {}
        self.ran: list[str] = []
        self.type: JobType[[str]] = job("testing.grouped", system=True, grouped=True, max_attempts=1)(self._handle)
        self.app = replace(app, job_types={self.type.name: self.type})
        self.runner: Runner = self.app.runner(batch_size=100)
        with app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(
                self.runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=timedelta(minutes=1)
            )

    def _handle(self, ctx: Context, name: str) -> None:
        self.ran.append(name)
        if name in self.before:
            self.before[name](ctx)
        with ctx.finish() as tx:
            mark(tx, name)
            if name in self.acts:
                self.acts[name](ctx, tx, name)

    def run(self, names: str) -> dict[str, UUID]:
        """Enqueue a job for each letter and run them in one batch. Returns the jobs' ids."""
        with self.app.db.transaction(SYSTEM) as tx:
            ids = self.type.enqueue_many(tx, [{"name": name} for name in names])
        self.runner.run("default", [str(job_id) for job_id in ids])
        return dict(zip(names, ids, strict=True))


@pytest.fixture
def process(app: App) -> Process:
    return Process(app)


def marks(app: App) -> str:
    with app.db.transaction(SYSTEM) as tx:
        return "".join(row[0] for row in tx.driver.execute("SELECT name FROM system_metrics ORDER BY name"))


def commits(app: App) -> int:
    """In how many transactions the jobs were completed."""
    with app.db.transaction(SYSTEM) as tx:
        [count] = tx.driver.execute("SELECT count(DISTINCT completed_at) FROM job_queue").fetchone() or (0,)
    return int(count)


def statuses(app: App, ids: dict[str, UUID]) -> dict[str, str]:
    return {name: job_row(app, job_id)["status"] for name, job_id in ids.items()}


def test_they_share_a_commit(process: Process, app: App) -> None:
    ids = process.run("abcde")
    assert set(statuses(app, ids).values()) == {"completed"}
    assert (marks(app), commits(app), process.ran) == ("abcde", 1, list("abcde"))
    assert process.runner.leases == frozenset()


def refuse(ctx: Context, tx: Tx, name: str) -> None:
    raise Rejected("never")


def divide_by_zero(ctx: Context, tx: Tx, name: str) -> None:
    tx.driver.execute("SELECT 1 / 0")


def hide_an_error(ctx: Context, tx: Tx, name: str) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        tx.driver.execute("SELECT 1 / 0")


@pytest.mark.parametrize("act", [refuse, divide_by_zero, hide_an_error])
def test_one_that_fails_fails_alone(process: Process, app: App, act: Act) -> None:
    process.acts["c"] = act
    ids = process.run("abcde")
    assert statuses(app, ids) == dict.fromkeys("abde", "completed") | {"c": "failed"}
    assert marks(app) == "abde"
    assert commits(app) == 1 + 1  # and the failure's
    with app.db.transaction(SYSTEM) as tx:
        assert len(tx.jobs.attempts(ids["c"])) == 1


def test_what_does_not_suit_a_group_is_done_alone(process: Process, app: App) -> None:
    """A second transaction would wait for the locks that the group's own holds."""

    def begin_another(ctx: Context) -> None:
        with ctx.begin() as tx:
            mark(tx, "z")

    process.before["b"] = begin_another
    ids = process.run("abc")
    assert set(statuses(app, ids).values()) == {"completed"}
    assert (marks(app), process.ran) == ("abcz", list("abcb"))


def test_one_whose_lease_is_lost_keeps_nothing_and_the_others_lose_nothing(process: Process, app: App) -> None:
    def lose_the_lease(ctx: Context, tx: Tx, name: str) -> None:
        with app.db.separate().transaction(SYSTEM) as other:
            other.driver.execute(
                "UPDATE job_queue SET status = 'pending', lease_token = NULL WHERE id = %s", (ctx.job.id,)
            )

    process.acts["b"] = lose_the_lease
    ids = process.run("abc")
    assert statuses(app, ids) == {"a": "completed", "b": "pending", "c": "completed"}
    assert marks(app) == "ac"


def test_a_refused_commit_is_tried_again_one_by_one(process: Process, app: App, owner_url: str) -> None:
    """A deferred constraint speaks only at the COMMIT, of all of them."""

    def break_a_deferred_constraint(ctx: Context, tx: Tx, name: str) -> None:
        tx.driver.execute("INSERT INTO deferred VALUES (1), (1)")

    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        owner.execute("GRANT INSERT ON deferred TO viral_app")
    process.acts["b"] = break_a_deferred_constraint
    ids = process.run("abc")
    assert statuses(app, ids) == {"a": "completed", "b": "failed", "c": "completed"}
    assert marks(app) == "ac"


def test_each_sees_its_own_tenants_rows(app: App) -> None:
    seen: dict[UUID, list[UUID]] = {}

    @job("testing.grouped", grouped=True)
    def look(ctx: Context, tenant_id: UUID) -> None:
        with ctx.finish() as tx:
            seen[tenant_id] = [row[0] for row in tx.driver.execute("SELECT id FROM tenants")]

    tenants = [a_tenant(app, id=uuid4()) for _ in range(3)]
    runner = replace(app, job_types={look.name: look}).runner(batch_size=100)
    with app.db.transaction(SYSTEM) as tx:
        ids = look.enqueue_many(tx, [{"tenant_id": tenant_id} for tenant_id in tenants])
    runner.run("default", [str(job_id) for job_id in ids])
    assert seen == {tenant_id: [tenant_id] for tenant_id in tenants}
    assert {job_row(app, job_id)["status"] for job_id in ids} == {"completed"}


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    with proxied("127.0.0.1", servers.postgres.port) as proxy:
        yield proxy


def test_a_commit_whose_answer_was_lost_doubles_nothing(proxy: Proxy, settings: Settings, app: App) -> None:
    through = settings.model_copy(update={"database_url": proxy.url(settings.database_url) + "?sslmode=disable"})
    cut_off = Process(build(through, name="proxied"))

    def go_deaf(ctx: Context, tx: Tx, name: str) -> None:
        proxy.deaf_after = b"COMMIT"

    cut_off.acts["c"] = go_deaf
    ids = cut_off.run("abc")
    assert proxy.cuts == 1
    assert set(statuses(app, ids).values()) == {"completed"}
    assert marks(app) == "abc"
    cut_off.app.close()
