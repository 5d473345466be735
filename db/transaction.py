"""Transactions: whose rows are seen, which queues are notified afterwards, and what a lost connection means."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, Generic, Self, TypeVar, cast, overload
from uuid import UUID

import psycopg
from psycopg.rows import scalar_row
from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from db.autopilot.autopilot import Autopilot
from db.autopilot.chains import Chains
from db.autopilot.reports import AutopilotReports
from db.billing import Billing
from db.concepts.dexie import Dexie
from db.concepts.generating import Generating
from db.concepts.generations import Generations
from db.concepts.imported_trends import ImportedTrends
from db.concepts.imports import Imports
from db.concepts.trends import TrendSources
from db.events.store import Events
from db.identity.access import Access, Keys
from db.identity.accounts import ClerkAccounts
from db.identity.forgetting import Forgetting
from db.identity.mirror import Identity
from db.learning.accuracy import AccuracyReports
from db.learning.critiques import Critiques
from db.learning.guard_rails import GuardRails
from db.learning.learners import Learners
from db.learning.outcomes import Outcomes
from db.learning.predictions import Predictions
from db.learning.reflexion import Learning
from db.learning.reports import Performance
from db.learning.snapshots import Snapshots
from db.ops.actions import Actions
from db.ops.changes import Changes
from db.ops.events import EventViews
from db.ops.gauges import Gauges
from db.ops.health import Health
from db.ops.lineage import Lineages
from db.ops.notices import Notices
from db.ops.operators import Operators
from db.ops.overview import Overview
from db.ops.posts import PostViews
from db.ops.requests import Requests
from db.ops.series import MetricSeries
from db.ops.store_views import StoreViews
from db.ops.tenant_rows import TenantRows
from db.ops.tenants import TenantViews
from db.ops.waiting import Waiting
from db.postgres.connection import (
    DEFAULT_SETTINGS,
    AppConnection,
    PoolGuard,
    TransactionSettings,
    begin_commands,
    begin_in_pipeline,
    commit,
    commit_in_pipeline,
    connect,
    has_rested,
    put_back,
    run_commands,
    savepoint,
)
from db.postgres.error_text import one_line
from db.postgres.errors import NO_ANSWER as NO_ANSWER
from db.postgres.errors import TENANT_DELETED, cause_of, is_stale_plan, why_away
from db.postgres.errors import CommitUnknown as CommitUnknown
from db.postgres.errors import Contended as Contended
from db.postgres.errors import DatabaseUnavailable as DatabaseUnavailable
from db.postgres.errors import LeaseMissing as LeaseMissing
from db.postgres.errors import PoolTimeout as PoolTimeout
from db.postgres.errors import WritesRefused as WritesRefused
from db.postgres.errors import is_contended as is_contended
from db.postgres.url import parse
from db.posting.accounts import Accounts
from db.posting.connections import Connections
from db.posting.outgoing import Outgoing
from db.posting.planning import PlannedPosts
from db.posting.posts import Posts
from db.posting.reservations import Reservations
from db.posting.restores import Restores
from db.queue.archive import Archive
from db.queue.claim import Claims
from db.queue.dispatch import DispatchOrder
from db.queue.enqueue import ENQUEUED, AsksOrigin, NewJob, insert, insert_one, insert_plain, of_unknown_origin
from db.queue.enqueue import Origin as Origin
from db.queue.explain import Explain
from db.queue.failures import Failures
from db.queue.job_lists import JobLists
from db.queue.jobs import Jobs
from db.queue.notifications import Count, Notifications
from db.queue.policies import Queues
from db.queue.queue_views import QueueViews
from db.queue.rates import Rates
from db.queue.schedules import ScheduleRuns
from db.queue.steps import Steps
from db.queue.tail import JobTail
from db.queue.transitions import Done, Transitions, completing
from db.queue.workers import Workers
from db.security import SCOPE_NOT_SET, SYSTEM_SCOPE
from db.tenants.plans import Plans
from db.tenants.quota import Quotas
from db.tenants.tenants import Tenants
from db.videos.budgets import VideoBudgets
from db.videos.media import MediaFiles
from db.videos.providers import VideoProviders
from db.videos.submissions import Submissions
from db.videos.videos import Videos
from domain.errors import TenantContextNotSet, TenantDeleted


class System(Enum):
    """The scope that sees every tenant's rows. It is named where it is used; there is no default scope."""

    SCOPE = SYSTEM_SCOPE


SYSTEM: Final = System.SCOPE
Scope = UUID | System


POOL_TIMEOUT = 30.0
"""Seconds that a thread waits for a connection that others hold."""

Group = TypeVar("Group")


class lazy(Generic[Group]):
    """An attribute that is made when it is first read, by the one thread that has the object.

    Not `functools.cached_property`: until Python 3.12 that holds one lock for all objects of the class while it makes
    one's attribute, so a thread that waits for a connection would stop every other, those with one included.
    """

    def __init__(self, make: Callable[[Any], Group]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, owned: None, owner: type) -> Self: ...
    @overload
    def __get__(self, owned: object, owner: type) -> Group: ...
    def __get__(self, owned: object | None, owner: type) -> Self | Group:
        if owned is None:
            return self
        made = vars(owned)[self._name] = self._make(owned)
        return made


def _on_driver(group: Callable[[AppConnection], Group]) -> lazy[Group]:
    """A query group on a hot path: it speaks psycopg."""
    return lazy(lambda tx: group(tx.driver))


def _on_sql(group: Callable[[Connection], Group]) -> lazy[Group]:
    return lazy(lambda tx: group(tx.sql))


def _counting(group: Callable[[AppConnection, Count], Group]) -> lazy[Group]:
    """A query group that also has things counted when the transaction has committed."""
    return lazy(lambda tx: group(tx.driver, tx.notifications.count))


class SecondConnection(RuntimeError):
    """A thread that is in a transaction begins another: a bug. Were all of the pool's connections held by threads that
    wait for a second one, none would ever be given back."""

    def __init__(self) -> None:
        super().__init__("this thread is in a transaction already; end it first, or do the work in it")


class Held(threading.local):
    """Whether the current thread holds a connection of the pool."""

    by_this_thread = False


class Tx:
    """One transaction and its query groups; it opens when it is first used. The hot paths and SQLAlchemy share one
    connection."""

    def __init__(
        self,
        engine: Engine,
        scope: Scope,
        new_id: Callable[[], UUID],
        origin: AsksOrigin,
        *,
        held: Held,
        durable: bool,
        timeout: timedelta | None,
        pipelined: bool,
    ) -> None:
        self._engine = engine
        self._held = held
        self._origin = origin
        self._scope = scope
        self._durable = durable
        self._timeout = timeout
        self._pipelined = pipelined
        self._pipeline = ExitStack()
        self.new_id = new_id
        self.notifications = Notifications()
        self.last = b""
        self.keep = True
        """Whether the connection is worth to be used again."""
        self._marked = False
        self._plain: NewJob | None = None
        self._begun = False
        """Whether BEGIN was sent on its own, to see whether a connection that rested is still there."""

    @property
    def used(self) -> bool:
        return self._plain is not None or "_opened" in vars(self)

    @lazy
    def sql(self) -> Connection:
        _ = self._opened
        self._pipeline.close()  # SQLAlchemy looks at each result at once
        return Connection(self._engine, connection=self._opened[0])

    @property
    def driver(self) -> AppConnection:
        return self._opened[1]

    @lazy
    def _opened(self) -> tuple[PoolProxiedConnection, AppConnection]:
        pooled, driver = self._connection
        try:
            if not self._begun:
                self._begin(driver)
            elif self._pipelined:
                self._pipeline.enter_context(driver.pipeline())
        except psycopg.Error as error:
            self.keep = False
            raise DatabaseUnavailable(f"Postgres went away: {one_line(error)}") from error
        if self._plain is not None:
            insert_one(driver, self.notifications, self._plain)
        return pooled, driver

    @lazy
    def _connection(self) -> tuple[PoolProxiedConnection, AppConnection]:
        if self._held.by_this_thread:
            raise SecondConnection
        pooled, driver = self._checked_out()
        while has_rested(pooled) and not self._begun:
            try:
                run_commands(driver, self._begin_commands(driver))
                self._begun = True
            except psycopg.Error:  # nothing has happened; a connection that did not rest is next, sooner or later
                put_back(pooled, driver, keep=False)
                pooled, driver = self._checked_out()
        self._held.by_this_thread = True
        return pooled, driver

    def _checked_out(self) -> tuple[PoolProxiedConnection, AppConnection]:
        try:
            pooled = self._engine.raw_connection()
        except PoolExhausted as error:
            raise PoolTimeout("every connection of the pool is in use; see DB_POOL_SIZE") from error
        return pooled, cast(AppConnection, pooled.driver_connection)

    def _begin(self, driver: AppConnection) -> None:
        if self._pipelined:
            driver.autocommit = True  # or psycopg sends a BEGIN of its own, and waits for it
            self._pipeline.enter_context(driver.pipeline())
            begin_in_pipeline(driver, _name(self._scope), durable=self._durable, timeout=self._timeout)
        else:
            run_commands(driver, self._begin_commands(driver))

    def _begin_commands(self, driver: AppConnection) -> bytes:
        return begin_commands(driver, _name(self._scope), durable=self._durable, timeout=self._timeout)

    def commit(self) -> None:
        if "_opened" in vars(self):
            if self.driver.pgconn.pipeline_status:
                commit_in_pipeline(self.driver, self.last, self._pipeline.close)
            else:
                commit(self.driver, self.last)
        elif self._plain is not None:
            driver = self._connection[1]
            beginning = b"" if self._begun else self._begin_commands(driver)
            commit(driver, beginning + insert_plain(self._plain, driver))
            self.notifications.add(self._plain.queue, self._plain.id, self._plain.priority)
            self.notifications.count(ENQUEUED, self._plain.job_type)

    def close(self) -> None:
        """Give the connection back; what is not committed is rolled back."""
        if "_connection" in vars(self):
            self._held.by_this_thread = False
            with suppress(psycopg.Error):  # what it says has been raised, or is of no interest any more
                self._pipeline.close()
            put_back(*self._connection, keep=self.keep)

    @property
    def lost(self) -> bool:
        """Whether the connection is lost."""
        return "_connection" in vars(self) and self._connection[1].closed

    def went_away(self, error: BaseException) -> bool:
        """Whether the error says that the server is gone, or does not serve: this transaction is over."""
        return self.lost or why_away(error) is not None

    def enqueue(self, job: NewJob) -> UUID:
        """Insert the job, and return its id; if the tenant has a live one of its type and unique key, that one's.

        A plain job that is all that the transaction does is one round trip, together with its commit. In a pipelined
        transaction a live twin of a job that is due at once is an error, at the next result or at the commit: who
        cannot have one is not to wait for the answer.

        Raises:
            PayloadInvalid: the payload is too large.
            UniqueViolation: there is a twin; only in a pipelined transaction.
        """
        if job.origin is None:
            job = job._replace(origin=self._origin(job.queue))
        if self._pipelined and job.due_at_once:
            self.driver.execute(insert_plain(job, self.driver))
            self.notifications.add(job.queue, job.id, job.priority)
            self.notifications.count(ENQUEUED, job.job_type)
            return job.id
        if self.used or not job.plain:
            return insert_one(self.driver, self.notifications, job)
        self._plain = job
        return job.id

    def enqueue_many(self, jobs: Iterable[NewJob]) -> list[UUID]:
        """`enqueue` for any number of jobs, in one round trip. Returns their ids, in their order."""
        return insert(self.driver, self.notifications, jobs, self._origin)

    def complete(self, done: Done) -> None:
        """Complete the job as the last act of this transaction, in one round trip with its COMMIT.

        Raises:
            LeaseMissing: here or at the commit: the lease does not own the job any more.
        """
        self.work_as(SYSTEM)
        if done.job.limited or done.job.ordering_key is not None:
            # Others may have to be woken.
            if not self.transitions.complete([done]):
                raise LeaseMissing
            return
        self.last = completing(done, self.driver)

    @contextmanager
    def savepoint(self, scope: Scope) -> Iterator[None]:
        """Work on the rows of `scope` from here on; on any error what the block did is undone, the change of scope too.

        Its notifications are sent nevertheless: one of a job that is not there is dropped.
        """
        before = self._scope
        try:
            with savepoint(self.driver, _name(scope), first=not self._marked):
                self._marked, self._scope = True, scope
                yield
        except BaseException as error:
            self._scope = before
            if (deleted := _of_deleted_tenant(error)) is not None:
                raise deleted from error
            raise

    def work_as(self, scope: Scope) -> None:
        """See the rows of `scope` from here to the end of the transaction."""
        if scope != self._scope:
            self.driver.execute("SELECT set_config('app.tenant_id', %s, true)", (_name(scope),))
            self._scope = scope

    def now(self) -> datetime:
        """The database's time at the start of this transaction."""
        moment: Any = self.driver.cursor(row_factory=scalar_row).execute("SELECT now()").fetchone()
        return cast(datetime, moment)

    @lazy
    def transitions(self) -> Transitions:
        return Transitions(self.driver, self.notifications)

    @lazy
    def queues(self) -> Queues:
        return Queues(self.driver, self.notifications, lambda: self._origin("policies").cause)

    jobs = _on_driver(Jobs)
    job_lists = _on_driver(JobLists)
    job_tail = _on_driver(JobTail)
    queue_views = _on_driver(QueueViews)
    claims = _on_driver(Claims)
    archive = _on_driver(Archive)
    dispatch = _on_driver(DispatchOrder)
    explain = _on_driver(Explain)
    failures = _on_driver(Failures)
    steps = _on_driver(Steps)
    rates = _on_driver(Rates)
    workers = _on_driver(Workers)
    schedule_runs = _on_driver(ScheduleRuns)
    keys = _on_driver(Keys)
    events = _on_driver(Events)
    event_views = _on_driver(EventViews)
    clerk_accounts = _on_driver(ClerkAccounts)
    forgetting = _on_driver(Forgetting)
    billing = _on_driver(Billing)
    plans = _counting(Plans)
    generating = _counting(Generating)
    trends = _on_driver(TrendSources)
    imported_trends = _on_driver(ImportedTrends)
    health = _on_driver(Health)
    changes = _on_driver(Changes)
    lineages = _on_driver(Lineages)
    waiting = _on_driver(Waiting)
    requests = _on_driver(Requests)
    operators = _on_driver(Operators)
    actions = _on_driver(Actions)
    post_views = _on_driver(PostViews)
    tenant_rows = _on_driver(TenantRows)
    notices = _on_driver(Notices)
    store_views = _on_driver(StoreViews)
    series = _on_driver(MetricSeries)
    gauges = _on_driver(Gauges)
    overview = _on_driver(Overview)
    performance = _on_driver(Performance)
    planned_posts = _on_driver(PlannedPosts)
    videos = _on_driver(Videos)
    submissions = _counting(Submissions)
    video_budgets = _on_driver(VideoBudgets)
    video_providers = _on_driver(VideoProviders)
    posts = _on_driver(Posts)
    outgoing = _on_driver(Outgoing)
    reservations = _on_driver(Reservations)
    restores = _on_driver(Restores)
    snapshots = _on_driver(Snapshots)
    guard_rails = _on_driver(GuardRails)
    critiques = _on_driver(Critiques)
    learners = _on_driver(Learners)
    outcomes = _on_driver(Outcomes)
    predictions = _on_driver(Predictions)
    social_accounts = _on_driver(Accounts)
    connections = _on_driver(Connections)
    accuracy = _on_driver(AccuracyReports)
    autopilot = _on_driver(Autopilot)
    autopilot_reports = _on_driver(AutopilotReports)
    chains = _on_driver(Chains)
    access = _on_sql(Access)
    identity = _on_sql(Identity)
    quota = _counting(Quotas)
    tenant_views = _on_driver(TenantViews)
    tenants = _on_sql(Tenants)
    generations = _on_sql(Generations)
    learning = _on_sql(Learning)
    media = _on_sql(MediaFiles)
    dexie = _on_sql(Dexie)
    imports = _on_sql(Imports)


READ_ONLY = "session is read-only"
"""What libpq says of a server that takes no writes, if one is asked for that does (`target_session_attrs`)."""


class Database:
    """A pool of connections of the application's role.

    `on_commit` is told, after a transaction committed, which of the jobs that it enqueued are due. It must neither
    block nor raise: the dispatcher finds whatever it loses. `origin` is asked, by the thread that enqueues a job on a
    queue of this name, what it works for; it must not raise.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        new_id: Callable[[], UUID],
        on_commit: Callable[[Notifications], object] = lambda notifications: None,
        origin: AsksOrigin = of_unknown_origin,
        settings: TransactionSettings = DEFAULT_SETTINGS,
        pool_timeout: float = POOL_TIMEOUT,
        application_name: str = "viral",
        writes: bool = True,
    ) -> None:
        self.pool_size = pool_size
        self._url = parse(url) if writes else parse(url).of_any_server()
        self._another = partial(
            Database,
            url,
            new_id=new_id,
            on_commit=on_commit,
            origin=origin,
            settings=settings,
            pool_timeout=pool_timeout,
            application_name=application_name,
        )
        self._separate: list[Database] = []
        self._reading: Database | None = None
        self._making = threading.Lock()
        self._new_id = new_id
        self._on_commit = on_commit
        self._origin = origin
        self._held = Held()
        self._settings = settings
        self._application_name = application_name
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # `put_back` does
            hide_parameters=True,  # an error outlives the person whose data it repeats
        )
        self._guard = PoolGuard(self._engine)

    def connect(self, *, autocommit: bool = False) -> AppConnection:
        """A connection of its own, outside the pool. Its user begins each transaction with `begin_commands`.

        Raises:
            DatabaseUnavailable: the server does not answer.
            WritesRefused: it takes no writes.
            RoleRefused: nothing would keep one tenant's rows from another.
        """
        try:
            return connect(
                self._url, application_name=self._application_name, settings=self._settings, autocommit=autocommit
            )
        except psycopg.OperationalError as error:
            if READ_ONLY in str(error):
                raise WritesRefused(f"Postgres takes no writes: {one_line(error)}") from error
            raise DatabaseUnavailable(f"Postgres does not answer: {one_line(error)}") from error

    @contextmanager
    def transaction(
        self, scope: Scope, *, durable: bool = True, timeout: timedelta | None = None, pipelined: bool = False
    ) -> Iterator[Tx]:
        """Work on the rows of `scope`; commit at the end, roll back on any error.

        `durable=False`: the commit is not waited for to reach the disk; a crash of the server may forget it.
        `timeout` is the longest that one statement may take, where less than usual. `pipelined`: statements are sent
        when a result is read, and with the COMMIT; so one that fails may raise later than where it stands, and nobody
        may ask what it changed (`rowcount`) before reading a later result.

        Raises:
            TenantContextNotSet: `scope` was None.
            DatabaseUnavailable: the server went away before the commit, or refuses writes: nothing happened.
            PoolTimeout: no connection was free in time.
            Contended: others held what the transaction needs, for too long or in a circle: nothing happened.
            SecondConnection: this thread is in another transaction of this pool, and uses both.
            CommitUnknown: the server went away during the commit.
        """
        if scope is None:
            raise TenantContextNotSet("a transaction must name its tenant, or SYSTEM")
        tx = Tx(
            self._engine,
            scope,
            self._new_id,
            self._origin,
            held=self._held,
            durable=durable,
            timeout=timeout,
            pipelined=pipelined,
        )
        try:
            try:
                yield tx
                tx.commit()
            except (psycopg.Error, DBAPIError) as error:
                translated = _translated(error, tx)
                if translated is error:
                    raise
                raise translated from cause_of(error)
        except NO_ANSWER as error:
            tx.keep &= not isinstance(error, CommitUnknown)
            if not tx.keep:
                self._guard.note_outage()
            raise
        finally:
            tx.close()
        if tx.notifications or tx.notifications.counted:
            self._on_commit(tx.notifications)

    def separate(self, pool_size: int = 1) -> "Database":
        """A pool beside this one, for work that must not wait for it; it is closed with this one."""
        self._separate.append(self._another(pool_size=pool_size))
        return self._separate[-1]

    def reading(self) -> "Database":
        """A pool of one connection to a server that may refuse writes, for who only looks while no other is there."""
        with self._making:
            if self._reading is None:
                self._reading = self._another(pool_size=1, writes=False)
                self._separate.append(self._reading)
            return self._reading

    def close(self) -> None:
        for each in (self, *self._separate):
            each._engine.dispose()


def _name(scope: Scope) -> str:
    return SYSTEM_SCOPE if isinstance(scope, System) else str(UUID(int=scope.int))


def _of_deleted_tenant(error: BaseException) -> TenantDeleted | None:
    cause = cause_of(error)
    if isinstance(cause, psycopg.Error) and cause.sqlstate == TENANT_DELETED:
        return TenantDeleted(cause.diag.message_primary or one_line(cause))
    return None


def _translated(error: Exception, tx: Tx) -> Exception:
    cause = cause_of(error)
    if getattr(cause, "sqlstate", None) == SCOPE_NOT_SET:
        return TenantContextNotSet("tenant-owned rows were reached for outside any tenant's scope")
    if (deleted := _of_deleted_tenant(error)) is not None:
        return deleted
    if is_stale_plan(cause):
        tx.keep = False
        return DatabaseUnavailable("a migration changed what a prepared statement returns: try again")
    why = why_away(cause)
    if tx.lost and (why is not None or isinstance(cause, psycopg.OperationalError)):
        tx.keep = False
        return DatabaseUnavailable(f"Postgres went away: {one_line(cause)}")
    if why is not None:
        tx.keep = False
        return DatabaseUnavailable(f"Postgres cannot serve us now ({why}): {one_line(cause)}")
    if is_contended(cause):
        return Contended(f"others hold what this needs, so nothing was done; try again ({one_line(cause)})")
    return error
