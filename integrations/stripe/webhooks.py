"""Stripe's webhooks are verified to be from Stripe, and their envelope is read.

Our own verifier, because the SDK's `construct_event` costs 2 ms, accepts timestamps from the future and lets
malformed input escape as other exceptions. The tests hold it against the SDK's signer and verifier.
"""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from domain.errors import MalformedEvent, SignatureInvalid
from integrations.envelope import Envelope, check_signature, is_unix_time, moment, name, optional, read_object, subject

SIGNATURE_HEADER = "stripe-signature"
SNAPSHOT, THIN = "event", "v2.core.event"


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> None:
    """Return only if the body was signed with one of `secrets` within `TOLERANCE` of `now` (Unix seconds).

    `headers` has lower-case names or ignores case. The scheme: `t=<unix>,v1=<hex>[,v1=<hex>…]`, where hex is
    HMAC-SHA256 over `t.body`; several v1 and several secrets exist while a secret is rolled, and one match is enough.

    Raises:
        SignatureInvalid: says which check failed.
    """
    header = headers.get(SIGNATURE_HEADER)
    if not header:
        raise SignatureInvalid("the Stripe-Signature header is missing")
    time, signatures = _parts(header)
    signed = b"%s.%s" % (time.encode(), body)
    expected = [hmac.digest(secret.encode(), signed, "sha256").hex().encode() for secret in secrets if secret]
    check_signature(expected, signatures, now - int(time))


def _parts(header: str) -> tuple[str, list[bytes]]:
    times: list[str] = []
    signatures: list[bytes] = []
    for part in header.split(","):
        key, _, value = part.strip().partition("=")
        if key == "t":
            times.append(value)
        elif key == "v1":
            signatures.append(value.encode(errors="replace"))
    if len(times) != 1 or not is_unix_time(times[0]):
        raise SignatureInvalid("the Stripe-Signature header has no timestamp, or not exactly one")
    if not signatures:
        raise SignatureInvalid("the Stripe-Signature header has no v1 signature")
    return times[0], signatures


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the value of the Stripe-Signature header that Stripe would send at `timestamp` (Unix seconds)."""
    mac = hmac.digest(secret.encode(), b"%d.%s" % (timestamp, body), "sha256").hex()
    return f"t={timestamp},v1={mac}"


def parse_event(body: bytes) -> Envelope:
    """Return the envelope of a snapshot or thin event of any API version and any type.

    Raises:
        MalformedEvent: no event of Stripe looks like this.
    """
    event, payload = read_object(body)
    if event.get("object") not in (SNAPSHOT, THIN):
        raise MalformedEvent(f"the event's 'object' is neither {SNAPSHOT!r} nor {THIN!r}")
    return Envelope(
        external_id=name(event, "id"),
        type=name(event, "type"),
        api_version=optional(event, "api_version", str),
        livemode=optional(event, "livemode", bool),
        occurred_at=moment(event, "created"),
        subject=_customer(event),
        payload=payload,
        body=body,
    )


def _customer(event: dict[str, Any]) -> str | None:
    """Return the customer of the event: its object is one, names one, or contains one (expanded)."""
    data = event.get("data")
    about = data.get("object") if isinstance(data, dict) else event.get("related_object")
    if not isinstance(about, dict):
        return None
    customer = about.get("customer")
    if isinstance(customer, dict):
        customer = customer.get("id")
    is_customer = "customer" in (about.get("object"), about.get("type"))
    return subject(about.get("id") if is_customer else customer)
