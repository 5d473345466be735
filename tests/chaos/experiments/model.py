"""R14: every operation of the queue in any order, on the real Postgres and on a short model; they must agree."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from db.queue.claim import Terms, known_types
from db.queue.enqueue import NewJob
from db.queue.transitions import ClaimedJob, Done, FailedAttempt
from db.transaction import SYSTEM
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage
from workers.engine.outcomes import rescue

TYPE, QUEUE = "chaos.model", "default"
HOUR = timedelta(hours=1)
JOB_TYPES = known_types({TYPE: Terms(timeout=timedelta(days=1))})
ROWS = """
SELECT id, status, attempts, max_attempts, crashes, CASE WHEN status = 'running' THEN lease_token END,
       (SELECT count(*) FROM job_attempts a WHERE a.job_id = q.id)
FROM job_queue q WHERE job_type = 'chaos.model'
"""
DUE = "UPDATE job_queue SET scheduled_for = now() WHERE id = %s AND status = 'pending'"


@dataclass
class Modelled:
    """What a job is, to the model. `notes` are rows of `job_attempts`."""

    max_attempts: int
    key: str | None
    due: bool
    status: str = "pending"
    attempts: int = 0
    crashes: int = 0
    token: int | None = None
    worker: UUID | None = None
    notes: int = 0

    def leave(self, status: str, *, due: bool = True) -> None:
        self.status, self.token, self.worker, self.due = status, None, None, due


class Queue(RuleBasedStateMachine):
    system: ClassVar[System]
    steps: ClassVar[int] = 0
    refused: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Modelled] = {}
        self.claims: list[ClaimedJob] = []
        self.workers: dict[UUID, bool] = {}
        self.last_token = 0

    def begin(self) -> Any:
        type(self).steps += 1
        return self.system.app.db.transaction(SYSTEM, durable=False)

    @initialize()
    def empty(self) -> None:
        self.system.rows("DELETE FROM job_queue")
        self.system.rows("DELETE FROM workers")
        for _ in range(2):
            self.boot()

    @rule()
    def boot(self) -> None:
        worker = uuid4()
        self.beat(worker, timedelta(hours=1))
        self.workers[worker] = True

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(list(self.workers)))
        self.beat(worker, timedelta(seconds=-1))
        self.workers[worker] = False

    def beat(self, worker: UUID, lease: timedelta) -> None:
        with self.begin() as tx:
            tx.workers.beat(worker, hostname="model", pid=0, queues=(QUEUE,), version="", lease=lease)

    @rule(
        max_attempts=st.integers(1, 4),
        key=st.sampled_from([None, None, "a", "b"]),
        due=st.sampled_from([True, True, True, False]),
    )
    def add(self, max_attempts: int, key: str | None, due: bool) -> None:
        with self.begin() as tx:
            new = NewJob(
                tx.new_id(),
                TYPE,
                QUEUE,
                max_attempts=max_attempts,
                unique_key=key,
                delay=timedelta(0) if due else HOUR,
            )
            found = tx.enqueue(new)
        twin = self.live_twin(key)
        if twin is not None:
            assert found == twin
        else:
            assert found == new.id
            self.jobs[found] = Modelled(max_attempts, key, due)

    def live_twin(self, key: str | None) -> UUID | None:
        live = (
            job_id
            for job_id, job in self.jobs.items()
            if key and job.key == key and job.status in {"pending", "running"}
        )
        return next(live, None)

    def some(self, data: st.DataObject) -> list[UUID]:
        if not self.jobs:
            return []
        return data.draw(st.lists(st.sampled_from(list(self.jobs)), min_size=1, max_size=4, unique=True))

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        ids = self.some(data)
        worker = data.draw(st.sampled_from(list(self.workers)))
        with self.begin() as tx:
            claimed = tx.claims.claim([*ids, uuid4()], worker, JOB_TYPES)
        expected = {job_id for job_id in ids if self.jobs[job_id].status == "pending" and self.jobs[job_id].due}
        assert {each.id for each in claimed} == expected
        for each in claimed:
            job = self.jobs[each.id]
            job.status, job.worker, job.token = "running", worker, each.lease_token
            job.attempts += 1
            assert each.attempt == job.attempts
            assert each.lease_token > self.last_token
        self.last_token = max([self.last_token, *(each.lease_token for each in claimed)])
        self.claims += claimed

    def owned(self, claimed: ClaimedJob) -> bool:
        owned = self.jobs[claimed.id].token == claimed.lease_token and self.jobs[claimed.id].status == "running"
        type(self).refused += not owned
        return owned

    def a_claim(self, data: st.DataObject) -> ClaimedJob | None:
        """The lease of an attempt that runs, or of one that is long over."""
        if not self.claims:
            return None
        live = [claimed for claimed in self.claims if self.jobs[claimed.id].token == claimed.lease_token]
        chosen: ClaimedJob = data.draw(st.sampled_from(live or self.claims) | st.sampled_from(self.claims))
        return chosen

    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        if (claimed := self.a_claim(data)) is None:
            return
        with self.begin() as tx:
            done = tx.transitions.complete([Done(claimed, None)])
        assert done == ({claimed.id} if self.owned(claimed) else set())
        if done:
            self.jobs[claimed.id].leave("completed")

    @rule(data=st.data(), again=st.booleans(), due=st.booleans())
    def fail(self, data: st.DataObject, again: bool, due: bool) -> None:
        if (claimed := self.a_claim(data)) is None:
            return
        attempt = FailedAttempt("failed", "Error", "told to")
        job = self.jobs[claimed.id]
        again = again and job.attempts < job.max_attempts  # as `domain.queue.retries` decides
        with self.begin() as tx:
            if again:
                mine = tx.transitions.reschedule(claimed, attempt, timedelta(0) if due else HOUR)
            else:
                mine = tx.transitions.end(claimed, "failed", attempt)
        assert mine == self.owned(claimed)
        if mine:
            job.leave("pending" if again else "failed", due=due or not again)
            job.notes += 1

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if (claimed := self.a_claim(data)) is None:
            return
        with self.begin() as tx:
            tx.transitions.give_back([claimed])
        if self.owned(claimed):
            self.jobs[claimed.id].leave("pending")
            self.jobs[claimed.id].attempts -= 1

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        for job_id in self.some(data)[:1]:
            with self.begin() as tx:
                logged = tx.transitions.cancel(job_id)
            assert logged == {"pending": "cancelled", "running": "running"}.get(self.jobs[job_id].status)
            if logged == "cancelled":
                self.jobs[job_id].leave("cancelled")

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        for job_id in self.some(data)[:1]:
            job = self.jobs[job_id]
            over = job.status in {"failed", "cancelled"}
            try:
                with self.begin() as tx:
                    retried = tx.transitions.retry(job_id)
            except psycopg.errors.UniqueViolation:
                assert over
                assert self.live_twin(job.key) is not None
                continue
            assert retried == over
            if retried:
                job.leave("pending")
                job.crashes = 0
                job.max_attempts = max(job.max_attempts, job.attempts + 1)

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        for job_id in self.some(data):
            self.system.rows(
                "UPDATE job_queue SET scheduled_for = now() WHERE id = %s AND status = 'pending'", (job_id,)
            )
            self.jobs[job_id].due |= self.jobs[job_id].status == "pending"

    @rule()
    def reap(self) -> None:
        lost = [job for job in self.jobs.values() if job.worker and not self.workers[job.worker]]
        type(self).steps += 1
        assert rescue(self.system.app.db, {}) == len(lost)
        for job in lost:
            job.crashes += 1
            job.notes += 1
            hopeless = job.crashes >= CRASHES_BEFORE_QUARANTINE or job.attempts >= job.max_attempts
            job.leave("failed" if hopeless else "pending")

    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        """A process that stops gives back what it runs."""
        worker = data.draw(st.sampled_from(list(self.workers)))
        with self.begin() as tx:
            returned = set(tx.transitions.give_back_all(worker))
        mine = {job_id for job_id, job in self.jobs.items() if job.worker == worker}
        assert returned == mine
        for job_id in mine:
            self.jobs[job_id].leave("pending")
            self.jobs[job_id].attempts -= 1
            self.jobs[job_id].notes += 1

    @invariant()
    def the_table_agrees(self) -> None:
        rows = {row[0]: row[1:] for row in self.system.rows(ROWS)}
        expected = {
            job_id: (job.status, job.attempts, job.max_attempts, job.crashes, job.token, job.notes)
            for job_id, job in self.jobs.items()
        }
        assert rows == expected


def agreement(stage: Stage, finding: Finding) -> None:
    """R14."""
    wanted, examples = stage.size((20_000, 60), (600, 8))
    chosen = settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    with stage.servers.system(stage.name) as system:
        Queue.system, Queue.steps, Queue.refused = system, 0, 0
        rounds = 0
        try:
            while Queue.steps < wanted and stage.left() > 0:
                run_state_machine_as_test(seed(stage.seed + rounds)(Queue), settings=chosen)
                rounds += 1
        finally:
            finding.trials = Queue.steps
        finding.saw("operations", Queue.steps, least=wanted)
        finding.saw("of them under a lease that was over", Queue.refused)
        finding.lost = finding.doubled = 0
