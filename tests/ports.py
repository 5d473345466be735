"""Ports of this machine: ones that nobody answers at, and ones for servers that bind theirs themselves."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOOPBACK = "127.0.0.1"


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port that refuses every connection: it is taken meanwhile, so nobody else begins to answer there."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]


def free_ports(count: int) -> list[int]:
    """Return so many ports, each another one. Free now is not free later: be ready to ask again."""
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in bound]
