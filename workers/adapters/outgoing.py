"""Outgoing webhooks, signed as Standard Webhooks."""

from datetime import datetime
from typing import Final

from domain.errors import Rejected, SealUnknown, Unavailable
from domain.ports import Vault
from domain.posting.outgoing import Answer
from integrations.http.client import Http, Request
from integrations.http.errors import AddressRefused
from integrations.standard_webhooks import headers
from workers.runtime.version import AGENT

WITHIN: Final = 15.0
"""Seconds that a receiver has for its answer. Standard Webhooks ask for 15 to 30."""


class SignedWebhooks:
    """`home` is the address of a receiver that may be a private one."""

    def __init__(self, vault: Vault | None, *, home: str = "", within: float = WITHIN) -> None:
        self._vault = vault
        self._home = home
        self._within = within
        self._http = Http(AGENT, seconds=(5.0, within, within))

    def send(self, url: str, body: bytes, *, secret: bytes, message_id: str, at: datetime) -> Answer:
        if self._vault is None:
            return Answer(None, "it cannot be signed: TOKEN_ENCRYPTION_KEYS is not set", ours=True)
        try:
            key = self._vault.unseal(secret)
        except SealUnknown:
            return Answer(None, "it cannot be signed: the key of its secret is not in TOKEN_ENCRYPTION_KEYS", ours=True)
        try:
            signed = headers(body, [key], message_id, int(at.timestamp()))
            request = Request("the endpoint", url, method="POST", headers=signed, content=body)
            answer = self._http.exchange(request, within=self._within, home=self._home, reads=False)
            return Answer(answer.status)
        except AddressRefused:  # where its name leads is nothing that a tenant is told
            return Answer(None, "its address is not one of the internet")
        except (Unavailable, Rejected) as error:
            return Answer(None, str(error))
