"""What concepts must be, whoever writes them; and that the offline grammar's are, whatever people look at."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.concepts.categories import categories
from domain.concepts.formats import HEADLINE, formats
from domain.concepts.generation import (
    MOST_CONCEPTS,
    MOST_PER_CATEGORY,
    ConceptRequest,
    ConceptResponse,
    PastConcept,
    Segment,
    TrendsTooFew,
    Usage,
    Variant,
    check_count,
    compose,
    response_of,
    response_row,
    trends_of,
    usable,
    violations,
)
from domain.concepts.grammar import LocalGrammar, drafts_of
from domain.concepts.trends import Sighting, evergreens, fill, merge
from domain.concepts.wording import claims
from domain.errors import Rejected
from domain.learning.critique.lessons import ActiveLesson
from domain.learning.outcomes import Features
from domain.learning.scoring import Scoring, shown_row
from tests.past_concepts import all_past_concepts

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIVE = (
    Sighting(
        "google-trends",
        "artemis iii",
        1,
        headline="NASA rolls the Artemis III rocket to the pad",
        publisher="Space Daily",
        count=20_000,
        measure="searches",
    ),
    Sighting("wikimedia", "Artemis III", 3, count=91_000, measure="page views"),
    Sighting("hacker-news", "Show HN: A tiny Postgres in Rust", 1, count=412, measure="points", category="tech"),
    Sighting("reddit", "My cat learned to open the fridge and now nobody is safe", 1, category="emotional"),
    Sighting("gnews", "Plane crash kills twelve", 1),
)


def a_request(*sightings: Sighting, seed: int = 1, **fields: Any) -> ConceptRequest:
    trends = fill(merge(sightings, region="US", now=NOW), region="US", rng=Random(seed), now=NOW)
    return ConceptRequest(
        **{"count": 5, "past": (), "region": "US", "now": NOW} | fields, seed=seed, trends=usable(trends)
    )


def grammar(request: ConceptRequest) -> ConceptResponse:
    return LocalGrammar().write(request)


# --- the grammar --------------------------------------------------------------------------------------------


def test_concepts_from_live_trends_name_their_sources_and_facts() -> None:
    request = a_request(*LIVE)
    response = grammar(request)
    assert violations(response, request) == []
    live = [draft for draft in response.drafts if draft.topic == "Artemis III"]
    assert live
    text = json.dumps(response_row(response), ensure_ascii=False)
    assert "“NASA rolls the Artemis III rocket to the pad” (Space Daily)." in text
    assert "Seen on: Space Daily, Wikipedia." in live[0].caption


def test_nobodys_disaster_becomes_a_concept() -> None:
    for seed in range(20):
        assert not any("crash" in draft.topic.casefold() for draft in grammar(a_request(*LIVE, seed=seed)).drafts)


def test_without_any_source_there_are_still_five_that_claim_nothing() -> None:
    request = a_request()
    response = grammar(request)
    assert violations(response, request) == []
    assert not any("Seen on" in draft.caption for draft in response.drafts)


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("Every coffee I drank this year", "“Every coffee I drank this year”"),
        ("The Lord of the Rings", "the Lord of the Rings"),
        ("iPhone 18", "iPhone 18"),
        ("Is this it? Yes.", "“Is this it? Yes.”"),
    ],
)
def test_titles_are_quoted_and_names_are_not(topic: str, text: str) -> None:
    request = a_request(Sighting("reddit", topic, 1))
    [draft] = [draft for draft in grammar(request).drafts if draft.topic == topic]
    assert text in draft.caption or text[0].upper() + text[1:] in draft.caption


def test_lessons_make_formats_likelier_or_less_likely_and_exclude_none() -> None:
    def counted(lessons: tuple[ActiveLesson, ...]) -> Counter[str]:
        made = (drafts_of(a_request(LIVE[0], seed=seed, count=1, lessons=lessons)) for seed in range(300))
        return Counter(draft.format for drafts in made for draft in drafts if draft.format)

    plain = counted(())
    name = plain.most_common(1)[0][0]
    for more, lists in ((True, ((name,), ())), (False, ((), (name,)))):
        lesson = ActiveLesson(UUID(int=1), "food", "tiktok", "a pattern", "an advice", *lists)
        found = counted((lesson,))
        assert (found[name] > plain[name]) is more
        assert found[name] > 0
        assert found == counted((lesson,))


def test_lessons_count_for_as_long_as_they_hold_and_not_only_for_the_first_concepts() -> None:
    """Formats take turns by what a customer had lately, so it takes several generations to see."""

    def used(name: str, *lessons: ActiveLesson) -> int:
        past: list[PastConcept] = []
        for seed in range(12):
            trends = tuple(evergreens(region="US", rng=Random(seed), now=NOW))
            request = ConceptRequest(5, trends, tuple(past), "US", seed, NOW, lessons=lessons)
            past += [PastConcept(each.title, each.topic, each.format) for each in drafts_of(request)]
        return sum(each.format == name for each in past)

    def lesson(prefer: tuple[str, ...], avoid: tuple[str, ...]) -> ActiveLesson:
        return ActiveLesson(UUID(int=1), "food", "tiktok", "a pattern", "an advice", prefer, avoid)

    name = "two-chairs"
    plain = used(name)
    assert used(name, lesson((name,), ())) >= 2 * plain > 0
    assert used(name, lesson((), (name,))) < plain


def test_one_seed_one_answer() -> None:
    assert grammar(a_request(*LIVE, seed=7)) == grammar(a_request(*LIVE, seed=7))
    assert grammar(a_request(*LIVE, seed=7)) != grammar(a_request(*LIVE, seed=8))


topics = st.text(max_size=90) | st.sampled_from(
    ["{topic}", "{0}", "%s", "#1 hit", "50% off", "Breaking: leaked miracle cure", "日本のニュース", "a", "1999"]
)


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(Sighting, st.just("reddit"), topics, st.integers(1, 30), headline=st.none() | topics), max_size=15
    ),
    st.integers(0, 2**64),
    st.integers(1, MOST_CONCEPTS),
)
def test_whatever_people_look_at_it_keeps_the_rules(found: list[Sighting], seed: int, count: int) -> None:
    request = a_request(*found, seed=seed, count=count)
    response = grammar(request)
    assert violations(response, request) == []
    assert max(Counter(draft.category for draft in response.drafts).values()) <= MOST_PER_CATEGORY


def test_a_tenant_with_fifty_concepts_a_month_sees_none_twice_in_90_days() -> None:
    past: tuple[PastConcept, ...] = ()
    for day in range(30):
        request = a_request(*LIVE, seed=day, past=past)
        response = grammar(request)
        assert violations(response, request) == [], f"day {day}"
        past += tuple(PastConcept(draft.title, draft.topic, draft.format) for draft in response.drafts)
    assert len({past.title for past in past}) == 150


@pytest.mark.proof
@settings(max_examples=15, deadline=None)
@given(
    untold=st.sets(st.integers(0, 1100), max_size=30),
    seed=st.integers(0, 2**64),
    count=st.integers(1, MOST_CONCEPTS),
    live=st.sets(st.sampled_from(LIVE), max_size=2),
)
def test_it_delivers_what_was_asked_or_says_how_many_there_are(
    untold: set[int], seed: int, count: int, live: set[Sighting]
) -> None:
    """A customer of 500 concepts a month has been told nearly everything."""
    past = tuple(each for n, each in enumerate(all_past_concepts()) if n not in untold)
    request = a_request(*live, seed=seed, count=count, past=past)
    request = replace(request, reserve=tuple(evergreens(region="US", rng=Random(seed), now=NOW)))
    made = len(drafts_of(request))
    if made < count:
        with pytest.raises(TrendsTooFew) as refused:
            grammar(request)
        possible = f"only {made} can be made" if made else "none can be made"
        asked = "1 concept asked for" if count == 1 else f"{count} concepts asked for"
        assert str(refused.value).startswith(f"{asked}, and {possible} from the present trends, ")
        assert all(trend.topic[:20] in str(refused.value) for trend in request.trends if trend.live)
    if made:
        possible_request = replace(request, count=made)
        response = grammar(possible_request)
        assert violations(response, possible_request) == []
        assert [trend.topic for trend in trends_of(response, request)] == [draft.topic for draft in response.drafts]


def test_one_is_found_as_long_as_there_is_one() -> None:
    """However few topics are drawn: of 5,524 customers who wanted one, 6 got none."""
    past = all_past_concepts()
    for n in range(0, len(past), 60):
        request = a_request(seed=n, count=1, past=(*past[:n], *past[n + 1 :]))
        request = replace(request, reserve=tuple(evergreens(region="US", rng=Random(n), now=NOW)))
        assert violations(grammar(request), request) == [], past[n]


def test_the_formats_are_sound() -> None:
    assert Counter(each.category for each in formats() if not each.native) == dict.fromkeys(categories(), 2)
    assert len({each.name for each in formats()}) == len(formats())
    for each in formats():
        text = json.dumps([each.titles, each.captions, each.why, [beat.text for beat in each.beats]])
        assert claims(text) == [], each.name
        for beat in each.beats:
            assert ("{fact}" in (beat.text or "")) <= (beat.unproven is not None or each.needs == HEADLINE), each.name


# --- the rules ----------------------------------------------------------------------------------------------


def broken(response: ConceptResponse, request: ConceptRequest, **changes: Any) -> str:
    """The violations, if the first draft were different in this."""
    first, *others = response.drafts
    return "; ".join(violations(replace(response, drafts=(replace(first, **changes), *others)), request))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"category": "sports"}, "unknown category"),
        ({"topic": "the moon"}, "not among the trends"),
        ({"title": "Short"}, "title has 5 characters"),
        ({"hashtags": ("#one", "two words", "#three")}, "malformed hashtag"),
        ({"hashtags": ("#one",)}, "1 hashtag: use 3 to 8"),
        ({"script": ()}, "0 script segments"),
        ({"script": tuple(Segment(n, n + 2, "x" * 20, None, "close") for n in (0, 3, 6))}, "without gaps"),
        ({"script": tuple(Segment(n, n + 1, "x" * 20, None, "close") for n in (0, 1, 2))}, "lasts 3 s"),
        ({"variants": (Variant("A title, guaranteed", "Get rich with this one, they say."),)}, "claims a guarantee"),
        ({"caption": "Doctors hate this one, and 97% of them agree."}, "claims what professionals"),
        ({"caption": "A fine thing, of which 97% of people say so."}, "figures that no source gave: 97"),
    ],
)
def test_every_rule_is_looked_at(changes: dict[str, Any], fault: str) -> None:
    request = a_request(*LIVE)
    assert fault in broken(grammar(request), request, **changes)


def test_a_topic_that_is_never_mentioned_is_seen() -> None:
    request = a_request(*LIVE)
    script = tuple(Segment(n, n + 5, "x" * 20, "look", "close") for n in (0, 5, 10))
    blank = {"title": "Something to see here", "caption": "Nothing in particular, again.", "variants": ()}
    assert "never mentions its topic" in broken(grammar(request), request, script=script, **blank)


def test_what_a_source_says_may_be_quoted() -> None:
    request = a_request(
        Sighting("gnews", "Miracle cure leaked", 1, headline="Miracle cure leaked: 97% sure", publisher="X")
    )
    assert violations(grammar(request), request) == []


def test_too_few_too_many_of_one_category_and_twice_the_same() -> None:
    request = a_request(*LIVE)
    response = grammar(request)
    first = response.drafts[0]
    assert violations(replace(response, drafts=response.drafts[:3]), request) == [
        "5 concepts were asked for, and 3 delivered"
    ]
    none = violations(replace(response, drafts=()), replace(request, count=1))
    assert none == ["1 concept was asked for, and 0 delivered"]
    found = "; ".join(violations(replace(response, drafts=(first,) * 5), request))
    assert f"5 concepts in {first.category}: at most 2" in found
    assert "concept 2: too close to one" in found


@pytest.mark.parametrize("count", [0, -1, MOST_CONCEPTS + 1])
def test_a_count_that_cannot_be_had_is_refused(count: int) -> None:
    with pytest.raises(Rejected, match=f"count is {count}"):
        check_count(count)


def test_an_answer_survives_as_json() -> None:
    response = replace(grammar(a_request(*LIVE)), usage=Usage("anthropic/x", 10, 20, "0.000220"))
    assert response_of(json.loads(json.dumps(response_row(response)))) == response


# --- what is kept -------------------------------------------------------------------------------------------


def test_the_old_app_can_read_what_is_kept() -> None:
    request = a_request(*LIVE)
    rows = compose(grammar(request), request, Scoring(), job_id=UUID(int=1), timezone="Europe/Berlin")
    assert len({row["id"] for row in rows}) == 5
    for row in rows:
        assert {"timeRange", "visual", "onScreenText", "camera"} == row["script"][0].keys()
        assert row["veoPrompt"].startswith(row["soraPrompt"])
        assert [variant["label"] for variant in row["variants"]] == ["A", "B", "C"]
        assert row["variants"][0]["title"] == row["title"]
        assert row["platformVirality"].keys() == {"tiktok", "youtubeShorts", "instagramReels"}
        assert row["generator"] == "local-grammar/v1"
        assert datetime.fromisoformat(row["postTime"]["utc"]) == datetime.fromisoformat(row["postTime"]["local"])
    assert json.loads(json.dumps(rows)) == rows


def test_concepts_of_the_strongest_trend_come_first_and_are_scored_by_the_champion() -> None:
    request = a_request(*LIVE)
    response = grammar(request)
    backwards = replace(response, drafts=tuple(sorted(response.drafts, key=lambda draft: draft.title)))
    rows = compose(backwards, request, Scoring(), job_id=UUID(int=1), timezone=None)
    trends = [request.trend(row["topic"]) for row in rows]
    strengths = [(each.live, each.score) for each in trends if each is not None]
    assert strengths == sorted(strengths, reverse=True)
    assert len(set(strengths)) > 1
    assert [row["postTime"]["utc"] for row in rows] == sorted(row["postTime"]["utc"] for row in rows)
    for row in rows:
        expected = Scoring().shown("tiktok", Features("", row["category"]), request.now.date())
        assert expected is not None
        assert row["platformVirality"]["tiktok"] == shown_row(expected)
