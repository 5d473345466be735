"""Draws a video in a process of its own: `python -m benchmarks.draw storyboard|static-slides FOLDER SECONDS`.

The answer is the last line of standard output: seconds, the most memory that the process ever had, and the most of all
processes together that it had started. `static-slides` is what the same script costs plain ffmpeg: a picture for each
segment that does not move, encoded with the options that every platform takes.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.reference_script import reference_script
from domain.videos.script import Script
from integrations.studio.ffmpeg import find
from integrations.studio.studio import FfmpegStudio

WIDTH, HEIGHT, FPS = 1080, 1920, 30
COLOURS = (b"\x1d\x2b\x53", b"\x7e\x25\x53", b"\x00\x87\x51", b"\xab\x52\x36", b"\x5f\x57\x4f")
ENCODED = (
    *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "0", "-g", str(2 * FPS), "-flags", "+cgop", "-r", str(FPS)),
    *("-c:a", "aac", "-b:a", "128k", "-shortest", "-use_editlist", "0", "-movflags", "+faststart"),
)


STARTED = [0]
"""Kilobytes that the processes which ran at one time have had at most, together."""


def storyboard(script: Script, folder: Path) -> None:
    FfmpegStudio().storyboard(script, folder / "storyboard.mp4", watch=lambda fraction: look())


def look() -> None:
    peaks = []
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError, StopIteration):  # it has ended
            peaks.append(peak(child.pid))
    STARTED.append(sum(peaks))


def static_slides(script: Script, folder: Path) -> None:
    lines = []
    for number, segment in enumerate(script.segments):
        picture = folder / f"{number}.ppm"
        picture.write_bytes(b"P6 %d %d 255\n" % (WIDTH, HEIGHT) + COLOURS[number] * (WIDTH * HEIGHT))
        lines += [f"file '{picture}'", f"duration {segment.seconds}"]
    listed = folder / "slides.txt"
    listed.write_text("\n".join(lines))
    pictures = ("-f", "concat", "-safe", "0", "-i", str(listed))
    sound = ("-f", "lavfi", "-i", f"sine=frequency=220:sample_rate=48000:duration={script.seconds}")
    ffmpeg = str(find("ffmpeg").path)
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-y", *pictures, *sound, *ENCODED, str(folder / "slides.mp4")]
    subprocess.run(command, check=True)


def peak(pid: int) -> int:
    """Kilobytes. What `getrusage` says of a process counts its parent before `exec`, too."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main(how: str, folder: str, seconds: str) -> None:
    ways: dict[str, Callable[[Script, Path], None]] = {"storyboard": storyboard, "static-slides": static_slides}
    began = time.perf_counter()
    ways[how](reference_script(int(seconds)), Path(folder))
    took = time.perf_counter() - began
    child = max(*STARTED, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    print(json.dumps({"seconds": took, "own_mb": peak(os.getpid()) / 1024, "child_mb": child / 1024}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
