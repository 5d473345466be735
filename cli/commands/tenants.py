"""`viral tenants`"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import one_of
from cli.output import AsJson, Limit, console, show, show_one
from cli.session import for_system, session
from cli.shell import Group
from domain.billing.tiers import Tier
from workers.ops import tenants

app = Group()

COLUMNS = (
    *("id", "name", "subscription_tier", "subscription_status"),
    *("used_quota", "monthly_quota", "quota_reset_at", "deserted"),
)
PEOPLE = ("id", "email", "name", "role", "clerk_id", "banned", "last_login_at")


@app.command("list")
def list_tenants(
    tier: Annotated[str | None, typer.Option(help="FREE, STARTER, PRO or AGENCY.")] = None,
    search: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    deserted: Annotated[
        bool, typer.Option("--deserted", help="Only those that nobody can sign in for: all people are gone or banned.")
    ] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest tenants first."""
    tier = tier and tier.upper()
    one_of(Tier, tier, "--tier", "tier")
    with for_system() as tx:
        rows = tx.tenants.recent(tier=tier, search=search, deserted=deserted, limit=limit)
    show(rows, COLUMNS, as_json=as_json, nothing="No tenants.")


@app.command("show")
def show_tenant(
    tenant_id: Annotated[UUID, typer.Argument(metavar="ID", help="The tenant's id.")], as_json: AsJson = False
) -> None:
    """Show one tenant: plan, quota and people."""
    with session() as current:
        row = tenants.find_with_people(current, tenant_id)
    show_one(row, as_json=as_json, simplified=_simplified, part=("users", PEOPLE, "No users."))
    if as_json:
        return
    if row["only_banned_people_answer"]:
        console().print(
            "\nWhoever answers for this tenant is banned in Clerk: its keys are refused, daily concepts rest."
        )
    if row["deserted"]:
        paying = row["subscription_tier"] != "FREE"
        but = ", and it pays: a person should look." if paying else "."
        console().print(f"Nobody can sign in for this tenant{but}")


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    simple = dict(row)
    if not simple.pop("timezone_known"):
        simple["timezone"] = f"{row['timezone']!r}, which is no zone that this system knows: UTC is used"
    return simple
