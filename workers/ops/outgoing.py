"""Outgoing webhooks as the API and the shell see them: endpoints, and what was sent to them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import Conflict, NotSetUp, UnknownEndpoint
from domain.posting.outgoing import check_endpoint
from integrations.standard_webhooks import new_secret
from workers.app import App


class Created(NamedTuple):
    """An endpoint, and the secret that its receiver verifies with: it is not shown again."""

    endpoint: dict[str, Any]
    secret: str


def create(app: App, tenant_id: UUID, url: str, events: Sequence[str] = ()) -> Created:
    """Add an endpoint, which is notified from now on of these events, or of all.

    Raises:
        Rejected, Conflict: it may not be.
        NotSetUp: there is no key to seal its secret with.
        UnknownTenant: there is none.
    """
    if app.ports.vault is None:
        raise NotSetUp("nothing can be signed here: TOKEN_ENCRYPTION_KEYS is not set")
    secret = new_secret()
    sealed, home = app.ports.vault.seal(secret), app.settings.webhook_receiver_base_url
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        tx.outgoing.lock(tenant_id)
        chosen = check_endpoint(url, events, others=len(tx.outgoing.endpoints(tenant_id)), home=home)
        return Created(tx.outgoing.add_endpoint(tx.new_id(), tenant_id, url, chosen, sealed), secret)


def listed(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    """Return the tenant's endpoints, the oldest first.

    Raises:
        UnknownTenant: there is none.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        return tx.outgoing.endpoints(tenant_id)


def delete(app: App, tenant_id: UUID, endpoint_id: UUID) -> None:
    """Delete an endpoint, and what is on its way to it.

    Raises:
        UnknownEndpoint: the tenant has none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        if not tx.outgoing.delete_endpoint(tenant_id, endpoint_id):
            raise UnknownEndpoint(f"the tenant has no endpoint with the id {endpoint_id}")


def enable(app: App, tenant_id: UUID, endpoint_id: UUID) -> dict[str, Any]:
    """Send to a disabled endpoint again. What it has missed since it began to take nothing is sent first; `replayed`
    is how much that is.

    Raises:
        TenantDeleted, UnknownTenant: there is no such tenant any more, or never was.
        UnknownEndpoint: the tenant has none of this id.
        Conflict: it is not disabled.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        tx.outgoing.lock(tenant_id)
        enabled = tx.outgoing.enable(tenant_id, endpoint_id)
        if enabled is not None:
            return enabled[0] | {"replayed": enabled[1]}
        if all(each["id"] != endpoint_id for each in tx.outgoing.endpoints(tenant_id)):
            raise UnknownEndpoint(f"the tenant has no endpoint with the id {endpoint_id}")
    raise Conflict("NOT_DISABLED", "the endpoint is not disabled")


def deliveries(
    app: App,
    tenant_id: UUID,
    *,
    limit: int,
    endpoint_id: UUID | None = None,
    after: tuple[datetime, UUID] | None = None,
) -> list[dict[str, Any]]:
    """Return what was sent, or is to be, newest first; `after` is the moment and id of the last one seen.

    Raises:
        UnknownTenant: there is none.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        return tx.outgoing.deliveries(tenant_id, limit=limit, endpoint_id=endpoint_id, after=after)


def replay(app: App, tenant_id: UUID | None, delivery_id: UUID) -> dict[str, Any]:
    """Send a delivery again, with the same id and body. Without `tenant_id`, whosever it is.

    Raises:
        UnknownEndpoint: there is no such delivery.
        Conflict: it is on its way, or its endpoint is disabled.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner = tx.outgoing.owner(delivery_id) if tenant_id is None else tenant_id
        if owner is None or tx.outgoing.find(owner, delivery_id) is None:
            raise UnknownEndpoint(f"there is no delivery with the id {delivery_id}")
        row = tx.outgoing.replay(owner, delivery_id)
    if row is None:
        raise Conflict("NOT_NOW", "it is on its way already, or its endpoint is disabled")
    return row
