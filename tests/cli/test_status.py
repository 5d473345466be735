"""`viral status`: the first look, as `/ops` has it."""

from html import unescape

from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.cli.shell import Shell
from tests.web.ops.hurting import make_it_hurt
from web.ops.app import ops_routes
from workers.app import App


def test_the_shell_says_the_same_as_the_page(app: App, viral: Shell) -> None:
    make_it_hurt(app)
    printed = viral.json("status")
    says = [harm["says"] for harm in printed["harms"]]
    assert len(says) > 10
    application = Starlette(routes=ops_routes(app))
    with TestClient(application, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)) as client:
        page = unescape(client.get("/ops").text)
    assert [text for text in says + [doubt["says"] for doubt in printed["doubts"]] if text not in page] == []
    lines = viral.done("status").lines
    assert lines.index("Tenants that pay:") < lines.index("Money:") < lines.index("Outside effects:")
    assert "    viral posts list --status unconfirmed" in lines
    assert [line for line in lines if line.startswith("render ")]


def test_nothing_hurts_a_new_installation(viral: Shell) -> None:
    assert "Nothing hurts." in viral.done("status").lines
