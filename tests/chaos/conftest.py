"""What the tests of fleets share."""

from collections.abc import Iterator

import pytest

from tests.chaos.fork_server import ForkServer


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Where dynos come from: to import everything takes a second of the processor, which each would take anew."""
    server = ForkServer(tmp_path_factory.mktemp("fork_server") / "log", "cli.main", "scheduler.main", "web.main")
    try:
        yield server
    finally:
        server.close()
