"""Jobs that are handled together: each as if it were alone. The effects are rows without any unique constraint."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM, Tx
from domain.errors import Rejected
from tests.builders import job_row
from tests.conftest import Servers
from tests.proxy import Proxy, proxied
from workers.app import App, build
from workers.engine.job import Batch, Context, JobType, job
from workers.engine.runner import Runner
from workers.settings import Settings

Act = Callable[[Tx, UUID, str], None]


def mark(tx: Tx, name: str) -> None:
    tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))


class Process:
    """A worker process whose jobs, one a name, do as they are asked to; `together` is what each batch held."""

    def __init__(self, app: App) -> None:
        self.acts: dict[str, Act] = {}
        self.left: dict[str, str] = {}
        self.together: list[str] = []
        self.alone: list[str] = []
        declare = job("testing.together", system=True, many=self._handle_many, max_attempts=1)
        self.type: JobType[[str]] = declare(self._handle)
        self.app = replace(app, job_types={self.type.name: self.type})
        self.runner: Runner = self.app.runner(batch_size=100)
        with app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(
                self.runner.worker_id, hostname="h", pid=1, queues=(), version="", lease=timedelta(minutes=1)
            )

    def _handle_many(self, batch: Batch) -> None:
        self.together.append("".join(each.arguments["name"] for each in batch.jobs))
        for each in batch.jobs:
            name = each.arguments["name"]
            if name in self.left:
                each.leave(self.left[name])
            else:
                self._act(batch.tx, each.id, name)
                each.report(among=len(batch.jobs))

    def _handle(self, ctx: Context, name: str) -> None:
        self.alone.append(name)
        with ctx.finish() as tx:
            self._act(tx, ctx.job.id, name)

    def _act(self, tx: Tx, job_id: UUID, name: str) -> None:
        mark(tx, name)
        if name in self.acts:
            self.acts[name](tx, job_id, name)

    def enqueue(self, names: str) -> dict[str, UUID]:
        """Enqueue a job for each letter. Returns their ids."""
        with self.app.db.transaction(SYSTEM) as tx:
            ids = self.type.enqueue_many(tx, [{"name": name} for name in names])
        return dict(zip(names, ids, strict=True))

    def run(self, names: str) -> dict[str, UUID]:
        """Enqueue a job for each letter and run them in one batch. Returns their ids."""
        ids = self.enqueue(names)
        self.runner.run("default", [str(job_id) for job_id in ids.values()])
        return ids


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
    assert (marks(app), commits(app)) == ("abcde", 1)
    assert (process.together, process.alone) == (["abcde"], [])
    assert [job_row(app, job_id)["result"] for job_id in ids.values()] == [{"among": 5}] * 5
    assert process.runner.leases == frozenset()


def test_one_comes_alone(process: Process, app: App) -> None:
    ids = process.run("a")
    assert (statuses(app, ids), process.together, process.alone) == ({"a": "completed"}, [], ["a"])


def refuse(tx: Tx, job_id: UUID, name: str) -> None:
    raise Rejected("never")


def divide_by_zero(tx: Tx, job_id: UUID, name: str) -> None:
    tx.driver.execute("SELECT 1 / 0")


def hide_an_error(tx: Tx, job_id: UUID, name: str) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        tx.driver.execute("SELECT 1 / 0")


@pytest.mark.parametrize("act", [refuse, divide_by_zero, hide_an_error])
def test_poison_fails_alone_after_one_attempt_and_the_others_lose_none(process: Process, app: App, act: Act) -> None:
    process.acts["c"] = act
    ids = process.run("abcde")
    assert statuses(app, ids) == dict.fromkeys("abde", "completed") | {"c": "failed"}
    assert marks(app) == "abde"
    assert process.alone == ["c"]
    assert {job_row(app, job_id)["attempts"] for job_id in ids.values()} == {1}
    with app.db.transaction(SYSTEM) as tx:
        assert [len(tx.jobs.attempts(job_id)) for job_id in ids.values()] == [0, 0, 1, 0, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(names=st.integers(1, 12).map(lambda n: "abcdefghijkl"[:n]), data=st.data())
def test_whatever_is_poison_or_left_each_effect_happens_once(names: str, data: st.DataObject, app: App) -> None:
    poison = data.draw(st.sets(st.sampled_from(names)), label="poison")
    left = data.draw(st.sets(st.sampled_from(names)), label="left")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM system_metrics")
    process = Process(app)
    process.acts = dict.fromkeys(poison, refuse)
    process.left = dict.fromkeys(left, "it is another's turn")
    ids = process.run(names)
    assert statuses(app, ids) == {name: "failed" if name in poison else "completed" for name in names}
    assert marks(app) == "".join(name for name in names if name not in poison)
    assert poison | left <= set(process.alone), "neither is done with others"
    assert len(process.alone) == len(set(process.alone)), "one attempt each"
    assert process.runner.leases == frozenset()


def test_what_is_left_runs_alone_after_the_others(process: Process, app: App) -> None:
    process.left["b"] = "it wants more than the others"
    ids = process.run("abc")
    assert set(statuses(app, ids).values()) == {"completed"}
    assert (marks(app), process.together, process.alone) == ("abc", ["abc"], ["b"])
    assert commits(app) == 2


def test_one_that_is_to_be_stopped_or_cannot_be_read_is_in_no_batch(process: Process, app: App) -> None:
    ids = process.enqueue("abcd")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET cancel_requested_at = now() WHERE id = %s", (ids["a"],))
        tx.driver.execute("UPDATE job_queue SET payload = '{}' WHERE id = %s", (ids["b"],))
    process.runner.run("default", [str(job_id) for job_id in ids.values()])
    assert statuses(app, ids) == {"a": "cancelled", "b": "failed", "c": "completed", "d": "completed"}
    assert (marks(app), process.together, process.alone) == ("cd", ["cd"], [])


def test_one_whose_lease_is_lost_keeps_nothing_and_the_others_lose_nothing(process: Process, app: App) -> None:
    def lose_the_lease(tx: Tx, job_id: UUID, name: str) -> None:
        with app.db.separate().transaction(SYSTEM) as other:
            other.driver.execute("UPDATE job_queue SET status = 'pending', lease_token = NULL WHERE id = %s", (job_id,))

    process.acts["b"] = lose_the_lease
    ids = process.run("abc")
    assert statuses(app, ids) == {"a": "completed", "b": "pending", "c": "completed"}
    assert marks(app) == "ac"


def test_a_refused_commit_costs_only_the_one_that_it_is_refused_for(process: Process, app: App, owner_url: str) -> None:
    """A deferred constraint speaks only at the COMMIT, of all of them."""

    def break_a_deferred_constraint(tx: Tx, job_id: UUID, name: str) -> None:
        tx.driver.execute("INSERT INTO deferred VALUES (1), (1)")

    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE deferred (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        owner.execute("GRANT INSERT ON deferred TO viral_app")
    process.acts["b"] = break_a_deferred_constraint
    ids = process.run("abc")
    assert statuses(app, ids) == {"a": "completed", "b": "failed", "c": "completed"}
    assert marks(app) == "ac"


def test_only_a_system_type_may_handle_many(app: App) -> None:
    def handle(ctx: Context, tenant_id: UUID) -> None: ...

    with pytest.raises(ValueError, match="it has to be a system type"):
        job("testing.together", many=lambda batch: None)(handle)


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    with proxied("127.0.0.1", servers.postgres.port) as proxy:
        yield proxy


def test_a_commit_whose_answer_was_lost_doubles_nothing(proxy: Proxy, settings: Settings, app: App) -> None:
    through = settings.model_copy(update={"database_url": proxy.url(settings.database_url) + "?sslmode=disable"})
    cut_off = Process(build(through, name="proxied"))

    def go_deaf(tx: Tx, job_id: UUID, name: str) -> None:
        proxy.deaf_after = b"COMMIT"

    cut_off.acts["c"] = go_deaf
    ids = cut_off.run("abc")
    assert proxy.cuts == 1
    assert set(statuses(app, ids).values()) == {"completed"}
    assert marks(app) == "abc"
    cut_off.app.close()
