"""Drawing a storyboard in a process of its own, which takes neither the interpreter nor the memory of ours.

Pillow holds the interpreter for milliseconds at a time, and a crash of it is one of the whole process. `draw` is called
in a worker; `main` is the process that it starts, which has ffmpeg encode what it draws. They exchange JSON: what to
draw is in a file, how far it is comes in lines on standard error, and the outcome on standard output.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from domain.ports import Watch
from domain.videos.media import MediaUnusable, Probe, StudioUnavailable
from domain.videos.script import Script, ScriptSegment, ScriptUnusable
from integrations.studio import storyboards
from integrations.studio.ffmpeg import Program, run
from integrations.studio.fonts import FontLibrary, Typesetter
from integrations.studio.frames import Canvas

START = f"import sys; sys.path[:] = sys.argv[2:]; from {__name__} import main; main(sys.argv[1])"
"""It finds what it imports where this process does, from whatever folder that runs and however it was installed."""
GRACE = 1.0
"""Seconds to end ffmpeg and itself when it is asked to."""


def draw(
    ffmpeg: Program,
    script: Script,
    target: Path,
    *,
    clips: Mapping[int, tuple[Path, Probe]],
    fonts: Path | None,
    canvas: Canvas,
    watch: Watch,
) -> tuple[float, tuple[str, ...]]:
    """Draw the script; return a time at which its first slide is all there, and the characters that no font has.

    Raises:
        StudioUnavailable: the process or its ffmpeg was killed or crashed, or the file cannot be written.
        MediaUnusable: a clip cannot be decoded.
        ScriptUnusable: no font here has a letter of the title.
    """
    asked = {
        "ffmpeg": [ffmpeg.name, str(ffmpeg.path), ffmpeg.found_by, ffmpeg.version],
        "script": asdict(script),
        "clips": [[number, str(path.absolute()), asdict(probe)] for number, (path, probe) in clips.items()],
        "fonts": str(fonts.absolute()) if fonts else None,
        "canvas": asdict(canvas),
    }
    try:
        with tempfile.TemporaryDirectory(prefix=".storyboard-", dir=target.absolute().parent) as name:
            folder = Path(name)
            (folder / "asked.json").write_text(json.dumps(asked))
            answer = _run(folder, watch)
            if "cover_at" in answer:
                os.replace(folder / storyboards.DRAWN, target)
    except OSError as error:
        raise StudioUnavailable(f"the video cannot be written: {error.strerror}") from error
    if "unusable" in answer:
        raise MediaUnusable(answer["unusable"])
    if "refused" in answer:
        raise ScriptUnusable(answer["refused"])
    if "unavailable" in answer:
        raise StudioUnavailable(answer["unavailable"])
    if "bug" in answer:
        raise RuntimeError(answer["bug"])
    return answer["cover_at"], tuple(answer["left_out"])


def _run(folder: Path, watch: Watch) -> dict[str, Any]:
    python = Program("drawing", Path(sys.executable), "", "")
    arguments = ["-I", "-c", START, str(folder), *map(os.path.abspath, sys.path)]
    done = [0.0]

    def hear(line: str) -> None:
        if line.replace(".", "", 1).isdecimal():
            done[0] = float(line)

    try:
        output = run(python, arguments, watch=lambda: watch(done[0]), hear=hear, folder=folder, grace=GRACE)
    except MediaUnusable as error:
        # It reads no file of anybody's itself, so it is its own fault.
        raise StudioUnavailable(f"the video could not be drawn: {error}") from error
    answer: dict[str, Any] = json.loads(output)
    return answer


def main(folder: str) -> None:
    """Draw what the folder's `asked.json` says into the folder."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.stdout.write(json.dumps(_answer(Path(folder))))


def _answer(folder: Path) -> dict[str, object]:
    try:
        return _drawn(folder, json.loads((folder / "asked.json").read_text()))
    except MediaUnusable as error:
        return {"unusable": str(error)}
    except ScriptUnusable as error:
        return {"refused": str(error)}
    except StudioUnavailable as error:
        return {"unavailable": str(error)}
    except OSError as error:
        return {"unavailable": f"the video cannot be written: {error.strerror or error}"}
    except MemoryError:
        return {"unavailable": "there is not enough memory to draw the video"}
    except Exception:
        return {"bug": traceback.format_exc()}


def _drawn(folder: Path, asked: dict[str, Any]) -> dict[str, object]:
    name, path, found_by, version = asked["ffmpeg"]
    segments = tuple(ScriptSegment(**each) for each in asked["script"].pop("segments"))
    hashtags = tuple(asked["script"].pop("hashtags"))
    typesetter = Typesetter(FontLibrary(Path(asked["fonts"]) if asked["fonts"] else None))
    cover_at = storyboards.draw(
        Program(name, Path(path), found_by, version),
        typesetter,
        Script(**asked["script"], segments=segments, hashtags=hashtags),
        folder,
        clips={number: (Path(path), Probe(**probe)) for number, path, probe in asked["clips"]},
        canvas=Canvas(**asked["canvas"]),
        watch=_tell,
    )
    return {"cover_at": cover_at, "left_out": typesetter.left_out}


def _tell(done: float) -> None:
    sys.stderr.write(f"{done:.6f}\n")
