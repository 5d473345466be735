"""The parent of the worker processes: however they end, it ends with them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def parent_of(work: str, tmp_path: Path, *, patience: int = 60) -> "subprocess.Popen[str]":
    """A parent of two processes, which leads a group. What they say comes in lines of pid and word."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.workers.parents", work, str(patience)],
        cwd=ROOT,
        env=os.environ | {"FIRST": str(tmp_path / "first")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def await_works(parent: "subprocess.Popen[str]") -> None:
    assert parent.stdout is not None
    assert [parent.stdout.readline().split()[1] for _ in range(2)] == ["works", "works"]


def output_of(parent: "subprocess.Popen[str]") -> tuple[list[str], str]:
    """What the processes have said by the time that all of them are gone, and what standard error has."""
    output, errors = parent.communicate(timeout=90)
    return [line.split()[1] for line in output.splitlines()], errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_to_stop_are_passed_on_and_come_as_often_as_they_like(tmp_path: Path, number: signal.Signals) -> None:
    parent = parent_of("work_until_asked", tmp_path)
    await_works(parent)
    os.kill(parent.pid, number)
    for _ in range(3):
        os.killpg(parent.pid, number)
    assert output_of(parent) == (["asked", "asked"], "")
    assert parent.returncode == 0


def test_a_process_killed_in_its_first_moment_ends_the_others_and_the_parent(tmp_path: Path) -> None:
    """Dramatiq's own parent waits for ever for one that held the lock by which it reports its boot."""
    parent = parent_of("be_killed_if_first", tmp_path)
    _, errors = output_of(parent)
    assert errors.endswith("was killed by SIGKILL\n")
    assert parent.returncode == 1


def test_processes_that_cannot_work_end_the_parent(tmp_path: Path) -> None:
    parent = parent_of("fail", tmp_path)
    _, errors = output_of(parent)
    assert "RuntimeError: it cannot work" in errors
    assert "ended with exit code 1\n" in errors
    assert parent.returncode == 1


def test_processes_that_do_not_stop_are_killed_when_patience_ends(tmp_path: Path) -> None:
    parent = parent_of("never_stop", tmp_path, patience=1)
    await_works(parent)
    parent.terminate()
    _, errors = output_of(parent)
    assert errors.count("was killed by SIGKILL\n") == 2
    assert parent.returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_processes_whose_parent_is_killed_stop_too(tmp_path: Path) -> None:
    parent = parent_of("work_until_asked", tmp_path)
    await_works(parent)
    parent.kill()
    assert output_of(parent) == (["asked", "asked"], "")
