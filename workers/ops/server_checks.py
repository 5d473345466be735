"""Checks of `viral doctor` about the servers between which we work: transactions, the pooler, clocks, proxies."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from db.ops.sessions import try_transactions
from db.postgres.url import parse
from db.transaction import Tx
from domain.concepts.wording import counted
from domain.ops.skew import Reading, furthest
from domain.text.readable import span
from workers.app import App

Verdict = tuple[str, str]

NAMED = 5
"""Tables that are named; the others are counted."""

NOTED, TOO_FAR = timedelta(seconds=2), timedelta(minutes=1)
"""Signatures, session tokens and clouds' requests are good for some minutes around the clock of this process."""


def check_tables(app: App, tx: Tx) -> Verdict:
    """Whether row-level security is on, and forced, on every table."""
    bare = tx.health.unprotected_tables()
    if not bare:
        return "ok", "on, and forced, on every table of ours"
    more = f" and {len(bare) - NAMED} more" if len(bare) > NAMED else ""
    named = f"{', '.join(bare[:NAMED])}{more}"
    return "fail", f"not forced on {named}: as the owner, ALTER TABLE {bare[0]} FORCE ROW LEVEL SECURITY, and so on"


def check_transactions(app: App, tx: Tx) -> Verdict:
    """Whether many transactions, through a pooler too, each have our role and their own scope."""
    trial = try_transactions(app.db.connect)
    if trial.faults:
        return "fail", "; ".join(trial.faults)
    through = counted(trial.sessions, "session")
    return "ok", f"{trial.transactions} in {through} of the server's each had the application's role and their scope"


def check_pooler(app: App, tx: Tx) -> Verdict:
    """Which pooler is in front of Postgres, and what that means."""
    settings = app.settings
    trial = try_transactions(app.db.connect, rounds=4)  # `tx` is not used: it would keep a session from them
    if not trial.pooled:
        return "ok", "none: each connection of ours is a session of the server"
    named = (("neon.tech", "Neon's"), ("supabase", "Supabase's"))
    whose = next((name for part, name in named if part in trial.host), "one")
    if trial.moved or parse(settings.database_url).pooled:
        says = f"{whose} in transaction mode: many connections share few sessions, and no statement is prepared by name"
    else:
        says = (
            f"{whose} in session mode: each connection of ours keeps a session of the server, so that it saves none; "
            "transaction mode would"
        )
    if not settings.direct_url or parse(settings.direct_url).pooled:
        return "warn", f"{says}; migrations run through it too: set DIRECT_URL to the server's own address"
    return "ok", says


def check_clocks(app: App, tx: Tx, *, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Verdict:
    """Whether this process, Postgres and Redis are of one time, as far as round trips let us tell."""
    asked: list[tuple[str, Callable[[], datetime]]] = [("Postgres", tx.health.clock)]
    tx.health.clock()  # the first one connects
    try:
        app.notifier.clock()
        asked.append(("Redis", app.notifier.clock))
    except Exception:
        agree, unasked = "this process and Postgres", "; Redis was not asked"
    else:
        agree, unasked = "this process, Postgres and Redis", ""
    readings = []
    for name, ask in asked:
        before = wall()
        there = ask()
        readings.append(Reading(name, before, there, wall()))
    apart, who = furthest(readings)
    if apart < NOTED:
        return "ok", f"those of {agree} agree within 2 s{unasked}"
    says = f"{who} are {span(apart)} apart: let NTP set the clocks of both machines"
    return (
        ("fail", f"{says}; webhooks and session tokens are refused meanwhile")
        if apart >= TOO_FAR
        else (
            "warn",
            says,
        )
    )


def check_proxies(app: App, tx: Tx) -> Verdict:
    """Whether clients are told apart, as far as the settings tell."""
    settings = app.settings
    if settings.trusted_proxies:
        return "ok", f"{counted(len(settings.trusted_proxies), 'network')} of proxies believed about their clients"
    if settings.public_url.startswith("https:"):
        return "warn", (
            "PUBLIC_URL is https, which `viral web` does not speak, so that a proxy is in front and TRUSTED_PROXIES "
            "names none: all clients have its address, and share its limits; list its networks there"
        )
    return "ok", "none is named (TRUSTED_PROXIES), and nothing says that one is in front"
