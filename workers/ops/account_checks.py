"""Checks of `viral doctor` about social accounts: keys, callbacks, accounts that wait for their owners."""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

from db.transaction import Tx
from domain.concepts.wording import counted
from domain.errors import SealUnknown
from domain.posting.accounts import AccountStatus
from domain.videos.profiles import NAMES
from workers.app import App

SAMPLE = 200
"""So many accounts' tokens are tried, and so many endpoints' secrets."""
UNSIGNED = "set the key again, behind the others; what is to be sent waits until then"
Verdict = tuple[str, str]


def check_keys(app: App, tx: Tx) -> Verdict:
    """Whether the tokens of accounts, and the secrets that outgoing webhooks are signed with, can be read."""
    secrets = tx.outgoing.secrets(SAMPLE)
    rows = tx.social_accounts.sealed(UUID(int=0), SAMPLE)
    vault = app.ports.vault
    if vault is None:
        if rows:
            return "fail", "accounts are connected, and TOKEN_ENCRYPTION_KEYS is not set: nothing can be posted to them"
        if secrets:
            return "fail", f"webhooks wait to be signed, and TOKEN_ENCRYPTION_KEYS is not set: {UNSIGNED}"
        return "ok", "TOKEN_ENCRYPTION_KEYS is not set: no social account can be connected"
    unreadable = old = 0
    for row in rows:
        for token in (row["access_token"], row["refresh_token"]):
            if token is not None:
                unreadable += not _can(vault.unseal, bytes(token))
                old += _can(vault.reseal, bytes(token)) and vault.reseal(bytes(token)) is not None
    if unreadable:
        remedy = "set the key again, behind the others; else their owners have to connect them again"
        return "fail", f"{counted(unreadable, 'token')} encrypted with a key that is not set: {remedy}"
    if lost := sum(not _can(vault.unseal, secret) for secret in secrets):
        return "fail", f"{counted(lost, 'secret')} of webhooks encrypted with a key that is not set: {UNSIGNED}"
    if old:
        return "warn", f"{counted(old, 'token')} encrypted with an older key: run `viral accounts rotate-keys`"
    return "ok", f"the tokens of {counted(len(rows), 'account')} can be read" if rows else "set; no account yet"


def check_connections(app: App, tx: Tx) -> Verdict:
    """Whether accounts wait for their owners."""
    rows = tx.social_accounts.listed(None, status=AccountStatus.NEEDS_RECONNECT)
    if not rows:
        return "ok", "no account waits for its owner"
    of = Counter(NAMES[row["platform"]] for row in rows)
    says = ", ".join(f"{count} of {name}" for name, count in of.items())
    return "warn", f"{says}: see `viral accounts list --status needs_reconnect`; nothing is posted to them until then"


def check_addresses(app: App, tx: Tx) -> Verdict:
    """Whether platforms can send owners back to us, and fetch our files."""
    settings, doubts = app.settings, []
    if not settings.public_url and app.ports.login_apps:
        doubts.append(
            f"PUBLIC_URL is not set: owners are sent back to {settings.web_url}, which only this machine reaches"
        )
    reachable = settings.s3_bucket or settings.cdn_base_url or settings.public_url
    if "instagram-reels" in app.ports.login_apps and not reachable and not settings.meta_base_url:
        doubts.append("Instagram fetches videos itself, and cannot reach them here: set PUBLIC_URL, or S3_BUCKET")
    if doubts:
        return "warn", "; ".join(doubts)
    names = [NAMES[name] for name in app.ports.logins]
    return "ok", f"accounts of {', '.join(names)} can be connected" if names else "no platform is set up"


def _can(act: Callable[[bytes], object], sealed: bytes) -> bool:
    try:
        act(sealed)
    except SealUnknown:
        return False
    return True
