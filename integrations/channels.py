"""The channels by which people of the operator are notified: whatever apprise speaks (mail, Slack, Telegram, PagerDuty
and a hundred more), and a webhook that is signed as Standard Webhooks, which apprise cannot do.

apprise makes its own requests, to addresses that the operator wrote (docs/decisions/0059). It is imported when a
message is first sent: that takes a second and 40 MB. No error repeats an address: they hold tokens and passwords.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import orjson

from domain.errors import Rejected, Unavailable
from integrations.http.client import Http, Request
from integrations.standard_webhooks import headers

if TYPE_CHECKING:
    from apprise import NotifyBase

WITHIN: Final = 20.0
"""Seconds that sending to one channel may take in all."""
SOCKET: Final = 5.0
"""Seconds that apprise may wait to connect, and for a piece of an answer."""
STATUS: Final = re.compile(r"error=(\d{3})\b")

SUCCESS: Final = range(200, 300)
SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://", re.ASCII)
WEB: Final = ("https", "http")


@dataclass(frozen=True, slots=True)
class Sent:
    """One message. The id is the same however often it is sent; `sent_at` is the time of this attempt, since receivers
    refuse a signature that is old. `content` is for programs."""

    id: UUID
    made_at: datetime
    sent_at: datetime
    title: str
    text: str
    content: Sequence[Mapping[str, Any]]


class Channel(Protocol):
    """`name` is the place in NOTIFY_URLS and the kind: `2 slack`."""

    name: str

    def check(self) -> None:
        """Raises Rejected if nothing can ever be sent here: the address is not understood."""

    def send(self, message: Sent) -> None:
        """Send it, within `WITHIN` seconds. Raises Unavailable or Rejected, which never repeat the address."""


def open_channels(urls: Sequence[str], secret: str, http: Http) -> list[Channel]:
    """Return the channels of these addresses. `secret` signs what is sent to those that are plain web addresses."""
    found: list[Channel] = []
    for place, url in enumerate(urls, 1):
        match = SCHEME.match(url)
        scheme = match[1].lower() if match else "unreadable"
        found.append(
            WebChannel(f"{place} webhook", url, secret, http)
            if scheme in WEB
            else AppriseChannel(f"{place} {scheme}", url)
        )
    return found


class AppriseChannel:
    """An address in apprise's own form."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url

    @cached_property
    def _service(self) -> "NotifyBase | None":
        return _service(self._url)

    def check(self) -> None:
        if self._service is None:
            raise Rejected(f"{self.name}: its address is not understood; see the list of services of apprise")

    def send(self, message: Sent) -> None:
        self.check()
        _notify(self.name, self._service, message)


class WebChannel:
    """A web address: of a service that gives such addresses out (Slack, Discord, Teams, …), which apprise recognises,
    or of a program of the operator's, which verifies the signature."""

    def __init__(self, name: str, url: str, secret: str, http: Http) -> None:
        self.name = name
        self._url = url
        self._secret = secret
        self._http = http

    @cached_property
    def _service(self) -> "NotifyBase | None":
        return _service(self._url)

    def check(self) -> None:
        if self._service is None and not self._secret:
            raise Rejected(f"{self.name}: what is sent there has to be signed: set NOTIFY_WEBHOOK_SECRET")

    def send(self, message: Sent) -> None:
        self.check()
        if self._service is not None:
            _notify(self.name, self._service, message)
            return
        body = orjson.dumps(
            {
                "type": "notices.sent",
                "timestamp": message.made_at.isoformat(),
                "data": {"title": message.title, "text": message.text, "notices": list(message.content)},
            }
        )
        signed = headers(body, [self._secret], f"msg_{message.id.hex}", int(message.sent_at.timestamp()))
        response = self._http.exchange(
            Request(self.name, self._url, method="POST", headers=signed, content=body), within=WITHIN
        )
        if response.status not in SUCCESS:
            raise Unavailable(f"{self.name} answered {response.status}")


def _service(url: str) -> "NotifyBase | None":
    """Return apprise's service of the address, or None if it knows none."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - see the module's first lines

    logging.getLogger("apprise").propagate = False  # it writes of addresses; what we need to know it returns
    asset = AppriseAsset(
        app_id="Viral Dashboard", app_desc="Viral Dashboard workers", http_redirects=False, pgp_autogen=False
    )
    service = Apprise.instantiate(url, asset=asset)
    if service is not None:
        service.socket_connect_timeout = min(service.socket_connect_timeout, SOCKET)
        service.socket_read_timeout = min(service.socket_read_timeout, SOCKET)
    return service


def _notify(name: str, service: "NotifyBase | None", message: Sent) -> None:
    from apprise import Apprise  # noqa: PLC0415 - see the module's first lines

    result = Apprise(service).notify(
        body=message.text, title=message.title, notify_type="warning", body_format="text", timeout=WITHIN
    )
    if not result:
        found = [match[1] for entry in result.logs() if (match := STATUS.search(entry.message))]
        why = f"it answered {found[0]}" if found else "no answer in time" if result.status.name == "TIMEOUT" else ""
        raise Unavailable(f"{name} did not take it{f': {why}' if why else ''}")
