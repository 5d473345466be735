"""Checks of a whole installation: its settings, servers, processes, schedules and rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from shutil import disk_usage
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic
from typing import Any
from uuid import UUID

from db.events.probe import OK, WriteProbe
from db.migrate.revisions import SchemaNewer, SchemaOlder, check, newest
from db.ops.health import INVARIANTS, MOST
from db.postgres.connection import TransactionSettings
from db.postgres.url import parse
from db.security import RoleRefused, lacking
from db.transaction import SYSTEM, Tx
from domain.concepts.timing import is_zone
from domain.ops.connections import of_fleet
from domain.ports import MediaStore
from domain.text.readable import readable, shortened
from domain.videos.media import CLIP_ROOM, Media, MediaMissing, StoreUnavailable, object_key
from workers.adapters.ports import media_folder
from workers.adapters.store_watch import divided, fresh_within
from workers.app import App, build
from workers.engine.notifier import Notifier
from workers.ops import notices, restore
from workers.ops.account_checks import check_addresses, check_connections, check_keys
from workers.ops.autopilot_checks import check_autopilots
from workers.ops.learning_checks import check_learning
from workers.ops.number_checks import check_numbers
from workers.ops.schedules import Timetable
from workers.ops.server_checks import check_clocks, check_pooler, check_proxies, check_tables, check_transactions
from workers.ops.studio import check_fonts, check_program
from workers.runtime.redis_client import USE_INSTEAD, Trouble, describe, diagnose
from workers.settings import Settings

WRITE_WITHIN = 5.0
"""Seconds."""

LOCKED_AFTER = timedelta(seconds=2)
"""A check waits this long for a lock: several ask of the same table."""

STATEMENT_WITHIN = timedelta(seconds=10)
CHECK_WITHIN, ALL_WITHIN = 30.0, 180.0
"""Seconds: a statement is ended by the server, a check is left to itself."""

SLOW = "is the server overloaded, or far away?"

Finding = dict[str, str]
Verdict = tuple[str, str]
Check = Callable[[App, Tx], Verdict]

WAITS_FOR_A_PERSON = frozenset(
    {
        "a ready job is begun within a minute",
        "deferred jobs are woken within a minute",
        "no job waits for a person",
        "no clip is in doubt",
        "a post that is being submitted has a job",
        "no event is parked for over 15 minutes",
        "no event of the last 30 days is flagged",
        "a paying tenant has a person",
        "somebody who is not banned answers for every tenant that pays",
        "due quotas are reset within two hours",
    }
)
"""Invariants that a sound system breaks now and then: a warning. Any other that does not hold is a failure."""

BUG = "nothing of ours writes that, so look for who did, and report it if nobody did"

ABOUT = {
    "running jobs belong to a live worker": (
        "a scheduler gives them back within half a minute: does `viral scheduler` run?"
    ),
    "no running job is long past its deadline": (
        "a scheduler takes them away half a minute after it: does `viral scheduler` run?"
    ),
    "a stored event has its job": f"see `viral events list --status received`, and replay each; {BUG}",
    "what a tenant has used is what the ledger says": (
        f"see `viral quota explain TENANT`; `viral quota reset TENANT` begins a fresh count; {BUG}"
    ),
    "held quota is of a job that lives": f"see `viral quota explain TENANT`; {BUG}",
    "quota periods end after they begin": f"`viral quota reset TENANT` begins a fresh count; {BUG}",
    "a post that is being submitted has a job": (
        "nobody knows whether they are live: look at the platform, and see `viral posts list --status submitting`, "
        "and `viral posts resolve`"
    ),
    "no job waits for a person": "see `viral jobs list --status failed`",
    "no clip is in doubt": "see `viral videos list --status unconfirmed`, and `viral videos resolve`",
    "no event is parked for over 15 minutes": "see `viral events list --status parked`",
    "a ready job is begun within a minute": (
        "more is enqueued than the workers get done, or they are not notified of it: see `viral queues list`, "
        "and `viral jobs explain` of one"
    ),
    "no event of the last 30 days is flagged": "a person should look: see `viral events list --flagged`",
    "somebody who is not banned answers for every tenant that pays": (
        "they pay for what is closed to them: see `viral users list --banned`, and end the subscription in Stripe"
    ),
    "a paying tenant has a person": (
        "nobody can sign in for it, and it pays: all its people are gone, or their events never came; "
        "see `viral tenants list --deserted`"
    ),
    "deferred jobs are woken within a minute": "does `viral scheduler` run?",
    "due quotas are reset within two hours": "do `viral scheduler` and `viral worker` run?",
}


ABOUT_ZONES = "`viral generations daily TENANT --zone ZONE` sets a tenant's"
NEARLY_FULL = 0.9
"""Share of Redis's maxmemory."""

SAMPLE = 20
"""So many of the newest files are looked for in the store."""
LITTLE_ROOM = 2_000_000_000
"""Bytes that are left on the disk of the media store."""

NOBODY = UUID(int=0)
SHOWN = 5
"""Odd values that are named; the others are counted."""


@dataclass(frozen=True)
class Step:
    """A check by its name, which programs may rely on. `gate`: what follows is pointless if it fails."""

    name: str
    check: Check
    gate: bool = False


def steps(calendar: Sequence[Timetable]) -> list[Step]:
    """Return every check but those of the settings, in their order."""
    return [
        Step("redis", _redis),
        Step("postgres", _postgres, gate=True),
        Step("role", _role, gate=True),
        Step("schema", _schema, gate=True),
        Step("pooler", check_pooler),
        Step("row-level security", check_tables),
        Step("transactions", check_transactions),
        Step("clocks", check_clocks),
        Step("connections", _connections),
        Step("writes", _writes),
        Step("proxies", check_proxies),
        Step("media store", _media_store),
        Step("media store of all processes", _one_store),
        Step("posts are not made twice", restore.check),
        Step("workers", _workers),
        Step("scheduler", partial(_scheduler, calendar)),
        Step("calendar", partial(_calendar, calendar)),
        Step("ffmpeg", partial(check_program, "ffmpeg")),
        Step("ffprobe", partial(check_program, "ffprobe")),
        Step("fonts", check_fonts),
        Step("time zones", _zones),
        Step("tokens of accounts", check_keys),
        Step("accounts", check_connections),
        Step("addresses for platforms", check_addresses),
        Step("numbers of posts", check_numbers),
        Step("learning", check_learning),
        Step("autopilots", check_autopilots),
        Step("types of waiting jobs", _types),
        Step("people are notified", notices.check),
        *(Step(name, partial(_invariant, name)) for name in INVARIANTS),
        Step("rows hold only what can be meant", _odd_rows),
    ]


def examine(
    settings: Settings,
    calendar: Sequence[Timetable],
    *,
    within: float = CHECK_WITHIN,
    all_within: float = ALL_WITHIN,
    more: Sequence[Step] = (),
    watch: Callable[[str], object] = lambda name: None,
) -> list[Finding]:
    """Run every check and return its name, its state (`ok`, `warn`, `fail`, `skipped`) and a sentence.

    No finding is raised as an error. A check that another one's failure makes pointless is `skipped`. One that has no
    answer `within` seconds fails, and is left to itself; after `all_within` seconds the next one fails, and the rest
    is skipped. `more` are checks of the caller's own, after ours. `watch` is called with the name of each, before it.
    """
    app = build(
        settings,
        name="viral doctor",
        pool_size=1,
        transactions=TransactionSettings(lock_timeout=LOCKED_AFTER, statement_timeout=STATEMENT_WITHIN),
    )
    findings, until, closed = list(_configuration(settings)), monotonic() + all_within, ""
    try:
        using = app
        for step in (*steps(calendar), *more):
            if closed:
                findings.append({"check": step.name, "state": "skipped", "says": f"not looked at, since {closed}"})
                continue
            if monotonic() > until:
                closed = f"all checks together may take {all_within:.0f} s"
                findings.append({"check": step.name, "state": "fail", "says": f"no time was left: {closed}; {SLOW}"})
                continue
            watch(step.name)
            found = _answered(using, step, within)
            if found is None:
                using = replace(app, db=app.db.separate())  # the thread that hangs keeps its connection
                found = {"check": step.name, "state": "fail", "says": f"no answer within {within:.0f} s: {SLOW}"}
            findings.append(found)
            if step.gate and found["state"] == "fail":
                closed = f"the check {step.name!r} fails"
        return findings
    finally:
        app.close()


def _answered(app: App, step: Step, seconds: float) -> Finding | None:
    """Run one check in a thread, and return its finding, or None if there is none in time."""
    findings: list[Finding] = []
    late = Event()
    asking = Thread(target=lambda: findings.append(_attempt(app, step, late)), name=f"check {step.name}", daemon=True)
    asking.start()
    asking.join(seconds)
    if not findings:
        late.set()
    return findings[0] if findings else None


def _attempt(app: App, step: Step, late: Event) -> Finding:
    try:
        with app.db.transaction(SYSTEM) as tx:  # it connects when it is first used: not for Redis, say
            try:
                state, says = step.check(app, tx)
            finally:
                tx.keep = tx.keep and not late.is_set()  # nobody is there any more to close its pool
    except Exception as error:
        state, says = "fail", " ".join(str(error).split()) or type(error).__name__
    return {"check": step.name, "state": state, "says": says}


def _configuration(settings: Settings) -> Iterator[Finding]:
    needed: tuple[tuple[str, object, str], ...] = (
        ("STRIPE_WEBHOOK_SECRET", settings.stripe_webhook_secret, "Stripe's webhooks are refused with 503"),
        (
            "CLERK_WEBHOOK_SIGNING_SECRET",
            settings.clerk_webhook_signing_secret,
            "Clerk's are refused with 503",
        ),
        (
            "CLERK_JWKS_URL or CLERK_JWT_KEY",
            settings.clerk_jwks_url or settings.clerk_jwt_key,
            "nobody can sign in to the API; only API keys are good",
        ),
        ("STRIPE_{STARTER,PRO,AGENCY}_PRICE_ID", settings.prices, "no subscription can be mapped to a plan"),
    )
    if settings.clerk_jwks_url or settings.clerk_jwt_key:
        needed += (
            (
                "CLERK_ISSUER",
                settings.session_issuer,
                "session tokens of any https issuer are good, if the key signed them",
            ),
            (
                "CLERK_AUTHORIZED_PARTIES",
                settings.clerk_authorized_parties,
                "pages of any origin may use session tokens, and no browser may call the API",
            ),
        )
    if ignored := parse(settings.database_url).ignored:
        yield {"check": "DATABASE_URL", "state": "ok", "says": f"set; without effect here: {'; '.join(ignored)}"}
    for name, value, otherwise in needed:
        state, says = ("ok", "set") if value else ("warn", f"not set: {otherwise}")
        yield {"check": name, "state": state, "says": says}


def _postgres(app: App, tx: Tx) -> Verdict:
    try:
        server = tx.health.identity()
    except RoleRefused:  # the server answers, and we must not work there, which the next check says
        return "ok", "answers"
    if not server.durable:
        return "warn", f"version {server.version}, with synchronous_commit off: what was answered with 200 can be lost"
    pooler = ", through a pooler: no statements are prepared by name" if server.pooled else ""
    return "ok", f"version {server.version} answers{pooler}"


def _redis(app: App, tx: Tx) -> Verdict:
    """A Redis that is merely away is a warning: no work is lost."""
    server = _redis_server(app.notifier)
    if server.get("cluster_enabled"):
        return "fail", f"Redis is in cluster mode: {USE_INSTEAD}"
    try:
        app.notifier.probe()
    except Exception as error:
        trouble, says = diagnose(error), describe(error)
        if trouble is Trouble.IS_CLUSTER:
            return "fail", f"{says}: {USE_INSTEAD}"
        if trouble is Trouble.REFUSES_US:
            return "fail", f"{says}: password, database or certificate are not the ones of REDIS_URL"
        waits = "jobs wait in the table until it is back, and requests of the API are not limited"
        return "warn", "; ".join([f"{says}: {waits}", *_redis_doubts(server)])
    if doubts := list(_redis_doubts(server)):
        return "warn", f"takes writes, but {'; '.join(doubts)}"
    return "ok", f"version {server.get('redis_version', 'unknown')} takes writes"


def _redis_server(notifier: Notifier) -> Mapping[str, Any]:
    """Ask the server about itself; empty if it is away, or if its host keeps INFO to itself."""
    try:
        return notifier.server_info()
    except Exception:
        return {}


def _redis_doubts(server: Mapping[str, Any]) -> Iterator[str]:
    """Find what will be trouble in a Redis that works today."""
    if server.get("role") in {"slave", "replica"}:
        yield "it is a replica: what is written to it is lost when it next follows its primary"
    policy = server.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield f"its maxmemory-policy is {policy}, which may throw away what waits: set it to noeviction"
    used, most = server.get("used_memory", 0), server.get("maxmemory", 0)
    if most and used >= NEARLY_FULL * most:
        yield f"{used / most:.0%} of its maxmemory is used: above that it refuses writes"


def _writes(app: App, tx: Tx) -> Verdict:
    with closing(WriteProbe(app.db.connect)) as probe:
        answer = probe.ask(WRITE_WITHIN)
    if answer != OK:
        return "fail", f"an event is not stored ({answer}): webhooks are refused with 503, and no job can be finished"
    return "ok", "an event would be stored"


def _media_store(app: App, tx: Tx) -> Verdict:
    """Keep a small file, read it and delete it, as files of nobody."""
    store, content = app.ports.media, b"\x89PNG\r\n\x1a\n" + token_bytes(32)
    digest = sha256(content).digest()
    key = object_key(NOBODY, digest, "png")
    with TemporaryDirectory() as folder:
        source = Path(folder) / "written-by-doctor"
        source.write_bytes(content)
        store.put(key, source, content_type="image/png")
    try:
        read = b"".join(store.read(key, 0, len(content)))
    finally:
        store.delete(key)
    if read != content:
        return "fail", "what is read is not what was written"
    try:
        still = b"".join(store.read(key, 0, 1))
    except MediaMissing:
        still = b""
    except StoreUnavailable as error:
        remedy = "allow our keys to list this bucket (s3:ListBucket), else a lost file is asked for again and again"
        return "fail", f"it does not say that a file is missing: {remedy} ({error})"
    if still:
        return "fail", "what was deleted can still be read: are our keys allowed to delete?"
    newest = tx.media.newest(SAMPLE)
    if missing := sum(_is_lost(store, tx, file) for file in newest):
        remedy = "is MEDIA_DIR (or S3_BUCKET) another one than before? Who sends a lost file again has it kept again"
        return "fail", f"it lacks {missing} of the {len(newest)} newest files: {remedy}"
    store.check_room(CLIP_ROOM)
    files, size = tx.media.totals()
    says = f"can be written and read; has {files} files of {size / 1e9:.1f} GB together"
    settings = app.settings
    free = None if settings.s3_bucket else disk_usage(media_folder(settings).folder).free
    if free is not None and free < LITTLE_ROOM:
        return "warn", f"{says}; its disk has {free / 1e9:.2f} GB left: make room, or use a larger disk (MEDIA_DIR)"
    if not (settings.s3_bucket or settings.public_url or settings.cdn_base_url):
        says += "; its addresses lead to this machine: set PUBLIC_URL where others should reach them"
    return "ok", says


def _is_lost(store: MediaStore, tx: Tx, file: Media) -> bool:
    """Return whether the store has no object of a row that is stored, now as before."""
    if store.has(file.key):
        return False
    now = tx.media.get(file.tenant_id, file.id)
    return now is not None and now.stored_at is not None


def _one_store(app: App, tx: Tx) -> Verdict:
    views = tx.store_views.fresh(fresh_within(timedelta(seconds=app.settings.idle_interval)))
    if not views:
        return "ok", "no web or worker process has looked at it lately, so there is nothing to compare"
    if faults := divided(views):
        remedy = "give all of them one folder (MEDIA_DIR), or a bucket (S3_BUCKET): dynos have disks of their own"
        return "fail", f"{'; '.join(faults[:SHOWN])}: {remedy}"
    if len(views) == 1:
        return "ok", f"a {views[0].role} process uses it; there is no other to compare with"
    return "ok", f"{len(views)} processes see the same"


def _schema(app: App, tx: Tx) -> Verdict:
    found = tx.health.schema()
    try:
        check(found)
    except SchemaNewer:
        return "fail", f"at {found.revision}, which this release does not know: run the newer release that made it"
    except SchemaOlder:
        return "fail", f"at {found.revision or 'nothing'}, and this code expects {newest()}: run `viral migrate`"
    if found.revision != newest():
        return "warn", f"at {found.revision}, of a newer release; this one (it expects {newest()}) may work on it"
    return "ok", f"at {found.revision}, as this code expects"


def _role(app: App, tx: Tx) -> Verdict:
    server = tx.health.identity()
    missing = tx.health.missing_rights()
    if server.unbound:
        return "fail", f"{server.role} is not bound by row-level security: let DATABASE_URL connect as viral_app"
    if missing:
        return "fail", lacking(missing)
    if server.mode == "owner":
        return "ok", f"{server.role} is bound by row-level security, which is forced (there is no role viral_app here)"
    return "ok", f"{server.role} is bound by row-level security"


def _connections(app: App, tx: Tx) -> Verdict:
    """Count for a web dyno, a scheduler, and as many worker processes as are alive, but at least those of one dyno."""
    settings = app.settings
    server, pooled = tx.health.connections(), tx.driver.pooled
    alive = sum(row["alive"] for row in tx.workers.all())
    workers = max(alive, settings.worker_processes)
    need = of_fleet(workers=workers, processes=1, threads=settings.worker_threads, pool=settings.pool_size)
    processes = "one worker process" if workers == 1 else f"{workers} worker processes"
    says = f"one web, {processes} and one scheduler hold up to {need} connections with these settings"
    if pooled:
        return "ok", f"{says}; a pooler is in front, and has to allow as many clients"
    says += f"; the server allows {server.allowed}, of which {server.used} are in use"
    if need > server.allowed:
        return "warn", f"{says}: lower WORKER_PROCESSES or DB_POOL_SIZE"
    return "ok", says


def _workers(app: App, tx: Tx) -> Verdict:
    alive = [row for row in tx.workers.all() if row["alive"]]
    if not alive:
        return "warn", "none is alive, so jobs wait: start one with `viral worker`"
    return "ok", "1 process is alive" if len(alive) == 1 else f"{len(alive)} processes are alive"


def _scheduler(calendar: Sequence[Timetable], app: App, tx: Tx) -> Verdict:
    now = tx.now()
    last = tx.schedule_runs.last(now)
    if not last:
        return "warn", "none has ever run: start one with `viral scheduler`"
    late = [each.name for each in calendar if each.overdue_since(last, now)]
    if late:
        return "warn", f"{', '.join(late)} is overdue, so none runs: start one with `viral scheduler`"
    return "ok", "runs every schedule in time"


def _calendar(calendar: Sequence[Timetable], app: App, tx: Tx) -> Verdict:
    """Find recorded runs that do not say what was done."""
    now = tx.now()
    ahead, made = tx.schedule_runs.count_ahead(now), tx.schedule_runs.latest(now)
    names, wrong = {each.name for each in calendar}, []
    if gone := sorted(names & {name for name, fire in made.items() if fire.status is None}):
        wrong.append(f"the job of the last run of {', '.join(gone)} is gone: `viral schedules fire NAME` makes another")
    if early := sorted(names & ahead.keys()):
        wrong.append(
            f"runs of {', '.join(early)} are recorded for a time still to come (a clock ran ahead, or a backup is of "
            "another time): the schedules go on by the clock of the database"
        )
    return ("warn", "; ".join(wrong)) if wrong else ("ok", "every last run has its job, and none lies in the future")


def _zones(app: App, tx: Tx) -> Verdict:
    found = tx.health.time_zones()
    unknown = {name: count for name, count in found.items() if not is_zone(name)}
    if not unknown:
        return "ok", "known to this system"
    named = ", ".join(shortened(repr(name)) for name in sorted(unknown)[:SHOWN])
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    count = sum(unknown.values())
    return "warn", f"{count} {'row names' if count == 1 else 'rows name'} {named}{more}: UTC is used; {ABOUT_ZONES}"


def _types(app: App, tx: Tx) -> Verdict:
    found = tx.health.unknown_types(list(app.job_types))
    if not found:
        return "ok", "known to this release"
    named = ", ".join(f"{count} of {shortened(repr(job_type))}" for job_type, count in found.items())
    return "warn", readable(
        f"{named} waited for over an hour, and this release has no such type: cancel or delete them"
    )


def _odd_rows(app: App, tx: Tx) -> Verdict:
    found = tx.health.odd_rows()
    if not found:
        return "ok", "holds"
    rows = "; ".join(f"{table} {row}: {', '.join(columns)}" for table, row, columns in found)
    return "warn", readable(f"mend these by SQL, or delete them, and look again for more: {rows}")


def _invariant(name: str, app: App, tx: Tx) -> Verdict:
    count = tx.health.violations(name)
    if not count:
        return "ok", "holds"
    shown = f"more than {MOST:,}" if count > MOST else str(count)
    against = "1 row contradicts it" if count == 1 else f"{shown} rows contradict it"
    return "warn" if name in WAITS_FOR_A_PERSON else "fail", f"{against}: {ABOUT[name]}"
