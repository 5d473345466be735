"""Which post of an account's list is ours: never two, never another's, never absent while one could be it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.posting.matching import CLOCKS, Found, InDoubt, NotThere, Ours, match
from domain.posting.publishing import Listing, Seen

CLAIMED = datetime(2026, 11, 27, 12, tzinfo=UTC)
OURS = Ours(text="A goose.\n\n#goose", mark="mark-1", claimed_at=CLAIMED, seconds=15.0)
NOBODY: frozenset[str] = frozenset()


def a_post(external_id: str = "1", **values: Any) -> Seen:
    defaults: dict[str, Any] = {"text": OURS.text, "published_at": CLAIMED + timedelta(minutes=1)}
    return Seen(external_id, **{**defaults, **values})


def listed(*posts: Seen, complete: bool = True) -> Listing:
    return Listing(posts, complete)


def test_the_only_one_with_our_text_is_ours() -> None:
    assert match(OURS, listed(a_post("1"), a_post("2", text="another")), NOBODY) == Found(a_post("1"))


def test_our_mark_decides_also_between_equal_texts() -> None:
    marked = a_post("2", mark="mark-1", text="edited since")
    assert match(OURS, listed(a_post("1"), marked, a_post("3")), NOBODY) == Found(marked)


def test_a_foreign_mark_is_not_ours() -> None:
    assert match(OURS, listed(a_post("1", mark="mark-2")), NOBODY) == NotThere()


def test_our_text_without_our_mark_is_for_a_person_where_marks_are_given_back() -> None:
    ours = replace(OURS, marked=True)
    assert match(ours, listed(a_post("1")), NOBODY) == InDoubt(
        "one post of the account has its text, but not the mark that ours has", ("1",)
    )
    assert match(ours, listed(a_post("1", mark="mark-1")), NOBODY) == Found(a_post("1", mark="mark-1"))


def test_one_that_may_be_another_of_our_posts_is_for_a_person() -> None:
    verdict = match(replace(OURS, twin=True), listed(a_post("1")), NOBODY)
    assert verdict == InDoubt("one post of the account has its text, and so has another post of ours", ("1",))
    assert match(replace(OURS, twin=True), listed(), NOBODY) == NotThere()


def test_after_a_restore_a_post_of_other_words_that_belongs_to_nobody_may_be_ours() -> None:
    ours, other = replace(OURS, restored=True), a_post("1", text="what it had become")
    assert isinstance(match(ours, listed(other), NOBODY), InDoubt)
    assert match(OURS, listed(other), NOBODY) == NotThere()
    assert match(ours, listed(other), {"1"}) == NotThere()
    assert match(ours, listed(a_post("1", mark="mark-2")), NOBODY) == NotThere()
    before = a_post(published_at=CLAIMED - timedelta(hours=1))
    assert match(ours, listed(before), NOBODY) == NotThere()


def test_two_that_fit_are_for_a_person() -> None:
    assert match(OURS, listed(a_post("1"), a_post("2")), NOBODY) == InDoubt("2 posts of the account fit", ("1", "2"))


def test_two_with_our_mark_are_for_a_person() -> None:
    both = listed(a_post("1", mark="mark-1"), a_post("2", mark="mark-1"))
    assert isinstance(match(OURS, both, NOBODY), InDoubt)


def test_one_that_a_page_lists_twice_is_one() -> None:
    assert match(OURS, listed(a_post("1"), a_post("1")), NOBODY) == Found(a_post("1"))


def test_what_another_row_has_is_never_ours() -> None:
    assert match(OURS, listed(a_post("1"), a_post("2")), {"1"}) == Found(a_post("2"))
    assert match(OURS, listed(a_post("1")), {"1"}) == NotThere()
    assert match(OURS, listed(a_post("1", mark="mark-1")), {"1"}) == NotThere()


def test_the_newest_of_the_list_is_not_ours_for_being_the_newest() -> None:  # trypost#281
    foreign = a_post("9", text="something else", published_at=CLAIMED + timedelta(minutes=2))
    assert match(OURS, listed(foreign, a_post("1")), NOBODY) == Found(a_post("1"))
    assert match(OURS, listed(foreign), NOBODY) == NotThere()


def test_absence_is_believed_of_a_complete_list_only() -> None:
    assert match(OURS, listed(), NOBODY) == NotThere()
    assert isinstance(match(OURS, listed(complete=False), NOBODY), InDoubt)


def test_an_earlier_post_is_not_ours() -> None:
    assert match(OURS, listed(a_post(published_at=CLAIMED - timedelta(hours=1))), NOBODY) == NotThere()


def test_a_platform_that_shows_whole_seconds_shows_none_before_the_claim() -> None:
    ours, seen = replace(OURS, claimed_at=CLAIMED + timedelta(seconds=0.7)), a_post(published_at=CLAIMED)
    assert match(ours, listed(seen), NOBODY) == Found(seen)


def test_one_that_only_a_clock_puts_before_the_claim_is_for_a_person() -> None:
    assert isinstance(match(OURS, listed(a_post(published_at=CLAIMED - CLOCKS)), NOBODY), InDoubt)


@pytest.mark.parametrize(
    ("shown", "cut", "ours"),
    [
        pytest.param("A goose. #goose", False, True, id="white-space"),
        pytest.param("A goose.", True, True, id="cut"),
        pytest.param("A goo…", True, True, id="cut-with-an-ellipsis"),
        pytest.param("A goo...", True, True, id="cut-with-dots"),
        pytest.param("A goose.", False, False, id="shorter-and-not-cut"),
        pytest.param("A duck", True, False, id="cut-another"),
        pytest.param("A goose.\n\n#goose and more", True, False, id="longer"),
    ],
)
def test_the_text_is_compared_as_far_as_it_is_shown(shown: str, cut: bool, ours: bool) -> None:
    seen = a_post(text=shown, cut=cut)
    assert match(OURS, listed(seen), NOBODY) == (Found(seen) if ours else NotThere())


def test_accents_are_compared_as_they_look() -> None:
    seen = a_post(text="e\u0301te")
    assert match(Ours("\u00e9te", "m", CLAIMED), listed(seen), NOBODY) == Found(seen)


@pytest.mark.parametrize("cut", [True, False])
def test_no_text_tells_nothing(cut: bool) -> None:
    verdict = match(Ours("", "m", CLAIMED), listed(a_post(text="", cut=cut)), NOBODY)
    assert isinstance(verdict, InDoubt)
    assert verdict.candidates == ("1",)


def test_our_text_with_another_length_is_for_a_person() -> None:
    assert isinstance(match(OURS, listed(a_post(seconds=40.0)), NOBODY), InDoubt)
    assert match(OURS, listed(a_post(seconds=15.9)), NOBODY) == Found(a_post(seconds=15.9))


POSTS = st.lists(
    st.builds(
        Seen,
        external_id=st.sampled_from("123456"),
        text=st.sampled_from([OURS.text, "A goose.", "another", ""]),
        published_at=st.integers(-300, 300).map(lambda seconds: CLAIMED + timedelta(seconds=seconds)),
        mark=st.sampled_from([None, "mark-1", "mark-2"]),
        seconds=st.sampled_from([None, 15.0, 40.0]),
        cut=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda seen: seen.external_id,
)
BOUND = st.sets(st.sampled_from("123456"))


@settings(max_examples=150)
@given(POSTS, BOUND, st.booleans())
def test_what_is_found_is_free_and_nothing_else_has_as_good_a_claim(
    posts: list[Seen], bound: set[str], complete: bool
) -> None:
    match match(OURS, Listing(tuple(posts), complete), bound):
        case Found(seen):
            free = [each for each in posts if each.external_id not in bound]
            marked = [each for each in free if each.mark == OURS.mark]
            assert seen in free
            assert marked in ([seen], [])
            if not marked:
                assert seen.mark is None
                assert seen.published_at >= CLAIMED
                equal = [each for each in free if each.text == OURS.text and each.published_at >= CLAIMED]
                assert [each for each in equal if each.mark is None] in ([seen], [])
        case NotThere():
            assert complete
            assert not any(
                seen.external_id not in bound and (seen.mark == OURS.mark or (seen.mark is None and _is_ours(seen)))
                for seen in posts
            )
        case InDoubt(_, candidates):
            assert not set(candidates) & bound


@settings(max_examples=100)
@given(POSTS, BOUND, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_list_changes_nothing(posts: list[Seen], bound: set[str], complete: bool, rng: Any) -> None:
    shuffled = rng.sample(posts, len(posts))
    first, second = (match(OURS, Listing(tuple(each), complete), bound) for each in (posts, shuffled))
    assert type(first) is type(second)
    if isinstance(first, Found):
        assert first == second


def _is_ours(seen: Seen) -> bool:
    return seen.published_at >= CLAIMED and seen.text == OURS.text
