"""What several sources saw becomes trends: merged, sorted into categories, honest about what is live."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.concepts.categories import categories
from domain.concepts.trends import (
    ENOUGH,
    EVERGREEN,
    LONGEST_TOPIC,
    MOST_TRENDS,
    Collected,
    Report,
    Sighting,
    as_row,
    classify,
    collected_of,
    collected_row,
    facts,
    fill,
    merge,
    topic_of,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def seen(topic: str, source: str = "google-trends", rank: int = 1, **fields: Any) -> Sighting:
    return Sighting(source, topic, rank, **fields)


def merged(*sightings: Sighting) -> list[str]:
    return [trend.topic for trend in merge(sightings, region="US", now=NOW)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("artemis iii", "Artemis III"),
        ("Artemis III", "Artemis III launch date"),
        ("lakers vs celtics", "Celtics – Lakers"),
        ("Beyoncé tour", "beyonce tour"),
        ("Thanksgiving side dishes", "thanksgiving side dish"),
    ],
)
def test_one_topic_in_other_words_is_one_trend(one: str, other: str) -> None:
    assert len(merged(seen(one), seen(other, "wikimedia", 2))) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("Lakers", "Lakers vs Celtics"), ("iPhone 18", "iPhone 17"), ("the car", "the card")]
)
def test_different_topics_stay_apart(one: str, other: str) -> None:
    assert len(merged(seen(one), seen(other, "wikimedia", 2))) == 2


def test_what_several_sources_see_is_hotter() -> None:
    alone = merge([seen("artemis iii", rank=10)], region="US", now=NOW)[0]
    both = merge([seen("artemis iii", rank=10), seen("Artemis III", "wikimedia", 10)], region="US", now=NOW)[0]
    assert both.sources == ("google-trends", "wikimedia")
    assert both.score > alone.score


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("He said the next car is maintained", None),
        ("AI writes a song about AI", "tech"),
        ("New recipe for pizza", "food"),
        ("Stocks fall as the Fed waits", "finance"),
        ("The bandage came off", None),
    ],
)
def test_categories_go_by_whole_words(text: str, category: str | None) -> None:
    """The original found "ai" in "said", "ar" in "car" and "ex" in "next"."""
    assert classify(text) == category


@pytest.mark.parametrize(
    ("title", "topic"),
    [
        ("Show HN: A tiny Postgres in Rust", "A tiny Postgres in Rust"),
        ("City council votes - The Courier", "City council votes"),
        ("Quiet song (Official Video)", "Quiet song"),
        ("AT&amp;T\x00 \u202eoutage", "AT&T outage"),
        ("[OC]", "[OC]"),
    ],
)
def test_a_title_becomes_a_topic(title: str, topic: str) -> None:
    assert topic_of(title) == topic


def test_search_terms_get_the_capitals_of_the_headline() -> None:
    assert merged(seen("artemis iii", headline="NASA moves Artemis III to the pad")) == ["Artemis III"]


def test_facts_are_what_sources_said_and_nothing_else() -> None:
    [trend] = merge(
        [seen("artemis iii", count=20_000, measure="searches", headline="NASA moves Artemis III", publisher="AP")],
        region="US",
        now=NOW,
    )
    assert facts(trend) == (
        "More than 20,000 searches in the US (Google Trends).",
        "“NASA moves Artemis III” (AP).",
    )


@pytest.mark.parametrize("topic", ["plane crash kills twelve", "Actor dies at 80", "earthquake today", "the war in X"])
def test_death_and_disaster_are_reported_and_marked(topic: str) -> None:
    [trend] = merge([seen(topic)], region="US", now=NOW)
    assert trend.sensitive


@pytest.mark.parametrize("topic", ["award show", "warm soup", "deadline app", "a diet for cats"])
def test_words_that_only_look_like_it_are_fine(topic: str) -> None:
    [trend] = merge([seen(topic)], region="US", now=NOW)
    assert not trend.sensitive


def test_evergreen_topics_fill_up_and_are_not_live() -> None:
    live = merge([seen("artemis iii"), seen("plane crash", "gnews")], region="US", now=NOW)
    filled = fill(live, region="US", rng=Random(1), now=NOW)
    assert filled[:2] == live
    evergreen = filled[2:]
    assert len(evergreen) == ENOUGH - 1  # the crash cannot be used
    assert len({trend.category for trend in evergreen}) == len(evergreen)
    for trend in evergreen:
        row = as_row(trend)
        assert (row["source"], row["live"], row["engagementCount"], row["facts"]) == (EVERGREEN, False, None, [])


def test_enough_live_topics_need_no_filling() -> None:
    live = merge([seen(f"topic{n} word{n}", rank=n) for n in range(1, ENOUGH + 1)], region="US", now=NOW)
    assert fill(live, region="US", rng=Random(1), now=NOW) == live


def test_each_evergreen_topic_is_one_topic_that_may_be_used() -> None:
    topics = [topic for category in categories().values() for topic in category.evergreen]
    assert all(len(merged(seen(topic))) == 1 for topic in topics)
    assert not any(merge([seen(topic)], region="US", now=NOW)[0].sensitive for topic in topics)


sightings = st.builds(
    Sighting,
    source=st.sampled_from(["google-trends", "wikimedia", "reddit", "gnews"]),
    topic=st.text(max_size=200),
    rank=st.integers(1, 60),
    headline=st.none() | st.text(max_size=100),
    publisher=st.none() | st.text(max_size=20),
    published_at=st.none() | st.datetimes(datetime(2026, 11, 15), datetime(2026, 11, 23), timezones=st.just(UTC)),  # noqa: DTZ001
    count=st.none() | st.integers(0, 10**9),
    measure=st.none() | st.sampled_from(["searches", "views"]),
    category=st.none() | st.sampled_from([*categories(), "unheard-of"]),
)


@given(st.lists(sightings, max_size=40), st.randoms(use_true_random=True))
def test_whatever_was_seen_in_any_order_becomes_the_same_sound_trends(found: list[Sighting], rng: Any) -> None:
    trends = merge(found, region="US", now=NOW)
    shuffled = list(found)
    rng.shuffle(shuffled)
    assert merge(shuffled, region="US", now=NOW) == trends
    assert len(trends) <= MOST_TRENDS
    for trend in trends:
        assert 0 < len(trend.topic) <= LONGEST_TOPIC
        assert trend.category in categories()
        assert all(0 <= mark <= 100 for mark in (trend.visual_potential, trend.emotional_impact, trend.shareability))
        assert 0 <= trend.score <= 100


@given(st.lists(sightings, max_size=5))
def test_what_was_collected_survives_as_json(found: list[Sighting]) -> None:
    reports = (Report("reddit", "live", 3, NOW), Report("gnews", "failed", 0, None, "gnews answers 503"))
    collected = Collected("DE", NOW, tuple(found), reports)
    assert collected_of(collected_row(collected)) == collected


def test_age_goes_by_the_newest_sighting() -> None:
    old = seen("artemis iii", published_at=NOW - timedelta(hours=30))
    [trend] = merge([old], region="US", now=NOW)
    assert trend.recency == "yesterday"
    [trend] = merge([old, replace(old, source="gnews", published_at=NOW)], region="US", now=NOW)
    assert trend.recency == "today"
