"""Outgoing webhooks, signed as Standard Webhooks."""

from datetime import datetime
from typing import Final

from domain.errors import Rejected, Unavailable
from domain.ports import Vault
from domain.posting.outgoing import Answer
from integrations.http.client import Http, Request
from integrations.http.errors import AddressRefused
from integrations.standard_webhooks import headers
from workers.runtime.version import AGENT

WITHIN: Final = 15.0
"""Seconds that a receiver has for its answer. Standard Webhooks ask for 15 to 30."""
MOST_BYTES: Final = 256_000
"""Bytes of an answer, of which nothing is read: only its status counts."""


class SignedWebhooks:
    """`home` is the address of a receiver that may be a private one."""

    def __init__(self, vault: Vault | None, *, home: str = "", within: float = WITHIN) -> None:
        self._vault = vault
        self._home = home
        self._within = within
        self._http = Http(AGENT, most_bytes=MOST_BYTES, seconds=(5.0, within, within))

    def send(self, url: str, body: bytes, *, secret: bytes, message_id: str, at: datetime) -> Answer:
        if self._vault is None:
            return Answer(None, "it cannot be signed: TOKEN_ENCRYPTION_KEYS is not set")
        try:
            signed = headers(body, [self._vault.unseal(secret)], message_id, int(at.timestamp()))
            request = Request("the endpoint", url, method="POST", headers=signed, content=body)
            return Answer(self._http.exchange(request, within=self._within, home=self._home).status)
        except AddressRefused:  # where its name leads is nothing that a tenant is told
            return Answer(None, "its address is not one of the internet")
        except (Unavailable, Rejected) as error:
            return Answer(None, str(error))
