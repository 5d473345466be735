"""Tries how transactions run on this server: whose role and scope each has, and which of the server's sessions it gets.

Two connections work by turns that overlap, one for nobody's rows and one in the system scope, and change places each
round. A pooler that deals out sessions by the transaction gives each of them the other's session sooner or later; so
what one left behind, the other would find.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from db.postgres.connection import AppConnection, begin_commands, run_commands
from db.security import SYSTEM_SCOPE

ROUNDS = 10
NOBODY = str(UUID(int=0))
LIMIT = timedelta(seconds=5)

# The role of the login has nothing to say here, but that no rule binds it.
ASK = """
SELECT pg_backend_pid(), coalesce(current_setting('app.tenant_id', true), ''), current_user,
       row_security_active('tenants'),
       EXISTS (SELECT FROM tenants), current_setting('statement_timeout') <> '0', current_setting('TimeZone')
"""
LEFT_BEHIND = "SELECT coalesce(current_setting('app.tenant_id', true), '')"


class Found(NamedTuple):
    """What one transaction found; the fields are the columns of `ASK`."""

    session: int
    scope: str
    role: str
    bound: bool
    sees_tenants: bool
    limited: bool
    time_zone: str


@dataclass(frozen=True)
class Trial:
    """`pooled`: something deals out the server's sessions, at `host`. `sessions`: how many of them served the two
    connections; `moved`: one connection had several. `faults` are sentences, each once."""

    host: str
    pooled: bool
    transactions: int
    sessions: int
    moved: bool
    faults: list[str]


def try_transactions(connect: Callable[..., AppConnection], rounds: int = ROUNDS) -> Trial:
    """Run two transactions a round, and ask each who it is.

    Raises:
        DatabaseUnavailable: the server does not answer, or has no two connections for us.
        RoleRefused: nothing would keep one tenant's rows from another.
    """
    faults: dict[str, None] = {}
    sessions: dict[int, set[int]] = {0: set(), 1: set()}
    with closing(connect(autocommit=True)) as first, closing(connect(autocommit=True)) as second:
        both = (first, second)
        for number in range(rounds):
            scopes = (NOBODY, SYSTEM_SCOPE) if number % 2 == 0 else (SYSTEM_SCOPE, NOBODY)
            for driver in both:
                left = driver.execute(LEFT_BEHIND, prepare=False).fetchall()[0][0]
                faults |= dict.fromkeys(_left(left))
            for driver, scope in zip(both, scopes, strict=True):
                run_commands(driver, begin_commands(driver, scope, durable=False, timeout=LIMIT))
            for place, (driver, scope) in enumerate(zip(both, scopes, strict=True)):
                found = Found(*driver.execute(ASK, prepare=False).fetchall()[0])
                sessions[place].add(found.session)
                faults |= dict.fromkeys(_wrong(found, scope, driver.settings))
            for driver in both:
                driver.execute("COMMIT")
        moved = any(len(each) > 1 for each in sessions.values())
        served = len(sessions[0] | sessions[1])
        return Trial(first.info.host, first.pooled, 2 * rounds, served, moved, list(faults))


def _left(scope: str) -> Iterator[str]:
    if scope:
        yield (
            "a session has a scope (app.tenant_id) outside any transaction, so that forgetting to set one goes "
            "unnoticed: take it out of DATABASE_URL, and `ALTER ROLE … RESET app.tenant_id`"
        )


def _wrong(found: Found, scope: str, settings: dict[str, Any]) -> Iterator[str]:
    role = settings.get("role", found.role)
    if (found.scope, found.role) != (scope, role):
        yield f"a transaction had the scope or the role of another one ({found.role} instead of {role})"
    if not found.bound:
        yield f"row-level security does not bind {found.role} on the table tenants: run `viral migrate`"
    if found.scope == NOBODY and found.sees_tenants:
        yield "in the scope of nobody, rows of tenants are seen: run `viral migrate`"
    if not found.limited or found.time_zone != settings["TimeZone"]:
        yield "a transaction lost its time limit or its time zone"
