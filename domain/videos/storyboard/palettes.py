"""Colours of a storyboard: one palette a category, and how well one colour is read on another."""

from dataclasses import dataclass, replace
from enum import StrEnum

Colour = tuple[int, int, int]

READABLE = 4.5
"""The least contrast of text and what is behind it (WCAG 2, level AA, for text of any size)."""


class Setting(StrEnum):
    LEFT = "left"
    CENTRE = "centre"
    MARKER = "marker"
    """Each line of a title on a bar in the accent's colour."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The backdrop goes from `top` to `bottom`, with shapes in `motif`; `text` and `accent` are read on all three, and
    `on_accent` on the accent. `pattern` names the shapes, `setting` how text is set."""

    top: Colour
    bottom: Colour
    motif: Colour
    text: Colour
    accent: Colour
    on_accent: Colour
    pattern: str
    setting: Setting

    @property
    def card(self) -> Colour:
        """The colour of a field on the backdrop that text is set in."""
        return mixed(self.motif, self.text, 0.06)

    @property
    def inverted(self) -> "Palette":
        """The same colours with the accent as the backdrop, for the slide that asks."""
        away = (255, 255, 255) if luminance(self.on_accent) < luminance(self.accent) else (0, 0, 0)
        return replace(
            self,
            top=self.accent,
            bottom=mixed(self.accent, away, 0.10),
            motif=mixed(self.accent, away, 0.22),
            text=self.on_accent,
            accent=self.on_accent,
            on_accent=self.accent,
        )


PALETTES = {
    "news": Palette(
        (11, 19, 38), (24, 42, 74), (32, 54, 90), (246, 248, 251), (255, 128, 102), (36, 8, 4), "rules", Setting.LEFT
    ),
    "absurd": Palette(
        (255, 221, 74),
        (255, 188, 66),
        (255, 232, 122),
        (38, 14, 46),
        (140, 0, 92),
        (255, 244, 214),
        "bubbles",
        Setting.MARKER,
    ),
    "luxury": Palette(
        (13, 12, 10),
        (33, 27, 20),
        (46, 38, 27),
        (250, 244, 232),
        (224, 187, 110),
        (24, 18, 8),
        "diagonals",
        Setting.CENTRE,
    ),
    "emotional": Palette(
        (46, 20, 52),
        (98, 40, 66),
        (112, 52, 78),
        (255, 242, 234),
        (255, 196, 158),
        (58, 20, 34),
        "bokeh",
        Setting.CENTRE,
    ),
    "tech": Palette(
        (7, 14, 26), (10, 38, 54), (18, 54, 72), (235, 248, 255), (84, 222, 240), (4, 28, 36), "dots", Setting.LEFT
    ),
    "cartoon": Palette(
        (132, 210, 255),
        (190, 234, 255),
        (220, 245, 255),
        (16, 22, 62),
        (158, 8, 66),
        (255, 246, 236),
        "halftone",
        Setting.MARKER,
    ),
    "gaming": Palette(
        (18, 8, 46), (54, 16, 96), (68, 26, 116), (250, 246, 255), (176, 255, 84), (20, 40, 4), "pixels", Setting.MARKER
    ),
    "fitness": Palette(
        (16, 18, 20), (38, 42, 46), (50, 56, 60), (250, 250, 250), (255, 158, 66), (44, 20, 2), "stripes", Setting.LEFT
    ),
    "food": Palette(
        (255, 246, 228),
        (255, 228, 192),
        (252, 216, 172),
        (58, 26, 12),
        (164, 32, 14),
        (255, 246, 234),
        "plates",
        Setting.CENTRE,
    ),
    "finance": Palette(
        (5, 34, 29), (10, 62, 48), (20, 76, 60), (240, 252, 246), (120, 242, 178), (2, 36, 24), "bars", Setting.LEFT
    ),
    "music": Palette(
        (24, 9, 40),
        (72, 14, 68),
        (88, 26, 84),
        (255, 243, 252),
        (255, 142, 198),
        (52, 4, 34),
        "equaliser",
        Setting.MARKER,
    ),
    "relationships": Palette(
        (255, 230, 231),
        (255, 205, 210),
        (255, 216, 220),
        (70, 14, 42),
        (156, 18, 66),
        (255, 240, 242),
        "pairs",
        Setting.CENTRE,
    ),
}
OTHER = Palette(
    (22, 26, 34), (44, 52, 68), (56, 66, 84), (246, 248, 252), (255, 208, 98), (42, 28, 0), "diagonals", Setting.LEFT
)


def palette_of(category: str) -> Palette:
    """Return the palette of a category; a neutral one for those that are not known here."""
    return PALETTES.get(category, OTHER)


def contrast(one: Colour, other: Colour) -> float:
    """Return the contrast of two colours, from 1 to 21, as WCAG 2 defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: Colour) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Return `one` with this share of `other` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
