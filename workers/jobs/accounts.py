"""Social accounts: their tokens are kept fresh, and whoever posts gets one that opens the account.

    accounts.due ──hourly──▶ accounts.refresh, accounts.read_limits      access ◀── jobs that post

A refresh is a call whose answer can be lost, and some platforms end the old tokens with it (docs/decisions/0037). So it
is an intention on the account's row, the call with no transaction open, and the new tokens, which are kept also if the
job that asked for them is not ours any more. If no answer came, the old tokens are sent again; only the platform's
word, that they open nothing, ends the connection.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.errors import NotSent, NotSetUp, Rejected, SealUnknown, Unavailable, UnknownAccount
from domain.ports import Ports, Vault
from domain.posting.accounts import AccountStatus, AppRegistration, Credential, Grant, SealedTokens
from domain.posting.limits import Act, draws, limits_row
from domain.posting.publishing import AccountLimits, AccountRevoked, HeldOff, TokenExpired
from domain.posting.tokens import Times, due, may_refresh, merge, usable
from workers.engine.job import Context, Tx, job

RENEWED_BY_THEMSELVES = ("instagram-reels",)
"""Platforms whose access tokens are what they are refreshed with."""
TAKES = timedelta(minutes=1)
"""A refresh that was begun so long ago is over (`db/posting/accounts.py`)."""
BUSY_WAIT = timedelta(seconds=3)
REFUSED_FRESH = timedelta(minutes=1)
"""A platform that refuses a token which it gave so recently would refuse the next one too."""
ASK_AGAIN = timedelta(minutes=5)
COME_BACK = timedelta(minutes=20)
EVERY_DAY, EVERY_WEEK = timedelta(days=1), timedelta(days=7)
CHUNK = 500
SPREAD = 50 * 60
"""The seconds over which the jobs of one hour are spread."""

SEAL_UNKNOWN = (
    "its tokens are encrypted with a key that this installation does not have any more: connect it again, or have the "
    "operator set the key again"
)
NO_RENEWAL = "its access has ended, and the platform gave nothing to renew it with: connect it again"
ENDED = "it was not renewed in time, so its access has ended: connect it again"
ANSWER_LOST = (
    "the platform's answer to a refresh of its tokens was lost, and the tokens before open nothing any more: connect "
    "it again"
)
REVOKED = "the platform says that our access was taken away ({code}): connect it again"
DISCONNECTED = "it is not connected any more"


class NotAnswered(Unavailable):
    """The platform does not answer, so that an account cannot be opened, or its limits not be read, now."""


def access(ctx: Context, tenant_id: UUID, account_id: UUID, *, refused: Credential | None = None) -> Credential:
    """Return what opens the account, fresh tokens if need be; to be called with no transaction open. `refused` is the
    credential that a platform has just answered `TokenExpired` to: that one is not returned again.

    Raises:
        AccountRevoked: only its owner can open it again; the account's `reason` says so already.
        Unavailable: it cannot be opened now.
        Snoozed: another job is at a refresh of it, which takes a moment.
        UnknownAccount: there is none of this id.
    """
    held = _held(ctx, tenant_id, account_id)
    if not held.is_refused(refused) and not due(held.times, account_id, ctx.now()):
        return held.credential
    return _refreshed(ctx, held, refused).credential


def revoked(ctx: Context, tenant_id: UUID, account_id: UUID, used: Credential, error: AccountRevoked) -> None:
    """Write down that a platform took our access to an account away, unless it has been connected again since."""
    with suppress(AccountRevoked, UnknownAccount):  # somebody else has written it down
        held = _held(ctx, tenant_id, account_id)
        if held.is_refused(used):
            _refuse(ctx, held, _why(error))


@job("accounts.refresh", queue="social", unique=("account_id",))
def refresh(ctx: Context, tenant_id: UUID, account_id: UUID) -> None:
    """Refresh the account's tokens if they are due."""
    with suppress(AccountRevoked, UnknownAccount), _waiting(ctx):  # the account says why
        held = _held(ctx, tenant_id, account_id)
        if due(held.times, account_id, ctx.now()):
            ctx.report(refreshed=_refreshed(ctx, held, None).version > held.version)
    with ctx.finish():
        pass


@job("accounts.read_limits", queue="social", unique=("account_id",))
def read_limits(ctx: Context, tenant_id: UUID, account_id: UUID) -> None:
    """Read what the platform lets the account do, and keep it with the account."""
    limits = None
    with suppress(AccountRevoked, UnknownAccount), _waiting(ctx):
        limits = _read(ctx, tenant_id, account_id)
    with ctx.finish() as tx:
        if limits is not None:
            tx.social_accounts.save_limits(tenant_id, account_id, limits_row(limits), ctx.now())


@job("accounts.due", system=True)
def find_due(ctx: Context) -> None:
    """Enqueue what is due: tokens that would end unless they are refreshed, and limits that were read long ago. What
    was encrypted with a key that is set again is active again."""
    after, more = UUID(int=0), True
    ctx.count(refreshes=0, limits=0, restored=_restored(ctx))
    while more:
        with ctx.begin() as tx:
            rows = tx.social_accounts.active(after, CHUNK)
            for row in rows:
                _enqueue_due(ctx, tx, row)
        more = len(rows) == CHUNK
        after = rows[-1]["id"] if rows else after
    with ctx.finish():
        pass


def registration(tx: Tx, ports: Ports, platform: str, server: str, redirect_uri: str = "") -> AppRegistration:
    """Return how this installation is known to a platform, or to an account's server; an empty one where none is
    needed. Without `redirect_uri` any of several."""
    if platform in ports.login_apps:
        return ports.login_apps[platform]
    found = tx.connections.app(server, redirect_uri) if server else None
    if found is None or ports.vault is None:
        return AppRegistration("", "")
    return AppRegistration(found[0], ports.vault.unseal(found[1]))


# --- what an account is opened with -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """An active account with its tokens in clear; `version` counts those that it had."""

    tenant_id: UUID
    account_id: UUID
    platform: str
    server: str
    version: int
    refreshed_at: datetime | None
    begun_at: datetime | None
    times: Times
    grant: Grant
    app: AppRegistration = field(repr=False)

    @property
    def credential(self) -> Credential:
        return Credential(self.grant.external_id, self.grant.access_token, self.server)

    @property
    def renewable(self) -> bool:
        """Whether there is anything to refresh it with."""
        return bool(self.grant.refresh_token) or self.platform in RENEWED_BY_THEMSELVES

    def is_refused(self, refused: Credential | None) -> bool:
        return refused is not None and refused.access_token == self.grant.access_token


def _held(ctx: Context, tenant_id: UUID, account_id: UUID) -> Held:
    """Read an account and decrypt its tokens.

    Raises:
        AccountRevoked: it is not active, or its tokens cannot be decrypted; then it needs its owner from now on.
        UnknownAccount: there is none of this id.
        NotSetUp: there is no key at all.
    """
    vault = _vault(ctx.ports)
    with ctx.begin() as tx:
        found = tx.social_accounts.tokens(tenant_id, account_id)
        if found is None:
            raise UnknownAccount(f"no social account has the id {account_id}")
        row, tokens = found
        if row["status"] != AccountStatus.ACTIVE:
            raise AccountRevoked(row["status"], row["reason"] or DISCONNECTED)
        try:
            grant = Grant(
                access_token="" if tokens.access is None else vault.unseal(tokens.access),
                refresh_token="" if tokens.refresh is None else vault.unseal(tokens.refresh),
                access_expires_at=row["access_expires_at"],
                refresh_expires_at=row["refresh_expires_at"],
                scopes=tuple(row["scopes"]),
                external_id=row["external_id"],
                username=row["username"] or "",
                server=row["server"],
            )
            app = registration(tx, ctx.ports, row["platform"], row["server"])
        except SealUnknown:
            grant = None
            tx.social_accounts.refuse(tenant_id, account_id, SEAL_UNKNOWN, version=row["token_version"])
    if grant is None:
        ctx.log.error("account.seal_unknown", account_id=account_id, platform=row["platform"])
        raise AccountRevoked("seal_unknown", SEAL_UNKNOWN)
    since = row["refreshed_at"] or row["connected_at"]
    return Held(
        tenant_id,
        account_id,
        row["platform"],
        row["server"],
        row["token_version"],
        row["refreshed_at"],
        row["refresh_begun_at"],
        Times(since, row["access_expires_at"], row["refresh_expires_at"]),
        grant,
        app,
    )


def _vault(ports: Ports) -> Vault:
    if ports.vault is None:
        raise NotSetUp("TOKEN_ENCRYPTION_KEYS is not set, so the tokens of accounts can be neither read nor kept")
    return ports.vault


# --- the refresh --------------------------------------------------------------------------------------------------


def _refreshed(ctx: Context, held: Held, refused: Credential | None) -> Held:
    """Return the account with fresh tokens, or with those of now while these last and there are no fresh ones yet."""
    now = ctx.now()
    lasts = usable(held.times, now) and not held.is_refused(refused)
    ended = held.platform in RENEWED_BY_THEMSELVES and not usable(held.times, now)
    if not held.renewable or ended or not may_refresh(held.times, now):
        if lasts:
            return held
        reason = ENDED if held.renewable else NO_RENEWAL
        _refuse(ctx, held, reason)
        raise AccountRevoked("ended", reason)
    if held.is_refused(refused) and held.refreshed_at is not None and now < held.refreshed_at + REFUSED_FRESH:
        raise NotAnswered("the platform refuses a token that it has just given", retry_after=ASK_AGAIN)
    login = ctx.ports.logins.get(held.platform)
    if login is None and not lasts:
        raise NotSetUp(f"this installation is not registered with {held.platform}: its accounts cannot be refreshed")
    with ctx.begin() as tx:
        begin = tx.social_accounts.begin_refresh
        tries = None if login is None else begin(held.tenant_id, held.account_id, held.version, now)
    if login is None or tries is None:
        return _of_another(ctx, held, refused)
    try:
        new = login.refresh(held.app, held.grant, held.server)
        if not new.access_token:
            raise Unavailable("the platform's answer to a refresh has no token in it")
    except AccountRevoked as error:
        reason = ANSWER_LOST if tries > 1 else _why(error)
        _refuse(ctx, held, reason)
        raise AccountRevoked(error.code, reason) from error
    except (NotSent, HeldOff, NotSetUp, Rejected):  # it has certainly not been acted upon
        ctx.keep(lambda tx: tx.social_accounts.end_refresh(held.tenant_id, held.account_id, held.version, now))
        if lasts:
            return held
        raise
    except Exception as error:  # an answer that breaks what reads it, too: it may have been acted upon
        # The words of an error that nobody foresaw may have a token in them.
        reason = str(error) if isinstance(error, Unavailable) else f"the answer cannot be read ({type(error).__name__})"
        ctx.log.warning("account.refresh_unanswered", account_id=held.account_id, tries=tries, reason=reason)
        if lasts:
            return held
        raise NotAnswered(f"its tokens could not be refreshed: {reason}", retry_after=TAKES) from error
    return _keep(ctx, held, merge(held.grant, new))


def _of_another(ctx: Context, held: Held, refused: Credential | None) -> Held:
    """Return the account as another job has refreshed it, or as it is while its tokens last.

    Raises:
        Snoozed: the other one is still at it.
        Unavailable: its last refresh was not answered, and it is too soon for the next.
    """
    again = _held(ctx, held.tenant_id, held.account_id)
    if usable(again.times, ctx.now()) and not again.is_refused(refused):
        return again
    if again.begun_at is None or ctx.now() < again.begun_at + TAKES:
        ctx.snooze(BUSY_WAIT, "another job refreshes the account's tokens")
    raise NotAnswered("the platform does not answer to a refresh of the account's tokens", retry_after=ASK_AGAIN)


def _keep(ctx: Context, held: Held, grant: Grant) -> Held:
    """Keep what a refresh brought, unless the account was connected again, or disconnected, meanwhile."""
    tokens, now = sealed(_vault(ctx.ports), grant), ctx.now()

    def write(tx: Tx) -> bool:
        this = (held.tenant_id, held.account_id, held.version)
        return tx.social_accounts.finish_refresh(*this, grant=grant, tokens=tokens, now=now)

    kept = ctx.keep(write)
    if not kept:
        ctx.log.info("account.refresh_overtaken", account_id=held.account_id)
    return _held(ctx, held.tenant_id, held.account_id)


def sealed(vault: Vault, grant: Grant) -> SealedTokens:
    """Return the tokens of a grant, encrypted."""
    return SealedTokens(
        vault.seal(grant.access_token), vault.seal(grant.refresh_token) if grant.refresh_token else None
    )


def _refuse(ctx: Context, held: Held, reason: str) -> None:
    ctx.log.warning("account.needs_reconnect", account_id=held.account_id, platform=held.platform, reason=reason)
    ctx.keep(lambda tx: tx.social_accounts.refuse(held.tenant_id, held.account_id, reason, version=held.version))


def _why(error: AccountRevoked) -> str:
    return REVOKED.format(code=error.code)


@contextmanager
def _waiting(ctx: Context) -> Iterator[None]:
    """Come back later where a platform does not answer: that is nothing that a person could do something about.

    Raises:
        Snoozed: it does not.
    """
    try:
        yield
    except (NotAnswered, NotSent, HeldOff, NotSetUp) as error:
        ctx.snooze(max(error.retry_after or timedelta(0), COME_BACK), str(error))


# --- what is due --------------------------------------------------------------------------------------------------


def _read(ctx: Context, tenant_id: UUID, account_id: UUID) -> AccountLimits | None:
    """Read the limits of an account; None where nobody says them."""
    with ctx.begin() as tx:
        row = tx.social_accounts.get(tenant_id, account_id)
    publisher = None if row is None else ctx.ports.publishers.get(row["platform"])
    if row is None or publisher is None:
        return None
    credential = access(ctx, tenant_id, account_id)
    ctx.draw_all(draws(row["platform"], Act.LIMITS, account_id))
    try:
        return publisher.limits(credential)
    except TokenExpired:
        credential = access(ctx, tenant_id, account_id, refused=credential)
        return publisher.limits(credential)
    except AccountRevoked as error:
        revoked(ctx, tenant_id, account_id, credential, error)
        raise
    except Unavailable as error:
        raise NotAnswered(str(error), retry_after=error.retry_after, silent=error.silent) from error


def _enqueue_due(ctx: Context, tx: Tx, row: Mapping[str, Any]) -> None:
    """Enqueue what is due of an account. A short access token is refreshed by whoever needs it."""
    now, this = ctx.now(), {"tenant_id": row["tenant_id"], "account_id": row["id"]}
    later = timedelta(seconds=row["id"].int % SPREAD)
    since = row["refreshed_at"] or row["connected_at"]
    times = Times(since, row["access_expires_at"], row["refresh_expires_at"])
    if row["platform"] in RENEWED_BY_THEMSELVES and due(times, row["id"], now):
        refresh.with_options(delay=later).enqueue(tx, **this)
        ctx.count(refreshes=1)
    every = EVERY_DAY if row["has_waiting"] else EVERY_WEEK
    if row["limits_read_at"] is None or row["limits_read_at"] <= now - every:
        # It refreshes the tokens too, so that none ends of not being used.
        read_limits.with_options(delay=later).enqueue(tx, **this)
        ctx.count(limits=1)


def _restored(ctx: Context) -> int:
    """Let accounts be active again whose key was missing and is there again. Returns how many."""
    vault, after, restored, more = ctx.ports.vault, UUID(int=0), 0, True
    while vault is not None and more:
        with ctx.begin() as tx:
            rows = tx.social_accounts.refused_for(SEAL_UNKNOWN, after, CHUNK)
            for row in rows:
                if _readable(vault, row["access_token"]) and _readable(vault, row["refresh_token"]):
                    tx.social_accounts.reactivate(row["tenant_id"], row["id"], row["token_version"], SEAL_UNKNOWN)
                    restored += 1
        more = len(rows) == CHUNK
        after = rows[-1]["id"] if rows else after
    return restored


def _readable(vault: Vault, token: bytes | None) -> bool:
    try:
        return token is None or bool(vault.unseal(bytes(token)))
    except SealUnknown:
        return False
