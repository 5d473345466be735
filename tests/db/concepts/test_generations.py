"""The old app's storage, for one tenant: what is saved is found again, and nobody else's is touched."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from db.concepts.generations import PAGE_BYTES
from db.learning.reflexion import Adjustment, Critique, Insight
from db.schema.concepts import generations
from db.transaction import Tx
from domain.concepts.generation import Generation
from domain.errors import IdTaken
from tests.builders import a_tenant, tenant
from workers.app import App

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def ada(app: App) -> UUID:
    return a_tenant(app)


@pytest.fixture
def tx(app: App, ada: UUID) -> Iterator[Tx]:
    with app.db.transaction(ada) as tx:
        yield tx


def a_generation(day: int = 0, title: str = "Cats", category: str = "absurd", **columns: Any) -> Generation:
    concept = {"title": title, "caption": "Meow 100%", "hashtags": ["#Purr"], "trendSource": "x", "category": category}
    plain = Generation(uuid4(), NOON + timedelta(days=day), [concept], [{"topic": "Kittens"}])
    return replace(plain, **columns)


def test_saved_twice_is_changed_and_no_quota_is_consumed(app: App, ada: UUID) -> None:
    one = a_generation()
    with app.db.transaction(ada) as tx:
        tx.generations.save(ada, one)
        tx.generations.save(ada, replace(one, is_favorite=True))
        assert tx.generations.get(ada, one.id) == replace(one, is_favorite=True)
        assert tx.generations.toggle_favorite(ada, one.id) is False
        assert tx.generations.set_favorite(ada, one.id, True) is True
        assert tx.generations.delete(ada, one.id)
        assert not tx.generations.delete(ada, one.id)
        assert tx.generations.toggle_favorite(ada, one.id) is None
    assert tenant(app, ada)["used_quota"] == 0


def test_another_tenants_id_is_refused_and_their_rows_are_left_alone(app: App, ada: UUID) -> None:
    bob = a_tenant(app, name="Bob")
    one = a_generation()
    critique = Critique(uuid4(), "k", "text", NOON)
    with app.db.transaction(ada) as tx:
        tx.generations.save(ada, one)
        tx.learning.save_critique(ada, critique)
    with app.db.transaction(bob) as tx:
        with pytest.raises(IdTaken):
            tx.generations.save(bob, replace(one, concepts=[]))
        with pytest.raises(IdTaken):
            tx.learning.save_critique(bob, replace(critique, critique="theirs"))
        assert tx.generations.get(ada, one.id) is None
        assert not tx.generations.delete(ada, one.id)
    with app.db.transaction(ada) as tx:
        assert tx.generations.get(ada, one.id) == one
        assert tx.learning.critiques(ada).found == [critique]


def test_pages_together_are_the_history_also_where_dates_are_equal(tx: Tx, ada: UUID) -> None:
    saved = [a_generation(day=n // 3) for n in range(10)]
    for one in saved:
        tx.generations.save(ada, one)
    found, after = [], None
    while True:
        page = tx.generations.history(ada, limit=4, after=after)
        found += page.generations
        after = page.next
        if after is None:
            break
    assert [one.id for one in found] == [
        one.id for one in sorted(saved, key=lambda one: (one.date, one.id), reverse=True)
    ]


def a_large_one(day: int, size: int, filled_with: str) -> Generation:
    """`size`: characters of its JSON, about."""
    rng = Random(day)
    caption = filled_with * size if filled_with else rng.randbytes(size // 2 + 1).hex()[:size]
    return a_generation(day, concepts=[{"title": "Cats", "caption": caption}])


@pytest.mark.parametrize("filled_with", ["a", ""], ids=["shrinks on disk", "does not shrink"])
@pytest.mark.parametrize(
    ("sizes", "pages"),
    [
        ([9, 9, 9], [3]),
        ([100_000] * 50, [20, 20, 10]),
        ([PAGE_BYTES + 1] * 2, [1, 1]),
        ([9, PAGE_BYTES + 1, 9, 9], [2, 1, 1]),
        ([9, 9, PAGE_BYTES // 2, PAGE_BYTES // 2, 9], [2, 3]),
        ([PAGE_BYTES - 100, 9, 9, 9, 9, 9], [5, 1]),
    ],
)
def test_a_page_has_no_more_bytes_than_it_may_but_one_generation_at_least(
    tx: Tx, ada: UUID, sizes: list[int], pages: list[int], filled_with: str
) -> None:
    """Sizes are from the oldest on; the newest come first."""
    saved = [a_large_one(day, size, filled_with) for day, size in enumerate(sizes)]
    for one in saved:
        tx.generations.save(ada, one)
    found, counts, after = [], [], None
    while after is not None or not counts:
        page = tx.generations.history(ada, limit=100, after=after)
        found += page.generations
        counts.append(len(page.generations))
        after = page.next
    assert found == saved[::-1]
    assert counts == pages


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(sizes=st.lists(st.integers(0, PAGE_BYTES), max_size=5), limit=st.integers(1, 4))
def test_pages_of_any_sizes_together_are_the_history(tx: Tx, ada: UUID, sizes: list[int], limit: int) -> None:
    tx.sql.execute(delete(generations))
    saved = [a_large_one(n // 2, size, "ab") for n, size in enumerate(sizes)]
    for one in saved:
        tx.generations.save(ada, one)
    found, after, left = [], None, 20
    while left:
        page = tx.generations.history(ada, limit=limit, after=after)
        found += [one.id for one in page.generations]
        sizes_of_page = [
            len(json.dumps([one.concepts, one.trends, one.sources], ensure_ascii=False)) for one in page.generations
        ]
        assert len(sizes_of_page) in (0, 1) or (len(sizes_of_page) <= limit and sum(sizes_of_page) <= PAGE_BYTES)
        after, left = page.next, left - 1 if page.next else 0
    assert found == [one.id for one in sorted(saved, key=lambda one: (one.date, one.id), reverse=True)]


def test_favorites_and_dates_both_ends_within(tx: Tx, ada: UUID) -> None:
    first, second, third = (a_generation(day=n, is_favorite=n == 1) for n in range(3))
    for one in (first, second, third):
        tx.generations.save(ada, one)
    assert tx.generations.history(ada, favorites=True).generations == [second]
    assert tx.generations.history(ada, since=first.date, until=second.date).generations == [second, first]


@pytest.mark.parametrize("search", ["cAtS", "MEOW", "#purr", "100%", "kittens", 'say "hi"', "\\o/", "ünder_", "X"])
def test_a_search_finds_parts_of_texts_in_any_case(tx: Tx, ada: UUID, search: str) -> None:
    one = a_generation(title='Cats say "hi" \\o/ ünder_score')
    tx.generations.save(ada, one)
    tx.generations.save(ada, replace(a_generation(title="Dogs"), concepts=[], trends=[]))
    assert tx.generations.history(ada, search=search).generations == [one]


@pytest.mark.parametrize("search", ["zebra", "100_", "%", "absurd", "title", "a\0b\ud800"])
def test_a_search_takes_its_text_literally(tx: Tx, ada: UUID, search: str) -> None:
    bare = {"title": "Cats", "category": "absurd"}
    tx.generations.save(ada, replace(a_generation(), concepts=[bare]))
    assert tx.generations.history(ada, search=search).generations == []


def test_analytics_count_what_is_there(tx: Tx, ada: UUID) -> None:
    for one in (a_generation(), a_generation(day=1, category="tech"), a_generation(day=1, concepts=[{}, {}])):
        tx.generations.save(ada, one)
    counted = tx.generations.analytics(ada)
    assert (counted.generations, counted.concepts) == (3, 4)
    assert counted.categories == {"absurd": 1, "tech": 1}
    assert counted.trends == {"Kittens": 3}
    assert counted.days == {NOON.date(): 1, NOON.date() + timedelta(days=1): 2}
    assert tx.generations.analytics(ada, since=NOON + timedelta(hours=1)).generations == 2


def test_analytics_have_an_end_whatever_is_counted(tx: Tx, ada: UUID) -> None:
    """As imported: three thousand categories, one of them a long text, and a generation on each of as many days."""
    named = [{"category": f"c{n % 3000}"} for n in range(3001)] + [{"category": "long" * 1000}, {}]
    topics = [{"topic": f"t{n:05d}" + "x" * 1000} for n in range(3000)]
    tx.generations.save(ada, a_generation(concepts=named, trends=topics))
    tx.driver.execute(
        "INSERT INTO generations (tenant_id, date) SELECT %s, timestamptz '1990-01-01Z' + n * interval '1 day' "
        "FROM generate_series(1, 4000) n",
        (ada,),
    )
    counted = tx.generations.analytics(ada)
    assert (counted.generations, counted.concepts) == (4001, 3003)
    assert (len(counted.categories), next(iter(counted.categories.items()))) == (100, ("c0", 2))
    assert {len(topic) for topic in counted.trends} == {200}
    assert (len(counted.days), max(counted.days)) == (3660, NOON.date())


def test_critiques_by_concept_and_not_yet_applied(tx: Tx, ada: UUID) -> None:
    first = Critique(uuid4(), "k1", "text", NOON, performance_gap={"gap": 1}, scoring_issues=["hook"])
    second = Critique(uuid4(), "k2", "text", NOON + timedelta(days=1))
    for critique in (first, second):
        tx.learning.save_critique(ada, critique)
    assert tx.learning.critiques(ada) == ([second, first], None)
    assert tx.learning.critiques(ada, concept_id="k1").found == [first]
    applied = replace(second, applied_at=NOON)
    tx.learning.save_critique(ada, applied)
    assert tx.learning.critiques(ada, unapplied=True).found == [first]
    page, after = tx.learning.critiques(ada, limit=1)
    assert (page, tx.learning.critiques(ada, limit=1, after=after)) == ([applied], ([first], None))


def test_an_insight_is_one_for_its_category_platform_and_pattern(tx: Tx, ada: UUID) -> None:
    first = Insight(uuid4(), "tech", "tiktok", "p" * 5000, NOON, NOON)
    again = replace(first, id=uuid4(), evidence_count=2, last_seen_at=NOON + timedelta(days=1))
    tx.learning.save_insight(ada, first)
    tx.learning.save_insight(ada, again)
    assert (
        tx.learning.insights(ada) == tx.learning.insights(ada, category="tech") == ([replace(again, id=first.id)], None)
    )
    assert tx.learning.insights(ada, category="food").found == []
    assert tx.learning.insights(ada, pattern=first.pattern).found == [replace(again, id=first.id)]
    assert tx.learning.insights(ada, pattern="none").found == []


def test_adjustments_and_what_there_is_of_each(tx: Tx, ada: UUID) -> None:
    first = Adjustment(uuid4(), "tech", "category-weight", 0.9, 0.8100000000000001, NOON)
    second = replace(first, id=uuid4(), category="food", applied_at=NOON + timedelta(days=1))
    for adjustment in (first, second):
        tx.learning.save_adjustment(ada, adjustment)
    tx.learning.save_critique(ada, Critique(uuid4(), "k", "text", NOON))
    assert tx.learning.adjustments(ada).found == [second, first]
    assert tx.learning.adjustments(ada, category="tech").found == [first]
    assert tuple(tx.learning.stats(ada, NOON - timedelta(days=7))) == (1, 0, 2, 1)
    assert tx.learning.stats(ada, NOON).recent_critiques == 0
