"""One line per fact, for people or for machines."""

import io
import json
import logging

import pytest
import structlog
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unseen import UNSEEN, unseen
from workers.runtime import logs


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
        structlog.get_logger().exception("web.failed")
        logging.getLogger("uvicorn.error").exception("web.failed")
    assert out.getvalue().count("RuntimeError: 12") == 2
    assert "whsec_sekret" not in out.getvalue()


class Odd(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __repr__(self) -> str:
        return f"<{self.text}>"


def written_of(log_format: str, text: str) -> str:
    """All that a log says of a text that is in every place that a text can have in it."""
    out = io.StringIO()
    logs.configure(log_format, "INFO", out)
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(**{f"bound {text}": text}):
        log.warning(
            f"event {text}",
            **{f"name {text}": text},
            nested={text: [text]},
            odd=Odd(text),
            raw=text.encode(errors="surrogatepass"),
        )
        logging.getLogger("library").warning("event %s", text, extra={"more": text})
        for number in range(2):  # the second traceback of a second is one line
            try:
                raise Odd(text) from ValueError(text)
            except Odd:
                log.exception(f"broken {text}", number=number)
                logging.getLogger("library").exception("broken %s", text)
    return out.getvalue()


@pytest.mark.parametrize("log_format", ["console", "json"])
@settings(max_examples=40)
@given(st.text(st.characters(codec="utf-8") | st.sampled_from(UNSEEN)))
@example("\ud800")  # half a character, which no encoding writes
def test_no_line_of_a_log_is_obeyed_by_a_terminal(log_format: str, text: str) -> None:
    written = written_of(log_format, text)
    assert unseen(written) == set()
    if log_format == "json":
        lines = [json.loads(line) for line in written.splitlines()]
        assert len(lines) == 6
        assert (lines[0]["event"], lines[0][f"name {text}"], lines[1]["event"]) == (
            f"event {text}",
            text,
            f"event {text}",
        )


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_event_cannot_forge_a_second_line(log_format: str) -> None:
    out = io.StringIO()
    logs.configure(log_format, "INFO", out)
    forged = "x\n2026-11-27T12:00:00Z [info     ] job.completed"
    structlog.get_logger().warning(forged, **{forged: forged}, error=ValueError(forged))
    logging.getLogger("library").warning(forged)
    assert len(out.getvalue().splitlines()) == 2


class Written:
    """Lines of a log whose clock stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._seldom = logs.Seldom(lambda: self.now)

    def line(self, event: str, **fields: object) -> dict[str, object] | None:
        try:
            written: dict[str, object] = self._seldom(None, "warning", {"event": event, **fields})
        except structlog.DropEvent:
            return None
        return written


def test_trouble_with_every_request_is_written_at_once_and_then_seldom() -> None:
    log = Written()
    written = []
    for _ in range(400):
        if (line := log.line("ingest.away", seldom=True)) is not None:
            written.append((log.now - 1000, line.get("suppressed", 0)))
        log.now += 0.25
    assert written == [(0, 0), (1, 3), (3, 7), (7, 15), (15, 31), (31, 63), (63, 127)]
    log.now += 150
    assert log.line("ingest.away", seldom=True) == {"event": "ingest.away", "suppressed": 147}, "a new outage"
    log.now += 1
    assert log.line("ingest.away", seldom=True) == {"event": "ingest.away"}


def test_kinds_of_trouble_do_not_hide_each_other_and_facts_are_all_told() -> None:
    log = Written()
    assert [bool(log.line(event, seldom=True)) for event in ("a", "b", "a", "b")] == [True, True, False, False]
    assert all(log.line("job.failed", job_id=n) == {"event": "job.failed", "job_id": n} for n in range(100))


def test_a_traceback_is_written_once_a_second_of_each_kind() -> None:
    log = Written()
    first = log.line("job.failed", exc_info=KeyError("a"), job_id=1)
    assert first is not None
    assert "exc_info" in first
    assert log.line("job.failed", exc_info=KeyError("b"), job_id=2) == {
        "event": "job.failed",
        "job_id": 2,
        "error": "KeyError: '…'",
    }
    other = log.line("job.failed", exc_info=ValueError("c"))
    assert other is not None
    assert "exc_info" in other
    log.now += 1
    again = log.line("job.failed", exc_info=KeyError("d"))
    assert again is not None
    assert "exc_info" in again


def test_a_thousand_tracebacks_of_libraries_are_one() -> None:
    out = io.StringIO()
    logs.configure("console", "INFO", out)
    for n in range(1000):
        try:
            raise RuntimeError(f"broken {n}")
        except RuntimeError:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
            structlog.get_logger().exception("webhook.failed")
    assert 2 <= out.getvalue().count("Traceback") <= 20
    assert out.getvalue().count("Exception in ASGI application") == 1000
