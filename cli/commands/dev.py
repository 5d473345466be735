"""`viral dev`: play the outside. Events are built from Stripe's and Clerk's documented shapes, signed with the
configured secret and posted to the running endpoint, as their real senders would."""

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import typer

from cli.arguments import moment, parsed
from cli.output import console
from cli.session import resolve
from cli.shell import Group
from domain.errors import ViralError

app = Group()

Body = dict[str, Any]

PURCHASE = "checkout"
PURCHASE_HELP = "a whole purchase: checkout completed, subscription active, invoice paid"


class NotDelivered(ViralError):
    """The endpoint did not accept the event."""


@app.command("send-event")
def send_event(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Who sends it: stripe or clerk.")],
    what: Annotated[
        str, typer.Argument(metavar="KIND|FILE", help="An event type (a wrong one lists all), or a JSON file.")
    ],
    tenant: Annotated[
        UUID | None, typer.Option(help="Stripe: the tenant who pays. Default: one that nobody knows.")
    ] = None,
    tier: Annotated[str, typer.Option(help="Stripe: the plan bought: STARTER, PRO or AGENCY.")] = "PRO",
    email: Annotated[str | None, typer.Option(help="Clerk: the person; the same address is the same person.")] = None,
    customer: Annotated[
        str | None, typer.Option(help="Stripe: a customer id, instead of one made for the tenant.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="When it happened. Default: now.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also write the (last) body to this file, to be sent again.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The endpoint's origin. Default: the one running here.")] = None,
) -> None:
    """Build, sign and post a realistic event.

    \b
    viral dev send-event clerk user.created --email ada@example.com
    viral dev send-event stripe checkout --tenant ID --tier PRO --save paid.json
    viral dev send-event stripe paid.json
    """
    from simulators.kinds import KINDS

    if source not in KINDS:
        raise typer.BadParameter(f"there are {' and '.join(KINDS)}", param_hint="SOURCE")
    file = Path(what)
    if file.suffix == ".json" or file.is_file():
        bodies = [_read(file)]
    else:
        kinds = [what] if what != PURCHASE or source != "stripe" else _purchase()
        _check(source, kinds)
        about = _people(tenant, tier, email, customer)
        when = at or datetime.now(UTC)
        bodies = [KINDS[source][kind].build(about, when) | _account(source) for kind in kinds]
    for body in bodies:
        if save is not None:
            _write(save, body)
        _post(source, body, url)


def _purchase() -> list[str]:
    return ["checkout.session.completed", "customer.subscription.updated", "invoice.paid"]


def _check(source: str, kinds: list[str]) -> None:
    from simulators.kinds import KINDS

    known = {kind: each.description for kind, each in KINDS[source].items()}
    if source == "stripe":
        known = {PURCHASE: PURCHASE_HELP} | known
    if not set(kinds) <= known.keys():
        listed = "\n".join(f"  {kind:<32} {description}" for kind, description in known.items())
        raise typer.BadParameter(f"no such event or file.\n\n{source} can send:\n{listed}", param_hint="KIND|FILE")


def _people(tenant: UUID | None, tier: str, email: str | None, customer: str | None) -> Any:
    """Whom the events are about. All ids follow from the tenant or the address, so later events agree with these."""
    from domain.billing.tiers import PLANS, Tier
    from simulators.personas import random_persona

    settings, _ = resolve()
    sold = [each.value for each, plan in PLANS.items() if plan.usd_per_month]
    if tier.upper() not in sold:
        raise typer.BadParameter(f"nobody can buy that; there are {', '.join(sold)}", param_hint="--tier")
    plan = PLANS[Tier(tier.upper())]
    prices = {each: price for price, each in reversed(list(settings.prices.items()))}
    known: dict[str, Any] = {"unit_amount": plan.usd_per_month * 100}
    if plan.tier in prices:
        known["price_id"] = prices[plan.tier]
    given = {"tenant_id": tenant, "email": email, "customer_id": customer}
    known |= {name: value for name, value in given.items() if value is not None}
    return random_persona(Random(str(tenant or email or time.time_ns())), **known)  # noqa: S311 - ids of make-believe people


def _account(source: str) -> Body:
    """The account that is set up here, as its events name it: those of another are ignored."""
    settings, _ = resolve()
    named = (
        {"livemode": settings.stripe_livemode} if source == "stripe" else {"instance_id": settings.clerk_instance_id}
    )
    return {name: value for name, value in named.items() if value is not None}


def _read(file: Path) -> Body:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="KIND|FILE") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8: {error.reason}", param_hint="KIND|FILE") from None
    body = parsed(text, str(file), hint="KIND|FILE")
    if not isinstance(body, dict):
        raise typer.BadParameter(f"{file} holds no JSON object", param_hint="KIND|FILE")
    return body


def _write(file: Path, body: Body) -> None:
    try:
        file.write_text(json.dumps(body, indent=2))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be written: {error.strerror}", param_hint="--save") from None


def _post(source: str, body: Body, url: str | None) -> None:
    from domain.errors import Unavailable
    from integrations.http.client import Http, Request

    settings, state = resolve()
    origin = url or (state.web_url if state else settings.web_url)
    target = f"{origin.rstrip('/')}/webhooks/{source}"
    content = json.dumps(body).encode()
    headers = dict(_signed(source, body, content, settings))
    try:
        # Wherever the operator says, also in a network of their own.
        http = Http("viral dev", private_hosts=[urlsplit(target).hostname or ""])
    except ValueError:
        raise NotDelivered(f"{target} is no address: does `viral up` run?") from None
    try:
        answer = http.exchange(Request(target, target, headers=headers, content=content))
    except Unavailable as error:
        raise NotDelivered(f"{error}: does `viral up` run?") from error
    finally:
        http.close()
    name = f"{body.get('type')} {body.get('id', '')}".strip()
    said = answer.body.decode(errors="replace")
    if answer.status != 200:
        raise NotDelivered(f"{name}: {answer.status} {said}")
    console().print(f"{name}: {answer.status} {said}")


def _signed(source: str, body: Body, content: bytes, settings: Any) -> Iterator[tuple[str, str]]:
    from integrations.clerk import webhooks as clerk
    from integrations.stripe import webhooks as stripe

    yield "content-type", "application/json"
    now = int(time.time())
    if source == "stripe":
        secret = _secret(settings.reveal(settings.stripe_webhook_secret), "STRIPE_WEBHOOK_SECRET")
        yield stripe.SIGNATURE_HEADER, stripe.sign(content, secret, now)
    else:
        secret = _secret(settings.reveal(settings.clerk_webhook_signing_secret), "CLERK_WEBHOOK_SIGNING_SECRET")
        delivery = _delivery_id(body)
        yield "svix-id", delivery
        yield "svix-timestamp", str(now)
        yield "svix-signature", clerk.sign(content, secret, delivery, now)


def _delivery_id(body: Mapping[str, Any]) -> str:
    """The same body is the same delivery: Clerk's bodies carry no id of their own."""
    import hashlib

    return f"msg_{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:27]}"


def _secret(secrets: tuple[str, ...], name: str) -> str:
    if not secrets:
        raise NotDelivered(f"{name} is not set, so nothing can be signed")
    return secrets[0]
