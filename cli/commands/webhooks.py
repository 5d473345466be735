"""`viral webhooks`"""

from typing import Annotated
from uuid import UUID

import typer

from cli.arguments import among
from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.posting.outgoing import EVENTS
from workers.ops import outgoing

app = Group()

ENDPOINTS = ("id", "url", "events", "created_at", "failing_since", "disabled_at", "disabled_reason")
DELIVERIES = ("id", "event", "post_id", "created_at", "attempts", "status_code", "delivered_at", "next_at", "error")

Tenant = Annotated[UUID, typer.Option("--tenant", metavar="ID", help="The tenant's id.")]


@app.command("list")
def list_endpoints(tenant: Tenant, as_json: AsJson = False) -> None:
    """List the endpoints that are notified of a tenant's posts.

    One that takes nothing for five days, or answers 410, is disabled. For example: viral webhooks list --tenant ID

    \b
    viral webhooks list --tenant ID
    """
    with session() as running:
        rows = outgoing.listed(running, tenant)
    show(rows, ENDPOINTS, as_json=as_json, nothing="No endpoints.", whole=("url",))


@app.command()
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="An https address.")],
    tenant: Tenant,
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENT",
            help="post.published or post.failed; repeat it. Default: all.",
            autocompletion=among(EVENTS),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have an address notified of a tenant's posts.

    Its secret is shown this once. For example: viral webhooks create https://example.com/hook --tenant ID

    \b
    viral webhooks create https://app.example.com/hooks --tenant ID
    """
    with session() as running:
        created = outgoing.create(running, tenant, url, event or [])
    if as_json:
        print_json(created.endpoint | {"secret": created.secret})
        return
    show_one(created.endpoint, as_json=False)
    console().print(f"\n{created.secret}\n\nCopy it now: it is not shown again.")


@app.command()
def delete(
    endpoint_id: Annotated[UUID, typer.Argument(metavar="ID", help="The endpoint's id.")], tenant: Tenant
) -> None:
    """Delete an endpoint, and what is on its way to it.

    For example: viral webhooks delete ID --tenant ID

    \b
    viral webhooks delete ID --tenant ID
    """
    with session() as running:
        outgoing.delete(running, tenant, endpoint_id)
    console().print("Deleted.")


@app.command()
def enable(
    endpoint_id: Annotated[UUID, typer.Argument(metavar="ID", help="The endpoint's id.")],
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """Send to a disabled endpoint again, first what it missed.

    What was given up since it began to take nothing is sent within a minute, with the same ids and bodies.

    \b
    viral webhooks enable ID --tenant ID
    """
    with session() as running:
        row = outgoing.enable(running, tenant, endpoint_id)
    show_one(row, as_json=as_json)


@app.command()
def deliveries(
    tenant: Tenant,
    endpoint: Annotated[UUID | None, typer.Option("--endpoint", metavar="ID", help="Only to this endpoint.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what a tenant's endpoints were sent, newest first.

    For example: viral webhooks deliveries --tenant ID

    \b
    viral webhooks deliveries --tenant ID
    """
    with session() as running:
        rows = outgoing.deliveries(running, tenant, limit=limit, endpoint_id=endpoint)
    show(rows, DELIVERIES, as_json=as_json, nothing="Nothing was sent in 30 days.", whole=("error",))


@app.command()
def replay(
    delivery_id: Annotated[UUID, typer.Argument(metavar="DELIVERY", help="Its id.")], as_json: AsJson = False
) -> None:
    """Send a delivery again, with the same id and body.

    Within a minute, by a worker. For example: viral webhooks replay DELIVERY

    \b
    viral webhooks replay DELIVERY
    """
    with session() as running:
        row = outgoing.replay(running, None, delivery_id)
    show_one(row, as_json=as_json)
