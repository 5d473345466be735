"""Fonts by what they can write: each character is drawn in the first font that has it.

The order is FONTS_DIR, then the fonts of the extra `studio`: Source Sans (Latin, Greek, Cyrillic), Noto Sans CJK.
Pillow draws an empty box for a character that its font lacks and says nothing, so coverage is read from the fonts.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageDraw, ImageFont

from domain.videos.media import StudioUnavailable

REFERENCE = 200
"""The size at which widths are measured."""
NO_FONTS = (
    "there is no font here to draw with: `pip install font-source-sans-pro noto-cjk-sans-jp-bold`, or put .ttf or .otf "
    "files into a folder and name it in FONTS_DIR"
)


@dataclass(frozen=True, slots=True)
class Face:
    """A font file that can be drawn with. `weight` is as OpenType counts it; `characters` are code points."""

    path: Path
    weight: int
    characters: frozenset[int]

    def has(self, text: str) -> bool:
        return all(ord(char) in self.characters for char in text)


class FontLibrary:
    """The fonts of this machine, read when a character first needs them. Threads may share it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._sources: list[Sequence[Path]] = [_in_folder(folder), *_of_the_extra()]
        self._groups: list[tuple[Face, ...]] = []
        self._lock = Lock()

    def face(self, text: str, weight: int) -> Face | None:
        """Return the font for these characters: of the first source that has them, the one nearest in weight."""
        for group in self._all():
            if having := [face for face in group if face.has(text)]:
                return min(having, key=lambda face: (abs(face.weight - weight), face.path.name))
        return None

    def faces(self) -> tuple[Face, ...]:
        """Return all fonts, in the order in which they are asked."""
        return tuple(face for group in self._all() for face in group)

    def _all(self) -> Iterator[tuple[Face, ...]]:
        for number, paths in enumerate(self._sources):
            with self._lock:
                if len(self._groups) == number:
                    self._groups.append(tuple(face for path in paths if (face := _read(path))))
            yield self._groups[number]


class Typesetter:
    """Measures and draws text with the fonts of a library, for one video at a time."""

    def __init__(self, library: FontLibrary) -> None:
        self._library = library
        self._left_out: dict[str, None] = {}
        self._fonts: dict[tuple[Path, int], ImageFont.FreeTypeFont] = {}
        self._face = lru_cache(8192)(library.face)
        self.measure = lru_cache(65536)(self._measure)
        """How wide a text is in a weight, in ems."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """The characters that `drawable` left out until now, each once."""
        return tuple(self._left_out)

    def drawable(self, text: str) -> str:
        """Return the text without the characters that no font has; "" if nothing is left that can be read.

        Raises:
            StudioUnavailable: there is no font at all.
        """
        kept = []
        for cluster in _clusters(unicodedata.normalize("NFC", text)):
            if self._face(cluster, 400):
                kept.append(cluster)
            elif self._face(cluster[0], 400):
                kept.append(cluster[0])
                self._miss(cluster[1:])
            else:
                self._miss(cluster)
        if not kept and text and not self._library.faces():
            raise StudioUnavailable(NO_FONTS)
        left = " ".join("".join(kept).split())
        return left if re.search(r"\w", left) or not re.search(r"\w", text) else ""

    def draw(self, text: str, weight: int, size: int) -> tuple[Image.Image, int]:
        """Return the text as a mask (0 to 255), and how many pixels of it lie left of where the text begins. The
        baseline is `size` pixels below the mask's top."""
        margin = size // 4
        width = round(self.measure(text, weight) * size) + 2 * margin + 2
        mask = Image.new("L", (width, size + size // 2), 0)
        draw = ImageDraw.Draw(mask)
        x = float(margin)
        for run, face in self._runs(text, weight):
            font = self._font(face, size)
            draw.text((x, size), run, fill=255, font=font, anchor="ls")
            x += font.getlength(run)
        return mask, margin

    def _measure(self, text: str, weight: int) -> float:
        return sum(self._font(face, REFERENCE).getlength(run) for run, face in self._runs(text, weight)) / REFERENCE

    def _runs(self, text: str, weight: int) -> Iterator[tuple[str, Face]]:
        """Yield the parts of the text that are drawn in one font, each as long as possible."""
        run, used = "", None
        for cluster in _clusters(text):
            face = used if used and cluster.isspace() and used.has(cluster) else self._face(cluster, weight)
            if face is None:
                continue
            if used is not None and face != used:
                yield run, used
                run = ""
            run, used = run + cluster, face
        if used is not None:
            yield run, used

    def _font(self, face: Face, size: int) -> ImageFont.FreeTypeFont:
        key = face.path, size
        if key not in self._fonts:
            self._fonts[key] = ImageFont.truetype(face.path, size)
        return self._fonts[key]

    def _miss(self, chars: str) -> None:
        """Note what is left out and would be seen; joiners, marks of direction and the like would not."""
        for char in chars:
            if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Mn", "Zs", "Zl", "Zp"}:
                self._left_out[char] = None


def _clusters(text: str) -> Iterator[str]:
    """Yield each character together with the marks that are set on it."""
    cluster = ""
    for char in text:
        if cluster and not unicodedata.category(char).startswith("M"):
            yield cluster
            cluster = ""
        cluster += " " if char.isspace() else char
    if cluster:
        yield cluster


def _in_folder(folder: Path | None) -> Sequence[Path]:
    if folder is None:
        return ()
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in {".ttf", ".otf"})


def _of_the_extra() -> Iterable[Sequence[Path]]:
    """Yield the fonts of the wheels that are installed; they are found without importing the wheels."""
    for package, files in (
        ("font_source_sans_pro", ("files/SourceSansPro-Black.ttf", "files/SourceSansPro-Semibold.ttf")),
        ("noto_cjk_sans_jp_bold", ("NotoSansCJKjp-Bold.otf",)),
    ):
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield [Path(place) / name for name in files if (Path(place) / name).is_file()]


@lru_cache(256)
def _read(path: Path) -> Face | None:
    """Return the font, or None if it is none that can be drawn at any size, or leans."""
    try:
        with path.open("rb") as file, TTFont(file, lazy=True) as font:
            if "glyf" not in font and "CFF " not in font and "CFF2" not in font:
                return None
            style = font["OS/2"]
            if style.fsSelection & 1:
                return None
            return Face(path, int(style.usWeightClass), frozenset(font.getBestCmap() or {}))
    except (TTLibError, OSError, KeyError, AttributeError, ValueError):
        return None
