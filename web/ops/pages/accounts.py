"""One social account: whose it is, and whether it can be posted to."""

from collections.abc import Mapping
from typing import Any

from domain.errors import UnknownAccount
from domain.posting.accounts import AccountStatus
from domain.text.filters import uuid_of
from web.ops.page import Look, NothingThere, Page
from workers.ops import accounts

SHOWN = (
    *(
        "platform",
        "username",
        "status",
        "disabled_at",
        "reason",
        "waiting",
        "used_today",
        "daily_limit",
        "access_expires_at",
    ),
    *("created_at", "updated_at"),
)


def view(look: Look) -> Mapping[str, Any]:
    """Raises:
    NothingThere: there is no such account.
    """
    account_id = uuid_of(look.path["id"])
    if account_id is None:
        raise NothingThere("an account's id looks like 0190a5b2-5ccc-7850-9558-0a37b805228c")
    try:
        row = accounts.show(look.app, None, account_id)
    except UnknownAccount as error:
        raise NothingThere(str(error)) from error
    return {"account": row, "facts": {name: row[name] for name in SHOWN if row.get(name) is not None}}


def _state(account: Mapping[str, Any]) -> str:
    if account["status"] == AccountStatus.DISCONNECTED:
        return AccountStatus.DISCONNECTED
    return "enabled" if account["disabled_at"] is None else "disabled"


ACCOUNT = Page(
    *("/accounts/{id}", "Social account", "account.html", view),
    in_menu=False,
    about=lambda shown: f"account:{shown['account']['id']}",
    states=lambda shown: (_state(shown["account"]),),
)
