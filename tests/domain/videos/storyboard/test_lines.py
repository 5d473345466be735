"""Breaking text into lines."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.videos.storyboard.lines import LEADING, NOT_FIRST, NOT_LAST, Fitted, fit, shortened

WORDS = st.text(st.sampled_from("abcäöüДжя漢字かなカナー、。「」()!?…-'\\%:世"), min_size=1, max_size=30)
TEXTS = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)


def ems(text: str) -> float:
    """Widths as in a plain font: a full square for wide characters, half of one for others."""
    return sum(1.0 if unicodedata.east_asian_width(char) in "WF" else 0.5 for char in text)


def fitted(text: str, *, width: float = 900, height: float = 900, largest: int = 160, smallest: int = 40) -> Fitted:
    return fit(text, ems, width=width, height=height, largest=largest, smallest=smallest)


def bare(text: str) -> str:
    return "".join(text.split())


@given(TEXTS)
def test_every_line_fits_and_nothing_is_lost_but_with_an_ellipsis(text: str) -> None:
    done = fitted(text, height=600)
    assert 40 <= done.size <= 160
    assert all(ems(line) * done.size <= 900 for line in done.lines)
    assert len(done.lines) * done.size * LEADING <= 600
    assert all(line == line.strip() and line for line in done.lines)
    written, meant = bare("".join(done.lines)).replace("-", ""), bare(text).replace("-", "")
    cut = written.endswith("…") and meant.startswith(written[:-1].rstrip("…"))
    assert written == meant or cut


@given(TEXTS)
def test_no_line_begins_or_ends_with_a_mark_that_may_not(text: str) -> None:
    done = fitted(text)
    words = text.split()
    if all(ems(word) * 80 <= 900 for word in words):  # none had to be broken by force
        starts = {word[0] for word in words}
        ends = {word[-1] for word in words}
        assert all(line[0] not in NOT_FIRST or line[0] in starts for line in done.lines)
        assert all(line[-1] not in NOT_LAST or line[-1] in ends for line in done.lines)


def test_a_short_text_is_as_large_as_may_be() -> None:
    assert fitted("Your time?") == Fitted(("Your time?",), 160)


def test_lines_are_about_equally_long_so_that_no_word_is_alone() -> None:
    done = fitted("one two three four five six seven", width=600, largest=40, smallest=40)
    assert done.lines == ("one two three four", "five six seven")


def test_type_is_a_little_smaller_where_that_leaves_no_word_alone() -> None:
    done = fitted("Press X to understand the tutorial everyone skips", width=840, largest=150)
    assert 150 * 0.77 < done.size < 150
    assert " " in done.lines[-1]


def test_japanese_is_broken_between_words_without_spaces() -> None:
    done = fitted("スーパーファミコンの名作が、ふたたび人気に。", largest=70, smallest=40)
    assert done.lines == ("スーパーファミコンの", "名作が、ふたたび人気に。")


def test_korean_and_russian_are_broken_at_spaces() -> None:
    assert fitted("오늘의 이야기", width=200, largest=40, smallest=40).lines == ("오늘의", "이야기")
    assert fitted("Съешь ещё этих", width=200, largest=40, smallest=40).lines == ("Съешь", "ещё этих")


def test_a_word_that_is_longer_than_a_line_gets_a_hyphen_rather_than_tiny_type() -> None:
    done = fitted("Donaudampfschifffahrtsgesellschaft", width=700)
    assert done.size >= 70
    assert "".join(done.lines).replace("-", "") == "Donaudampfschifffahrtsgesellschaft"
    assert all(line.endswith("-") for line in done.lines[:-1])


def test_what_cannot_fit_is_cut_with_an_ellipsis() -> None:
    done = fitted("word " * 300, height=200)
    assert done.size == 40
    assert done.lines[-1].endswith("…")


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_no_text_has_no_lines(text: str) -> None:
    assert fitted(text).lines == ()


@given(TEXTS, st.integers(4, 60))
def test_a_shortened_text_is_no_longer_than_it_may_be(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) <= most
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
