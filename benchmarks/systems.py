"""Ours and the peers behind one interface: a fresh database, a queue filled, workers started, jobs counted."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.install import NODE, PEERS, PYTHON
from benchmarks.peers.driving import COUNTED, MARKS
from benchmarks.servers import BenchError, Running, Servers, Urls, answer, one, running, until
from benchmarks.servers import ours as our_environment
from db.security import seeing_all_tenants


@dataclass(frozen=True)
class Kind:
    """A system under measurement. `left` counts the jobs that are not done, `done` those that are, `effects` the
    rows that they left; without `left` its handlers leave a dot each. `share`: the part of the usual number of jobs
    that is given to a slow one. `superuser`: its migrations give things to the role `postgres`."""

    name: str
    script: str
    config: str
    workers: int = 2
    left: str | None = None
    done: str | None = None
    effects: str | None = None
    share: float = 1.0
    bulk: bool = True
    superuser: bool = False


LEFT = """
SELECT (SELECT count(*) FROM job_queue WHERE status = 'pending' AND wake_at IS NULL)
     + (SELECT count(*) FROM job_queue WHERE status = 'pending' AND wake_at IS NOT NULL)
     + (SELECT count(*) FROM job_queue WHERE status = 'running')
"""
"""Jobs that are not finished: one partial index for each part, however many rows of history there are. A scan of the
table would be paid by the measure, and its parallel workers be counted as the system's."""

OURS = Kind(
    "ours",
    "benchmarks.ours",
    "2 processes x 8 threads and a scheduler, as shipped (log at INFO to a file)",
    workers=1,
    left=LEFT,
    done="SELECT count(*) FROM job_queue WHERE job_type LIKE 'bench.%' AND status = 'completed' AND attempts = 1",
    effects="SELECT count(*) FROM system_metrics WHERE name = 'bench'",
)
PGQUEUER = Kind(
    "pgqueuer",
    "pgqueuer_driver.py",
    "2 workers, batch 100, asyncpg + uvloop",
    left="SELECT count(*) FROM pgqueuer",
    done="SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'",
)
GRAPHILE = Kind(
    "graphile-worker",
    "graphile_driver.py",
    "2 processes x 24 jobs, localQueue 500, completeJobBatchDelay 0",
    left="SELECT count(*) FROM graphile_worker._private_jobs",
)
PROCRASTINATE = Kind(
    "procrastinate",
    "procrastinate_driver.py",
    "2 workers, concurrency 20, async task, quiet log",
    left="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    done="SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    share=0.1,
)
CELERY = Kind(
    "celery",
    "celery_driver.py",
    "prefork, 2 processes, prefetch 4, acknowledged early; not durable",
    workers=1,
    share=0.1,
    bulk=False,
)
DRAMATIQ = Kind(
    "dramatiq",
    "dramatiq_driver.py",
    "drain: 2 processes x 1 thread, prefetch 100; else as shipped (2 x 8); not durable",
    workers=1,
    share=0.5,
    bulk=False,
)

RIVALS = (PGQUEUER, GRAPHILE, PROCRASTINATE, CELERY, DRAMATIQ)

STRIPE_SYNC = Kind(
    "stripe-sync-engine",
    "stripe_sync.cjs",
    "2 processes x 10 webhooks at once; copies Stripe's objects and decides nothing; stores no event",
    superuser=True,
)


@dataclass
class System:
    """A kind of system, on these servers. `folder` is for logs and for what handlers note down."""

    kind: Kind
    servers: Servers
    folder: Path
    suffix: str = ""
    like: "System | None" = None
    """One whose template is copied here, too."""
    prepared: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        return self.kind.name

    @cached_property
    def database(self) -> str:
        return f"bench_{self.name.replace('-', '_')}{self.suffix}"

    @cached_property
    def urls(self) -> Urls:
        return self.servers.urls(self.database)

    @cached_property
    def marks(self) -> Path:
        return self.folder / f"{self.name}.marks"

    @property
    def template(self) -> str:
        """A database with the system's tables and nothing in them; it is made when first asked for."""
        if self.like is not None:
            return self.like.template
        name = f"{self.database}_template"
        if not self.prepared:
            self.ask("setup", urls=self.servers.create(name))
            self.prepared = True
        return name

    def fresh(self) -> None:
        """Forget everything."""
        self.servers.create(self.database, self.template)
        self.marks.write_bytes(b"")

    def fill(self, jobs: int, how: str, job: str = "noop") -> float:
        """Enqueue so many; returns the seconds that it took."""
        seconds: float = self.ask("fill", str(jobs), how, BENCH_JOB=job)["seconds"]
        return seconds

    def vacuum(self) -> None:
        """Do what autovacuum does in a queue that has been there for a while."""
        if self.kind.left:
            with self.connect() as connection:
                connection.execute("VACUUM ANALYZE")

    def send(self, pauses: Sequence[float]) -> list[tuple[int, int, int]]:
        """Enqueue a job after each pause: when called, committing, and in its handler, in ns."""
        sent = self.ask("send", json.dumps(list(pauses)))["sent"]
        starts: dict[int, int] = {}

        def all_started() -> bool:
            lines = self.marks.read_text().split("\n")[:-1]
            for number, instant in (map(int, line.split()) for line in lines):
                starts.setdefault(number, instant)
            return len(starts) >= len(sent)

        until(all_started, f"the last jobs of {self.name}", within=60)
        return [(called, committing, starts[number]) for number, (called, committing) in enumerate(sent, 1)]

    @contextmanager
    def working(self, purpose: str, workers: int = 0, /, **settings: str) -> Iterator[list[Running]]:
        """Its workers (so many, if not as many as usual), and whatever else it needs to work."""
        with ExitStack() as stack:

            def start(*words: str) -> Running:
                return stack.enter_context(running(words, self._environment(self.urls, **settings), self.folder))

            begun = [start(*self._script, "work", purpose) for _ in range(workers or self.kind.workers)]
            if self.kind is OURS:
                begun.append(start(sys.executable, "-m", "cli.main", "scheduler"))
            yield begun
            # All at once: one after the other, each would wait for its own end.
            for each in begun:
                each.ask_to_stop()

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(seeing_all_tenants(self.urls.owner), autocommit=True)

    def left(self, connection: psycopg.Connection, jobs: int) -> int:
        """How many of `jobs` are not done."""
        if self.kind.left is None:
            return jobs - self.marks.stat().st_size
        count: int = one(connection, self.kind.left)
        return count

    def check_done(self, connection: psycopg.Connection, jobs: int, *, effects: bool = False) -> None:
        """Every job once, by the system's own books.

        Raises:
            BenchError: the books say otherwise.
        """
        books = [query for query in (self.kind.done, self.kind.effects if effects else None) if query is not None]
        counts = [one(connection, query) for query in books]
        if self.kind.left is None:
            counts.append(self.marks.stat().st_size)
        if any(count != jobs for count in counts):
            raise BenchError(f"{self.name} was given {jobs} jobs and counts {counts}")

    @property
    def _script(self) -> tuple[str, ...]:
        if self.kind is OURS:
            return (sys.executable, "-m", self.kind.script)
        script = PEERS / self.kind.script
        return ("node" if script.suffix == ".cjs" else str(PYTHON), str(script))

    def ask(self, *words: str, urls: Urls | None = None, **more: str) -> Any:
        """The answer of its script (see `benchmarks/peers/driving.py`), with `more` in its environment."""
        return answer([*self._script, *words], self._environment(urls or self.urls, **more), self.folder)

    def _environment(self, urls: Urls, **more: str) -> dict[str, str]:
        ours_alone = self.kind is OURS
        owner = self.servers.superuser(urls.owner.rpartition("/")[2]) if self.kind.superuser else urls.owner
        counted = {} if self.kind.left else {COUNTED: "1"}
        return our_environment(
            DATABASE_URL=urls.app if ours_alone else owner,
            DIRECT_URL=owner,
            REDIS_URL=urls.redis,
            NODE_HOME=str(NODE),
            **{MARKS: str(self.marks)},
            **counted,
            **more,
        )
