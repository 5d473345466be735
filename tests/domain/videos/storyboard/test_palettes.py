"""Colours that can be read."""

import pytest

from domain.concepts.categories import categories
from domain.videos.storyboard.palettes import OTHER, PALETTES, READABLE, Palette, contrast, mixed, palette_of

ALL = {**PALETTES, "other": OTHER}


def test_each_category_has_a_palette_of_its_own_and_others_have_one_too() -> None:
    assert set(PALETTES) == set(categories())
    assert len({(palette.top, palette.accent) for palette in PALETTES.values()}) == len(PALETTES)
    assert palette_of("cooking with lasers") == palette_of("") == OTHER


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("inverted", [False, True])
def test_text_is_read_on_all_that_is_behind_it(name: str, inverted: bool) -> None:
    palette: Palette = ALL[name].inverted if inverted else ALL[name]
    for behind in (palette.top, palette.bottom, palette.motif):
        for share in (0, 0.25, 0.5, 0.75, 1):
            between = mixed(palette.top, behind, share)
            assert contrast(palette.text, between) >= READABLE
            assert contrast(palette.accent, between) >= READABLE
    assert contrast(palette.text, palette.card) >= READABLE
    assert contrast(palette.on_accent, palette.accent) >= READABLE


def test_contrast_is_the_one_of_the_standard() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
    assert contrast((1, 2, 3), (1, 2, 3)) == 1
