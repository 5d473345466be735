"""`/api/billing`: to Stripe's page where a plan is bought, and to the one where it is changed, paid or ended.

Nothing here changes a plan: that is what the webhooks are for.
"""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field

from domain.billing.checkout import check_return, customer_key, price_for, refuse_second, request_key
from domain.billing.tiers import Tier
from domain.errors import Conflict, NotSetUp
from domain.identity.access import ApiScope, Caller
from domain.ports import Cashier, Order
from web.api.admission import AdmittedRoute
from web.api.authentication import Running, requires
from web.api.validation import RequestBody
from web.error_responses import documented
from workers.app import App

routes = APIRouter(prefix="/billing", tags=["billing"], route_class=AdmittedRoute)

Buyer = Annotated[Caller, requires(ApiScope.BILLING_WRITE)]

RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Of your choice. A request sent again with the same key gets the same page.",
    ),
]

REFUSED = "`PROVIDER_REFUSED`: Stripe will not do it, and trying again does not help"


class Purchase(RequestBody):
    """A purchase: a tier at its usual price, or one price (yearly, in another currency). Addresses are pages of ours;
    `{CHECKOUT_SESSION_ID}` in `success_url` is filled in by Stripe."""

    tier: Annotated[Tier, Field(strict=False)] | None = None
    price_id: str | None = Field(None, max_length=255)
    success_url: str
    cancel_url: str


class Visit(RequestBody):
    """`return_url`: the page of ours that the portal leads back to."""

    return_url: str


class Page(BaseModel):
    """Send the person there soon: it is for them alone, and not for long."""

    url: str


@routes.post("/checkout", responses=documented(_409="`ALREADY_SUBSCRIBED`, `IDEMPOTENCY_KEY_REUSED`", _502=REFUSED))
def checkout(body: Purchase, caller: Buyer, app: Running, response: Response, key: RequestKey = None) -> Page:
    """Return the page where this tenant buys a plan. A tenant that has one changes it in the portal."""
    cashier = _cashier(app)
    origins = app.settings.clerk_authorized_parties
    success_url = check_return(body.success_url, origins, "success_url")
    cancel_url = check_return(body.cancel_url, origins, "cancel_url")
    price_id = price_for(body.tier, body.price_id, app.ports.prices)
    customer_id = _customer(app, cashier, caller.tenant_id)
    # Stripe knows it first: the webhook of a purchase made a moment ago may still be on its way.
    refuse_second(cashier.statuses(customer_id))
    order = Order(caller.tenant_id, customer_id, price_id, success_url, cancel_url)
    response.headers["Cache-Control"] = "no-store"
    return Page(url=cashier.checkout(order, key=request_key("checkout", caller.tenant_id, key or str(uuid4()))))


@routes.post("/portal", responses=documented(_409="`NO_CUSTOMER`, `IDEMPOTENCY_KEY_REUSED`", _502=REFUSED))
def portal(body: Visit, caller: Buyer, app: Running, response: Response, key: RequestKey = None) -> Page:
    """Return the page where this tenant changes, pays or ends its plan, and finds its invoices."""
    cashier = _cashier(app)
    return_url = check_return(body.return_url, app.settings.clerk_authorized_parties, "return_url")
    with app.db.transaction(caller.tenant_id) as tx:
        customer_id = tx.tenants.get(caller.tenant_id)["stripe_customer_id"]
    if customer_id is None:
        raise Conflict("NO_CUSTOMER", "this tenant has never bought anything: begin with a checkout")
    response.headers["Cache-Control"] = "no-store"
    key = request_key("portal", caller.tenant_id, key or str(uuid4()))
    return Page(url=cashier.portal(customer_id, return_url, key=key))


def _customer(app: App, cashier: Cashier, tenant_id: UUID) -> str:
    """The Stripe customer that this tenant pays as, made if there is none.

    It is made once, though no transaction waits for Stripe: the key is the tenant's, so Stripe runs one request at a
    time (the SDK asks again on its 409) and answers each with the same customer, also after a crash before it was
    saved. The request that saves second finds it saved.
    """
    with app.db.transaction(tenant_id) as tx:
        customer_id: str | None = tx.tenants.get(tenant_id)["stripe_customer_id"]
        earlier = len(tx.billing.customers_that_count(tenant_id, None))
    if customer_id is not None:
        return customer_id
    made = cashier.add_customer(tenant_id, key=customer_key(tenant_id, earlier))
    with app.db.transaction(tenant_id) as tx:
        if tx.tenants.link_customer(tenant_id, made):
            return made
        saved: str | None = tx.tenants.get(tenant_id)["stripe_customer_id"]
    return saved or made


def _cashier(app: App) -> Cashier:
    if app.ports.cashier is None:
        raise NotSetUp("nothing can be bought here: STRIPE_SECRET_KEY is not set")
    return app.ports.cashier
