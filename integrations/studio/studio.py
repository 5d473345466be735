"""The studio: draws videos, and looks at them, with the ffmpeg of this machine."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from domain.ports import Studio, Watch
from domain.videos.media import Drawn, Probe
from domain.videos.script import Script
from integrations.studio.drawing import draw
from integrations.studio.ffmpeg import find
from integrations.studio.frames import FULL_HD, Canvas
from integrations.studio.probe import look, look_at_pictures, write_thumbnail
from integrations.studio.storyboards import probed

NO_CLIPS: Mapping[int, Path] = MappingProxyType({})


class FfmpegStudio(Studio):
    """Finds ffmpeg and ffprobe when they are needed, so that one that is installed later needs no restart."""

    def __init__(
        self,
        *,
        ffmpeg: Path | None = None,
        ffprobe: Path | None = None,
        fonts: Path | None = None,
        canvas: Canvas = FULL_HD,
    ) -> None:
        self._ffmpeg, self._ffprobe = ffmpeg, ffprobe
        self._fonts, self._canvas = fonts, canvas

    def storyboard(self, script: Script, target: Path, *, watch: Watch, clips: Mapping[int, Path] = NO_CLIPS) -> Drawn:
        shown = probed(clips, lambda path: self.probe(path, watch=watch))
        program = find("ffmpeg", self._ffmpeg)
        cover_at, left_out = draw(
            program, script, target, clips=shown, fonts=self._fonts, canvas=self._canvas, watch=watch
        )
        return Drawn(self.probe(target, watch=lambda _: watch(1.0)), cover_at, left_out)

    def probe(self, path: Path, *, watch: Watch, deep: bool = False) -> Probe:
        found = look(find("ffprobe", self._ffprobe), path, watch=watch)
        return look_at_pictures(find("ffmpeg", self._ffmpeg), path, found, watch=watch) if deep else found

    def thumbnail(self, path: Path, target: Path, *, at: float, watch: Watch) -> None:
        write_thumbnail(find("ffmpeg", self._ffmpeg), path, target, at=at, watch=watch)
