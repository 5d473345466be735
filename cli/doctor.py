"""`viral doctor`: what can be checked from here."""

from collections.abc import Callable, Iterator
from functools import partial

from cli.session import resolve
from db.health import INVARIANTS
from db.migrate import knows, newest
from db.transaction import SYSTEM
from db.url import parse
from domain.connections import of_fleet
from scheduler.schedule import SCHEDULES, overdue_since
from workers.app import App, build
from workers.settings import Settings
from workers.signin import issuer

Finding = dict[str, str]
Verdict = tuple[str, str]

ABOUT = {
    "no job waits for a person": "see `viral jobs list --status failed`",
    "no event is parked": "see `viral events list --status parked`",
    "sleeping jobs are woken within a minute": "does `viral scheduler` run?",
    "due quotas are reset within two hours": "do `viral scheduler` and `viral worker` run?",
}


def examine() -> list[Finding]:
    """Every check's name, its state (`ok`, `warn`, `fail`) and what it says. Never raises for what it finds.

    Raises:
        SettingsInvalid: there is nothing to examine.
    """
    settings, _ = resolve()
    app = build(settings, name="viral doctor", pool_size=1)
    try:
        postgres = _attempt("postgres", partial(_postgres, app))
        findings = [*_configuration(settings), postgres, _attempt("redis", partial(_redis, app))]
        if postgres["state"] == "fail":
            return findings
        schema = _attempt("schema", partial(_schema, app))
        findings += [schema, _attempt("role", partial(_role, app))]
        findings += [_attempt("connections", partial(_connections, app))]
        if schema["state"] == "fail":
            return findings
        findings += [_attempt("workers", partial(_workers, app)), _attempt("scheduler", partial(_scheduler, app))]
        return findings + [_attempt(name, partial(_invariant, app, name)) for name in INVARIANTS]
    finally:
        app.close()


def _attempt(check: str, look: Callable[[], Verdict]) -> Finding:
    try:
        state, says = look()
    except Exception as error:
        state, says = "fail", " ".join(str(error).split()) or type(error).__name__
    return {"check": check, "state": state, "says": says}


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
            ("CLERK_ISSUER", issuer(settings), "session tokens of any https issuer are good, if the key signed them"),
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


def _postgres(app: App) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        server = tx.health.identity()
    if not server.durable:
        return "warn", f"version {server.version}, with synchronous_commit off: what was answered with 200 can be lost"
    return "ok", f"version {server.version} answers"


def _redis(app: App) -> Verdict:
    try:
        app.doorbell.ping()
    except Exception as error:
        return "warn", f"does not answer ({error}): jobs wait in the table until it is back"
    return "ok", "answers"


def _schema(app: App) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        found = tx.health.revision()
    if found is not None and not knows(found):
        return "fail", f"at {found}, which this release does not know: run the newer release that made it"
    if found != newest():
        return "fail", f"at {found or 'nothing'}, and this code expects {newest()}: run `viral migrate`"
    return "ok", f"at {found}, as this code expects"


def _role(app: App) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        server = tx.health.identity()
    if server.unbound:
        return "fail", f"{server.role} is not bound by row-level security: let DATABASE_URL connect as viral_app"
    return "ok", f"{server.role} is bound by row-level security"


def _connections(app: App) -> Verdict:
    """A web dyno, a scheduler, and as many worker processes as are alive, but at least those of one dyno."""
    settings = app.settings
    with app.db.transaction(SYSTEM) as tx:
        server = tx.health.connections()
        alive = sum(row["alive"] for row in tx.workers.all())
    workers = max(alive, settings.worker_processes)
    need = of_fleet(workers=workers, processes=1, threads=settings.worker_threads, pool=settings.pool_size)
    says = f"one web, {workers} worker processes and one scheduler hold up to {need} with these settings"
    if parse(settings.database_url).pooled:
        return "ok", f"{says}; a pooler is in front, and has to allow as many clients"
    says += f"; the server allows {server.allowed}, of which {server.used} are in use"
    if need > server.allowed:
        return "warn", f"{says}: lower WORKER_PROCESSES or DB_POOL_SIZE"
    return "ok", says


def _workers(app: App) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        alive = [row for row in tx.workers.all() if row["alive"]]
    if not alive:
        return "warn", "none is alive, so jobs wait: start one with `viral worker`"
    return "ok", "1 process is alive" if len(alive) == 1 else f"{len(alive)} processes are alive"


def _scheduler(app: App) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        last, now = tx.fires.last(), tx.now()
    if not last:
        return "warn", "none has ever run: start one with `viral scheduler`"
    late = [schedule.name for schedule in SCHEDULES if overdue_since(schedule, last, now)]
    if late:
        return "warn", f"{', '.join(late)} is overdue, so none runs: start one with `viral scheduler`"
    return "ok", "fires in time"


def _invariant(app: App, name: str) -> Verdict:
    with app.db.transaction(SYSTEM) as tx:
        count = tx.health.violations(name)
    if not count:
        return "ok", "holds"
    against = "1 row contradicts it" if count == 1 else f"{count} rows contradict it"
    return ("warn", f"{against}: {ABOUT[name]}") if name in ABOUT else ("fail", against)
