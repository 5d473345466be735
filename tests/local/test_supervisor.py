"""The supervisor runs as a process of its own here, with real children, and is judged by what it says and leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import cli
from local.spawn import until
from local.supervisor import Child, Supervisor

PYTHONPATH = os.pathsep.join([str(Path(cli.__file__).parents[1]), *sys.path])
HARNESS = """
import json, os, sys, threading
from pathlib import Path
from local.supervisor import Child, Supervisor

order = json.loads(sys.argv[1])
folder = Path(order["folder"])
children = [
    Child(name, argv if isinstance(argv, list) else [sys.executable, "-c", argv], dict(os.environ), order["grace"])
    for name, argv in order["children"].items()
]
supervisor = Supervisor(
    children,
    on_children=lambda now: (folder / "children").write_text(json.dumps({child.name: child.pid for child in now})),
    on_exit=lambda: ["tended"],
    ready=lambda: (folder / "ready").exists() or not order["wait"],
    **order["options"],
)


def started():
    print("STARTED", flush=True)
    if order["stops"]:
        threading.Thread(target=supervisor.stop).start()


sys.exit(supervisor.run(started))
"""
TRAP = "import signal, sys, time; from pathlib import Path\n"
POLITE = TRAP + "signal.signal(15, lambda *_: sys.exit('goodbye')); print('here', flush=True); signal.pause()"
STUBBORN = TRAP + "signal.signal(15, signal.SIG_IGN); print('here', flush=True)\nwhile True: signal.pause()"
FRAGILE = "import sys; print('here'); sys.exit(3)"


class Run:
    """One supervisor and everything it starts, recognisable by a mark in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.out = folder / "out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        children: dict[str, str | list[str]],
        *,
        grace: float = 20.0,
        wait: bool = False,
        stops: bool = False,
        stdout: Any = None,
        **options: float,
    ) -> Run:
        order = {"children": children, "grace": grace, "wait": wait, "folder": str(self.folder)}
        order |= {"options": options, "stops": stops}
        with self.out.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HARNESS, json.dumps(order)],
                stdout=file if stdout is None else stdout,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": PYTHONPATH, "MARK": self.mark, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        return self

    @property
    def text(self) -> str:
        return self.out.read_text()

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "children").read_text())
        return found

    def says(self, text: str, times: int = 1) -> None:
        assert until(lambda: self.text.count(text) >= times, 60), f"never said {text!r}:\n{self.text}"

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ends(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def marked(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if is_marked(process, self.mark)]


def is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Whatever a test does, no process of it may be left at its end."""
    it = Run(tmp_path)
    yield it
    if it.process is not None and it.process.poll() is None:
        it.process.kill()
        it.process.wait()
    left = [] if until(lambda: not it.marked(), 30) else it.marked()
    for process in left:
        process.kill()
    assert left == []


def test_another_thread_may_end_it(run: Run) -> None:
    run.start({"web": POLITE, "scheduler": POLITE}, stops=True)
    assert run.ends() == 0
    assert "STARTED" in run.text


def test_every_line_says_who_said_it_and_is_plain_in_a_file(run: Run) -> None:
    run.start({"web": POLITE, "scheduler": POLITE})
    run.says("here", times=2)
    run.send(signal.SIGTERM)
    assert run.ends() == 0
    assert "web       | here\n" in run.text
    assert "scheduler | here\n" in run.text
    assert "\x1b" not in run.text


def test_lines_come_whole_however_they_were_written(run: Run) -> None:
    pieces = (
        "import os; os.write(1, b'a'); os.write(1, b'b\\r\\n'); os.write(2, b'\\xff bad utf-8\\nno end'); import time"
    )
    run.start({"web": f"{pieces}; time.sleep(1000)"})
    run.says("bad utf-8")
    run.send(signal.SIGTERM)
    run.ends()
    assert "web   | ab\n" in run.text
    assert "web   | � bad utf-8\n" in run.text
    assert "web   | no end\n" in run.text


def test_a_terminal_gets_colours(run: Run) -> None:
    terminal, theirs = pty.openpty()
    run.start({"web": POLITE}, stdout=theirs)
    os.close(theirs)
    seen = b""
    while b"here" not in seen:
        seen += os.read(terminal, 4096)
    run.send(signal.SIGTERM)
    run.ends()
    os.close(terminal)
    assert re.search(rb"\x1b\[\d+mweb   \|\x1b\[0m here", seen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_children_stop_one_after_the_other_the_last_one_first(run: Run, number: signal.Signals) -> None:
    run.start({"web": POLITE, "worker": POLITE, "scheduler": POLITE})
    run.says("here", times=3)
    run.send(number)
    assert run.ends() == 0
    goodbyes = [line.split()[0] for line in run.text.splitlines() if line.endswith("goodbye")]
    assert goodbyes == ["scheduler", "worker", "web"]


def test_a_child_has_a_session_of_its_own_so_that_ctrl_c_passes_it_by(run: Run) -> None:
    run.start({"web": POLITE})
    run.says("here")
    assert os.getsid(run.pids["web"]) == run.pids["web"]
    run.send(signal.SIGTERM)
    run.ends()


def test_further_signals_do_not_turn_a_drain_into_a_kill(run: Run, tmp_path: Path) -> None:
    drain = (
        TRAP
        + f"""
def stop(*_):
    print('draining', flush=True)
    while not Path({str(tmp_path / "done")!r}).exists(): time.sleep(0.01)
    sys.exit('drained')
signal.signal(15, stop); print('here', flush=True); signal.pause()"""
    )
    run.start({"worker": drain})
    run.says("here")
    run.send(signal.SIGINT)
    run.says("draining")
    for times in (1, 2, 3):
        run.send(signal.SIGINT)
        run.says("still stopping worker", times=times)
    (tmp_path / "done").touch()
    assert run.ends() == 0
    assert "worker | drained" in run.text
    assert "killed" not in run.text


def test_a_child_that_does_not_stop_is_killed_with_all_it_started(run: Run) -> None:
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])\n" + STUBBORN
    run.start({"worker": parent}, grace=0.3)
    run.says("here", times=2)
    assert len(run.marked()) == 3
    run.send(signal.SIGTERM)
    assert run.ends() == 0
    assert "worker did not stop in time and is killed" in run.text
    assert run.marked() == []


def test_after_the_longest_grace_another_signal_kills_at_once(run: Run) -> None:
    run.start({"a": STUBBORN, "b": STUBBORN, "c": STUBBORN}, grace=3.0)
    run.says("here", times=3)
    run.send(signal.SIGINT)
    run.says("c did not stop in time")
    run.says("stopping b")
    run.send(signal.SIGINT)
    assert run.ends() == 0
    assert "stopping a" not in run.text


def test_a_child_that_dies_is_started_again_without_what_it_had_started(run: Run) -> None:
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])\n" + POLITE
    run.start({"web": POLITE, "worker": parent}, backoff=0.05)
    run.says("here", times=3)
    web, worker = run.pids["web"], run.pids["worker"]
    os.kill(worker, signal.SIGKILL)
    run.says("worker was killed by SIGKILL after")
    run.says("starting it again in 0.05 s.")
    run.says("here", times=5)
    assert run.pids["web"] == web
    assert run.pids["worker"] != worker
    assert len(run.marked()) == 4
    run.send(signal.SIGTERM)
    assert run.ends() == 0


def test_it_gives_up_on_a_child_that_keeps_dying_and_stops_the_others(run: Run) -> None:
    run.start({"web": POLITE, "worker": FRAGILE}, backoff=0.01, give_up_after=3)
    assert run.ends() == 1
    assert run.text.count("worker | here") == 3
    assert "worker ended with status 3, 3 times in a row within 10 s of its start; stopping." in run.text
    waits = re.findall(r"again in (\S+) s\.", run.text)
    assert waits == ["0.01", "0.02"]


def test_a_child_that_lived_long_enough_starts_with_a_clean_slate(run: Run) -> None:
    run.start({"worker": FRAGILE}, backoff=0.01, quick=0.0, give_up_after=2)
    run.says("starting it again in 0.01 s.", times=4)
    run.send(signal.SIGTERM)
    assert run.ends() == 0


def test_a_command_that_is_not_there_ends_the_run(run: Run) -> None:
    run.start({"web": POLITE, "worker": ["/no/such/program"]})
    assert run.ends() == 1
    assert "worker cannot be started" in run.text
    assert "/no/such/program" in run.text


def test_that_all_is_up_is_told_when_it_is_ready(run: Run, tmp_path: Path) -> None:
    run.start({"web": POLITE}, wait=True)
    run.says("here")
    assert "STARTED" not in run.text
    (tmp_path / "ready").touch()
    run.says("STARTED")
    run.send(signal.SIGTERM)
    run.ends()
    assert run.text.count("STARTED") == 1


def test_when_a_child_ends_its_owner_may_tend_to_the_servers(run: Run) -> None:
    run.start({"web": POLITE}, backoff=0.01)
    run.says("here")
    os.kill(run.pids["web"], signal.SIGKILL)
    run.says("viral | tended")
    run.send(signal.SIGTERM)
    run.ends()


def test_when_the_reader_of_the_log_goes_away_it_stops(run: Run) -> None:
    chatty = "import time\nwhile True: print('line', flush=True); time.sleep(0.01)"
    reading, writing = os.pipe()
    run.start({"web": chatty}, stdout=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    run.ends()
    assert run.marked() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_killed_itself_it_leaves_no_child(run: Run) -> None:
    run.start({"web": POLITE, "worker": POLITE})
    run.says("here", times=2)
    run.send(signal.SIGKILL)
    run.ends()
    assert until(lambda: not run.marked(), 60)


def test_signals_belong_to_the_caller_again_afterwards(run: Run) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    gone = Child("gone", [sys.executable, "-c", "pass"], {"MARK": run.mark})
    with open(os.devnull, "w") as out:
        assert Supervisor([gone], out=out, give_up_after=1).run() == 1
    assert [signal.getsignal(number) for number in numbers] == before
