"""Which font draws which character, and what none of them has."""

from pathlib import Path
from shutil import copy

import font_source_sans_pro
import pytest
from PIL import ImageChops

from domain.videos.media import StudioUnavailable
from integrations.studio.fonts import FontLibrary, Typesetter

FILES = Path(font_source_sans_pro.font_directory)


@pytest.fixture(scope="module")
def library() -> FontLibrary:
    return FontLibrary()


def name(library: FontLibrary, text: str, weight: int = 900) -> str | None:
    face = library.face(text, weight)
    return face.path.name if face else None


def test_each_character_has_the_first_font_that_covers_it_in_the_nearest_weight(library: FontLibrary) -> None:
    assert name(library, "Größe") == "SourceSansPro-Black.ttf"
    assert name(library, "пирог", 600) == "SourceSansPro-Semibold.ttf"
    assert name(library, "ế") == "SourceSansPro-Black.ttf"
    assert name(library, "漢字かな", 600) == "NotoSansCJKjp-Bold.otf"
    assert name(library, "한글") == "NotoSansCJKjp-Bold.otf"
    assert name(library, "عربي") is None


def test_a_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    copy(FILES / "SourceSansPro-Light.ttf", tmp_path / "Own.ttf")
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    (tmp_path / "notes.txt").write_text("not one either")
    library = FontLibrary(tmp_path)
    assert name(library, "Größe") == "Own.ttf"
    assert name(library, "漢") == "NotoSansCJKjp-Bold.otf"
    assert library.faces()[0].path.name == "Own.ttf"


def test_italic_fonts_are_passed_over(tmp_path: Path) -> None:
    copy(FILES / "SourceSansPro-BlackIt.ttf", tmp_path)
    assert name(FontLibrary(tmp_path), "a") == "SourceSansPro-Black.ttf"


def test_what_no_font_has_is_left_out_and_named_once_in_order(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    assert typesetter.drawable("Emoji 🎉 und عربي 🎉 im Titel") == "Emoji und im Titel"
    assert typesetter.drawable("just 👀") == "just"
    assert typesetter.left_out == ("🎉", "ع", "ر", "ب", "ي", "👀")


def test_a_text_of_which_only_marks_are_left_is_no_text(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    assert typesetter.drawable("“مرحبا”!") == ""
    assert typesetter.drawable("…") == "…"
    assert typesetter.drawable("100% 'x': \\") == "100% 'x': \\"


def test_joiners_and_marks_of_direction_are_no_loss(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    typesetter.drawable("a\u200d\ufe0f\u200eb\u2067")
    assert typesetter.left_out == ()


def test_letters_with_marks_are_one_whether_they_come_as_one_or_two(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    assert typesetter.drawable("u\u0308ber") == "über"


def test_a_line_of_several_scripts_is_as_wide_as_its_parts(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    together = typesetter.measure("Größe漢字пирог", 900)
    apart = sum(typesetter.measure(part, 900) for part in ("Größe", "漢字", "пирог"))
    assert together == pytest.approx(apart, abs=0.05)


def test_a_drawn_text_fills_what_was_measured_and_is_not_cut(library: FontLibrary) -> None:
    typesetter = Typesetter(library)
    for text in ("Ägypten (jq)", "漢字、カナ", "Ёжик ЙЙ", "ẾỆ|"):
        mask, before = typesetter.draw(text, 900, 100)
        box = mask.getbbox()
        assert box is not None
        assert box[0] > 0
        assert box[2] < mask.width
        assert box[3] < mask.height
        assert box[2] - before == pytest.approx(typesetter.measure(text, 900) * 100, abs=14)


def test_different_characters_are_drawn_differently(library: FontLibrary) -> None:
    """Missing characters would all be the same box."""
    typesetter = Typesetter(library)
    for one, other in ("äö", "жш", "漢字", "かな", "%'"):
        first, second = (typesetter.draw(char, 900, 80)[0].crop((0, 0, 90, 110)) for char in (one, other))
        assert ImageChops.difference(first, second).getbbox() is not None


def test_without_any_font_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.studio.fonts.find_spec", lambda name: None)
    with pytest.raises(StudioUnavailable, match="FONTS_DIR"):
        Typesetter(FontLibrary()).drawable("A title")
