"""`viral accounts`"""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason, act
from cli.arguments import among, one_of, setting
from cli.output import AsJson, Limit, console, print_json, progress, show, show_one
from cli.session import interruptible_sleep, session
from cli.shell import Group
from domain.concepts.wording import counted
from domain.errors import ViralError
from domain.posting.accounts import AccountStatus
from domain.videos.profiles import NAMES
from workers.app import App
from workers.ops import accounts
from workers.ops.connecting import Begun, begin_connect, connected

app = Group()

STATUSES = tuple(AccountStatus)
COLUMNS = (
    "id",
    "tenant_id",
    "platform",
    "username",
    "status",
    "waiting",
    "used_today",
    "daily_limit",
    "disabled_at",
    "reason",
)
BETWEEN_LOOKS = 0.3
"""Seconds."""

AccountId = Annotated[UUID, typer.Argument(metavar="ID", help="The account's id; `viral accounts list` shows them.")]
Platform = Annotated[str, typer.Argument(metavar="PLATFORM", help=f"{', '.join(NAMES)}.", autocompletion=among(NAMES))]
Tenant = Annotated[UUID, typer.Option("--tenant", metavar="ID", help="Whose account it is.")]


class NotConnected(ViralError):
    """Nobody came back from the platform's page in time."""


@app.command("list")
def list_accounts(
    tenant: Annotated[UUID | None, typer.Option(metavar="ID", help="Only this tenant's, with their use.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only of this platform.", autocompletion=among(NAMES))] = None,
    status: Annotated[str | None, typer.Option(help=f"{', '.join(STATUSES)}.", autocompletion=among(STATUSES))] = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """List social accounts, oldest first.

    With --tenant also how many posts wait for each, and how many were made in 24 hours.

    \b
    viral accounts list --tenant ID
    """
    one_of(STATUSES, status, "--status", "status")
    with session() as current:
        rows = accounts.listed(current, tenant, platform=platform, status=status, limit=limit)
    nothing = "No social accounts. `viral accounts connect PLATFORM --tenant ID` connects one."
    show(rows, COLUMNS, as_json=as_json, nothing=nothing)


@app.command()
def connect(
    platform: Platform,
    tenant: Tenant,
    server: Annotated[
        str, typer.Option(metavar="HOST", help="Mastodon: where the account is. Bluesky: its own server, if any.")
    ] = "",
    handle: Annotated[str, typer.Option(metavar="NAME", help="Bluesky: the account's handle.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Bluesky: read the app password from standard input.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until its owner has given access.")] = False,
    as_json: AsJson = False,
) -> None:
    """Connect a social account to a tenant.

    Prints an address; the account's owner opens it in a browser and gives access, within ten minutes. Of Bluesky it
    asks for an app password instead, which the account's settings make.

    \b
    viral accounts connect tiktok --tenant ID --wait
    viral accounts connect mastodon --tenant ID --server mastodon.social
    viral accounts connect bluesky --tenant ID --handle ada.bsky.social
    """
    with session() as current:
        name = accounts.platform_of(platform)
        if name == "bluesky":
            row = _by_password(current, tenant, handle, server, from_stdin=password_stdin)
        else:
            begun = begin_connect(current, tenant, name, server=server)
            if not wait:
                _show_address(begun, as_json=as_json)
                return
            typer.echo(f"Open this in a browser:\n\n{begun.address}\n", err=as_json)
            row = accounts.show(current, tenant, _wait(current, begun))
    show_one(row, as_json=as_json, simplified=_simplified)


@app.command("show")
def show_account(account_id: AccountId, as_json: AsJson = False) -> None:
    """Show an account and its settings.

    With what the platform said that it may do.

    \b
    viral accounts show ID
    """
    with session() as current:
        row = accounts.show(current, None, account_id)
    show_one(row, as_json=as_json, simplified=_simplified)


@app.command("set")
def change(
    account_id: AccountId,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", metavar="NAME=VALUE", help="An option of the platform for all posts; repeat it. = clears."
        ),
    ] = None,
    consent: Annotated[
        bool, typer.Option("--consent", help="The owner agrees to what is switched on for viewers.")
    ] = False,
    daily_limit: Annotated[int | None, typer.Option(metavar="N", help="Posts in 24 hours; 0: no own limit.")] = None,
    zone: Annotated[str | None, typer.Option(metavar="ZONE", help="Its time zone, such as Europe/Berlin.")] = None,
    niche: Annotated[str | None, typer.Option(help="What its videos are about.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose how an account posts.

    What can be chosen is what the platform last said; `viral accounts show ID` has it.

    \b
    viral accounts set ID -o privacy_level=SELF_ONLY
    viral accounts set ID -o allow_comment=true --consent --daily-limit 5
    """
    named: dict[str, Any] = {}
    if daily_limit is not None:
        named["daily_limit"] = daily_limit or None
    if niche is not None:
        named["niche"] = niche or None
    settings = dict(setting(each) for each in option or [])
    with session() as current:
        row = accounts.change(current, None, account_id, settings=settings, consent=consent, timezone=zone, **named)
    show_one(row, as_json=as_json, simplified=_simplified)


@app.command()
def enable(account_id: AccountId, reason: Reason = None) -> None:
    """Let posts to a disabled account begin again.

    \b
    viral accounts enable 01a20417-5ccc-7850-9558-0a37b805228c
    """
    _switch("account.enable", account_id, reason)


@app.command()
def disable(account_id: AccountId, reason: Reason = None) -> None:
    """Begin no post to an account for now.

    Its posts wait, and are missed when they are late; its tokens stay, and what is on its way goes on.

    \b
    viral accounts disable 01a20417-5ccc-7850-9558-0a37b805228c --reason "it posts what it should not"
    """
    _switch("account.disable", account_id, reason)


def _switch(name: str, account_id: UUID, reason: str | None) -> None:
    with session() as current:
        done = act(current, name, f"account:{account_id}", reason=reason)
    console().print(f"{account_id}  {done.says}")


@app.command()
def disconnect(account_id: AccountId, reason: Reason = None) -> None:
    """Delete an account's tokens, and cancel what waits for it.

    \b
    viral accounts disconnect 01a20417-5ccc-7850-9558-0a37b805228c --reason "its owner asked"
    """
    with session() as current:
        done = act(current, "account.disconnect", f"account:{account_id}", reason=reason)
    console().print(f"{account_id}  {done.says}")
    if not done.well:
        raise typer.Exit(1)


@app.command("rotate-keys")
def rotate_keys(as_json: AsJson = False) -> None:
    """Encrypt all tokens with the newest key.

    Put a new key first in TOKEN_ENCRYPTION_KEYS, keep the old ones behind it, and start all processes again; then run
    this. What nothing is encrypted with any more can be removed. It can be run beside everything else.

    \b
    viral accounts rotate-keys
    """
    with session() as current, progress("tokens", as_json=as_json) as step:
        last: dict[str, accounts.Rotation] = {}
        for each in accounts.rotate_keys(current):
            last[each.what] = each
            step(what=each.what, says=f"{each.seen:,} looked at, {each.changed:,} encrypted anew")
    rows = [each._asdict() for each in last.values()]
    show(rows, ("what", "seen", "changed", "unreadable"), as_json=as_json, nothing="")
    if unreadable := sum(each.unreadable for each in last.values()):
        typer.echo(
            f"{counted(unreadable, 'row')} under a key that is not set: set it again, behind the others", err=True
        )
        raise typer.Exit(1)


# --- connecting -------------------------------------------------------------------------------------------------


def _by_password(current: App, tenant: UUID, handle: str, server: str, *, from_stdin: bool) -> Mapping[str, Any]:
    if not handle:
        raise typer.BadParameter("say which account it is, such as ada.bsky.social", param_hint="--handle")
    if from_stdin:
        password = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        password = typer.prompt("App password", hide_input=True, err=True)
    else:
        raise typer.BadParameter("send the app password so where nobody can be asked", param_hint="--password-stdin")
    made = accounts.connect_password(current, tenant, "bluesky", name=handle, password=password, server=server)
    if made.hint:
        typer.echo(made.hint, err=True)
    return made.account


def _show_address(begun: Begun, *, as_json: bool) -> None:
    if as_json:
        print_json({"url": begun.address, "expires_at": begun.expires_at})
    else:
        typer.echo(begun.address)


def _wait(current: App, begun: Begun) -> UUID:
    while (account_id := connected(current, begun)) is None:
        if datetime.now(UTC) > begun.expires_at:
            raise NotConnected("nobody has given access within ten minutes: run this again for another address")
        interruptible_sleep(BETWEEN_LOOKS)
    return account_id


# --- what is shown ----------------------------------------------------------------------------------------------


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    limits = {name: value for name, value in row["limits"].items() if value not in (None, {})}
    limits |= limits.pop("settings", {})
    return {
        "account_id": row["id"],
        "platform": row["platform"],
        "username": row["username"],
        "status": row["status"],
        "reason": row["reason"],
        "disabled_at": row["disabled_at"],
        "server": row["server"] or None,
        "tenant_id": row["tenant_id"],
        "niche": row["niche"],
        "timezone": row["timezone"],
        "daily_limit": row["daily_limit"],
        "waiting": row["waiting"],
        "used_today": row["used_today"],
        "settings": _pairs(row["settings"]),
        "limits": _pairs(limits),
        "limits_read_at": row["limits_read_at"],
        "connected_at": row["connected_at"],
        "last_post_at": row["last_post_at"],
    }


def _pairs(values: Mapping[str, Any]) -> str | None:
    return "; ".join(f"{name}: {json.dumps(value)}" for name, value in values.items()) or None
