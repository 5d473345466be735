"""From a script to slides, in time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.videos.script import Script, ScriptSegment
from domain.videos.storyboard.layout import ALREADY, CONTENT, SAFE, Box, Line, lay_out
from domain.videos.storyboard.motion import (
    ENTRANCE,
    FARTHEST,
    RISE,
    crossfade,
    entered,
    pan_range,
    panned,
)
from domain.videos.storyboard.palettes import PALETTES, palette_of
from domain.videos.storyboard.slides import Kind, Slide, question_for, slides_of

SHOWN = st.one_of(
    st.just(""),
    st.sampled_from(["For · Against", "1 Ask · 2 Look", "“Yes” (The Post).", "Why?", "100% 'x': \\"]),
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z", "S")), max_size=300).map(
        lambda text: " ".join(text.split())
    ),
)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    lengths = draw(st.lists(st.floats(0.1, 30).map(lambda seconds: round(seconds, 1)), min_size=1, max_size=20))
    at, segments = 0.0, []
    for seconds in lengths:
        segments.append(ScriptSegment(at, at + seconds, draw(SHOWN), "", ""))
        at += seconds
    title, topic = draw(SHOWN)[:200], draw(SHOWN)
    return Script(title, draw(st.sampled_from([*PALETTES, "?"])), tuple(segments), "", topic, ())


def a_script(*shown: str, title: str = "A title", topic: str = "honey") -> Script:
    segments = tuple(ScriptSegment(n * 5.0, n * 5.0 + 5, text, "", "") for n, text in enumerate(shown))
    return Script(title, "food", segments, "", topic, ())


def ems(text: str, weight: int) -> float:
    return len(text) * (0.6 if weight > 600 else 0.55)


def kinds(*shown: str) -> list[Kind]:
    return [slide.kind for slide in slides_of(a_script("hook", *shown))]


@given(scripts())
def test_slides_follow_each_other_from_the_beginning_to_the_end_and_the_last_one_asks(script: Script) -> None:
    slides = slides_of(script)
    assert slides[0].start == 0
    assert slides[-1].end == script.seconds
    assert all(before.end == after.start for before, after in pairwise(slides))
    assert all(slide.seconds > 0 for slide in slides)
    assert slides[-1].kind is Kind.ASK
    assert slides[-1].text
    beats = {segment.start for segment in script.segments}
    assert beats <= {slide.start for slide in slides}


@given(scripts())
def test_everything_rests_within_the_safe_area_and_rises_no_lower(script: Script) -> None:
    palette = palette_of(script.category)
    for slide in slides_of(script):
        for element in lay_out(slide, palette, ems):
            box = element.box if not isinstance(element, Line) else _box(element)
            assert SAFE.left <= box.left
            assert box.right <= SAFE.right
            assert SAFE.top <= box.top
            assert box.bottom + (0 if element.at == ALREADY else RISE) <= SAFE.bottom


def _box(line: Line) -> Box:
    margin = 30 if line.marker else 0
    width = round(ems(line.text, line.weight) * line.size)
    top = round(line.baseline - line.size * 0.9)
    return Box(line.x - margin, top, line.x + width + margin - 1, round(line.baseline + line.size * 0.25))


def test_the_title_is_the_hook_and_what_the_first_segment_shows_is_below_it() -> None:
    first = slides_of(a_script("Honey, in short", "b"))[0]
    assert (first.kind, first.text, first.note) == (Kind.HOOK, "A title", "Honey, in short")


def test_what_the_title_says_already_is_not_said_twice() -> None:
    script = a_script("honey", "b", title="Honey: the short version")
    assert slides_of(script)[0].note == ""


def test_lists_quotes_and_questions_are_set_as_such() -> None:
    assert kinds("For · Against", "x") == [Kind.HOOK, Kind.LIST, Kind.STATEMENT, Kind.ASK]
    assert kinds("“It works” (The Post).", "Why?") == [Kind.HOOK, Kind.QUOTE, Kind.ASK]
    assert kinds("1 · 2 · 3", "A · sunny", "plain") == [Kind.HOOK, *[Kind.STATEMENT] * 3, Kind.ASK]


def test_a_numbered_list_keeps_its_numbers_once() -> None:
    items = slides_of(a_script("hook", "1 Ask · 2 Look it up · 3 Pretend to know", "x"))[1].items
    assert items == ("Ask", "Look it up", "Pretend to know")


def test_a_script_that_ends_without_a_question_gets_one_in_its_own_letters() -> None:
    assert slides_of(a_script("hook", "Done."))[-1].text == "What do you think?"
    assert question_for(a_script("x", title="Почему пироги")) == "А что думаете вы?"
    assert question_for(a_script("x", title="なぜ今")) == "あなたはどう思う？"
    assert question_for(a_script("x", title="为什么")) == "你怎么看？"
    assert question_for(a_script("x", title="Größer")) == "What do you think?"


def test_a_segment_without_text_shows_the_topic() -> None:
    slide = slides_of(a_script("hook", "", "x"))[1]
    assert (slide.text, slide.header) == ("Honey", "")
    assert slides_of(a_script("hook", "", "x", topic="iPhone"))[1].text == "iPhone"


def test_items_of_a_list_enter_one_after_the_other_and_all_before_its_end() -> None:
    items = ("one thing", "another", "the third", "the fourth", "the fifth")
    slide = Slide(Kind.LIST, 1, 3.0, 8.0, "", items=items)
    times = [element.at for element in lay_out(slide, palette_of("food"), ems)]
    assert times == sorted(times)
    assert len(set(times)) == len(items)
    assert times[-1] + ENTRANCE < slide.seconds


@given(st.floats(0.1, 180), st.floats(0, 1))
def test_a_backdrop_stays_within_its_range(seconds: float, share: float) -> None:
    assert pan_range(seconds) % 2 == 0
    assert pan_range(seconds) <= FARTHEST
    assert 0 <= panned(share * (seconds + crossfade(seconds, seconds))) <= pan_range(seconds)


def test_a_backdrop_moves_by_one_pixel_in_every_frame() -> None:
    places = [panned(frame / 30) for frame in range(180 * 30)]
    assert {round(abs(after - before), 6) for before, after in pairwise(places)} == {1}


def test_an_element_slows_down_as_it_arrives_and_stays() -> None:
    steps = [entered(n * ENTRANCE / 10) for n in range(12)]
    assert steps[0] == 0
    assert steps[10] == steps[11] == entered(-1) + 1 == 1
    gains = [after - before for before, after in pairwise(steps[:11])]
    assert gains == sorted(gains, reverse=True)


@given(st.floats(0.05, 100), st.floats(0.05, 100))
def test_a_crossfade_leaves_half_of_each_slide(before: float, after: float) -> None:
    assert 0 < crossfade(before, after) <= min(before, after) / 2


def test_the_content_is_within_the_safe_area() -> None:
    assert SAFE.top <= CONTENT.top < CONTENT.bottom <= SAFE.bottom
    assert SAFE.top >= 192
    assert SAFE.bottom <= 1536
