"""`viral identity` and `viral users`: who people are, as Clerk says it."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.reconcile import compare_with_books
from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.errors import NotSetUp, UnknownUser

if TYPE_CHECKING:
    from workers.app import App
    from workers.jobs.reconcile import ComparedPage

app = Group()
users = Group()

PEOPLE = ("id", "clerk_id", "email", "name", "tenant_id", "role", "banned", "last_login_at", "deleted_at")
MEMBERSHIPS = ("organization_clerk_id", "name", "home_id", "role", "joined_at", "deleted_at")


@app.command("reconcile")
def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Also repair the mirror. Default: only report.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the mirror with Clerk's own books.

    Compared are people (bans too), organizations and memberships: those whose events never came, and those of which
    Clerk knows nothing any more.

    A repair is an event: stored, and applied by a worker. The nightly job identity.reconcile does the same.
    """
    compare_with_books("Clerk", _pages, repair=repair, as_json=as_json)


@users.command("list")
def list_users(
    banned: Annotated[bool, typer.Option("--banned", help="Only those who are banned in Clerk.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """The newest people first."""
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        rows = tx.identity.recent(banned=banned, limit=limit)
    show(rows, PEOPLE, as_json=as_json, nothing="Nobody.")


@users.command("show")
def show_user(
    name: Annotated[str, typer.Argument(metavar="USER", help="Clerk's id, ours, or the e-mail address.")],
    as_json: AsJson = False,
) -> None:
    """One person, their tenant and their memberships.

    `banned` is what Clerk says; `own_tenant_id` is the tenant of their own account, `tenant_id` the one they work in.
    """
    from db.transaction import SYSTEM

    with session() as current, current.db.transaction(SYSTEM) as tx:
        found = [
            row | {"own_tenant_id": row["clerk_id"] and tx.identity.own_tenant(row["clerk_id"])}
            for row in tx.identity.find(name)
        ]
        rows = [row | {"memberships": tx.identity.memberships_of(row["clerk_id"] or "")} for row in found]
    if not rows:
        raise UnknownUser(f"there is nobody with the id or address {name!r}; `viral users list` shows the newest")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        memberships = row.pop("memberships")
        show_one(row, as_json=False)
        console().print()
        show(memberships, MEMBERSHIPS, as_json=False, nothing="No memberships.")


def _pages(current: "App") -> "Iterator[ComparedPage]":
    """Compare with Clerk's books.

    Raises:
        NotSetUp: there is no key to ask Clerk with.
    """
    from db.transaction import SYSTEM
    from workers.jobs.reconcile import compare_identity

    records = current.ports.people
    if records is None:
        raise NotSetUp("Clerk cannot be asked: CLERK_SECRET_KEY is not set")
    yield from compare_identity(partial(current.db.transaction, SYSTEM), records, current.ports.clerk_instance)
