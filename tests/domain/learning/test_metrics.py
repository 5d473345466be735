from datetime import date, timedelta

import pytest

from domain.learning.metrics import DEFINITIONS, METRICS, WORDS, asked, definition_of
from domain.videos.profiles import NAMES

COLUMNS = {"views", "likes", "comments", "shares"}


@pytest.mark.parametrize("platform", NAMES)
def test_a_column_that_is_asked_for_today_is_named_once_or_is_a_sum_of_shares(platform: str) -> None:
    kept = [each.kept for each in asked(platform, date(2026, 11, 27)) if each.kept != "shares"]
    assert len(kept) == len(set(kept))
    assert COLUMNS & set(kept) >= {"likes", "comments"}


@pytest.mark.parametrize("platform", NAMES)
@pytest.mark.parametrize("day", [date(2024, 1, 1), date(2025, 4, 20), date(2026, 8, 24), date(2027, 1, 1)], ids=str)
def test_views_have_a_definition_exactly_where_they_are_asked_for(platform: str, day: date) -> None:
    asks = any(each.kept == "views" for each in asked(platform, day))
    assert asks == (definition_of(platform, day) != "")


def test_views_of_youtube_are_other_views_from_24_august_2026_on() -> None:
    change = date(2026, 8, 24)
    before, after = definition_of("youtube-shorts", change - timedelta(days=1)), definition_of("youtube-shorts", change)
    assert before == "youtube-starts" != after
    assert WORDS[before] != WORDS[after]


def test_a_retired_metric_is_not_asked_for_from_its_end_on() -> None:
    end = date(2025, 4, 21)
    names = [{each.name for each in asked("instagram-reels", day)} for day in (end - timedelta(days=1), end)]
    assert [("plays" in each, "views" in each) for each in names] == [(True, False), (False, True)]


def test_names_of_definitions_are_used_once() -> None:
    assert len({each.name for each in DEFINITIONS}) == len(DEFINITIONS)
    assert {each.platform for each in METRICS} == set(NAMES)
