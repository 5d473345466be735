"""The doctor's look at what draws videos on this machine: ffmpeg, ffprobe and fonts.

Whoever only serves the API, or jobs of other queues, can do without them. So what is missing is a failure where a
worker of this machine serves the queue `render`, and a warning elsewhere.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Literal

from db.transaction import Tx
from domain.videos.media import StudioUnavailable
from workers.app import App
from workers.settings import Settings

QUEUE = "render"

SCRIPTS: Mapping[str, str] = {
    "Latin": "AzßñőĐạ",
    "Greek": "Ωάς",
    "Cyrillic": "ЖяЇћ",
    "Japanese": "あア漢",
    "Chinese": "汉語們",
    "Korean": "한글",
}
"""The scripts that the fonts of the extra `studio` have, with some of their letters."""
OTHERS: Mapping[str, str] = {
    "Arabic": "عم",
    "Hebrew": "אש",
    "Devanagari": "कि",
    "Thai": "กา",
    "emoji": "😀🔥",
}
"""Scripts that take a font of one's own."""

GET_FONTS = (
    "`pip install font-source-sans-pro noto-cjk-sans-jp-bold`, or put fonts into a folder and name it in FONTS_DIR"
)
Verdict = tuple[str, str]


def check_program(name: Literal["ffmpeg", "ffprobe"], app: App, tx: Tx) -> Verdict:
    """Say which program it is and whether it can do what we need."""
    from integrations.studio.ffmpeg import GET_IT, find  # noqa: PLC0415 - not needed by those who only want the others

    settings = app.settings
    try:
        found = find(name, settings.ffmpeg_bin if name == "ffmpeg" else settings.ffprobe_bin)
    except StudioUnavailable as error:
        return _missing(str(error), tx)
    says = f"version {found.version} at {found.path} (by {found.found_by})"
    if found.lacks:
        return _missing(f"{says} cannot write {' and '.join(found.lacks)}: {GET_IT}", tx)
    return "ok", f"{says} writes H.264 and AAC" if name == "ffmpeg" else says


def check_fonts(app: App, tx: Tx) -> Verdict:
    """Say which scripts can be written; what no font has is left out of videos."""
    has = _covered(app.settings)
    if has is None:
        from integrations.studio.fonts import NO_FONTS  # noqa: PLC0415

        return _missing(NO_FONTS, tx)
    there = f"there is {', '.join(name for name in (*SCRIPTS, *OTHERS) if has(name))}"
    lacking = [name for name in SCRIPTS if not has(name)]
    others = [name for name in OTHERS if not has(name)]
    left_out = (
        f"none has {', '.join(lacking + others)}, whose letters are left out of videos" if lacking + others else ""
    )
    says = "; ".join(part for part in (there, left_out) if part)
    if lacking:
        return "warn", f"{says}: {GET_FONTS}"
    return "ok", f"{says} (FONTS_DIR can add them)" if others else says


def _covered(settings: Settings) -> Callable[[str], bool] | None:
    """Return whether a script can be written; None if there is no font at all."""
    from integrations.studio.fonts import FontLibrary  # noqa: PLC0415 - it reads fonts with Pillow and fontTools

    library = FontLibrary(settings.fonts_dir)
    if not library.faces():
        return None
    letters = {**SCRIPTS, **OTHERS}
    return lambda name: all(library.face(letter, 400) for letter in letters[name])


def _missing(what: str, tx: Tx) -> Verdict:
    serving = [row for row in tx.workers.all() if row["alive"] and QUEUE in row["queues"]]
    if any(row["hostname"] == socket.gethostname() for row in serving):
        return "fail", f"a worker here serves the queue `{QUEUE}`, and cannot draw: {what}"
    if serving:
        return "warn", f"videos are drawn by workers on other machines, which need it; here {what}"
    return "warn", f"no video can be drawn or checked here: {what}"
