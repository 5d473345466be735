"""What is read of a row of the log is learned without an error, whatever stands in it."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.learning.learner import Learner
from domain.learning.log import Logged, read
from domain.learning.numbers import Horizon, Numbers
from domain.learning.outcomes import Features, Prior
from domain.learning.pool import built_in

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
NUMBERS = Numbers(views=1000, likes=60, comments=3, shares=2, definition="tiktok-views")
DEFINITION = "tiktok-views/likes+comments+shares"


def logged(**columns: Any) -> Logged:
    row = {"id": UUID(int=7), "platform": "tiktok", "horizon": Horizon.H24, "observed_at": AT, "numbers": NUMBERS}
    return Logged(**row | {"removed": False, "account": "a", "category": None} | columns)


def predicted(*rows: tuple[str, str, float, int | None], features: Any = None) -> Logged:
    models, definitions, values, prior_ids = zip(*rows, strict=True)
    return logged(models=models, definitions=definitions, values=values, prior_ids=prior_ids, features=features)


def test_an_outcome_has_its_predictions_and_their_prior() -> None:
    prior = Prior(1.5, {"tech": 2.0}, 4)
    row = predicted(("m/v1", DEFINITION, 1.25, 4), ("n/v1", DEFINITION, 2.5, 4), features={"account": "b", "hour": 9})
    found = read(row, {4: prior})
    assert found.outcome is not None
    assert (found.outcome.prior, found.outcome.predicted) == (prior, {"m/v1": 1.25, "n/v1": 2.5})
    assert found.outcome.features == Features("b", hour=9)
    assert (found.key.platform, found.key.horizon, found.key.definition) == ("tiktok", Horizon.H24, DEFINITION)


def test_predictions_under_another_definition_say_nothing_of_this_outcome() -> None:
    row = predicted(("m/v1", "tiktok-views/likes", 1.25, 4), features={"account": "a"})
    outcome = read(row, {4: Prior(9.0)}).outcome
    assert outcome is not None
    assert (outcome.predicted, outcome.prior) == ({}, built_in("tiktok"))


def test_moments_are_of_one_clock() -> None:
    """A position is kept as text."""
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    outcome = read(logged(observed_at=elsewhere), {}).outcome
    assert outcome is not None
    assert outcome.position[0].isoformat() == "2026-11-27T12:00:00+00:00"


def test_views_without_a_definition_are_those_of_the_day() -> None:
    assert read(logged(numbers=Numbers(views=1000, likes=60)), {}).definition == "tiktok-views/likes"


def test_a_feature_that_this_release_does_not_know_is_left_out() -> None:
    row = predicted(("m/v1", DEFINITION, 1.25, None), features={"account": "a", "mood": "blue"})
    assert read(row, {}).outcome is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
COUNT = st.none() | st.integers(-(2**63), 2**63 - 1)


@given(
    features=st.none() | JSON | st.dictionaries(st.sampled_from([*Features.__slots__, "mood"]), JSON, max_size=4),
    value=st.floats(),
    counts=st.tuples(COUNT, COUNT, COUNT, COUNT),
)
def test_whatever_stands_in_a_row_it_is_learned_or_set_aside(
    features: Any, value: float, counts: tuple[int | None, ...]
) -> None:
    learner = Learner()
    names = ("views", "likes", "comments", "shares")
    for numbers in (NUMBERS, Numbers(**dict(zip(names, counts, strict=True)), definition="tiktok-views")):  # type: ignore[arg-type]
        found = read(
            logged(
                **{"models": ["shrinkage/v1"], "definitions": [DEFINITION], "values": [value], "prior_ids": [None]},
                **{"features": features, "numbers": numbers},
            ),
            {},
        )
        assert (found.outcome is None) == bool(found.reason)
        if found.outcome is not None:
            learner.learn(found.outcome)
    json.dumps(learner.row(), allow_nan=False)
