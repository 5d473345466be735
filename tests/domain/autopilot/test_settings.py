"""What a person may set, and the one text that says all that is wrong with it."""

from datetime import time
from decimal import Decimal

import pytest

from domain.autopilot.settings import Settings, check, clock_times
from domain.errors import Rejected


def test_the_defaults_are_off_free_and_right():
    check(Settings(), ["runway"])

    assert (Settings().mode, Settings().provider, Settings().budget_usd) == ("off", "storyboard", 0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"mode": "on"}, "the mode is off, approve, auto, not 'on'", id="mode"),
        pytest.param({"least_score": 101}, "the least score is 0 to 100, not 101", id="score"),
        pytest.param({"videos_a_day": 0}, "1 to 10 videos a day", id="none a day"),
        pytest.param({"videos_a_day": 3, "concepts_a_day": 2}, "need as many concepts a day, not 2", id="too few"),
        pytest.param({"concepts_a_day": 21}, "1 to 20 concepts a day", id="too many"),
        pytest.param({"times": ("9:30",)}, "not '9:30'", id="short time"),
        pytest.param({"times": ("24:00",)}, "not '24:00'", id="no such time"),
        pytest.param({"times": ("09:30", "09:30")}, "each once", id="a time twice"),
        pytest.param({"videos_a_day": 2, "times": ("09:30",)}, "need as many times a day", id="too few times"),
        pytest.param(
            {"times": ("23:58", "23:59")}, "23:58 and 23:59 are too near .* at least 1 hour apart", id="too near"
        ),
        pytest.param({"times": ("00:10", "12:00", "23:40")}, "23:40 and 00:10 are too near", id="near over midnight"),
        pytest.param({"times": tuple(f"{n % 24:02}:{n // 24}0" for n in range(25))}, "at most 24 times", id="25 times"),
        pytest.param({"provider": "sora"}, "storyboard, auto, luma, runway, not 'sora'", id="provider"),
        pytest.param({"budget_usd": Decimal("-1")}, "the budget is 0 to", id="negative"),
        pytest.param({"budget_usd": Decimal("1.005")}, "with cents at most, not 1.005", id="below a cent"),
        pytest.param({"budget_usd": Decimal("NaN")}, "not NaN", id="no number"),
    ],
)
def test_what_is_wrong_is_named(wrong, says):
    with pytest.raises(Rejected, match=says):
        check(Settings(**wrong), ["runway", "luma"])


def test_times_an_hour_apart_are_right_all_around_the_clock():
    check(Settings(times=tuple(f"{hour:02}:30" for hour in range(24))), [])


def test_all_that_is_wrong_is_in_one_text():
    with pytest.raises(Rejected, match=r"the mode.*; the least score"):
        check(Settings(mode="on", least_score=-1), [])


def test_times_are_in_the_order_of_the_clock():
    assert clock_times(Settings(times=("18:30", "09:05"))) == (time(9, 5), time(18, 30))
