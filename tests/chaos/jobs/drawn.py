"""A job that has a video drawn, as those of the queue `render` do."""

from pathlib import Path

from domain.videos.script import Script, ScriptSegment
from integrations.studio.frames import FULL_HD, Canvas
from integrations.studio.studio import FfmpegStudio
from workers.engine.job import Context, job

SMALL = Canvas(90, 160, 2)


@job("chaos.drawn", system=True, queue="render")
def drawn(ctx: Context, folder: str, name: str) -> None:
    """The first attempt would draw for minutes, later ones for a moment."""
    first = ctx.job.attempt == 1 and not (Path(folder) / f"{name}.begun").exists()
    (Path(folder) / f"{name}.begun").touch()
    script = Script("Long", "news", (ScriptSegment(0, 180 if first else 3, "text", "", ""),), "", "x", ())
    studio = FfmpegStudio(canvas=FULL_HD if first else SMALL)
    studio.storyboard(script, Path(folder) / f"{name}.mp4", watch=lambda _: ctx.check())
    with ctx.finish() as tx:
        tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))
