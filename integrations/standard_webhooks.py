"""Standard Webhooks: how a body is signed, so that its receiver knows that it is ours, whole and fresh.

Source: the specification of Standard Webhooks, "Signature scheme": HMAC-SHA256 over `id.timestamp.body`, whose key is
the base64 in a `whsec_…` secret; the header holds `v1,<base64>` entries between spaces, one for each secret in use.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from secrets import token_bytes
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105
SECRET_BYTES: Final = 32


def new_secret() -> str:
    return SECRET_PREFIX + b64encode(token_bytes(SECRET_BYTES)).decode()


def key(secret: str) -> bytes:
    """Return the key inside a `whsec_…` secret; empty if there is none, and then nothing can be verified."""
    return decoded(secret.strip().removeprefix(SECRET_PREFIX))


def decoded(text: str) -> bytes:
    """Return what the base64 stands for; empty if it is none."""
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def sign(body: bytes, secret: str, message_id: str, timestamp: int) -> str:
    """Return one entry of the signature header, as it is at `timestamp` (Unix seconds)."""
    mac = hmac.digest(key(secret), f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{b64encode(mac).decode()}"


def headers(body: bytes, secrets: Sequence[str], message_id: str, timestamp: int) -> dict[str, str]:
    """Return the headers that a body is sent with: signed with each of the secrets."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(body, secret, message_id, timestamp) for secret in secrets),
    }
