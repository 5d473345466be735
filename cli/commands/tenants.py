"""`viral tenants`"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import act
from cli.arguments import among, one_of
from cli.output import AsJson, Limit, console, print_json, progress, show, show_one
from cli.session import session
from cli.shell import Group
from domain.billing.subscriptions import STATUSES
from domain.billing.tiers import Tier
from domain.ops.tenant_filters import DELETED, HARMS, tenant_filter
from domain.text.filters import SenselessFilter
from domain.text.readable import readable
from workers.ops import tenant_deletion, tenants
from workers.ops.tenant_export import export_tenant

app = Group()

COLUMNS = (
    *("id", "name", "subscription_tier", "subscription_status"),
    *("used_quota", "allowance", "quota_reset_at", "cost", "active_at", "deserted", "harms"),
)
SUBSCRIPTION_STATUSES = ("none", *STATUSES, DELETED)
PEOPLE = ("id", "email", "name", "role", "clerk_id", "banned", "last_login_at")


@app.command("list")
def list_tenants(
    tier: Annotated[
        str | None, typer.Option("--plan", "--tier", help="FREE, STARTER, PRO or AGENCY.", autocompletion=among(Tier))
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="Of the subscription: active, past_due, …; or deleted.",
            autocompletion=among(SUBSCRIPTION_STATUSES),
        ),
    ] = None,
    search: Annotated[str | None, typer.Option("--name", "--search", help="Part of the name.")] = None,
    tenant_id: Annotated[str | None, typer.Option("--id", help="The tenant of this id.")] = None,
    customer: Annotated[str | None, typer.Option(help="The tenant of this Stripe customer.")] = None,
    email: Annotated[str | None, typer.Option(help="Those of the person with this address.")] = None,
    harm: Annotated[str | None, typer.Option(help=f"One of {', '.join(HARMS)}.", autocompletion=among(HARMS))] = None,
    deserted: Annotated[
        bool, typer.Option("--deserted", help="Only those that nobody can sign in for: all people are gone or banned.")
    ] = False,
    after: Annotated[str | None, typer.Option(metavar="PLACE", help="Go on from where a list ended.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest tenants first.

    \b
    viral tenants list --search ada
    """
    tier = tier and tier.upper()
    one_of(Tier, tier, "--tier", "tier")
    one_of(HARMS, harm, "--harm", "harm")
    filled = {"plan": tier, "status": status, "name": search, "id": tenant_id, "customer": customer, "email": email}
    filled |= {"harm": harm or ("deserted" if deserted else None), "after": after}
    try:
        wanted = tenant_filter({name: value for name, value in filled.items() if value is not None})
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None
    with session() as current:
        found = tenants.tenant_list(current, wanted, limit=limit)
    if not found.rows:  # Stripe may have further words
        one_of(SUBSCRIPTION_STATUSES, status, "--status", "status")
    rows = [row | {"harms": "; ".join(row["harms"]) or None} for row in found.rows]
    show(rows, COLUMNS, as_json=as_json, nothing="No tenants.")
    if found.further is not None and not as_json:
        console().print(f"{found.count} match. Older ones: --after {found.further.after}")


@app.command("show")
def show_tenant(
    tenant_id: Annotated[UUID, typer.Argument(metavar="ID", help="The tenant's id.")], as_json: AsJson = False
) -> None:
    """Show one tenant: plan, quota and why, and people.

    \b
    viral tenants show ID
    """
    with session() as current:
        row = tenants.find_with_people(current, tenant_id)
        explained = tenants.explain_quota(current, tenant_id)
    if as_json:
        print_json(row | {"why": [*explained.sentences, *explained.plan]})
        return
    if row["deletion_began_at"] is not None:
        console().print(f"It was deleted on {row['deletion_began_at']:%Y-%m-%d}; what is shown is what has to be kept.")
    for sentence in (*explained.sentences, *explained.plan):
        console().print(readable(sentence))
    console().print()
    show_one(row, as_json=False, simplified=_simplified, part=("users", PEOPLE, "No users."))
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


@app.command()
def export(
    tenant_id: Annotated[UUID, typer.Argument(metavar="ID", help="The tenant's id.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The zip file to write.")],
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all of a tenant into one zip file: rows, media, a manifest.

    Tokens of accounts, hashes of API keys and what is sealed are left out; docs/tenants.md says what is in it.

    \b
    viral tenants export ID --to ada.zip
    """
    with session() as current, progress("export", as_json=as_json) as step:
        try:
            done = export_tenant(
                current,
                tenant_id,
                to,
                replace=replace,
                progress=lambda what, count: step(what=what, says=f"{count:,}"),
            )
        except OSError as error:
            raise typer.BadParameter(f"{to} cannot be written: {error.strerror}", param_hint="--to") from None
    counts = {"rows": sum(done.tables.values()), "tables": len(done.tables), "files": done.files, "bytes": done.bytes}
    show_one({"file": str(done.path)} | counts | {"missing": done.missing}, as_json=as_json)


@app.command()
def delete(
    tenant_id: Annotated[UUID, typer.Argument(metavar="ID", help="The tenant's id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why: it is kept with your name.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for the tenant's name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant: its accounts' tokens, its rows and its files.

    It cannot be undone: export it first. A job does it, and the same command again goes on where it was cut short.
    Refused while a subscription runs at Stripe. What has to be kept is named in the answer, and in docs/tenants.md.

    \b
    viral tenants delete ID --reason 'asked by its owner'
    """
    with session() as current:
        if not yes:
            name = tenant_deletion.name_of(current, tenant_id)
            if not sys.stdin.isatty():
                raise typer.BadParameter(f"It cannot be undone. Say --yes to delete {name!r}", param_hint="--yes")
            if typer.prompt(f"It cannot be undone. Type the tenant's name ({name}) to delete it", err=True) != name:
                raise typer.Abort
        done = act(current, "tenant.delete", f"tenant:{tenant_id}", {"name": str(tenant_id)}, reason=reason)
    begun = done.after
    if as_json:
        print_json(begun | {"kept": tenant_deletion.KEEPS})
        return
    job_id, accounts = begun["job_id"], begun["accounts"]
    console().print(f"Nobody can use it any more. The job {job_id} deletes what it has: `viral jobs show` it.")
    for account, says in accounts.items():
        console().print(readable(f"Account {account}: {says}."))
    console().print("What is kept, and why:")
    for table, why in tenant_deletion.KEEPS.items():
        console().print(f"  {table}: {why}")
