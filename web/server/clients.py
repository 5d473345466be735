"""Whom a request comes from: the one rule by which headers of proxies are believed.

A connection shows its peer's address, and anybody can write any header. So `X-Forwarded-For` and `X-Forwarded-Proto`
count only if the peer is one of TRUSTED_PROXIES. Each proxy appends the address that it saw, so the list is read from
its end: the first address that is not a trusted proxy's is the client's, and whatever stands left of it was the
client's to write.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Headers = Iterable[tuple[bytes, bytes]]

MOST_HOPS = 32
"""Addresses of a list that are looked at; more proxies than these stand in no row."""

FORWARDING: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip"}
)
FORWARDING_PREFIXES: Final = (b"x-forwarded", b"x-original-", b"x-envoy-", b"x-amzn-", b"cf-", b"fly-")


class BehindProxies:
    """The application as it is behind trusted proxies: `client` and `scheme` of a request are the client's own.

    The port of a client behind a proxy is not known; it is 0.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._trusted = [ip_network(each) for each in trusted]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] == "http" and (peer := scope.get("client")):
            client = client_address(peer[0], scope["headers"], self._trusted)
            if client != peer[0]:
                scope["client"] = (client, 0)
            if is_trusted(peer[0], self._trusted) and (scheme := _forwarded_scheme(scope["headers"])):
                scope["scheme"] = scheme
        await self._app(scope, receive, send)


def client_address(peer: str, headers: Headers, trusted: Sequence[Network]) -> str:
    """Return the address that a request comes from. An entry that is no address ends the list: nobody knows what it
    stands for, so the client is the proxy that passed it on."""
    client = parsed(peer)
    if client is None or not _within(client, trusted):
        return peer
    hops = b",".join(value for name, value in headers if name == b"x-forwarded-for").split(b",")
    for hop in reversed(hops[-MOST_HOPS:]):
        before = parsed(_without_port(hop.decode("latin-1").strip()))
        if before is None:
            break
        client = before
        if not _within(client, trusted):
            break
    return str(client)


def is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    address = parsed(peer)
    return address is not None and _within(address, trusted)


def is_direct(headers: Headers) -> bool:
    """Return whether no header says that a proxy passed the request on. Such a header may be forged; that it is absent
    proves nothing, and that it is there is enough to treat nobody as a program on this machine."""
    return not any(name in FORWARDING or name.startswith(FORWARDING_PREFIXES) for name, _ in headers)


def is_loopback(host: str) -> bool:
    address = parsed(host)
    return address is not None and address.is_loopback


def network_of(host: str | None) -> str:
    """Return the network by which a client is counted: an IPv6 customer has 2⁶⁴ addresses at least."""
    address = parsed(host or "")
    if address is None:
        return "nowhere"
    if isinstance(address, IPv6Address):
        address = ip_address(int(address) >> 64 << 64)
    return str(address)


def parsed(host: str) -> Address | None:
    """Return the address, without the zone of a link; IPv4 within IPv6 is IPv4."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _without_port(text: str) -> str:
    """Return the host of `1.2.3.4`, `1.2.3.4:5`, `[::1]`, `[::1]:5` or `::1`; any other text as it is."""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        return host if closed and (not port or (port[0] == ":" and _is_port(port[1:]))) else text
    host, colon, port = text.rpartition(":")
    return host if colon and ":" not in host and _is_port(port) else text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _forwarded_scheme(headers: Headers) -> str | None:
    """Return what the nearest proxy says; it writes the header anew, or appends to it."""
    values = [value for name, value in headers if name == b"x-forwarded-proto"]
    scheme = values[-1].rpartition(b",")[2].strip().lower() if values else b""
    return scheme.decode() if scheme in (b"http", b"https") else None
