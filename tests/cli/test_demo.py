"""`viral dev demo`: a whole world on the operator's page, that breaks nothing but what it breaks on purpose, and that
leaves nothing behind."""

import json
import os
import re
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen, run
from sys import executable

import pytest

from cli.own_system import INTERRUPTED
from simulators.demo.past import ON_PURPOSE
from tests.cli.shell import PYTHONPATH, a_process
from tests.cli.test_loop import OTHERS, of_this
from tests.wait import until

PAGES = ("", "/jobs", "/failures", "/events", "/tenants", "/posts", "/workers", "/schedules", "/changes", "/queues")
EMPTY = {"/posts": 1}
"""Lists that have nothing: no autopilot is on."""
WITHIN = 280.0
"""Seconds: it is for machines that others use, too. Alone on two cores it is a sixth of that."""


@dataclass(frozen=True)
class Running:
    process: Popen[str]
    output: Path
    home: Path
    url: str
    token: str

    def page(self, path: str, **headers: str) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.read().decode())


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    """A demo that is ready, in an environment that leads to what is somebody's own."""
    folder = Path(tempfile.mkdtemp(prefix="demo-test-"))
    folder.chmod(0o711)
    output = folder / "out"
    with output.open("w") as out:
        process = a_process(
            {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"} | OTHERS, "dev", "demo", "--seed", "7", stdout=out
        )
    try:
        until(
            lambda: "demo: ready" in output.read_text() or process.poll() is not None, "it to be ready", seconds=WITHIN
        )
        says = output.read_text()
        found = [
            re.search(pattern, says) for pattern in (r"VIRAL_HOME=(\S+?);", r"demo: ready (\S+)", r"(viralops_\w+)")
        ]
        assert all(found), says
        home, url, token = (match[1] for match in found if match)
        yield Running(process, output, Path(home), url, token)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == INTERRUPTED
    finally:
        process.kill()
        process.wait()
    assert of_this(folder) == []
    output.unlink()
    folder.rmdir()  # nothing else is left


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_every_page_is_full_and_says_that_it_is_simulated(demo: Running) -> None:
    for path in PAGES:
        text = demo.page(path)
        assert "Simulated data" in text, path
        assert text.count('class="nothing"') == EMPTY.get(path, 0), path
    start = demo.page("?window=30d")
    assert all(word in start for word in ("Tenants that pay", "Money", "Outside effects", "needs its owner"))
    assert len(set(re.findall(r"/ops/tenants/[0-9a-f-]{36}", demo.page("/tenants")))) >= 30
    assert re.search(r"<code>|viral reflexion", demo.page("/learning"))


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_people_are_notified_of_what_hurts(demo: Running) -> None:
    until(lambda: "people are notified: " in demo.output.read_text(), "somebody to be notified", seconds=WITHIN)
    assert "1 json" in demo.page("/notices")


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_a_visitor_may_look_without_a_token_and_has_one_to_act(demo: Running) -> None:
    assert "sign in" in demo.page("")
    demo.page("", Authorization=f"Bearer {demo.token}")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        demo.page("", Authorization=f"Bearer {demo.token[:-1]}0")


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_the_doctor_finds_nothing_but_what_is_there_on_purpose(demo: Running) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"VIRAL_HOME": str(demo.home), "PYTHONPATH": PYTHONPATH}
    command = [executable, "-m", "cli.main", "doctor", "--json"]
    answer = run(command, env=environment, stdout=PIPE, text=True, timeout=120, check=False)
    found = {each["check"]: each["state"] for each in json.loads(answer.stdout)}
    assert [check for check, state in found.items() if state == "fail"] == []
    assert all(found[check] == "warn" for check in ON_PURPOSE)
    assert found["what a tenant has used is what the ledger says"] == "ok"
    assert found["a stored event has its job"] == "ok"
