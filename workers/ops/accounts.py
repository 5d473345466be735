"""Shows social accounts, changes what their owners chose, and disconnects them; connects those with a password
(`workers/ops/connecting.py`: in a browser). The API and the shell use this. The keys of tokens are rotated here too.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope. No
result has a token.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from db.transaction import SYSTEM, Tx
from domain.concepts.timing import is_zone
from domain.concepts.wording import counted
from domain.errors import NotSetUp, Rejected, SealUnknown, Unavailable, UnknownAccount, ViralError
from domain.ops.actions import Outcome, Result
from domain.ports import Login, Vault
from domain.posting.accounts import AccountStatus, AppRegistration, Credential, Grant
from domain.posting.choice import Candidate, Choice
from domain.posting.choice import choose as choose_account
from domain.posting.limits import CALLED, limits_of, limits_row, places
from domain.posting.publishing import AccountRevoked
from domain.posting.validation import Account, setting_faults
from domain.videos.profiles import NAMES
from workers.app import App
from workers.jobs.accounts import read_limits, registration, sealed
from workers.jobs.reconcile_posts import follow_up, reconcile_account
from workers.ops.jobs import Change

Row = dict[str, Any]

BY_SHORT_NAME: Final = {short: platform for platform, short in CALLED.items()}
SETTINGS: Final = {
    "tiktok": "TIKTOK_CLIENT_KEY and TIKTOK_CLIENT_SECRET",
    "youtube-shorts": "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET",
    "instagram-reels": "META_APP_ID and META_APP_SECRET",
}
MOST_A_DAY = 1000
LONGEST_NICHE = 100
LONGEST_SERVER = 255
CONSENT: Final = "consent_at"
"""When the owner agreed that viewers may comment, duet or stitch."""
CHUNK = 200
ROUNDS = 20
"""Rows that somebody holds are seen in a later round."""

SHARED: Final = (
    "this account is connected by somebody else here too: the platform counts the posts of both together, and either "
    "may use up what the platform allows"
)

log = structlog.get_logger()


class Unset:
    """Stands for a value that is not to be changed, where None means something."""


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class Connected:
    """An account that was connected; `hint` says what its owner might want to know."""

    account: Row
    hint: str | None = None


# --- what there is ------------------------------------------------------------------------------------------------


def listed(
    app: App, tenant_id: UUID | None, *, platform: str | None = None, status: str | None = None, limit: int = 1000
) -> list[Row]:
    """Return accounts, oldest first; those of one tenant with the posts that wait (`waiting`) and the places of the
    last 24 hours (`used_today`)."""
    name = None if platform is None else platform_of(platform)
    if tenant_id is None:
        with app.db.transaction(SYSTEM) as tx:
            return [_shown(row) for row in tx.social_accounts.listed(None, platform=name, status=status, limit=limit)]
    with app.db.transaction(tenant_id) as tx:
        rows = tx.social_accounts.with_use(tenant_id, app.now(tx), name)
    return [_shown(row) for row in rows if status in (None, row["status"])][:limit]


def show(app: App, tenant_id: UUID | None, account_id: UUID) -> Row:
    """Return one account.

    Raises:
        UnknownAccount: there is none of this id (of this tenant).
    """
    owner = owner_of(app, tenant_id, account_id)
    with app.db.transaction(owner) as tx:
        rows = tx.social_accounts.with_use(owner, app.now(tx))
    return next(_shown(row) for row in rows if row["id"] == account_id)


def choose(app: App, tenant_id: UUID, platform: str, niche: str | None = None) -> Choice:
    """Rank the tenant's accounts of a platform for a video of this niche, and say why."""
    name = platform_of(platform)
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        rows = tx.social_accounts.with_use(tenant_id, now, name)
    return choose_account([_candidate(row, now) for row in rows], niche, now)


def _candidate(row: Mapping[str, Any], now: datetime) -> Candidate:
    limits = limits_of(row["limits"])
    allowances = places(row["platform"], row["id"], now, daily_limit=row["daily_limit"], limits=limits)
    own = [each.most for each in allowances if str(row["id"]) in each.bucket]
    return Candidate(
        row["id"],
        row["username"] or row["external_id"],
        row["status"],
        row["niche"],
        row["connected_at"],
        row["used_today"],
        min(own, default=None),
        row["waiting"],
        disabled=row["disabled_at"] is not None,
    )


# --- connecting ---------------------------------------------------------------------------------------------------


def connect_password(
    app: App, tenant_id: UUID, platform: str, *, name: str, password: str, server: str = ""
) -> Connected:
    """Connect an account with a password that was made for programs (Bluesky's app password), which is not kept.

    Raises:
        Rejected: the platform does not accept it, or has no such passwords.
        Unavailable: the platform does not answer.
        NotSetUp: there is no key to encrypt tokens with.
    """
    found = platform_of(platform)
    vault, login = vault_of(app), login_of(app, found)
    if not login.passwords:
        raise Rejected(f"accounts of {NAMES[found]} are connected in a browser, and not with a password")
    home = server_of(server, app.settings.bluesky_base_url) if server else ""
    try:
        grant = login.log_in(name, password, home)
    except AccountRevoked as error:
        says = f"{NAMES[found]} does not accept this name with this password ({error.code}): make an app password in "
        raise Rejected(f"{says}its settings, and send that one") from error
    return keep_grant(app, tenant_id, found, grant, vault=vault)


def keep_grant(
    app: App, tenant_id: UUID, platform: str, grant: Grant, *, vault: Vault, state_hash: bytes | None = None
) -> Connected:
    """Keep what a platform gave, and read what the account may do there. `state_hash` is the connection's that led to
    it."""
    if not (grant.external_id and grant.access_token):
        raise Unavailable(f"{NAMES[platform]} did not say which account it is: connect it again")
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        tokens = sealed(vault, grant)
        row = tx.social_accounts.connect(tx.new_id(), tenant_id, platform, grant=grant, tokens=tokens, now=now)
        if state_hash is not None:
            tx.connections.connected(tenant_id, state_hash, row["id"])
        read_limits.enqueue(tx, tenant_id=tenant_id, account_id=row["id"])
        # What could not be asked while the account was closed is asked now.
        reconcile_account.enqueue(tx, tenant_id=tenant_id, account_id=row["id"])
        for post_id in tx.posts.unfinished(tenant_id, row["id"]):
            follow_up.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
        tx.work_as(SYSTEM)
        hint = SHARED if tx.social_accounts.is_elsewhere(tenant_id, platform, grant.external_id) else None
    log.info("account.connected", tenant_id=tenant_id, account_id=row["id"], platform=platform)
    _read_limits(app, row, grant)
    return Connected(show(app, tenant_id, row["id"]), hint)


def _read_limits(app: App, row: Row, grant: Grant) -> None:
    """Read at once what the account may do, so that its owner can choose of it; if that fails, a job does."""
    publisher = app.ports.publishers.get(row["platform"])
    if publisher is None:
        return
    credential = Credential(row["external_id"], grant.access_token, row["server"])
    with suppress(ViralError):
        limits = publisher.limits(credential)
        with app.db.transaction(row["tenant_id"]) as tx:
            now = app.now(tx)
            tx.social_accounts.save_limits(row["tenant_id"], row["id"], limits_row(limits), now)


# --- what its owner decides ---------------------------------------------------------------------------------------


def change(
    app: App,
    tenant_id: UUID | None,
    account_id: UUID,
    *,
    settings: Mapping[str, Any] | None = None,
    consent: bool = False,
    daily_limit: int | Unset | None = UNSET,
    timezone: str | None = None,
    niche: str | Unset | None = UNSET,
) -> Row:
    """Change what the owner chose: `settings` are the platform's options for all posts (null takes one away), and
    `consent` that the owner agrees that viewers may do with the video what they switch on. Returns the account.

    Raises:
        Rejected: says what cannot be chosen.
        UnknownAccount: there is none of this id.
    """
    owner = owner_of(app, tenant_id, account_id)
    if isinstance(daily_limit, int) and not 1 <= daily_limit <= MOST_A_DAY:
        raise Rejected(f"daily_limit: 1 to {MOST_A_DAY} posts in 24 hours")
    if timezone is not None and not is_zone(timezone):
        raise Rejected("timezone: it is not known; name one such as Europe/Berlin")
    if isinstance(niche, str) and not (niche.strip() and len(niche) <= LONGEST_NICHE and niche.isprintable()):
        raise Rejected(f"niche: 1 to {LONGEST_NICHE} printable characters")
    with app.db.transaction(owner) as tx:
        now = app.now(tx)
        row = _get(tx, owner, account_id)
        chosen = _chosen(row, settings or {}, consent=consent, now=now)
        tx.social_accounts.change(
            owner,
            account_id,
            settings=chosen,
            timezone=timezone,
            niche=None if isinstance(niche, Unset) else niche,
            has_niche=not isinstance(niche, Unset),
            daily_limit=None if isinstance(daily_limit, Unset) else daily_limit,
            has_daily_limit=not isinstance(daily_limit, Unset),
        )
    return show(app, owner, account_id)


def _chosen(row: Row, settings: Mapping[str, Any], *, consent: bool, now: datetime) -> dict[str, Any]:
    """Check what was chosen against what the platform last said that this account may choose of."""
    account = Account(row["platform"], row["username"] or "", limits=limits_of(row["limits"]), settings=row["settings"])
    if faults := setting_faults(settings, account, now):
        raise Rejected("; ".join(faults))
    chosen = dict(settings)
    switched_on = [name for name, value in settings.items() if name.startswith("allow_") and value is True]
    if consent:
        chosen[CONSENT] = now.isoformat()
    elif switched_on and not row["settings"].get(CONSENT):
        raise Rejected(
            f"{switched_on[0]}: {NAMES[row['platform']]} wants it to be off until the account's owner agrees: "
            "say `consent` too"
        )
    return chosen


def disconnect(app: App, tenant_id: UUID | None, account_id: UUID) -> Change:
    """Delete the account's tokens, cancel what waits for it, and tell the platform that we want no access any more. The
    consent that the autopilot may post to it goes with them.

    Raises:
        UnknownAccount: there is none of this id.
    """
    owner = owner_of(app, tenant_id, account_id)
    with app.db.transaction(owner) as tx:
        row = _get(tx, owner, account_id)
        grant, known_as = _last_grant(app, tx, row)
        tx.autopilot.withdraw(owner, account_id, app.now(tx))
        ended = tx.social_accounts.disconnect(owner, account_id)
        tx.work_as(SYSTEM)
        elsewhere = tx.social_accounts.is_elsewhere(owner, row["platform"], row["external_id"])
    if ended is None:
        return Change(False, "it is not connected")
    log.info("account.disconnected", tenant_id=owner, account_id=account_id, platform=row["platform"])
    says = ["its tokens are deleted"]
    if ended.cancelled:
        says.append(f"{counted(ended.cancelled, 'post')} that waited {_are(ended.cancelled)} cancelled")
    if ended.unconfirmed:
        says.append(
            f"of {counted(ended.unconfirmed, 'post')} that {_are(ended.unconfirmed)} on the way nobody can look any "
            "more what becomes of them: look at the account itself"
        )
    # Some platforms end all access of an account at once, and then somebody else's with it.
    if not elsewhere and not _revoked(app, row, grant, known_as):
        says.append(f"{NAMES[row['platform']]} could not be told: remove the access in the account's settings there")
    return Change(True, "; ".join(says))


def enable(app: App, account_id: UUID) -> Result:
    """Let posts to an account begin again.

    Raises:
        UnknownAccount: there is none of this id.
    """
    return _enable(app, account_id, enabled=True)


def disable(app: App, account_id: UUID) -> Result:
    """Begin no post to an account any more: they wait, and are missed when they are late. Its tokens stay.

    Raises:
        UnknownAccount: there is none of this id.
    """
    return _enable(app, account_id, enabled=False)


def _enable(app: App, account_id: UUID, *, enabled: bool) -> Result:
    owner = owner_of(app, None, account_id)
    with app.db.transaction(owner) as tx:
        row = _get(tx, owner, account_id)
        if row["status"] == AccountStatus.DISCONNECTED:
            return Result(Outcome.REFUSED, "it is disconnected: nothing is posted there until its owner connects it")
        before = row["disabled_at"]
        changed = tx.social_accounts.enable(owner, account_id, enabled)
        after = _get(tx, owner, account_id)["disabled_at"]
    says = "its posts begin again" if enabled else "its posts wait; what is on its way goes on, and its tokens stay"
    outcome = Outcome.DONE if changed else Outcome.UNCHANGED
    return Result(outcome, says, {"disabled_at": before}, {"disabled_at": after})


def _last_grant(app: App, tx: Tx, row: Row) -> tuple[Grant | None, AppRegistration]:
    """Return the tokens that the account has still, to end them at the platform; None if they cannot be read."""
    found = tx.social_accounts.tokens(row["tenant_id"], row["id"])
    vault = app.ports.vault
    if found is None or vault is None or found[1].access is None:
        return None, AppRegistration("", "")
    try:
        refresh_token = "" if found[1].refresh is None else vault.unseal(found[1].refresh)
        grant = Grant(vault.unseal(found[1].access), refresh_token, external_id=row["external_id"])
        return grant, registration(tx, app.ports, row["platform"], row["server"])
    except SealUnknown:
        return None, AppRegistration("", "")


def _revoked(app: App, row: Row, grant: Grant | None, known_as: AppRegistration) -> bool:
    login = app.ports.logins.get(row["platform"])
    if login is None or grant is None:
        return False
    try:
        login.revoke(known_as, grant, row["server"])
    except ViralError as error:
        log.warning("account.not_revoked", account_id=row["id"], platform=row["platform"], reason=str(error))
        return False
    return True


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


# --- keys ---------------------------------------------------------------------------------------------------------


class Rotation(NamedTuple):
    """How far a rotation is: rows of `what` that were looked at, those that were encrypted anew, and those under a key
    that is not set."""

    what: str
    seen: int
    changed: int
    unreadable: int


def rotate_keys(app: App) -> Iterator[Rotation]:
    """Encrypt everything that is kept under an older key with the newest one, some rows at a time, beside the
    processes that use them; yields how far it is. A key that nothing is under any more can be removed.

    Raises:
        NotSetUp: there is no key.
    """
    vault = vault_of(app)
    for what in ("accounts", "posts"):
        yield from _rotate(app, vault, what)
    with app.db.transaction(SYSTEM) as tx:
        found = tx.connections.reseal(vault.reseal)
    yield Rotation("servers", *found)
    yield from _rotate(app, vault, "webhooks")


def _rotate(app: App, vault: Vault, what: str) -> Iterator[Rotation]:
    seen = changed = unreadable = 0
    for _ in range(ROUNDS):
        after, at_last = UUID(int=0), 0
        seen = unreadable = 0
        while True:
            with app.db.transaction(SYSTEM) as tx:
                accounts = tx.social_accounts
                reseal = {"accounts": accounts.reseal, "posts": accounts.reseal_handles, "webhooks": tx.outgoing.reseal}
                found = reseal[what](after, CHUNK, vault.reseal)
            seen, changed, unreadable = seen + found.seen, changed + found.changed, unreadable + found.unreadable
            at_last += found.changed
            yield Rotation(what, seen, changed, unreadable)
            if found.last is None:
                break
            after = found.last
        if not at_last:  # nothing was left, or whoever held it encrypts with the newest key itself
            return


# --- what is needed -----------------------------------------------------------------------------------------------


def platform_of(name: str) -> str:
    """Return the platform of this name.

    Raises:
        Rejected: there is none.
    """
    found = BY_SHORT_NAME.get(name, name)
    if found not in NAMES:
        raise Rejected(f"there is no platform of this name; there is {', '.join(NAMES)}")
    return found


def vault_of(app: App) -> Vault:
    """Return what encrypts tokens.

    Raises:
        NotSetUp: there is no key.
    """
    if app.ports.vault is None:
        raise NotSetUp("no account can be connected here: TOKEN_ENCRYPTION_KEYS is not set")
    return app.ports.vault


def login_of(app: App, platform: str) -> Login:
    """Return how accounts of a platform are connected.

    Raises:
        NotSetUp: this installation is not registered with it.
    """
    found = app.ports.logins.get(platform)
    if found is None:
        names = SETTINGS.get(platform, "its settings")
        raise NotSetUp(f"accounts of {NAMES[platform]} cannot be connected here: {names} are not set")
    return found


def server_of(named: str, configured: str) -> str:
    """Return the origin of a server that somebody named; `configured` is the one that may be private.

    Raises:
        Rejected: it cannot be one.
    """
    wrong = Rejected("server: name it like mastodon.social")
    full = named.strip().rstrip("/")
    full = full if "://" in full else f"https://{full}"
    if configured and full == configured:
        return configured
    if len(full) > LONGEST_SERVER or not full.isascii() or not full.isprintable() or set(full) & set(" \\@?#%"):
        raise wrong
    try:
        parts = urlsplit(full)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise wrong from None
    if parts.scheme != "https" or not parts.hostname or parts.path or "." not in parts.hostname:
        raise wrong
    return f"https://{parts.hostname}{port}"


def owner_of(app: App, tenant_id: UUID | None, account_id: UUID) -> UUID:
    """Return whose account it is.

    Raises:
        UnknownAccount: there is none of this id (of this tenant).
    """
    with app.db.transaction(SYSTEM) as tx:
        owner = tx.social_accounts.owner(account_id)
    if owner is None or tenant_id not in (None, owner):
        raise UnknownAccount(f"no social account has the id {account_id}")
    return owner


def _get(tx: Tx, tenant_id: UUID, account_id: UUID) -> Row:
    row = tx.social_accounts.get(tenant_id, account_id)
    if row is None:
        raise UnknownAccount(f"no social account has the id {account_id}")
    return row


def _shown(row: Mapping[str, Any]) -> Row:
    """Leave out how its tokens are kept fresh."""
    kept = {name: value for name, value in row.items() if name not in ("refresh_begun_at", "refresh_tries")}
    if row["status"] == AccountStatus.DISCONNECTED:
        kept["access_expires_at"] = None
    return kept
