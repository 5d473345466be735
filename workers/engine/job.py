"""Declares job types (`@job`) and enqueues jobs. What a handler may do is in `workers/engine/context.py`.

    @job("quota.reset_quota", queue="default", unique=("tenant_id", "period"))
    def reset_quota(ctx: Context, tenant_id: UUID, period: str) -> None:
        with ctx.finish() as tx:
            ...

    reset_quota.enqueue(tx, tenant_id=tenant.id, period="2026-12")

The declaration is the only place that knows a job's identity, queue and retries. `enqueue` takes exactly the
handler's own arguments, so a typo is a type error.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, Concatenate, Generic, ParamSpec, Unpack
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from db.postgres.values import UnreadableJson
from db.queue.claim import Terms
from db.queue.enqueue import NewJob, Options
from db.transaction import SYSTEM as SYSTEM
from db.transaction import Scope
from db.transaction import Tx as Tx
from domain.errors import PayloadInvalid, TenantContextNotSet
from domain.queue.retries import Backoff
from domain.text.redaction import location
from workers.engine.batch import Batch as Batch
from workers.engine.batch import BatchJob as BatchJob
from workers.engine.clocks import elapsed as elapsed
from workers.engine.context import Context as Context
from workers.engine.queues import QUEUES

P = ParamSpec("P")

NOW = timedelta(0)
OUR_ERROR = "an error of our own; it has been logged"
DEFAULT_BACKOFF = Backoff()

Payload = Mapping[str, Any]
Upgrade = Callable[[Payload], Payload]


@dataclass(frozen=True)
class FailedJob:
    """The job that an `on_failure` hook is given, in the transaction in which it becomes `failed` or `cancelled`."""

    id: UUID
    tenant_id: UUID | None
    arguments: Mapping[str, Any]
    reason: str


def reason_for_people(tx: Tx, failed: FailedJob) -> str:
    """Return why a job of a tenant ended. The text of a bug may quote queries or other people's data: that one's
    attempts keep it for operators, and people read `OUR_ERROR`. The transaction works in the tenant's scope then."""
    tx.work_as(SYSTEM)
    foreseen = tx.requests.ended_as_foreseen(failed.id)
    if failed.tenant_id is not None:
        tx.work_as(failed.tenant_id)
    return failed.reason if foreseen and failed.reason else OUR_ERROR


@dataclass(frozen=True)
class Declaration:
    """What is declared of a kind of job.

    `unique` and `ordering` name arguments of the handler: a second live job with equal `unique` arguments is a no-op
    that returns the first; jobs of the tenant with an equal `ordering` argument run one after another, in the order
    in which they were enqueued. A job works within its tenant's scope; one declared `system` sees every tenant's rows.
    `cost` is what it weighs against other jobs of its tenant; `timeout` how long an attempt may take. `upgrades` bring
    a payload of version 1 to version 2, and so on: a job that an older release enqueued runs in this one. `many`
    handles any number of jobs of a `system` type in one transaction (`workers/engine/batch.py`); the handler does one
    that comes alone, and those that `many` leaves or cannot do.
    """

    name: str
    _: KW_ONLY
    queue: str = "default"
    system: bool = False
    unique: tuple[str, ...] = ()
    ordering: str | None = None
    priority: int = 5
    max_attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    on_failure: Callable[[Tx, FailedJob], None] | None = None
    cost: int = 1
    timeout: timedelta = timedelta(minutes=10)
    upgrades: tuple[Upgrade, ...] = ()
    many: Callable[[Batch], None] | None = None


@dataclass(frozen=True)
class job(Declaration):
    """Declares the decorated handler as a job type."""

    def __call__(self, handler: Callable[Concatenate[Context, P], None]) -> "JobType[P]":
        return JobType(handler=handler, **vars(self))


@dataclass(frozen=True)
class JobType(Declaration, Generic[P]):
    """A declared kind of job; `options` are how one enqueueing differs from the declaration."""

    handler: Callable[Concatenate[Context, P], None]
    options: Options = field(default_factory=Options, hash=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.queue not in QUEUES:
            raise ValueError(f"job type {self.name}: unknown queue {self.queue!r}; the queues are {', '.join(QUEUES)}")
        if self.many is not None and not self.system:
            raise ValueError(f"job type {self.name}: `many` sees every tenant's rows, so it has to be a system type")
        unknown = {*self.unique, *([self.ordering] if self.ordering else [])} - self.parameters.keys()
        if unknown:
            raise ValueError(f"job type {self.name}: its handler has no argument {', '.join(sorted(unknown))}")

    def enqueue(self, tx: Tx, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Add the job in the caller's transaction; its queue is notified after the commit. Returns its id.

        Raises:
            PayloadInvalid: an argument does not fit the declaration.
        """
        bound = self._signature.bind(*args, **kwargs)
        return self.enqueue_payload(tx, bound.arguments)

    def enqueue_payload(self, tx: Tx, payload: Payload) -> UUID:
        """`enqueue` for arguments that come as text or JSON (the shell, the API)."""
        return tx.enqueue(self._new(tx.new_id(), self.validated(payload)))

    def enqueue_many(self, tx: Tx, payloads: Iterable[Payload], *, by: Sequence[BatchJob] | None = None) -> list[UUID]:
        """`enqueue` for any number of jobs, in one round trip. Returns their ids, in their order. `by`: of a batch of
        jobs, the one that each is enqueued for, if it is not the current thread's.

        Raises:
            PayloadInvalid: an argument of one of them does not fit; none is enqueued.
        """
        validated = [self.validated(payload) for payload in payloads]
        new = (self._new(tx.new_id(), values) for values in validated)
        if by is None:
            return tx.enqueue_many(new)
        return tx.enqueue_many(each._replace(origin=job.origin(self.queue)) for each, job in zip(new, by, strict=True))

    def with_options(self, **options: Unpack[Options]) -> "JobType[P]":
        """The same job type, to be enqueued once in another way than it declares."""
        return replace(self, options=options)

    def _new(self, job_id: UUID, values: dict[str, Any]) -> NewJob:
        unique_key = "/".join(str(values[name]) for name in self.unique) if self.unique else None
        ordering_key = None if self.ordering is None else str(values[self.ordering])
        tenant_id = values.pop("tenant_id", None)
        # By position: with names, it takes twice as long.
        new = NewJob(
            job_id,
            self.name,
            self.queue,
            None if tenant_id is None else UUID(tenant_id),
            values,
            self.priority,
            self.max_attempts,
            None,
            NOW,
            unique_key,
            ordering_key,
            self.cost,
            self.payload_version,
        )
        return new._replace(**self.options) if self.options else new

    @cached_property
    def payload_version(self) -> int:
        return 1 + len(self.upgrades)

    @property
    def terms(self) -> Terms:
        """The terms on which a worker can run jobs of this type."""
        return Terms(self.payload_version, self.timeout)

    def arguments(self, payload: Payload | UnreadableJson, tenant_id: UUID | None, version: int) -> dict[str, Any]:
        """Return the handler's arguments, typed, from a row of `job_queue` whose payload has this version.

        Raises:
            PayloadInvalid: the row does not fit the declaration.
        """
        if not self.parameters and not payload:
            return {}
        if isinstance(payload, UnreadableJson):
            raise PayloadInvalid(f"{self.name}: the payload is JSON that cannot be read: {payload[:40]}…")
        if version < 1:
            raise PayloadInvalid(f"{self.name}: there is no payload of version {version}")
        for upgrade in self.upgrades[version - 1 :]:
            payload = upgrade(payload)
        row = dict(payload)
        if "tenant_id" in self.parameters and tenant_id is not None:
            row["tenant_id"] = tenant_id
        return dict(self._parse(row))

    def validated(self, payload: Payload) -> dict[str, Any]:
        """Return the arguments as JSON values.

        Raises:
            PayloadInvalid: names every argument that is missing, unknown or of the wrong kind.
        """
        if not self.parameters and not payload:
            return {}
        return self._parse(payload).model_dump(mode="json")

    def scope(self, tenant_id: UUID | None) -> Scope:
        """Return the scope of a job of this type: whose rows it sees.

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
        # JSON has no word for a number that is not finite, so no worker could read it.
        return create_model(self.name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)

    def _parse(self, payload: Payload) -> BaseModel:
        try:
            return self._model.model_validate(dict(payload))
        except ValidationError as error:
            faults = "; ".join(
                f"{location(fault['loc']) or 'payload'}: {fault['msg'].lower()}" for fault in error.errors()
            )
            expected = ", ".join(str(parameter) for parameter in self.parameters.values()) or "no arguments"
            raise PayloadInvalid(f"{self.name}: {faults} (it takes {expected})") from error


JobTypes = Mapping[str, JobType[Any]]
"""The job types that a process can run, by name."""
