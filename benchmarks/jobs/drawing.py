"""A job that draws a video, as `videos.draw` does, and keeps nothing of it."""

import tempfile
from pathlib import Path

from benchmarks.reference_script import reference_script
from workers.engine.job import Context, job


@job("bench.draw", system=True, queue="render")
def draw(ctx: Context) -> None:
    with tempfile.TemporaryDirectory(prefix="viral-bench-") as folder:
        ctx.ports.studio.storyboard(reference_script(), Path(folder) / "video.mp4", watch=lambda fraction: ctx.check())
    with ctx.finish():
        pass
