"""Posts made-up events to the running endpoint, signed with the configured secret, as their real senders would."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

from domain.errors import Unavailable, ViralError
from integrations.clerk import webhooks as clerk
from integrations.http.client import Http, Request
from integrations.stripe import webhooks as stripe
from workers.settings import Settings

Body = dict[str, Any]


class NotDelivered(ViralError):
    """The endpoint did not accept the event."""


def deliver(source: str, body: Body, settings: Settings, origin: str) -> str:
    """Post an event of Stripe or Clerk to the endpoint at `origin`, and return what it answered, in a line.

    Raises:
        NotDelivered: it cannot be signed, nobody answers, or it is refused.
    """
    with courier(settings, origin) as post:
        return post(source, body)


@contextmanager
def courier(settings: Settings, origin: str) -> Iterator[Callable[[str, Body], str]]:
    """Return `deliver` for many events, which go by the same connections; any number of threads may call it.

    Raises:
        NotDelivered: `origin` is no address.
    """
    base = f"{origin.rstrip('/')}/webhooks"
    try:
        # Wherever the operator says, also in a network of their own.
        http = Http("viral dev", private_hosts=[urlsplit(base).hostname or ""])
    except ValueError:
        raise NotDelivered(f"{base} is no address: does `viral up` run?") from None

    def post(source: str, body: Body) -> str:
        target, content = f"{base}/{source}", json.dumps(body).encode()
        headers = dict(_signed(source, body, content, settings))
        try:
            answer = http.exchange(Request(target, target, headers=headers, content=content))
        except Unavailable as error:
            raise NotDelivered(f"{error}: does `viral up` run?") from error
        name = f"{body.get('type')} {body.get('id', '')}".strip()
        line = f"{name}: {answer.status} {answer.body.decode(errors='replace')}"
        if answer.status != 200:
            raise NotDelivered(line)
        return line

    with closing(http):
        yield post


def _signed(source: str, body: Body, content: bytes, settings: Settings) -> Iterator[tuple[str, str]]:
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
    """Derive the id from the body, since Clerk's bodies carry none: the same body is the same delivery."""
    return f"msg_{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:27]}"


def _secret(secrets: tuple[str, ...], name: str) -> str:
    if not secrets:
        raise NotDelivered(f"{name} is not set, so nothing can be signed")
    return secrets[0]
