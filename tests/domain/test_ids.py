"""Ids that sort by the time they were made."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import next_uuid7, uuid7

MOMENTS = st.integers(0, 2**48 - 2)
RANDOMNESS = st.integers(0, 2**74 - 1)


@given(MOMENTS, RANDOMNESS)
def test_it_is_a_version_7_uuid_of_that_moment(moment: int, randomness: int) -> None:
    made = uuid7(moment, randomness)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == moment


@given(MOMENTS, MOMENTS, RANDOMNESS, RANDOMNESS)
def test_a_later_one_sorts_later(first: int, second: int, a: int, b: int) -> None:
    if first < second:
        assert uuid7(first, a) < uuid7(second, b)


@given(MOMENTS, RANDOMNESS, RANDOMNESS)
def test_every_random_bit_counts(moment: int, a: int, b: int) -> None:
    assert (uuid7(moment, a) == uuid7(moment, b)) == (a == b)


@given(st.lists(st.tuples(MOMENTS, RANDOMNESS), min_size=1, max_size=20))
def test_each_sorts_after_the_one_before_whatever_the_clock_says(draws: list[tuple[int, int]]) -> None:
    made = [UUID(int=0)]
    for moment, randomness in draws:
        made.append(next_uuid7(made[-1], moment, lambda drawn=randomness: drawn))
    assert made == sorted(set(made))
    assert {each.version for each in made[1:]} == {7}


def test_the_last_of_a_millisecond_is_followed_by_the_first_of_the_next() -> None:
    assert next_uuid7(uuid7(5, 2**74 - 1), 5, lambda: 0) == uuid7(6, 0)
