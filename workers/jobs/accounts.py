"""Social accounts: whoever posts gets what opens the account."""

from uuid import UUID

from domain.posting.accounts import Credential
from domain.posting.publishing import AccountRevoked
from workers.engine.job import Context


def access(ctx: Context, tenant_id: UUID, account_id: UUID, *, refused: Credential | None = None) -> Credential:
    """Return what opens the account, fresh tokens if need be; to be called with no transaction open. `refused` is the
    credential that a platform has just answered `TokenExpired` to: that one is not returned again.

    Raises:
        AccountRevoked: only its owner can open it again; the account's `reason` says so already.
        Unavailable: it cannot be opened now.
        Snoozed: another job is at a refresh of it, which takes a moment.
        UnknownAccount: there is none of this id.
    """
    raise NotImplementedError


def revoked(ctx: Context, tenant_id: UUID, account_id: UUID, used: Credential, error: AccountRevoked) -> None:
    """Write down that a platform took our access to an account away, unless it has been connected again since."""
    raise NotImplementedError
