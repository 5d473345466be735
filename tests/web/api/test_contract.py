"""What the API says of itself is so: every route is called with what it allows, and with what it forbids."""

from dataclasses import replace

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from domain.identity.access import ApiScope
from integrations.vault import FernetVault
from tests.account_stage import KEY, PlayedPlatform
from tests.builders import a_tenant
from tests.web.api.test_api import NOW, a_key
from tests.web.api.test_generations import a_generation
from web.api.app import create_api
from web.main import http_error
from workers.app import App

EXAMPLES = 4
"""Of what is allowed, and as many of what is not, for each route."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.proof
def test_no_request_breaks_the_api_or_its_description(app: App) -> None:
    tenant_id = a_tenant(app)
    key = a_key(app, tenant_id, *sorted(set(ApiScope) - {ApiScope.BILLING_WRITE}))
    a_generation(app, tenant_id)
    bluesky = PlayedPlatform(lambda: NOW, passwords=True)
    app = replace(app, ports=replace(app.ports, vault=FernetVault([KEY]), logins={"bluesky": bluesky}, publishers={}))
    # A path with a line break reaches no mount, and so what stands around it.
    routes = [Mount("/api", create_api(app, sessions=None, clock=NOW.timestamp))]
    web = Starlette(routes=routes, exception_handlers={HTTPException: http_error})
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", web)
    called = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            def conforms(case: schemathesis.Case) -> None:
                case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)

            conforms()
        called.add(operation.label)
    assert len(called) >= 19
