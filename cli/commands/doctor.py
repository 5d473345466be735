"""`viral doctor`"""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from cli.commands.schedules import calendar
from cli.configuration import resolve
from cli.output import AsJson, console, print_json, progress
from workers.ops.doctor import Finding, examine
from workers.runtime import logs
from workers.settings import SettingsInvalid

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red"), "skipped": ("skip", "dim")}
Strict = Annotated[bool, typer.Option("--strict", help="Warnings fail too.")]


def doctor(as_json: AsJson = False, strict: Strict = False) -> None:
    """Check what can be checked, and say what to do about it.

    Exit code 0: nothing is broken; 1: something is; with --strict also if something only wants attention; 2: wrong use.
    Settings, keys, ffmpeg, fonts and MEDIA_DIR are those of this shell, which may differ from the workers'.
    It writes nothing that stays, and never hangs. docs/doctor.md has every check by its name.

    \b
    viral doctor --json
    """
    logs.configure("console", "ERROR")  # a finding says what would be logged
    try:
        settings, _ = resolve()
        with progress("doctor", as_json=as_json) as step:
            findings = examine(settings, calendar(), watch=lambda name: step(what=name))
    except SettingsInvalid as error:
        if not as_json:
            raise
        findings = [{"check": "settings", "state": "fail", "says": "; ".join(error.faults)}]
    if as_json:
        print_json(findings)
    else:
        _show(findings)
    states = {finding["state"] for finding in findings}
    if "fail" in states or (strict and states & {"warn", "skipped"}):
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    """Print a line a finding, and one for all that were skipped."""
    skipped = [finding for finding in findings if finding["state"] == "skipped"]
    for finding in findings:
        if finding["state"] != "skipped":
            console().print(Text.assemble(MARKS[finding["state"]], f"  {finding['check']}: {finding['says']}"))
    if skipped:
        checks = "1 check" if len(skipped) == 1 else f"{len(skipped)} checks"
        console().print(Text.assemble(MARKS["skipped"], f"  {checks}: {skipped[0]['says']}"))
