"""`/api/webhooks`: endpoints of the tenant's own programs, which are notified of its posts, and what was sent to them.

Each request is a POST, signed as Standard Webhooks (docs/notices.md says how to verify one). It is sent at least once,
in any order.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from domain.identity.access import ApiScope, Caller
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.cursors import LONGEST, decode_cursor, encode_cursor
from web.api.validation import RequestBody
from web.error_responses import documented
from workers.ops import outgoing

routes = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=AdmittedRoute)

Reader = Annotated[Caller, requires(ApiScope.WEBHOOKS_READ)]
Writer = Annotated[Caller, requires(ApiScope.WEBHOOKS_WRITE)]


class EndpointRequest(RequestBody):
    """An https address, and the events that it is notified of: `post.published`, `post.failed`; all of them if none is
    named."""

    url: str
    events: list[str] = Field(default_factory=list, max_length=10)


class Endpoint(BaseModel):
    """`failing_since` is when it began to take nothing. One that takes nothing for five days, or answers 410, is
    disabled and gets nothing more until it is enabled: `disabled_reason` says why."""

    id: UUID
    url: str
    events: list[str]
    created_at: datetime
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None


class EnabledEndpoint(Endpoint):
    """`replayed` are the deliveries that it had missed, and that are sent first."""

    replayed: int


class CreatedEndpoint(Endpoint):
    """`secret` is what the receiver verifies with, and is not shown again."""

    secret: str


class Delivery(BaseModel):
    """One event on its way to one endpoint. `event_id` is in the `webhook-id` of each attempt. It was delivered, is
    tried (again) at `next_at`, or was given up."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    event: str
    post_id: UUID | None
    created_at: datetime
    attempts: int
    next_at: datetime | None
    delivered_at: datetime | None
    given_up_at: datetime | None
    status_code: int | None
    error: str | None


class DeliveryPage(BaseModel):
    """`next` is the cursor of the next page; null on the last one."""

    deliveries: list[Delivery]
    next: str | None


class DeliveryQuery(RequestBody):
    """A page of deliveries, of one endpoint or all."""

    model_config = ConfigDict(strict=False)  # an address has nothing but texts

    limit: int = Field(20, ge=1, le=100)
    cursor: str | None = Field(None, max_length=LONGEST, description="`next` of the page before.")
    endpoint_id: UUID | None = None


@routes.get("")
def list_endpoints(caller: Reader, app: Running) -> list[Endpoint]:
    """List the tenant's endpoints, the oldest first."""
    return [Endpoint(**row) for row in outgoing.listed(app, caller.tenant_id)]


@routes.post("", status_code=201, responses=documented(_409="`TOO_MANY_ENDPOINTS`: delete one first"))
def create_endpoint(body: EndpointRequest, caller: Writer, app: Running, response: Response) -> CreatedEndpoint:
    """Have an address notified of what happens from now on; its secret is shown this once."""
    created = outgoing.create(app, caller.tenant_id, body.url, body.events)
    response.headers["Cache-Control"] = "no-store"
    return CreatedEndpoint(**created.endpoint, secret=created.secret)


@routes.delete("/{endpoint_id}", status_code=204, responses=documented(_404="no such endpoint of yours"))
def delete_endpoint(endpoint_id: UUID, caller: Writer, app: Running) -> None:
    """Delete an endpoint; what is on its way to it is not sent any more."""
    outgoing.delete(app, caller.tenant_id, endpoint_id)


@routes.post(
    "/{endpoint_id}/enable",
    responses=documented(_404="no such endpoint of yours", _409="`NOT_DISABLED`"),
)
def enable_endpoint(endpoint_id: UUID, caller: Writer, app: Running) -> EnabledEndpoint:
    """Send to a disabled endpoint again; what it missed since it began to take nothing is sent first."""
    return EnabledEndpoint(**outgoing.enable(app, caller.tenant_id, endpoint_id))


@routes.get("/deliveries")
def list_deliveries(caller: Reader, app: Running, query: Annotated[DeliveryQuery, Query()]) -> DeliveryPage:
    """List what was sent in the last 30 days, or is to be, newest first."""
    rows: list[dict[str, Any]] = outgoing.deliveries(
        app,
        caller.tenant_id,
        limit=query.limit,
        endpoint_id=query.endpoint_id,
        after=None if query.cursor is None else decode_cursor(query.cursor),
    )
    last = rows[-1] if len(rows) == query.limit else None
    return DeliveryPage(
        deliveries=[Delivery(**row) for row in rows],
        next=None if last is None else encode_cursor((last["created_at"], last["id"])),
    )


@routes.post(
    "/deliveries/{delivery_id}/replay",
    status_code=202,
    responses=documented(
        _404="no such delivery of yours", _409="`NOT_NOW`: it is on its way, or its endpoint is disabled"
    ),
)
def replay_delivery(delivery_id: UUID, caller: Writer, app: Running) -> Delivery:
    """Send it again, with the same `webhook-id` and body."""
    return Delivery(**outgoing.replay(app, caller.tenant_id, delivery_id))
