"""Connections of the application to a database of the test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from db.postgres.connection import AppConnection
from tests.conftest import connection_to

Connection = AppConnection
Connect = Callable[[], Connection]


@pytest.fixture
def connect(database_url: str) -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(connection_to(database_url))


@pytest.fixture
def connection(connect: Connect) -> Connection:
    return connect()
