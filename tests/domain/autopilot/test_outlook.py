"""What happens next, in words; and which accounts the autopilot may post to."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.autopilot.chains import Mode, due_days, next_begin
from domain.autopilot.consent import obstacle
from domain.autopilot.outlook import Prospect, outlook
from domain.autopilot.settings import Settings
from domain.posting.validation import Account

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
LATER = timedelta(hours=3)
BERLIN = ZoneInfo("Europe/Berlin")


def sentences(
    ready: tuple[str, ...] = ("ada (TikTok)",),
    left: str = "0",
    after: timedelta = LATER,
    under_way: int = 0,
    daily: int | None = None,
    unusable: str | None = None,
    policy_asks: bool = False,
    **settings: Any,
) -> list[str]:
    its = Settings(**{"mode": Mode.AUTO} | settings)
    money = Decimal(left)
    return outlook(Prospect(its, BERLIN, NOW, NOW + after, ready, (), money, unusable, under_way, daily, policy_asks))


def test_what_auto_does_names_time_accounts_and_money() -> None:
    assert sentences(("ada (TikTok)", "ada (Bluesky)"), times=("12:00", "18:30")) == [
        "the next day begins at 2026-11-28 16:00 (Europe/Berlin), or up to 40 minutes later: it makes 5 concepts, "
        "which count in the month's quota, and a video of the best, with a predicted score of at least 30 on each "
        "account",
        "videos are drawn here, for nothing",
        "posts appear at 12:00 and 18:30 by each account's clock on ada (TikTok) and ada (Bluesky); nobody is asked "
        "before",
    ]


def test_a_provider_that_cannot_work_is_not_promised() -> None:
    for left in ("0", "12"):
        says = sentences(left=left, provider="runway", budget_usd=Decimal(12), unusable="there is no key for runway")
        assert says[1] == (
            "no video can be made by runway now: there is no key for runway; a day waits up to 6 hours for it, and "
            "stops then; the storyboard is drawn here, for nothing"
        )


def test_a_day_that_is_due_begins_now_and_daily_concepts_are_used() -> None:
    assert sentences(after=timedelta(0), daily=3, videos_a_day=2)[0].startswith(
        "the next day begins within a few minutes: of the 3 concepts that are made each day anyway it makes videos of "
        "the best 2, with"
    )


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Apia", "America/New_York", "Pacific/Kiritimati"]),
    hour=st.integers(0, 23),
    served=st.none() | st.integers(-3, 1),
    hours=st.floats(0, 366 * 24),
)
def test_the_next_day_begins_when_it_is_due_and_not_before(
    zone: str, hour: int, served: int | None, hours: float
) -> None:
    now = NOW + timedelta(hours=hours)
    there = ZoneInfo(zone)
    last_on: date | None = None if served is None else now.astimezone(there).date() + timedelta(days=served)
    at = next_begin(there, hour, last_on, now)
    assert at >= now
    assert due_days(there, hour, last_on, at) is not None
    assert at == now or due_days(there, hour, last_on, at - timedelta(seconds=1)) is None


def test_what_approve_does_waits_for_a_person() -> None:
    says = sentences(mode=Mode.APPROVE)[-1]
    assert (
        says == "posts to ada (TikTok) are prepared for each concept's own time; each waits until a person approves it"
    )


def test_a_policy_that_asks_of_every_post_asks_of_the_autopilots_too() -> None:
    assert sentences(policy_asks=True)[-1] == (
        "posts to ada (TikTok) are prepared for each concept's own time; each waits until a person approves it, as the "
        "tenant's posting policy has it"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"mode": Mode.OFF}, "nothing: it is off", id="off"),
        pytest.param({"ready": ()}, "no account that consents and can be posted to", id="no consent"),
    ],
)
def test_why_nothing_happens_is_named(changes: dict[str, Any], says: str) -> None:
    (sentence,) = sentences(**changes)
    assert says in sentence


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({}, "and not made by runway: its budget is 0", id="no budget"),
        pytest.param({"budget_usd": Decimal(40)}, "and not made by runway: nothing of this month's", id="spent"),
        pytest.param({"budget_usd": Decimal(40), "left": "2.5"}, "for at most $2.50 more this month", id="some left"),
    ],
)
def test_what_money_there_is_decides_who_makes_the_videos(changes: dict[str, Any], says: str) -> None:
    assert says in sentences(provider="runway", **changes)[1]


def test_switched_off_it_says_what_becomes_of_what_is_under_way() -> None:
    assert len(sentences(mode=Mode.OFF, under_way=2)) == 2


@pytest.mark.parametrize(
    ("account", "code"),
    [
        pytest.param({"platform": "bluesky"}, None, id="nothing to choose"),
        pytest.param({"platform": "tiktok"}, "CHOICE_NEEDED", id="privacy was not chosen"),
        pytest.param({"platform": "tiktok", "settings": {"privacy_level": "SELF_ONLY"}}, None, id="privacy was chosen"),
        pytest.param({"platform": "tiktok", "settings": {"inbox": True}}, None, id="its owner publishes it"),
        pytest.param({"platform": "youtube-shorts"}, "CHOICE_NEEDED", id="YouTube too"),
        pytest.param({"platform": "bluesky", "status": "needs_reconnect"}, "NOT_ACTIVE", id="reconnect"),
        pytest.param({"platform": "bluesky", "status": "disconnected"}, "NOT_ACTIVE", id="disconnected"),
        pytest.param({"platform": "bluesky", "disabled": True}, "NOT_ACTIVE", id="disabled by our people"),
    ],
)
def test_what_a_person_has_to_choose_is_not_chosen_for_them(account: dict[str, Any], code: str | None) -> None:
    found = obstacle(Account(name="ada", **account), NOW)
    assert (found and found[0]) == code
