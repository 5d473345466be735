"""The studio: draws videos, and looks at them, with the ffmpeg of this machine."""

from pathlib import Path

from domain.ports import Studio, Watch
from domain.videos.media import Probe
from integrations.studio.ffmpeg import find
from integrations.studio.probe import look, look_at_pictures, write_thumbnail


class FfmpegStudio(Studio):
    """Finds ffmpeg and ffprobe when they are needed, so that one that is installed later needs no restart."""

    def __init__(self, *, ffmpeg: Path | None = None, ffprobe: Path | None = None, fonts: Path | None = None) -> None:
        self._ffmpeg, self._ffprobe, self._fonts = ffmpeg, ffprobe, fonts

    def probe(self, path: Path, *, watch: Watch, deep: bool = False) -> Probe:
        found = look(find("ffprobe", self._ffprobe), path, watch=watch)
        return look_at_pictures(find("ffmpeg", self._ffmpeg), path, found, watch=watch) if deep else found

    def thumbnail(self, path: Path, target: Path, *, at: float, watch: Watch) -> None:
        write_thumbnail(find("ffmpeg", self._ffmpeg), path, target, at=at, watch=watch)
