"""The operator's page of an application on real servers, asked without a socket."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cli.commands.schedules import calendar
from web.ops.app import ops_routes
from workers.app import App


@pytest.fixture
def ops(app: App) -> Iterator[TestClient]:
    """Asked from this machine, while no token is needed."""
    application = Starlette(routes=ops_routes(app, calendar=calendar()))
    with TestClient(application, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        yield client
