"""How a job is declared, enqueued and handled: `@job` and the `Context` that its handler is given.

    @job("quota.reset_quota", queue="default", unique=("tenant_id", "period"))
    def reset_quota(ctx: Context, tenant_id: UUID, period: str) -> None:
        with ctx.finish() as tx:
            ...

    reset_quota.enqueue(tx, tenant_id=tenant.id, period="2026-12")

The declaration is the only place that knows a job's identity, queue and retries. `enqueue` takes exactly the
handler's own arguments, so a typo is a type error.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from time import monotonic
from typing import Any, Concatenate, Generic, ParamSpec
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from db.jobs import ClaimedJob, Done, NewJob
from db.transaction import SYSTEM, Database, Scope
from db.transaction import Tx as Tx
from domain.errors import PayloadInvalid, TenantContextNotSet
from domain.job import Backoff
from domain.ports import Ports

P = ParamSpec("P")

QUEUES = {"events": 200, "default": 200, "llm": 1, "media": 1, "social": 1}
"""Few, and named by what their jobs wait for. The number: how many a thread may take at once. Jobs that wait for the
outside are taken one by one; those that wait for nothing but Postgres are cheaper by the hundred."""

DEFAULT_BACKOFF = Backoff()


class LeaseLost(Exception):
    """Another worker owns the job by now. Everything of this attempt is rolled back."""


@dataclass(frozen=True)
class FailedJob:
    """What an `on_failure` hook is told, in the transaction in which the job becomes `failed`."""

    id: UUID
    tenant_id: UUID | None
    arguments: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Options:
    """How one enqueueing differs from the declaration."""

    at: datetime | None = None
    delay: timedelta = timedelta(0)
    priority: int | None = None
    max_attempts: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class JobType(Generic[P]):
    """A declared kind of job.

    `unique` and `ordering` name arguments of the handler: a second live job with equal `unique` arguments is a no-op
    that returns the first. A job works within its tenant's scope; one declared `system` sees every tenant's rows.
    """

    name: str
    handler: Callable[Concatenate["Context", P], None]
    queue: str = "default"
    system: bool = False
    unique: tuple[str, ...] = ()
    ordering: str | None = None
    priority: int = 5
    max_attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    on_failure: Callable[[Tx, FailedJob], None] | None = None
    options: Options = Options()

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise ValueError(f"job type {self.name}: unknown queue {self.queue!r}; the queues are {', '.join(QUEUES)}")
        unknown = {*self.unique, *([self.ordering] if self.ordering else [])} - self.parameters.keys()
        if unknown:
            raise ValueError(f"job type {self.name}: its handler has no argument {', '.join(sorted(unknown))}")

    def enqueue(self, tx: Tx, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Add the job in the caller's transaction; it is rung after the commit. Returns its id.

        Raises:
            PayloadInvalid: an argument does not fit the declaration.
        """
        bound = self._signature.bind(*args, **kwargs)
        return self.enqueue_payload(tx, bound.arguments)

    def enqueue_payload(self, tx: Tx, payload: Mapping[str, Any]) -> UUID:
        """`enqueue` for arguments that come as text or JSON (the shell, the API)."""
        values = self.validated(payload)
        tenant_id = values.pop("tenant_id", None)
        options = self.options
        return tx.jobs.add(
            NewJob(
                id=tx.new_id(),
                job_type=self.name,
                queue=self.queue,
                tenant_id=None if tenant_id is None else UUID(tenant_id),
                payload=values,
                priority=self.priority if options.priority is None else options.priority,
                max_attempts=self.max_attempts if options.max_attempts is None else options.max_attempts,
                scheduled_for=options.at,
                delay=options.delay,
                unique_key=options.key or self._key(values | {"tenant_id": tenant_id}),
                ordering_key=None if self.ordering is None else str(values[self.ordering]),
            )
        )

    def with_options(
        self,
        *,
        at: datetime | None = None,
        delay: timedelta = timedelta(0),
        priority: int | None = None,
        max_attempts: int | None = None,
        key: str | None = None,
    ) -> "JobType[P]":
        """The same job type, to be enqueued once in another way than it declares."""
        return replace(self, options=Options(at, delay, priority, max_attempts, key))

    def arguments(self, payload: Mapping[str, Any], tenant_id: UUID | None) -> dict[str, Any]:
        """The handler's arguments, typed, from a row of `job_queue`.

        Raises:
            PayloadInvalid: the row does not fit the declaration.
        """
        if not self.parameters and not payload:
            return {}
        row = dict(payload)
        if "tenant_id" in self.parameters and tenant_id is not None:
            row["tenant_id"] = tenant_id
        return dict(self._parse(row))

    def validated(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as JSON values.

        Raises:
            PayloadInvalid: names every argument that is missing, unknown or of the wrong kind.
        """
        return self._parse(payload).model_dump(mode="json")

    def scope(self, tenant_id: UUID | None) -> Scope:
        """Whose rows a job of this type sees.

        Raises:
            TenantContextNotSet: the type is not a system one and the row names no tenant.
        """
        if self.system:
            return SYSTEM
        if tenant_id is None:
            raise TenantContextNotSet(f"{self.name} works for one tenant, and this job names none")
        return tenant_id

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The handler's own arguments, by name, without the context."""
        return dict(list(inspect.signature(self.handler, eval_str=True).parameters.items())[1:])

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.Signature(list(self.parameters.values()))

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {
            name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in self.parameters.items()
        }
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)

    def _parse(self, payload: Mapping[str, Any]) -> BaseModel:
        try:
            return self._model.model_validate(dict(payload))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'payload'}: {fault['msg'].lower()}"
                for fault in error.errors()
            )
            expected = ", ".join(str(parameter) for parameter in self.parameters.values()) or "no arguments"
            raise PayloadInvalid(f"{self.name}: {faults} (it takes {expected})") from error

    def _key(self, values: Mapping[str, Any]) -> str | None:
        if not self.unique:
            return None
        return "/".join(str(values[name]) for name in self.unique)


def job(
    name: str,
    *,
    queue: str = "default",
    system: bool = False,
    unique: tuple[str, ...] = (),
    ordering: str | None = None,
    priority: int = 5,
    max_attempts: int = 3,
    backoff: Backoff = DEFAULT_BACKOFF,
    on_failure: Callable[[Tx, FailedJob], None] | None = None,
) -> Callable[[Callable[Concatenate["Context", P], None]], JobType[P]]:
    """Declare the decorated handler as the job type `name`."""

    def declare(handler: Callable[Concatenate[Context, P], None]) -> JobType[P]:
        return JobType(name, handler, queue, system, unique, ordering, priority, max_attempts, backoff, on_failure)

    return declare


class Context:
    """What a handler may do: read the time, draw random numbers, ask the ports, `begin`, and `finish`.

    `ports` is everything outside; `rng` is seeded by the job's id, so a retry draws the same numbers. `complete`
    completes, together with others, a job whose finish did nothing in the database.
    """

    def __init__(
        self,
        db: Database,
        claimed: ClaimedJob,
        *,
        scope: Scope,
        ports: Ports,
        clock: Callable[[], datetime] | None,
        complete: Callable[[Done], object],
    ) -> None:
        self.job = claimed
        self.ports = ports
        self.finished = False
        self.deferred = False
        self._db = db
        self._scope = scope
        self._clock = clock
        self._complete = complete
        self._claimed_at = monotonic()
        self._result: dict[str, Any] = {}

    @cached_property
    def log(self) -> Any:
        return structlog.get_logger()

    def now(self) -> datetime:
        """The database's clock: what it said at the claim, plus the time gone by since."""
        if self._clock is not None:
            return self._clock()
        return self.job.now + timedelta(seconds=monotonic() - self._claimed_at)

    @cached_property
    def rng(self) -> Random:
        return Random(self.job.id.int)  # noqa: S311 - reproducible on purpose, nothing secret

    def report(self, **facts: Any) -> None:
        """Say what was done; kept as the job's `result` when it completes. JSON values only."""
        self._result |= facts

    def count(self, **more: int) -> None:
        """Add to counters of the result."""
        for name, n in more.items():
            self._result[name] = self._result.get(name, 0) + n

    @contextmanager
    def begin(self) -> Iterator[Tx]:
        """A short transaction before the end (a reservation, a chunk), committed only if the job is still ours."""
        with self._db.transaction(self._scope) as tx:
            yield tx
            tx.work_as(SYSTEM)
            if not tx.jobs.owns(self.job.id, self.job.lease_token):
                raise LeaseLost

    @contextmanager
    def finish(self) -> Iterator[Tx]:
        """The last block of every handler: its effects and the job's completion are one commit, or nothing."""
        done = Done(self.job.id, self.job.job_type, self.job.lease_token, self._result or None)
        with self._db.transaction(self._scope) as tx:
            yield tx
            if tx.used:
                tx.work_as(SYSTEM)
                if not tx.jobs.complete([done]):
                    raise LeaseLost
        self.finished = True
        self.deferred = not tx.used
        if self.deferred:
            self._complete(done)
