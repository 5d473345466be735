"""`viral autopilot`"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, one_of, person, usd
from cli.commands.chain_words import chain_row, say_explained
from cli.output import AsJson, Limit, console, dollars, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.autopilot.chains import Mode, Stage
from domain.text.readable import readable
from domain.videos.plan import AUTO, KEY_SETTINGS, STORYBOARD
from domain.videos.profiles import NAMES
from workers.ops import autopilot, videos

app = Group()

ON = ("tenant_id", "name", "mode", "accounts", "videos_a_day", "provider", "budget", "spent", "under_way", "stopped")
ACCOUNTS = ("account_id", "platform", "username", "consent", "note")
CHAINS = ("id", "day", "stage", "score", "title", "spent", "reason")

TenantId = Annotated[UUID, typer.Option("--tenant", metavar="ID", help="Whose autopilot it is.")]
AccountId = Annotated[UUID, typer.Argument(metavar="ACCOUNT", help="The account's id; `viral accounts list` has it.")]


def _time(text: str) -> str:
    if text not in ("", "=") and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise typer.BadParameter(f"{text!r} is no time of day; write 18:30")
    return text


@app.command("show")
def show_autopilot(
    tenant: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this tenant's, with all of it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the autopilot may do, and what it does.

    Without --tenant: all tenants that have it on, a line each. With it: its settings, the accounts that it may post to,
    this month's money, the last day's chains, and what happens next.

    \b
    viral autopilot show --tenant ID
    """
    with session() as current:
        if tenant is None:
            rows = autopilot.switched_on(current)
            nothing = "No tenant has it on. `viral autopilot set --tenant ID --mode approve` prepares all for a person."
            show(rows, ON, as_json=as_json, nothing=nothing, simplified=_on)
            return
        found = autopilot.show(current, tenant)
    _say(found, as_json=as_json)


@app.command("set")
def change(
    tenant: TenantId,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="off|approve|auto",
            help="off: nothing. approve: all is prepared, and each post waits for a person. auto: it posts by itself.",
            autocompletion=among(Mode),
        ),
    ] = None,
    least_score: Annotated[
        int | None, typer.Option(min=0, max=100, metavar="N", help="No concept with a lower predicted score is made.")
    ] = None,
    videos_a_day: Annotated[int | None, typer.Option(min=1, max=10, metavar="N", help="At most so many a day.")] = None,
    concepts_a_day: Annotated[
        int | None,
        typer.Option(min=1, max=20, metavar="N", help="So many to choose from; they count in the tenant's quota."),
    ] = None,
    times: Annotated[
        list[str] | None,
        typer.Option(
            "--time",
            parser=_time,
            metavar="HH:MM",
            help="When to post, by each account's clock; repeat it, an hour apart. = for the concept's own time.",
        ),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who makes the videos; `viral providers list`. storyboard costs nothing.",
            autocompletion=among((AUTO, STORYBOARD, *KEY_SETTINGS)),
        ),
    ] = None,
    budget: Annotated[
        Decimal | None,
        typer.Option(parser=usd, metavar="USD", help="What clips may cost a month, within the tenant's own budget."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose what the autopilot may do.

    What is not named stays as it is. It posts only to accounts that consented (`viral autopilot consent`).

    \b
    viral autopilot set --tenant ID --mode approve
    viral autopilot set --tenant ID --mode auto --time 12:00 --time 18:30 --least-score 70
    viral autopilot set --tenant ID --provider runway --budget 40
    """
    one_of(tuple(Mode), mode, "--mode", "mode")
    named = {
        "mode": mode,
        "least_score": least_score,
        "videos_a_day": videos_a_day,
        "concepts_a_day": concepts_a_day,
        "times": None if times is None else [each for each in times if each not in ("", "=")],
        "provider": provider,
        "budget_usd": budget,
    }
    changes = {name: value for name, value in named.items() if value is not None}
    if not changes:
        raise typer.BadParameter("say what to change, such as --mode or --time", param_hint="--…")
    with session() as current:
        if provider is not None:
            one_of([AUTO, *(row["provider"] for row in videos.providers(current))], provider, "--provider", "provider")
        found = autopilot.change(current, tenant, changes, by=f"person:{person()}")
    _say(found, as_json=as_json)


@app.command()
def consent(tenant: TenantId, account: AccountId, as_json: AsJson = False) -> None:
    """Let the autopilot post to an account.

    Only with its owner's consent, which is written down with the time and with who you are.

    \b
    viral autopilot consent ACCOUNT --tenant TENANT
    """
    with session() as current:
        found = autopilot.consent(current, tenant, account, by=f"person:{person()}")
    _say_account(found, account, as_json=as_json)


@app.command()
def withdraw(tenant: TenantId, account: AccountId, as_json: AsJson = False) -> None:
    """Let the autopilot post to an account no more.

    What it has scheduled there, and is not on its way yet, is cancelled.

    \b
    viral autopilot withdraw ACCOUNT --tenant TENANT
    """
    with session() as current:
        done = autopilot.withdraw(current, tenant, account)
    if as_json:
        print_json(done.overview.accounts)
    else:
        console().print(f"{account}  {done.says}")


@app.command()
def chains(
    tenant: TenantId,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE", help=f"Only those at this stage: {', '.join(Stage)}.", autocompletion=among(Stage)
        ),
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest chains first.

    A chain is one concept's way from the day's concepts to its posts.

    \b
    viral autopilot chains --tenant ID
    """
    one_of(tuple(Stage), stage, "--stage", "stage")
    with session() as current:
        page = autopilot.chains(current, tenant, limit=limit, stage=stage)
    show(page.chains, CHAINS, as_json=as_json, nothing="No chains.", simplified=chain_row)


@app.command()
def explain(
    chain: Annotated[UUID, typer.Argument(metavar="CHAIN", help="The chain's id; `viral autopilot show` has it.")],
    as_json: AsJson = False,
) -> None:
    """Say where a chain stands, and why.

    Which concept was taken and which were not, what it cost, where its posts are, what comes next.

    \b
    viral autopilot explain ID
    """
    with session() as current:
        found = autopilot.explain(current, None, chain)
    if as_json:
        print_json({"at": found.at, "chain": found.chain} | asdict(found.explanation) | {"events": found.events})
    else:
        say_explained(found)


# --- what is shown ----------------------------------------------------------------------------------------------


def _say(found: autopilot.Overview, *, as_json: bool) -> None:
    if as_json:
        shown = {"money": found.money, "accounts": found.accounts, "chains": found.chains, "next": found.next}
        print_json({"tenant_id": found.tenant_id} | found.settings | shown)
        return
    out = console()
    show_one(found.settings, as_json=False, simplified=lambda row: _settings(row, found.money))
    out.print("\nAccounts", style="bold")
    nothing = "None is connected. `viral accounts connect PLATFORM --tenant ID` connects one."
    show(found.accounts, ACCOUNTS, as_json=False, nothing=nothing, simplified=_account)
    if found.chains:
        out.print("\nChains", style="bold")
        show(found.chains, CHAINS, as_json=False, nothing="", simplified=chain_row)
    out.print("\nNext", style="bold")
    for sentence in found.next:
        out.print(f"- {readable(sentence)}")


def _say_account(found: autopilot.Overview, account_id: UUID, *, as_json: bool) -> None:
    row = next(each for each in found.accounts if each["id"] == account_id)
    if as_json:
        print_json(row)
        return
    since = f"since {readable(row['consented_at'])}, by {readable(row['consented_by'])}"
    console().print(f"{account_id}  {_called(row)}: the autopilot may post to it {since}")
    for sentence in found.next:
        console().print(f"Next: {readable(sentence)}")


def _called(row: Mapping[str, Any]) -> str:
    return f"{readable(row['username'] or row['id'])} ({NAMES[row['platform']]})"


def _on(row: Mapping[str, Any]) -> dict[str, Any]:
    paid = row["budget_usd"] or row["spent_usd"]
    spent = dollars(row["spent_usd"]) if paid else None
    return {**row, "budget": dollars(row["budget_usd"]) if paid else None, "spent": spent}


def _settings(row: Mapping[str, Any], money: Mapping[str, Any]) -> dict[str, Any]:
    amounts = (("left", "left_usd"), ("spent", "spent_usd"), ("reserved", "reserved_usd"))
    parts = ", ".join(f"{dollars(money[name])} {word}" for word, name in amounts)
    used = any(money[name] for name in ("budget_usd", "reserved_usd", "spent_usd"))
    return {
        "mode": row["mode"],
        "least_score": row["least_score"],
        "videos_a_day": row["videos_a_day"],
        "concepts_a_day": row["concepts_a_day"],
        "times": ", ".join(row["times"]) or "each concept's own",
        "time_zone": row["timezone"],
        "provider": row["provider"],
        "budget": f"{dollars(row['budget_usd'])} a month; {money['month']:%B}: {parts}"
        if used
        else "none: no clip is bought",
        "changed_at": row["changed_at"],
        "changed_by": row["changed_by"],
    }


def _account(row: Mapping[str, Any]) -> dict[str, Any]:
    consented = row["consented_at"] and f"{readable(row['consented_at'])}, by {readable(row['consented_by'])}"
    return {**row, "account_id": row["id"], "consent": consented or "no", "note": row["obstacle"]}
