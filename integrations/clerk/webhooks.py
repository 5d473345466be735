"""Clerk's webhooks, which Svix sends (Standard Webhooks), are verified to be from Clerk, and their envelope is read."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from domain.errors import SignatureInvalid
from integrations.envelope import (
    MAX_NAME,
    Envelope,
    check_signature,
    is_unix_time,
    moment,
    name,
    optional,
    read_object,
    subject,
)
from integrations.standard_webhooks import decoded
from integrations.standard_webhooks import key as key
from integrations.standard_webhooks import sign as sign

HEADER_FAMILIES = ("svix", "webhook")
NOT_KEPT = ("email.", "sms.", "organizationInvitation.", "waitlistEntry.")
"""Families of types whose bodies contain one-time codes, the link in an invitation, or the address of somebody who is
no user yet and whom no deletion would name: only the envelope is kept."""


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now: float) -> str:
    """Return the message's id if it was signed with one of `secrets` within `TOLERANCE` of `now` (Unix seconds).

    `headers` has lower-case names or ignores case. The scheme: `svix-signature` (or `webhook-signature`, then with its
    own id and timestamp) holds `v1,<base64>` entries between spaces, each HMAC-SHA256 over `id.timestamp.body`. The
    id is the event's identity: the body has none, and the id stays the same when a message is sent again.

    Raises:
        SignatureInvalid: says which check failed.
    """
    family = next((each for each in HEADER_FAMILIES if headers.get(f"{each}-signature")), HEADER_FAMILIES[0])
    message_id, time, signature = (headers.get(f"{family}-{part}") for part in ("id", "timestamp", "signature"))
    if not (message_id and time and signature):
        raise SignatureInvalid(f"one of the headers {family}-id, {family}-timestamp, {family}-signature is missing")
    if not (message_id.isascii() and message_id.isprintable() and len(message_id) <= MAX_NAME):
        raise SignatureInvalid(f"{family}-id is not an id")
    if not is_unix_time(time):
        raise SignatureInvalid(f"{family}-timestamp is not a Unix time")
    signatures = [decoded(entry[3:]) for entry in signature.split(" ") if entry.startswith("v1,")]
    if not any(signatures):
        raise SignatureInvalid(f"{family}-signature has no readable v1 entry")
    signed = f"{message_id}.{time}.".encode() + body
    expected = [hmac.digest(found, signed, "sha256") for secret in secrets if (found := key(secret))]
    check_signature(expected, signatures, now - int(time))
    return message_id


def parse_event(body: bytes, message_id: str) -> Envelope:
    """Return the envelope of any event of Clerk. `message_id` is what `verify` returned.

    Raises:
        MalformedEvent: no event of Clerk looks like this.
    """
    event, payload = read_object(body)
    kind = name(event, "type")
    kept: bytes | None = body
    if kind.startswith(NOT_KEPT):
        payload, kept = orjson.dumps({"type": kind, "object": "event", "data": {}}).decode(), None
    return Envelope(
        external_id=message_id,
        type=kind,
        api_version=None,
        livemode=None,
        occurred_at=moment(event, "timestamp", per_second=1000),
        subject=_person(event, optional(event, "data", dict) or {}),
        payload=payload,
        body=kept,
    )


def _person(event: dict[str, Any], data: dict[str, Any]) -> str | None:
    """Return the user that the event is about, else the organization or whatever else it is about: the events of a
    deleted person lose their content. Events of Clerk's own billing name and address a payer."""
    member, payer = (found if isinstance(found := data.get(key), dict) else {} for key in ("public_user_data", "payer"))
    return subject(
        member.get("user_id"), data.get("user_id"), payer.get("user_id"), payer.get("organization_id"), data.get("id")
    )
