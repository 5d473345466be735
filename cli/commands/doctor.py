"""`viral doctor`"""

import typer
from rich.text import Text

from cli.commands.schedules import calendar
from cli.configuration import resolve
from cli.output import AsJson, console, print_json
from workers.ops.doctor import examine
from workers.runtime import logs

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def doctor(as_json: AsJson = False) -> None:
    """Check what can be checked, and say what to do about it.

    Fails if something is broken; what only wants attention is a warning.
    Settings, keys, ffmpeg, fonts and MEDIA_DIR are those of this shell, which may differ from the workers'.
    """
    settings, _ = resolve()
    logs.configure("console", "ERROR")  # a finding says what would be logged
    findings = examine(settings, calendar())
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            console().print(Text.assemble(MARKS[finding["state"]], f"  {finding['check']}: {finding['says']}"))
    if any(finding["state"] == "fail" for finding in findings):
        raise typer.Exit(1)
