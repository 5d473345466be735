"""What happens next, in words; and which accounts the autopilot may post to."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.autopilot.chains import Mode
from domain.autopilot.consent import obstacle
from domain.autopilot.outlook import Prospect, outlook
from domain.autopilot.settings import Settings
from domain.posting.validation import Account

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def sentences(
    ready: tuple[str, ...] = ("ada (TikTok)",), left: str = "0", under_way: int = 0, **settings: Any
) -> list[str]:
    its = Settings(**{"mode": Mode.AUTO} | settings)
    return outlook(Prospect(its, BERLIN, NOW, ready, (), Decimal(left), under_way))


def test_what_auto_does_names_time_accounts_and_money() -> None:
    assert sentences(("ada (TikTok)", "ada (Bluesky)"), times=("12:00", "18:30")) == [
        "the next day begins at 2026-11-28 13:00 (Europe/Berlin): it makes 5 concepts, which count in the month's "
        "quota, and a video of the best of them, with a predicted score of at least 60 on each account",
        "videos are drawn here, for nothing",
        "posts appear at 12:00 and 18:30 by each account's clock on ada (TikTok) and ada (Bluesky); nobody is asked "
        "before",
    ]


def test_what_approve_does_waits_for_a_person() -> None:
    says = sentences(mode=Mode.APPROVE)[-1]
    assert (
        says == "posts to ada (TikTok) are prepared for the time of its concept; each waits until a person approves it"
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
    ],
)
def test_what_a_person_has_to_choose_is_not_chosen_for_them(account: dict[str, Any], code: str | None) -> None:
    found = obstacle(Account(name="ada", **account), NOW)
    assert (found and found[0]) == code
