"""`viral quota`"""

import getpass
import os
from dataclasses import replace
from typing import Annotated
from uuid import UUID

import typer

from cli.output import AsJson, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.text.readable import readable

app = Group()

LEDGER = ("at", "kind", "amount", "used_after", "quota_after", "period_start", "cause")

TenantId = Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")]


@app.command("show")
def show_quota(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """What is left, when more comes, and how it came about."""
    with session() as current, current.db.transaction(tenant_id) as tx:
        quota, now = tx.quota.lock(tenant_id), tx.now()
        ledger = tx.quota.ledger(tenant_id)
    row = {
        "tenant_id": tenant_id,
        "quota": quota.limit,
        "used": quota.used,
        "remaining": quota.available(now),
        "period_start": quota.period_start,
        "restarted_at": quota.restarted_at,
        "resets_at": quota.resets_at,
        "paid_until": quota.paid_until,
        "drawn_until": quota.drawn_until,
    }
    if as_json:
        print_json(row | {"ledger": ledger})
        return
    show_one(row, as_json=False)
    console().print()
    show(ledger, LEDGER, as_json=False, nothing="The ledger of this tenant is empty.")


@app.command()
def explain(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """Say in plain words how the number came about."""
    from db.transaction import SYSTEM
    from domain.events.outcomes import Status
    from domain.quota.explain import backing, explain

    with session() as current, current.db.transaction(tenant_id) as tx:
        tenant = tx.tenants.get(tenant_id)
        quota, now = tx.quota.lock(tenant_id), tx.now()
        entries = tx.quota.ledger(tenant_id, limit=10_000, since=quota.period_start)
        held = tx.quota.held(tenant_id)
        status = tenant["subscription_status"]
        plan = tenant["subscription_tier"] + (f" ({status})" if status != "none" else "")
        tx.work_as(SYSTEM)
        customer = tenant["stripe_customer_id"]
        behind = backing(*tx.billing.of_tenant(tenant_id, customer), current.ports.prices)
        about = [customer] if customer else []
        parked = [
            tx.events.waiting("stripe", why, about) for why in (Status.PARKED_INCOMPLETE, Status.PARKED_UNFETCHABLE)
        ]
        behind = replace(behind, waiting=sum(map(len, parked)))
        story = explain(plan, quota, entries, held, now, behind=behind)
    if as_json:
        print_json({"tenant_id": tenant_id, "used": quota.used, "remaining": quota.available(now), "story": story})
        return
    console().print(readable(tenant["name"]), style="bold")
    for sentence in story:
        console().print(readable(sentence))


@app.command()
def reset(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """Start the running period's count anew, by hand.

    The next reset stays where it is; the ledger says who did it.
    """
    with session() as current, current.db.transaction(tenant_id) as tx:
        before, after = tx.quota.restart(tenant_id, f"person:{person()}")
    row = {"tenant_id": tenant_id, "given_back": before.used, "used": after.used, "resets_at": after.resets_at}
    show_one(row, as_json=as_json)


def person() -> str:
    """Who runs this shell, as well as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return f"uid {os.getuid()}"
