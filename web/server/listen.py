"""The sockets of the web server, bound before anything is started, so that an error is one line and not a traceback."""

import errno
import socket

from domain.errors import ViralError

NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
NOT_OURS = "HOST: should be an address of this machine, or a name of one"

RECEIVE_BUFFER = 64 * 1024
"""Bytes that a connection may receive before they are read; the kernel's own choice goes up to megabytes."""


class CannotListen(ViralError):
    """The web server gets no socket; the text says why, and what to do about it."""


class PortTaken(CannotListen):
    """Another process listens there already."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for each address of `host`; without a host, for every address of this machine.

    That takes one of IPv4 and one of IPv6, as far as the machine has both. A single socket for both would show a caller
    over IPv4 (a router, say) under an IPv6 address that nobody has listed as a proxy's.

    Raises:
        PortTaken: another process listens on that port.
        CannotListen: the host is not ours, or the port not for us.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise CannotListen(NOT_OURS) from None
    bound: list[socket.socket] = []
    for family, _, _, _, (name, _, *scope) in dict.fromkeys(found):
        try:
            bound.append(_bind(family, (name, port, *scope)))
        except OSError as error:
            if error.errno in NO_SUCH_ADDRESS:
                continue
            for each in bound:
                each.close()
            raise _error_of(error, port) from None
        port = bound[0].getsockname()[1]  # where any port will do, all addresses have the same
    if not bound:
        raise CannotListen(NOT_OURS)
    return bound


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    """Bind a socket that does not listen yet: no caller waits for a server that is still starting."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _error_of(error: OSError, port: int) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(f"port {port} is taken: stop what listens there, or choose another with --port or PORT")
    if error.errno == errno.EACCES:
        return CannotListen(f"port {port} is not for ordinary users: choose one above 1023 with --port or PORT")
    return CannotListen(f"port {port} cannot be listened on: {error.strerror}")
