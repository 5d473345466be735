from math import expm1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.scale import END, LEAST, MOST, PIECES, STEEPEST, log_engagement, score_of, value_of

values = st.floats(0, 6)


@pytest.mark.parametrize(
    ("percent", "score"), [(0, 10), (1, 25), (2, 40), (4.2, 62), (5, 70), (10, 90), (12, 94), (15, 100), (60, 100)]
)
def test_scores_are_those_of_the_old_app(percent: float, score: float) -> None:
    assert score_of(log_engagement(percent)) == pytest.approx(score)


@given(values, st.floats(0, 0.4))
def test_more_engagement_is_never_a_lower_score_and_no_step_is_steeper_than_the_steepest(
    low: float, step: float
) -> None:
    """The bound that the clamp is made of (`MOST_STEP`); it holds of steps up to 0.4."""
    rise = score_of(low + step) - score_of(low)
    assert -1e-9 <= rise <= STEEPEST * -expm1(-step) + 1e-9
    assert LEAST <= score_of(low) <= MOST


@given(st.floats(LEAST, MOST))
def test_a_score_has_the_value_that_has_it(score: float) -> None:
    assert score_of(value_of(score)) == pytest.approx(score)


def test_constants_are_those_of_the_pieces() -> None:
    assert value_of(MOST) == pytest.approx(END)
    ends = [start for start, _, _ in PIECES[1:]]
    assert max(slope * (1 + end) for (_, _, slope), end in zip(PIECES[:-1], ends, strict=True)) == STEEPEST
