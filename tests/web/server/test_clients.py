"""Whom a request comes from: whatever somebody writes into headers, the address is the one that a trusted proxy saw."""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.server.clients import BehindProxies, client_address, is_direct, network_of

TRUSTED = [ip_network(each) for each in ("10.0.0.0/8", "192.0.2.7/32", "fd00::/8")]
PROXIES = st.sampled_from(["10.1.2.3", "10.9.9.9", "192.0.2.7", "fd00::1", "::ffff:10.1.2.3"])
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda each: (
        not any(each.version == net.version and each in net for net in TRUSTED)
        and not getattr(each, "ipv4_mapped", None)
    )
)
GARBAGE = st.binary(max_size=60).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))


def forwarded(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value) for value in values]


@given(ADDRESSES, st.lists(GARBAGE))
def test_nobody_but_a_trusted_proxy_is_believed(peer: Any, forged: list[bytes]) -> None:
    assert client_address(str(peer), forwarded(*forged), TRUSTED) == str(peer)


@given(ADDRESSES, st.lists(GARBAGE), st.lists(PROXIES, max_size=4), PROXIES, st.booleans())
def test_what_a_client_writes_changes_nothing_of_what_proxies_saw(
    client: Any, forged: list[bytes], between: list[str], peer: str, one_line: bool
) -> None:
    """Each proxy appends the address that it saw, to the same line or in one of its own."""
    values = [*forged, *(each.encode() for each in [str(client), *between])]
    headers = forwarded(b", ".join(values)) if one_line else forwarded(*values)
    assert client_address(peer, headers, TRUSTED) == str(client)


@given(st.lists(GARBAGE), PROXIES)
def test_what_comes_out_is_an_address(forged: list[bytes], peer: str) -> None:
    ip_address(client_address(peer, forwarded(*forged), TRUSTED))


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", "10.1.2.3"),
        ("203.0.113.9:port", "10.1.2.3"),
        ("[2001:db8::9", "10.1.2.3"),
        ("", "10.1.2.3"),
        ("10.7.7.7", "10.7.7.7"),
    ],
)
def test_how_proxies_write_an_address(hop: str, address: str) -> None:
    assert client_address("10.1.2.3", forwarded(b"198.51.100.1, junk", hop.encode()), TRUSTED[:1]) == (
        address if hop != "10.7.7.7" else "10.7.7.7"
    )


def test_the_client_and_its_scheme_reach_the_application() -> None:
    def seen(peer: str, *sent: tuple[bytes, bytes], trusted: tuple[str, ...] = ("127.0.0.1",)) -> tuple[Any, str]:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)

        scope = {"type": "http", "client": (peer, 4711), "scheme": "http", "headers": list(sent)}
        asyncio.run(BehindProxies(app, trusted)(scope, None, None))  # type: ignore[arg-type]
        return scopes[0]["client"], scopes[0]["scheme"]

    headers = ((b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-proto", b"http, https"))
    assert seen("127.0.0.1", *headers) == (("198.51.100.1", 0), "https")
    assert seen("127.0.0.2", *headers) == (("127.0.0.2", 4711), "http")
    assert seen("127.0.0.1", *headers, trusted=()) == (("127.0.0.1", 4711), "http")
    assert seen("127.0.0.1", (b"x-forwarded-proto", b"gopher")) == (("127.0.0.1", 4711), "http")


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-ray"])
def test_a_header_of_a_proxy_is_enough_not_to_be_on_this_machine(name: str) -> None:
    assert is_direct([(b"host", b"localhost"), (b"accept", b"*/*")])
    assert not is_direct([(b"host", b"localhost"), (name.encode(), b"")])


def test_clients_are_counted_by_their_networks() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::") != network_of("2001:db8:1:3::4")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of(None) == network_of("testclient") == "nowhere"


@given(st.text())
def test_any_address_can_be_counted(text: str) -> None:
    assert network_of(text)
