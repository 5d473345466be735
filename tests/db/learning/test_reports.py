"""Groups of posts, against the same arithmetic done here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

import pytest

from domain.learning.numbers import Horizon
from domain.learning.performance import By, Cell, Figures
from tests.numbers_stage import DAY, Measured
from tests.seeds import seeded
from tests.workers.ops.test_posts import NOW
from workers.app import App
from workers.ops import analytics

WHEN = NOW - 10 * DAY


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Measured:
    return Measured(app, timezone="Pacific/Apia")


def report(app: App, ada: Measured, by: By = By.PLATFORM, **wanted: Any) -> dict[str | None, Cell]:
    return {cell.key: cell for cell in analytics.performance(app, ada.id, by=by, **wanted).cells}


def figures(values: Sequence[float]) -> Figures:
    """What is to be found of these, by Python's own quartiles."""
    if not values:
        return Figures()
    lower, median, upper = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    whole = all(isinstance(each, int) for each in values)
    return Figures(len(values), sum(values) if whole else None, min(values), lower, median, upper, max(values))  # type: ignore[arg-type]


def close(found: Figures, expected: Figures) -> bool:
    if (found.count, found.total) != (expected.count, expected.total):
        return False
    return not found.count or [
        *(found.least, found.lower_quartile, found.median, found.upper_quartile, found.most)
    ] == pytest.approx(
        [*(expected.least, expected.lower_quartile, expected.median, expected.upper_quartile, expected.most)]
    )


def test_figures_are_those_of_the_posts_that_have_the_number(app: App, ada: Measured) -> None:
    rng = seeded("reports")
    accounts = {platform: ada.account(platform) for platform in ("tiktok", "youtube-shorts", "mastodon")}
    seen: dict[tuple[str, str], list[tuple[int | None, ...]]] = {}
    counts: dict[str, list[int]] = {platform: [0, 0, 0, 0] for platform in accounts}

    def draw() -> int | None:
        return rng.choice([None, 0, rng.randrange(50), rng.randrange(10**9)])

    for _ in range(60):
        platform = rng.choice(list(accounts))
        at = NOW - timedelta(hours=rng.randrange(1, 24 * 20))
        post_id = ada.published(accounts[platform], at=at)
        counts[platform][0] += 1
        state = rng.choice(["met", "met", "missed", "nothing"])
        if state == "met":
            numbers = tuple(draw() for _ in range(4)) if platform != "mastodon" else (None, draw(), draw(), draw())
            definition = rng.choice(["a", "b"]) if platform == "youtube-shorts" else "a"
            definition = "" if numbers[0] is None else definition
            ada.look(post_id, Horizon.H24, *numbers, definition=definition)
            ada.look(post_id, Horizon.H6, 10**15, 10**15, 10**15, 10**15, definition="b")  # another horizon's
            seen.setdefault((platform, definition), []).append(numbers)
            counts[platform][1] += 1
        elif state == "missed":
            ada.miss(post_id, Horizon.H24, "away")
            counts[platform][2] += 1
        else:
            counts[platform][2 + (NOW - at <= Horizon.H24.closes)] += 1
    for platform, cell in report(app, ada).items():
        assert platform is not None
        assert [cell.posts, cell.measured, cell.missed, cell.to_come] == counts[platform]
        mine = {definition: rows for (name, definition), rows in seen.items() if name == platform}
        every = [row for rows in mine.values() for row in rows]
        for number, name in enumerate(("likes", "comments", "shares"), 1):
            assert close(getattr(cell, name), figures([row[number] for row in every if row[number] is not None]))  # type: ignore[misc]
        views = {by: figures([row[0] for row in rows if row[0] is not None]) for by, rows in mine.items()}  # type: ignore[misc]
        assert set(cell.views) == {by for by, each in views.items() if each.count}
        assert all(close(each, views[by]) for by, each in cell.views.items())
        for by, rows in mine.items():
            ratios = [sum(row[1:]) / row[0] for row in rows if None not in row and row[0]]  # type: ignore[arg-type]
            assert close(cell.engagement.get(by, Figures()), figures(ratios))
    assert report(app, ada)["mastodon"].views == {}


def test_posts_are_grouped_by_account_category_and_week(app: App, ada: Measured) -> None:
    one, other = ada.account("bluesky"), ada.account("tiktok")
    # On the clock of Apia (UTC+13) it is Monday already.
    sunday, monday = datetime(2026, 11, 15, 10, 59, tzinfo=UTC), datetime(2026, 11, 15, 11, 0, tzinfo=UTC)
    for account_id, at, video_id in (
        (one, sunday, ada.category("humor")),
        (one, monday, ada.category(None)),
        (other, monday, ada.video(status="pending")),
    ):
        ada.look(ada.published(account_id, at=at, video_id=video_id), Horizon.H24, 5, 1, definition="a")
    by_account = report(app, ada, By.ACCOUNT)
    assert {key: (cell.posts, cell.platform) for key, cell in by_account.items()} == {
        str(one): (2, "bluesky"),
        str(other): (1, "tiktok"),
    }
    assert by_account[str(one)].label.startswith("Bluesky, ada-")
    by_category = analytics.performance(app, ada.id, by=By.CATEGORY).cells
    assert [(cell.key, cell.label, cell.platform, cell.posts) for cell in by_category] == [
        (None, "no category, Bluesky", "bluesky", 1),
        (None, "no category, TikTok", "tiktok", 1),
        ("humor", "humor, Bluesky", "bluesky", 1),
    ]
    by_week = analytics.performance(app, ada.id, by=By.WEEK).cells
    assert [(cell.key, cell.label, cell.posts) for cell in by_week] == [
        ("2026-11-09", "2026-W46, Bluesky", 1),
        ("2026-11-16", "2026-W47, Bluesky", 1),
        ("2026-11-16", "2026-W47, TikTok", 1),
    ]


@pytest.mark.parametrize("by", By)
def test_likes_of_two_platforms_are_in_no_figure_together(app: App, ada: Measured, by: By) -> None:
    """Nor comments and shares: of one category, in one week."""
    for platform, number in (("tiktok", 1000), ("mastodon", 1)):
        post_id = ada.published(ada.account(platform), at=NOW - timedelta(days=1), video_id=ada.category("humor"))
        ada.look(post_id, Horizon.H24, number, number, number, number, definition=platform)
    cells = analytics.performance(app, ada.id, by=by).cells
    assert sorted((cell.platform, cell.posts, cell.likes.total) for cell in cells) == [
        ("mastodon", 1, 1),
        ("tiktok", 1, 1000),
    ]
    assert {(cell.platform, cell.comments.total, cell.shares.total) for cell in cells} == {
        ("mastodon", 1, 1),
        ("tiktok", 1000, 1000),
    }


def test_only_posts_of_the_period_that_are_out_are_counted(app: App, ada: Measured) -> None:
    account_id = ada.account()
    for at in (WHEN - timedelta(seconds=1), WHEN, WHEN + DAY):
        ada.published(account_id, at=at)
    ada.published(account_id, at=WHEN, status="failed")
    gone = ada.published(account_id, at=WHEN, status="removed")
    ada.look(gone, Horizon.H1, None, 3)
    found = report(app, ada, horizon=Horizon.H1, since=WHEN, until=WHEN + DAY)["mastodon"]
    assert (found.posts, found.measured, found.missed, found.unknown("views"), found.likes.total) == (2, 1, 1, 1, 3)
    assert report(app, Measured(app), since=WHEN) == {}


@pytest.mark.parametrize("broken", ["{}", "7", '[{"id": "c1", "category": {"a": 1}}]', '[{"id": "c1"}, {"id": 1}]'])
def test_concepts_of_any_form_have_some_category(app: App, ada: Measured, broken: str) -> None:
    ada.published(ada.account(), video_id=ada.category("humor"))
    with app.db.transaction(ada.id) as tx:
        tx.driver.execute("UPDATE generations SET concepts = %s", (broken,))
    assert sum(cell.posts for cell in report(app, ada, By.CATEGORY).values()) == 1
