"""The rule that says which addresses an outbound call may connect to.

A name is looked up once for a connection, its addresses are judged, and one of those that passed is connected to: a
name server that answers differently the next time (DNS rebinding) changes nothing.
"""

import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from integrations.http.errors import AddressRefused

Address = IPv4Address | IPv6Address
Lookup = Callable[..., list[Any]]

GLOBAL_UNICAST = IPv6Network("2000::/3")
TRANSLATED = (IPv6Network("64:ff9b::/96"),)
"""NAT64: the last 32 bits are the IPv4 address that is reached."""
METADATA = frozenset(map(ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
"""Where clouds hand out credentials: AWS, Google and others over IPv4, AWS over IPv6, Alibaba, Azure."""


def addresses(
    host: str, port: int, *, private_hosts: Collection[str] | None, seconds: float, lookup: Lookup = socket.getaddrinfo
) -> list[str]:
    """Return the addresses of `host` that may be connected to, in the order of the resolver.

    A host that is an address itself is connected to as it is, because the operator wrote it. `localhost` may lead to
    this machine, and the names of `private_hosts` to any private network; every other name leads to public addresses.
    With None as `private_hosts` the host came from outside, and leads to public addresses whatever it is called.

    Raises:
        AddressRefused: there is none that may be connected to.
        OSError, UnicodeError: the name cannot be looked up (`TimeoutError`: within `seconds`).
    """
    try:
        literal = ip_address(host)
    except ValueError:
        literal = None
    if literal is not None:
        if private_hosts is None and not is_public(literal):
            raise AddressRefused("it is not at a public address")
        return [str(literal)]
    found = list(dict.fromkeys(_looked_up(host, port, seconds, lookup)))
    good = [each for each in found if may_connect(each, host, private_hosts)]
    if not good:
        where = f"{host} leads to {found[0]}, " if found else f"{host} has no address, "
        raise AddressRefused(
            f"{where}which is not a public address; a host of a private network must be named in OUTBOUND_PRIVATE_HOSTS"
        )
    return [str(each) for each in good]


def may_connect(address: Address, host: str, private_hosts: Collection[str] | None) -> bool:
    name = host.rstrip(".").lower()
    if is_public(address) or private_hosts is None:
        return is_public(address)
    if name == "localhost" or name.endswith(".localhost"):
        return address.is_loopback
    inner = embedded(address) or address
    return name in private_hosts and not (
        inner in METADATA or inner.is_link_local or inner.is_multicast or inner.is_unspecified
    )


def is_public(address: Address) -> bool:
    """Whether the address is reached over the internet, and is not translated to another one that is not."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    if address in METADATA or address.is_multicast or not address.is_global:
        return False
    return address in GLOBAL_UNICAST if isinstance(address, IPv6Address) else not address.is_reserved


def embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for: mapped, 6to4 or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if any(address in network for network in TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _looked_up(host: str, port: int, seconds: float, lookup: Lookup) -> list[Address]:
    """Ask the resolver, which has no deadline, in a thread, which is abandoned if it takes too long."""
    answer: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(lookup(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.put(error)

    Thread(target=ask, name="resolver", daemon=True).start()
    try:
        found = answer.get(timeout=max(seconds, 0))
    except Empty:
        raise TimeoutError("the name was not looked up in time") from None
    if isinstance(found, Exception):
        raise found
    return [ip_address(each[4][0]) for each in found]
