"""Not built yet."""

from pathlib import Path

from domain.ports import Studio


class FfmpegStudio(Studio):
    def __init__(self, *, ffmpeg: Path | None = None, ffprobe: Path | None = None, fonts: Path | None = None) -> None:
        self._ffmpeg, self._ffprobe, self._fonts = ffmpeg, ffprobe, fonts
