"""Authentication: a bearer token is an API key or a session token of Clerk, and either leads to one tenant.

def list_videos(caller: Annotated[Caller, requires(ApiScope.ACCOUNT_READ)], app: Running) -> …:
    with app.db.transaction(caller.tenant_id) as tx: …
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool

from db.transaction import SYSTEM, Database
from domain.errors import AccountPending, NotAllowed, NotAuthenticated
from domain.identity.access import KEY_START, ApiScope, Caller, Session, caller_of, hash_of, scopes_of, use_is_due
from domain.ops.causes import Cause, CauseKind
from integrations.clerk.sessions import Verifier
from web.api.rate_limit import RateLimits
from workers.app import App
from workers.runtime import work

WEBHOOK_TAKES = timedelta(seconds=2)
"""Clerk's webhook has usually been applied so soon after a sign-up."""

BEARER = HTTPBearer(auto_error=False, description="An API key (`viral_…`), or a session token of Clerk.")


@dataclass(frozen=True)
class Authenticator:
    """Finds the caller of a credential. `sessions` is None where sign-in is not set up; `clock` is Unix seconds."""

    db: Database
    sessions: Verifier | None
    clock: Callable[[], float]

    def authenticate(self, credential: str) -> Caller:
        """Return the caller with this key or token.

        Raises:
            NotAuthenticated, NotAllowed: the credential is not accepted; the error has the reason as a code and a text.
            Unavailable: the keys or the database cannot be reached now.
        """
        if credential.startswith(KEY_START):
            return self._by_key(credential)
        if self.sessions is None:
            raise NotAuthenticated("SIGN_IN_NOT_SET_UP", "only API keys are known here: no Clerk account is set up")
        return self._by_session(self.sessions.verify(credential, self.clock()))

    def _by_key(self, text: str) -> Caller:
        """Look the key up by its hash, in the system's scope: before it is found, no tenant is known."""
        key_hash = hash_of(text)
        now = datetime.fromtimestamp(self.clock(), UTC)
        key = None
        if key_hash is not None:
            with self.db.transaction(SYSTEM, pipelined=True) as tx:
                found = tx.keys.find(key_hash)
            key = found()
        caller = caller_of(key, now)
        if key is not None and use_is_due(key, now):
            with self.db.transaction(key.tenant_id, durable=False) as tx:
                tx.access.note_use(key.id, now)
        return caller

    def _by_session(self, session: Session) -> Caller:
        """Return a caller in the tenant of the session's organization, or else in the person's own, with the scopes of
        the role there.

        It is never another tenant instead: what was meant for the organization would end up in the person's own.
        """
        organization_id = session.organization.id if session.organization else None
        with self.db.transaction(SYSTEM) as tx:
            member = tx.identity.signed_in(session.user, organization_id)
            person = None if member else tx.identity.person(session.user)
            organization = None if member or not organization_id else tx.identity.organization(organization_id)
        account = member or person
        if account is not None and account.banned:
            raise NotAllowed("ACCOUNT_BANNED", "this account is banned")
        if member is not None:
            return Caller(member.tenant_id, member.user_id, member.role, scopes_of(member.role))
        if person is not None and person.deleted_at is not None:
            raise NotAllowed("ACCOUNT_DELETED", "this account was deleted")
        if organization is not None and organization.deleted_at is not None:
            raise NotAllowed("ORGANIZATION_DELETED", "this organization was deleted")
        what = "this account" if person is None else "the membership in this organization"
        raise AccountPending(f"{what} is still being set up; try again in a moment", retry_after=WEBHOOK_TAKES)


async def running(request: Request) -> App:
    app: App = request.app.state.app
    return app


Running = Annotated[App, Depends(running)]
"""The application, for a handler's parameter."""


def credential_of(request: Request) -> str:
    """Return the bearer token of the request.

    Raises:
        NotAuthenticated: none was sent.
    """
    scheme, credential = get_authorization_scheme_param(request.headers.get("Authorization"))
    if scheme.lower() != "bearer" or not credential:
        raise NotAuthenticated("CREDENTIAL_MISSING", "send `Authorization: Bearer` with an API key or a session token")
    return credential


def identify(request: Request, credential: str) -> None:
    """Authenticate the caller and count the request; called in a thread, before the body is read.

    Raises:
        NotAuthenticated, NotAllowed, Unavailable: as `Authenticator.authenticate` raises them.
        ApiError: the caller, or the address of an unknown one, is over its rate limit.
    """
    authenticator: Authenticator = request.app.state.authenticator
    limits: RateLimits | None = request.app.state.rate_limits
    try:
        caller = authenticator.authenticate(credential)
    except NotAuthenticated:
        if limits is not None:
            limits.count_unknown(request.client.host if request.client else None)
        raise
    request.state.caller = caller
    if limits is not None:
        request.state.rate_limit = limits.count(caller, credential)
        limits.check(request.state.rate_limit)


async def admit(request: Request, credential: str) -> None:
    """`identify` in a thread. From here on the request works for its caller: what it enqueues is caused by their key or
    user, and its log lines name their tenant, in whichever thread.

    Raises:
        NotAuthenticated, NotAllowed, Unavailable, ApiError: as `identify` raises them.
    """
    await run_in_threadpool(identify, request, credential)
    caller: Caller = request.state.caller
    # Nothing takes it back: the context is this request's own.
    cause = str(Cause(CauseKind.API, str(caller.key_id or caller.user_id)))
    work.current.set(work.current.get()._replace(cause=cause, tenant_id=caller.tenant_id))


async def identified(request: Request, described: Annotated[object, Depends(BEARER)]) -> Caller:
    """Return the caller whom `admit` has identified."""
    caller: Caller = request.state.caller
    return caller


def requires(scope: ApiScope) -> Any:
    """Return a dependency that gives the caller if they have this scope."""

    async def allowed(caller: Annotated[Caller, Depends(identified)]) -> Caller:
        if scope not in caller.scopes:
            raise NotAllowed("SCOPE_MISSING", f"this needs the scope {scope}, which the caller does not have")
        return caller

    return Depends(allowed)
