"""`viral dev simulators`: what programs read, of a process of its own, and what people read."""

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.commands.dev import introduce, print_event
from simulators.outside import LABEL, outside
from tests.cli.shell import a_process
from tests.wait import until
from workers.adapters import platforms
from workers.settings import load


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.proof
def test_programs_read_a_line_for_all_that_happens_until_ctrl_c(tmp_path: Path) -> None:
    output, errors = tmp_path / "out", tmp_path / "err"
    with output.open("w") as out, errors.open("w") as err:
        run = a_process({}, "dev", "simulators", "--json", stdout=out, stderr=err, cwd=tmp_path)
    try:
        until(lambda: output.read_text().endswith("\n") or run.poll() is not None, "the simulators to be up")
        [started] = lines(output)
        assert (started["event"], started["simulated"], started["absent"]) == ("started", True, [])
        login = platforms.logins(load(started["settings"]))["bluesky"]
        ada, _ = started["accounts"]["bluesky"]
        grant = login.log_in(ada["name"], ada["password"], "")
        assert grant.external_id == ada["id"]
        request = {"event": "request", "of": "bluesky", "call": "createSession"}
        until(lambda: request in lines(output), "the request to be said")
        assert grant.access_token not in output.read_text()
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == 0
        assert errors.read_text() == ""
    finally:
        run.kill()
        run.wait()


def test_people_read_what_to_set_and_who_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with outside() as found:
        introduce(found)
    text = capsys.readouterr().out
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("export ")]
    settings = load(dict(word.split("=", 1) for _, word in words))
    assert settings.tiktok_base_url
    assert settings.meta_app_secret
    assert LABEL in text
    assert "ada.simulated.example (password app-password)" in text
    print_event({"event": "post", "of": "tiktok", "account": "ada", "text": "A\x1b[2J fox\nand more"})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert line[9:].startswith("tiktok           posted by ada: A")
