"""`/api/accounts`: connect social accounts, see what they may do, choose how they post, disconnect them.

No response has a token. An account is connected in its owner's browser, which goes to the address of
`GET /api/accounts/{platform}/connect` and comes back to `return_to`; or, of Bluesky, by an app password.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from domain.errors import Conflict, Rejected
from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.validation import RequestBody
from web.error_responses import documented
from workers.ops import accounts
from workers.ops.connecting import LASTS, begin_connect

routes = APIRouter(prefix="/accounts", tags=["accounts"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.POSTS_READ)]
Writer = Annotated[Caller, requires(ApiScope.ACCOUNTS_WRITE)]

MISSING = documented(_404="no such account of yours")
NOT_SET_UP = documented(
    _503="`NOT_SET_UP`: accounts of this platform cannot be connected here; otherwise try again after `Retry-After` "
    "seconds"
)
EXAMPLE: JsonDict = {
    "id": "01937f40-5a6b-7cc2-8d3e-4f5a6b7c8d9e",
    "platform": "tiktok",
    "username": "adas_bakery",
    "external_id": "-000AbCdEfGhIjKl",
    "server": "",
    "status": "active",
    "reason": None,
    "niche": "food",
    "timezone": "Europe/Berlin",
    "daily_limit": 5,
    "settings": {"privacy_level": "PUBLIC_TO_EVERYONE"},
    "limits": {
        "posts_left_today": None,
        "posts_a_day": None,
        "max_seconds": 600.0,
        "max_bytes": None,
        "max_characters": None,
        "settings": {"privacy_options": ["PUBLIC_TO_EVERYONE", "SELF_ONLY"], "duet_disabled": True},
    },
    "limits_read_at": "2026-11-22T12:00:00Z",
    "scopes": ["user.info.basic", "video.publish"],
    "waiting": 3,
    "used_today": 1,
    "last_post_at": "2026-11-22T09:30:00Z",
    "connected_at": "2026-11-20T12:00:00Z",
    "disabled_at": None,
}


class SocialAccount(BaseModel):
    """An account that posts can be made to. `needs_reconnect`: only its owner can open it again, and `reason` says why;
    its posts wait. `disabled_at`: since when our people let nothing be posted to it; its posts wait, too. `settings`
    are the platform's options for all its posts, `limits` what the platform last said. `waiting` are posts that are
    scheduled or under way, `used_today` those of the last 24 hours."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    platform: str
    username: str | None
    external_id: str
    server: str
    status: str
    reason: str | None
    niche: str | None
    timezone: str
    daily_limit: int | None
    settings: dict[str, Any]
    limits: dict[str, Any]
    limits_read_at: datetime | None
    scopes: list[str]
    waiting: int
    used_today: int
    last_post_at: datetime | None
    connected_at: datetime
    disabled_at: datetime | None


class SocialAccounts(BaseModel):
    accounts: list[SocialAccount]


class ConnectQuery(RequestBody):
    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    server: str = Field("", max_length=300, description="Mastodon: the account's server, such as `mastodon.social`.")
    return_to: str | None = Field(
        None,
        max_length=2000,
        description="A page of the app, where the owner comes back with `connected` or `connect_error` added.",
    )


class ConnectAddress(BaseModel):
    """Where to send the account's owner, within `expires_in` seconds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://www.tiktok.com/v2/auth/authorize/?client_key=…", "expires_in": 600}]
        }
    )

    url: str
    expires_in: int


class PasswordConnection(RequestBody):
    """`handle` and an app password, which Bluesky's settings make. The password itself is not kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"handle": "ada.bsky.social", "app_password": "abcd-efgh-ijkl-mnop"}]}
    )

    handle: str = Field(min_length=1, max_length=300)
    app_password: str = Field(min_length=1, max_length=300, repr=False)
    server: str = Field("", max_length=300, description="Its own server, if it is not on the usual one.")


class ConnectedAccount(SocialAccount):
    """`hint` says what its owner might want to know."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE | {"hint": None}]})

    hint: str | None


class AccountChange(RequestBody):
    """What is named is changed. In `settings` null takes a choice away; `consent`: its owner agrees to what they switch
    on for their viewers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"settings": {"privacy_level": "PUBLIC_TO_EVERYONE", "allow_comment": True}, "consent": True},
                {"daily_limit": 5, "niche": "food"},
            ]
        }
    )

    settings: dict[str, Any] | None = Field(None, max_length=20)
    consent: bool = False
    daily_limit: int | None = None
    timezone: str | None = Field(None, max_length=100)
    niche: str | None = Field(None, max_length=200)


class Disconnection(BaseModel):
    """`says` what was done with the posts that waited, and whether the platform knows."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"says": "its tokens are deleted; 3 posts that waited are cancelled"}]}
    )

    says: str


@routes.get("")
def list_accounts(caller: Reader, app: Running) -> SocialAccounts:
    """The tenant's accounts, oldest first, also those that are not connected any more."""
    rows = accounts.listed(app, caller.tenant_id)
    return SocialAccounts(accounts=[_shown(row) for row in rows])


@routes.get("/{platform}/connect", responses=NOT_SET_UP)
def connect(
    platform: str, caller: Writer, app: Running, query: Annotated[ConnectQuery, Query()], response: Response
) -> ConnectAddress:
    """Return the address on which an account's owner gives access. It is good once, for ten minutes."""
    begun = begin_connect(app, caller.tenant_id, platform, server=query.server, return_to=query.return_to)
    response.headers["Cache-Control"] = "no-store"
    return ConnectAddress(url=begun.address, expires_in=int(LASTS.total_seconds()))


@routes.post("/bluesky/connect", status_code=201, responses=NOT_SET_UP)
def connect_bluesky(body: PasswordConnection, caller: Writer, app: Running) -> ConnectedAccount:
    """Connect a Bluesky account; one that was connected before keeps its id."""
    connected = accounts.connect_password(
        app, caller.tenant_id, "bluesky", name=body.handle, password=body.app_password, server=body.server
    )
    return ConnectedAccount(**connected.account, hint=connected.hint)


@routes.get("/{account_id}", responses=MISSING)
def get_account(account_id: UUID, caller: Reader, app: Running) -> SocialAccount:
    return _shown(accounts.show(app, caller.tenant_id, account_id))


@routes.patch("/{account_id}", responses=MISSING)
def change(account_id: UUID, body: AccountChange, caller: Writer, app: Running) -> SocialAccount:
    """Choose how the account posts. What can be chosen is what the platform last said that the account may do."""
    named = body.model_dump(exclude_unset=True)
    if named.get("timezone", "") is None:
        raise Rejected("timezone: name one such as Europe/Berlin")
    return _shown(accounts.change(app, caller.tenant_id, account_id, **named))


@routes.delete("/{account_id}", responses=MISSING | documented(_409="`NOT_CONNECTED`: it is not"))
def disconnect(account_id: UUID, caller: Writer, app: Running) -> Disconnection:
    """Delete the account's tokens and cancel what waits for it; connecting it again gives it back with its settings."""
    done = accounts.disconnect(app, caller.tenant_id, account_id)
    if not done.done:
        raise Conflict("NOT_CONNECTED", done.says)
    return Disconnection(says=done.says)


def _shown(row: Mapping[str, Any]) -> SocialAccount:
    return SocialAccount(**row)
