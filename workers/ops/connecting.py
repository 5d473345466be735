"""Connects an account in its owner's browser: to the platform's page, and back by the callback with a code.

The state in the address is random, kept as a hash, and good for one use within ten minutes; it says for whom, for which
platform and with which PKCE verifier. What a callback brings is never shown or logged.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import structlog

from db.transaction import SYSTEM
from domain.billing.checkout import check_return
from domain.errors import NotSetUp, Rejected, SealUnknown, Unavailable, ViralError
from domain.posting.accounts import AppRegistration
from domain.videos.profiles import NAMES
from workers.app import App
from workers.ops.accounts import keep_grant, login_of, platform_of, server_of, vault_of

LASTS = timedelta(minutes=10)
LONGEST_CODE = 4096
AGAIN: Final = "Start again from where you connect accounts."

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a connection: `code` is `connected`, or why not; `message` says it to the owner. `return_to` is
    the page that they came from, if it is known."""

    code: str
    message: str
    return_to: str | None = None
    account_id: UUID | None = None
    hint: str | None = None

    @property
    def address(self) -> str | None:
        """Return the page that they came from, with what became of it."""
        if self.return_to is None:
            return None
        named = {"connected": str(self.account_id)} if self.account_id else {"connect_error": self.code}
        page, mark, fragment = self.return_to.partition("#")
        return f"{page}{'&' if '?' in page else '?'}{urlencode(named)}{mark}{fragment}"


@dataclass(frozen=True, slots=True)
class Begun:
    """A connection that was begun: the address for the account's owner, whoever else has it. `connected` looks what
    became of it."""

    address: str = field(repr=False)
    platform: str
    state_hash: bytes = field(repr=False)
    expires_at: datetime


def begin_connect(app: App, tenant_id: UUID, platform: str, *, server: str = "", return_to: str | None = None) -> Begun:
    """Return the address of the platform's page on which an account's owner gives access. They come back to
    `return_to`, a page of our own. `server` is the account's, where the platform has many (Mastodon).

    Raises:
        Rejected: this platform asks for a password instead, or an argument is wrong.
        NotSetUp: this installation is not registered with the platform, or has no key to encrypt tokens with.
        Unavailable: the account's server does not answer.
    """
    found = platform_of(platform)
    vault, login = vault_of(app), login_of(app, found)
    if login.passwords:
        raise Rejected(
            f"accounts of {NAMES[found]} are connected with an app password, which their owner makes in its settings"
        )
    if return_to is not None:
        check_return(return_to, origins(app), "return_to")
    home = _server(app, found, server)
    redirect_uri = f"{_base(app)}/oauth/{found}/callback"
    known_as = _known_as(app, found, home, redirect_uri)
    state, verifier = token_urlsafe(32), token_urlsafe(48)
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    address = login.authorize_url(known_as, state=state, challenge=challenge, redirect_uri=redirect_uri, server=home)
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        tx.connections.begin(
            tenant_id,
            _hash(state),
            platform=found,
            server=home,
            redirect_uri=redirect_uri,
            return_to=return_to,
            verifier=vault.seal(verifier),
            now=now,
            expires_at=now + LASTS,
        )
    return Begun(address, found, _hash(state), now + LASTS)


def connected(app: App, begun: Begun) -> UUID | None:
    """Return the account that the connection has led to by now."""
    with app.db.transaction(SYSTEM) as tx:
        row = tx.connections.get(begun.state_hash, begun.platform)
    account_id: UUID | None = None if row is None else row["account_id"]
    return account_id


def finish_connect(app: App, platform: str, params: Mapping[str, str]) -> Outcome:
    """Connect the account whose owner comes back with these parameters of the callback, and say what became of it. It
    raises nothing that it foresees, since a browser is waiting."""
    found = platform_of(platform)
    state_hash = _hash(params.get("state", ""))
    with app.db.transaction(SYSTEM) as tx:
        now = app.now(tx)
        begun = tx.connections.use(state_hash, found, now)
        seen = begun or tx.connections.get(state_hash, found)
    if begun is None:
        return _not_used(found, seen)
    outcome = _exchange(app, found, begun, state_hash, params)
    if outcome.account_id is None:
        log.warning("account.not_connected", tenant_id=begun["tenant_id"], platform=found, code=outcome.code)
    return outcome


def _not_used(platform: str, seen: Mapping[str, Any] | None) -> Outcome:
    if seen is None:
        return Outcome("state_unknown", f"This address was not made by us, or is long over. {AGAIN}")
    return_to = seen["return_to"]
    if seen["account_id"] is not None:
        says = f"Your account of {NAMES[platform]} is connected. You can close this page."
        return Outcome("connected", says, return_to, seen["account_id"])
    if seen["used_at"] is not None:
        says = "This address was used already, and can be only once. If your account is not among the connected ones "
        return Outcome("state_used", f"{says}in a moment, start again from where you connect accounts.", return_to)
    return Outcome("state_expired", f"This took longer than ten minutes, so the address is over. {AGAIN}", return_to)


def _exchange(
    app: App, platform: str, begun: Mapping[str, Any], state_hash: bytes, params: Mapping[str, str]
) -> Outcome:
    name, return_to = NAMES[platform], begun["return_to"]
    code = params.get("code", "")
    if params.get("error") or params.get("error_code"):
        says = f"{name} gave no access, so nothing is connected. {AGAIN}"
        return Outcome("denied", says, return_to)
    if not 0 < len(code) <= LONGEST_CODE:
        return Outcome("code_missing", f"{name} sent no code, so nothing is connected. {AGAIN}", return_to)
    try:
        vault, login = vault_of(app), login_of(app, platform)
        known_as = _known_as(app, platform, begun["server"], begun["redirect_uri"])
        grant = login.exchange(
            known_as,
            code=code,
            verifier=vault.unseal(bytes(begun["verifier"])),
            redirect_uri=begun["redirect_uri"],
            server=begun["server"],
        )
        kept = keep_grant(app, begun["tenant_id"], platform, grant, vault=vault, state_hash=state_hash)
    except (NotSetUp, SealUnknown) as error:
        log.error("account.not_set_up", platform=platform, reason=str(error))
        return Outcome("not_set_up", "Accounts cannot be connected here now: please tell whoever runs this.", return_to)
    except Unavailable as error:
        log.warning("account.exchange_unanswered", platform=platform, reason=str(error))
        says = f"{name} did not answer in time, and its code can be used only once. {AGAIN}"
        return Outcome("answer_lost", says, return_to)
    except ViralError as error:
        log.warning("account.exchange_refused", platform=platform, reason=str(error))
        return Outcome("code_refused", f"{name} did not accept its own code. {AGAIN}", return_to)
    who = kept.account["username"] or kept.account["external_id"]
    says = f"{who} of {name} is connected. You can close this page."
    return Outcome("connected", says, return_to, kept.account["id"], kept.hint)


# --- where things are ---------------------------------------------------------------------------------------------


def origins(app: App) -> tuple[str, ...]:
    """Return the origins of our own pages, to which people may be sent back."""
    return tuple(dict.fromkeys([*app.settings.clerk_authorized_parties, _origin(_base(app))]))


def _base(app: App) -> str:
    return app.settings.public_url or app.settings.web_url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _known_as(app: App, platform: str, server: str, redirect_uri: str) -> AppRegistration:
    """Return how we are registered with the platform, or with the account's server: it is asked if we are not yet."""
    if platform in app.ports.login_apps:
        return app.ports.login_apps[platform]
    vault, login = vault_of(app), login_of(app, platform)
    with app.db.transaction(SYSTEM) as tx:
        found = tx.connections.app(server, redirect_uri)
    if found is None:
        new = login.register(server, redirect_uri)
        with app.db.transaction(SYSTEM) as tx:
            tx.connections.add_app(server, redirect_uri, new.client_id, vault.seal(new.client_secret))
            found = tx.connections.app(server, redirect_uri)
    if found is None:
        raise AssertionError("it was added, by us or by another")
    return AppRegistration(found[0], vault.unseal(found[1]))


def _server(app: App, platform: str, named: str) -> str:
    """Return the origin of the account's server; empty where the platform has no others.

    Raises:
        Rejected: it cannot be one, is missing, or there are none.
    """
    configured = app.settings.mastodon_base_url
    if platform != "mastodon":
        if named:
            raise Rejected(f"{NAMES[platform]} has no other servers: leave the server out")
        return ""
    if not named and not configured:
        raise Rejected("server: say on which the account is, such as mastodon.social")
    return server_of(named, configured) if named else configured


def _hash(state: str) -> bytes:
    return sha256(state.encode()).digest()
