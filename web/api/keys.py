"""`/api/keys`: the tenant's API keys. A key's text is shown once, when it is made; only its hash is kept."""

from datetime import datetime
from secrets import token_bytes
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel

from db.transaction import SYSTEM
from domain.errors import NotAllowed, UnknownKey
from domain.identity.access import KEY_BYTES, ApiScope, Caller, maker_of, new_key
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.validation import Moment, RequestBody
from web.error_responses import documented

routes = APIRouter(prefix="/keys", tags=["keys"], route_class=AdmittedRoute)

KeyWriter = Annotated[Caller, requires(ApiScope.KEYS_WRITE)]


class KeyRequest(RequestBody):
    """A key to be made; without `expires_at` it is good until it is revoked. What a key makes ends with it."""

    name: str
    scopes: list[str]
    expires_at: Moment | None = None


class ApiKey(BaseModel):
    """A key as it is listed. `last_used_at` is exact to ten minutes. `created_by` is `user:ID` or `key:ID` of whoever
    made it, `operator`, or `unknown`: keys that are older than this field do not say."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedKey(ApiKey):
    """`key` is the secret itself, and is not shown again."""

    key: str


@routes.get("")
def list_keys(caller: KeyWriter, app: Running) -> list[ApiKey]:
    """List the tenant's keys, newest first, ended ones included."""
    with app.db.transaction(caller.tenant_id) as tx:
        return [ApiKey(**row) for row in tx.access.keys(caller.tenant_id)]


@routes.post("", status_code=201)
def create_key(body: KeyRequest, caller: KeyWriter, app: Running, response: Response) -> CreatedKey:
    """Make a key that may do what the caller may, or less; it is revoked together with the key that made it, and when
    the person who did leaves the tenant."""
    with app.db.transaction(caller.tenant_id) as tx:
        now = tx.now()
        others = tx.access.count_usable(caller.tenant_id, now)
        # From here on nobody takes anything away from the caller: that would wait for the lock.
        tx.work_as(SYSTEM)
        role = tx.access.role(caller.tenant_id, caller.user_id) if caller.user_id else None
        parent = tx.access.key_of(caller.tenant_id, caller.key_id) if caller.key_id else None
        tx.work_as(caller.tenant_id)
        maker, scopes = maker_of(caller, role, parent, now)
        key = new_key(token_bytes(KEY_BYTES), **body.model_dump(), now=now, others=others, maker=maker)
        if beyond := sorted(key.scopes - scopes):
            raise NotAllowed("SCOPE_MISSING", f"a key cannot get {beyond[0]}, which the caller does not have")
        row = tx.access.add_key(tx.new_id(), caller.tenant_id, key)
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey(**row, key=key.text)


@routes.delete("/{key_id}", status_code=204, responses=documented(_404="no such key of yours"))
def revoke_key(key_id: UUID, caller: KeyWriter, app: Running) -> None:
    """Revoke a key and the keys that it made: from the next request on they are refused. They stay listed."""
    with app.db.transaction(caller.tenant_id) as tx:
        if not tx.access.revoke_key(caller.tenant_id, key_id):
            raise UnknownKey(f"the tenant has no API key with the id {key_id}")
