"""A job that has ffmpeg encode for it, as those of the queue `render` do."""

from pathlib import Path

from integrations.studio.ffmpeg import find, run
from workers.engine.job import Context, job

PICTURES = "testsrc2=size=1080x1920:rate=30:duration={seconds}"


@job("chaos.drawn", system=True, queue="render")
def drawn(ctx: Context, folder: str, name: str) -> None:
    """The first attempt would encode for an hour, later ones for a moment."""
    seconds = 3600 if ctx.job.attempt == 1 and not (Path(folder) / f"{name}.begun").exists() else 0.1
    (Path(folder) / f"{name}.begun").touch()
    target = str(Path(folder) / f"{name}.mp4")
    arguments = ["-y", "-f", "lavfi", "-i", PICTURES.format(seconds=seconds), "-c:v", "libx264", target]
    run(find("ffmpeg"), arguments, watch=ctx.check)
    with ctx.finish() as tx:
        tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES (%s, 1)", (name,))
