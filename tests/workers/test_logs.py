"""One line per fact, for people or for machines."""

import io
import json
import logging

import pytest
import structlog

from workers import logs


@pytest.fixture(autouse=True)
def _restore() -> object:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def test_json_is_one_object_a_line_with_the_bound_fields() -> None:
    out = io.StringIO()
    logs.configure("json", "INFO", out)
    with structlog.contextvars.bound_contextvars(job_id="j1"):
        structlog.get_logger().info("quota.reset", given_back=9)
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["job_id"], line["given_back"]) == ("quota.reset", "info", "j1", 9)
    assert line["timestamp"].endswith("Z")


def test_an_exception_stays_on_its_line() -> None:
    out = io.StringIO()
    logs.configure("json", "INFO", out)
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        structlog.get_logger().exception("job.failed")
    [line] = out.getvalue().splitlines()
    assert "RuntimeError: broken" in json.loads(line)["exception"]


def test_libraries_speak_through_the_same_renderer_and_are_heard_from_warnings_on() -> None:
    out = io.StringIO()
    logs.configure("json", "INFO", out)
    logging.getLogger("dramatiq").info("chatter")
    logging.getLogger("dramatiq").warning("trouble")
    [line] = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "trouble"


def test_below_the_level_nothing_is_said() -> None:
    out = io.StringIO()
    logs.configure("console", "WARNING", out)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud", reason="because")
    assert "quiet" not in out.getvalue()
    assert "loud" in out.getvalue()
    assert "because" in out.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_variables(log_format: str) -> None:
    out = io.StringIO()
    logs.configure(log_format, "INFO", out)
    secret = "whsec_" + "sekret"
    try:
        raise RuntimeError(len(secret))
    except RuntimeError:
        structlog.get_logger().exception("door.failed")
        logging.getLogger("uvicorn.error").exception("door.failed")
    assert out.getvalue().count("RuntimeError: 12") == 2
    assert "whsec_sekret" not in out.getvalue()
