"""Where the web server listens, and the one line if it cannot."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from web.server.listen import CannotListen, PortTaken, _error_of, bind
from workers.settings import load


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def names(opened: ExitStack, host: str, port: int = 0) -> list[str]:
    """The addresses bound, which all have the same port."""
    sockets = [opened.enter_context(each) for each in bind(host, port)]
    assert len({each.getsockname()[1] for each in sockets}) == 1
    return sorted(each.getsockname()[0] for each in sockets)


@needs_ipv6
def test_without_a_host_every_address_of_both_versions_is_bound(opened: ExitStack) -> None:
    assert names(opened, "") == ["0.0.0.0", "::"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", pytest.param("::1", marks=needs_ipv6)])
def test_a_host_is_bound_alone(opened: ExitStack, host: str) -> None:
    assert names(opened, host) == [host]


def test_a_name_is_bound_to_what_it_stands_for(opened: ExitStack) -> None:
    assert "127.0.0.1" in names(opened, "localhost")


@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_taken_port_is_named_and_nothing_stays_bound(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"^port {port} is taken: .* --port or PORT$"):
            bind(host, port)
    bind("127.0.0.1", port)[0].close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 300, "1.2.3.4.5"])
def test_a_host_that_is_not_ours_is_refused_and_not_repeated(host: str) -> None:
    with pytest.raises(CannotListen) as refused:
        bind(host, 0)
    assert str(refused.value) == "HOST: should be an address of this machine, or a name of one"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EACCES, "port 80 is not for ordinary users: choose one above 1023 with --port or PORT"),
        (errno.ENOBUFS, f"port 80 cannot be listened on: {os.strerror(errno.ENOBUFS)}"),
    ],
)
def test_other_reasons_are_told_in_their_own_words(number: int, line: str) -> None:
    assert str(_error_of(OSError(number, os.strerror(number)), 80)) == line


@pytest.mark.parametrize(
    ("environment", "host", "url"),
    [
        ({}, "127.0.0.1", "http://127.0.0.1:8000"),
        ({"PORT": ""}, "127.0.0.1", "http://127.0.0.1:8000"),
        ({"PORT": "5000"}, "", "http://127.0.0.1:5000"),
        ({"PORT": "5000", "HOST": "127.0.0.1"}, "127.0.0.1", "http://127.0.0.1:5000"),
        ({"HOST": "0.0.0.0"}, "0.0.0.0", "http://127.0.0.1:8000"),
        ({"HOST": "::", "PORT": "5000"}, "::", "http://[::1]:5000"),
        ({"HOST": "fd00::7"}, "fd00::7", "http://[fd00::7]:8000"),
    ],
)
def test_only_who_sets_a_port_for_a_router_is_listened_to_from_outside(
    environment: dict[str, str], host: str, url: str
) -> None:
    settings = load(environment)
    assert (settings.web_host, settings.web_url) == (host, url)
