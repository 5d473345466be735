"""Secrets are planted everywhere (`tests/secret_stage.py`) and found nowhere: in no log line of either format, span,
report of an error, metric, page of `/ops`, error answer of the API or output of a command; and in no column of the
database but those that keep what others sent.
"""

import io
from pathlib import Path

import pytest

from simulators.loopback import Loopback
from tests.cli.shell import Shell
from tests.flows.test_forgetting import found
from tests.flows.test_traces import Receiver
from tests.secret_stage import a_world, ask, ask_outside, commands, echo, fail, receiving, secret_fields
from workers.app import build
from workers.ops.changes import start_note
from workers.runtime import logs
from workers.runtime.sentry import open_errors
from workers.settings import Settings, load

OTHERS_WROTE = {
    *("job_queue.payload", "job_queue.result", "job_steps.result", "webhook_events.payload", "webhook_events.body"),
    *("api_keys.name", "tenants.name"),
}
"""Columns that keep whatever others send, and what jobs make of it: their readers mask them."""

SENT = {"stripe_secret_key", "clerk_secret_key", "anthropic_api_key", "gemini_api_key", "gnews_api_key"}
SENT |= {"luma_agents_api_key", "runwayml_api_secret", "youtube_api_key", "credential", "refreshtoken", "oauthcode"}
"""Those that the outside was sent, and so repeated."""


# It takes its time: it does what all other tests of the shell, the API and the outside do, and imports every SDK.
@pytest.mark.proof
def test_no_secret_is_seen(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver, reported, stream = Receiver(), list[bytes](), io.StringIO()
    with Loopback(echo) as outside, receiving(reported) as sentry:
        world = a_world(settings, outside.url, receiver.url, sentry, tmp_path)
        viral = Shell(world.environment, monkeypatch, capsys)
        app = build(load(world.environment), name="tests")
        reports = open_errors(app.settings.sentry_dsn.get_secret_value(), "worker")
        assert reports is not None
        note = start_note(app, "web")
        logs.configure("json", "DEBUG", stream, report=reports.report)
        try:
            note.start()
            ask_outside(app, world)
            job_ids = fail(app, world)
            ask(app, world)
            logs.configure("console", "DEBUG", stream, report=reports.report)
            fail(app, world)
        finally:
            logs.configure("console", "WARNING")
            note.stop()
            reports.close()
            app.close()
        sent = " ".join(f"{each.headers} {each.query} {each.body!r}" for each in outside.requests)
        assert {name for name, secret in world.secrets.items() if secret in sent} >= SENT
        world.see("log", stream.getvalue())
        for name, result in commands(viral, job_ids, ["evt_1"]):
            assert result.code in (0, 1), (name, result.err)
            world.see(f"viral {name}", result.out + result.err)
    receiver.close()
    assert len(receiver.spans) > 20
    assert reported
    world.see("spans", str(receiver.spans))
    world.see("reports of errors", b"".join(reported).decode())
    assert world.leaks() == []
    assert world.secrets.keys() > secret_fields()
    assert found(app, tuple(secret.lower() for secret in world.secrets.values())) <= OTHERS_WROTE
