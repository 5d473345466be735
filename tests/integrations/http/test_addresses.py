"""Where outbound calls may connect to: public addresses, and what the operator wrote."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.http.addresses import addresses, embedded, is_public, may_connect
from integrations.http.errors import AddressRefused

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
]
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700::6810:84e5", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


def says(*found: str) -> Any:
    """A resolver that gives these addresses, whatever it is asked for."""

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    return lookup


def led(host: str, *found: str, private_hosts: tuple[str, ...] = ()) -> list[str]:
    return addresses(host, 443, private_hosts=private_hosts, seconds=30, lookup=says(*found))


@pytest.mark.parametrize("address", PRIVATE)
def test_no_name_leads_into_a_private_network(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(AddressRefused, match=r"trends.example.com leads to .*OUTBOUND_PRIVATE_HOSTS"):
        led("trends.example.com", address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_connected_to(address: str) -> None:
    assert led("trends.example.com", address) == [str(ip_address(address))]


def test_of_several_addresses_the_public_ones_are_left() -> None:
    assert led("trends.example.com", "10.0.0.1", "8.8.8.8", "::1", "8.8.8.8") == ["8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_the_operator_wrote_is_connected_to(address: str) -> None:
    assert led(address, "8.8.8.8") == [str(ip_address(address))]


def test_localhost_is_this_machine_and_no_other() -> None:
    assert led("localhost", "127.0.0.1") == ["127.0.0.1"]
    assert led("api.localhost", "::1") == ["::1"]
    for address in ("10.0.0.1", "169.254.169.254"):
        with pytest.raises(AddressRefused):
            led("localhost", address)


def test_a_host_that_is_named_may_be_private_but_never_the_metadata_service() -> None:
    named = ("gateway.example.com",)
    assert led("Gateway.example.com.", "10.0.0.1", private_hosts=named) == ["10.0.0.1"]
    assert led("gateway.example.com", "fd12::1", private_hosts=named) == ["fd12::1"]
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"):
        with pytest.raises(AddressRefused):
            led("gateway.example.com", address, private_hosts=named)
    with pytest.raises(AddressRefused):
        led("gateway.example.com.evil.example", "10.0.0.1", private_hosts=named)


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.0.0.1", "017700000001", "0"])
def test_what_the_resolver_takes_for_an_address_is_judged_as_one(host: str) -> None:
    with pytest.raises((AddressRefused, OSError)):
        addresses(host, 80, private_hosts=(), seconds=30)


def test_a_resolver_that_hangs_is_left() -> None:
    hang = Event()

    def lookup(host: str, port: int, **options: Any) -> list[Any]:
        hang.wait(60)
        return []

    with pytest.raises(TimeoutError):
        addresses("trends.example.com", 443, private_hosts=(), seconds=0.05, lookup=lookup)
    hang.set()


@given(st.ip_addresses(v=4))
def test_the_ipv6_forms_of_an_address_are_judged_as_itself(address: IPv4Address) -> None:
    forms = [
        IPv6Address(0xFFFF << 32 | int(address)),
        IPv6Address(0x64FF9B << 96 | int(address)),
        IPv6Address(0x2002 << 112 | int(address) << 80 | 1),
    ]
    for form in forms:
        assert embedded(form) == address
        assert is_public(form) == is_public(address)


@given(st.ip_addresses())
def test_whatever_is_not_public_needs_the_operators_word(address: IPv4Address | IPv6Address) -> None:
    assert may_connect(address, "trends.example.com", ()) == is_public(address)
    if may_connect(address, "gateway", ("gateway",)) and not is_public(address):
        assert not address.is_link_local


@pytest.mark.parametrize("address", PRIVATE)
def test_a_host_that_came_from_outside_is_public_whatever_it_is_called(address: str) -> None:
    for host in (address, "localhost", "gateway.example.com", "media.example.com"):
        with pytest.raises((AddressRefused, OSError)):
            addresses(host, 443, private_hosts=None, seconds=30, lookup=says(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_host_that_came_from_outside_is_connected_to(address: str) -> None:
    for host in (address, "media.example.com"):
        found = addresses(host, 443, private_hosts=None, seconds=30, lookup=says(address))
        assert found == [str(ip_address(address))]
