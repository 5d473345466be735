"""Ids that sort by the time they were made."""

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import uuid7

MOMENTS = st.integers(0, 2**48 - 1)
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
