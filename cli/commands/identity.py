"""`viral identity` and `viral users`: people, as Clerk says who they are."""

from typing import Annotated

import typer

from cli.comparison import Repair, compare_with_books
from cli.output import AsJson, Limit, print_json, show, show_one
from cli.session import for_system
from cli.shell import Group
from domain.errors import UnknownUser
from workers.ops.reconcile import compare_identity

app = Group()
users = Group()

PEOPLE = ("id", "clerk_id", "email", "name", "tenant_id", "role", "banned", "last_login_at", "deleted_at")
MEMBERSHIPS = ("organization_clerk_id", "name", "home_id", "role", "joined_at", "deleted_at")


@app.command()
def reconcile(repair: Repair = False, as_json: AsJson = False) -> None:
    """Compare the mirror with Clerk's own books.

    Compared are people (bans too), organizations and memberships: those whose events never came, and those of which
    Clerk knows nothing any more.

    A repair is an event: stored, and applied by a worker. The nightly job identity.reconcile does the same.

    \b
    viral identity reconcile
    viral identity reconcile --repair
    """
    compare_with_books("Clerk", compare_identity, repair=repair, as_json=as_json)


@users.command("list")
def list_users(
    banned: Annotated[bool, typer.Option("--banned", help="Only those who are banned in Clerk.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest people first.

    \b
    viral users list
    """
    with for_system() as tx:
        rows = tx.identity.recent(banned=banned, limit=limit)
    show(rows, PEOPLE, as_json=as_json, nothing="Nobody.")


@users.command("show")
def show_user(
    name: Annotated[str, typer.Argument(metavar="USER", help="Clerk's id, ours, or the e-mail address.")],
    as_json: AsJson = False,
) -> None:
    """Show one person, their tenant and their memberships.

    `banned` is what Clerk says; `own_tenant_id` is the tenant of their own account, `tenant_id` the one they work in.

    \b
    viral users show ada@example.com
    """
    with for_system() as tx:
        rows = [
            row
            | {
                "own_tenant_id": row["clerk_id"] and tx.identity.own_tenant(row["clerk_id"]),
                "memberships": tx.identity.memberships_of(row["clerk_id"] or ""),
            }
            for row in tx.identity.find(name)
        ]
    if not rows:
        raise UnknownUser(f"there is nobody with the id or address {name!r}; `viral users list` shows the newest")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        show_one(row, as_json=False, part=("memberships", MEMBERSHIPS, "No memberships."))
