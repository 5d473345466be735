"""How often platforms are asked and how many posts they take: rates within every window, places within every day."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.posting.limits import (
    DAY,
    PLACES,
    RATES,
    SPARING,
    Act,
    Allowance,
    CallRate,
    closed_bucket,
    draws,
    limits_of,
    limits_row,
    next_place,
    pacific_day,
    places,
)
from domain.posting.publishing import AccountLimits
from domain.queue.rate import Bucket, draw, draw_all, fresh
from domain.videos.profiles import NAMES

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ANN, BOB = UUID(int=1), UUID(int=2)
WINDOWS = {
    ("tiktok", "init"): (6, timedelta(minutes=1)),
    ("tiktok", "status"): (30, timedelta(minutes=1)),
    ("tiktok", "creator_info"): (20, timedelta(minutes=1)),
    ("tiktok", "video_list"): (600, timedelta(minutes=1)),
    ("tiktok", "video_query"): (600, timedelta(minutes=1)),
    ("youtube-shorts", "units"): (10_000, DAY),
    ("youtube-shorts", "statistics"): (10_000, DAY),
    ("instagram-reels", "calls"): (200, timedelta(hours=1)),
    ("bluesky", "points"): (5_000, timedelta(hours=1)),
    ("bluesky", "points_a_day"): (35_000, DAY),
    ("mastodon", "calls"): (300, timedelta(minutes=5)),
    ("mastodon", "media"): (30, timedelta(minutes=30)),
}


@pytest.mark.parametrize("platform", NAMES)
def test_what_measures_leaves_half_of_what_posts_draw_from_too(platform: str) -> None:
    posting = [act for act in Act if act not in SPARING]
    others = {each.bucket for act in posting for each in draws(platform, act, ANN)}
    assert draws(platform, Act.MEASURE, ANN)
    for act in SPARING:
        mine = {each.bucket: each for each in draws(platform, act, ANN)}
        assert {each.spare for bucket, each in mine.items() if bucket not in others} <= {0}
        assert all(each.spare == each.rate.burst // 2 > 0 for bucket, each in mine.items() if bucket in others)
        assert all(each.cost <= each.rate.burst - each.spare for each in mine.values())
    assert all(each.spare == 0 for act in posting for each in draws(platform, act, ANN))


@pytest.mark.parametrize("platform", NAMES)
def test_however_much_is_measured_a_post_finds_what_it_draws_from(platform: str) -> None:
    buckets: dict[str, Bucket] = defaultdict(lambda: fresh(NOW))
    for act in (each for each in SPARING if draws(platform, each, ANN)):
        again = None
        while again is None:
            changed, again = draw_all(buckets, draws(platform, act, ANN), NOW)
            buckets |= changed
    for act in (Act.LIMITS, Act.OPEN, Act.READY, Act.COMMIT, Act.LOOK, Act.PERMALINK):
        changed, wait = draw_all(buckets, draws(platform, act, ANN), NOW)
        assert wait is None, act
        buckets |= changed


@pytest.mark.parametrize("row", RATES, ids=lambda row: f"{row.platform}-{row.call}")
def test_no_window_has_more_than_the_platform_takes(row: CallRate) -> None:
    most, window = WINDOWS[row.platform, row.call]
    assert row.rate.burst + window / row.rate.every <= most
    assert row.rate.burst + window / row.rate.every >= most - 1


def test_a_full_minute_of_openings_is_six_and_the_seventh_waits() -> None:
    row = next(row for row in RATES if row.call == "init")
    bucket, drawn, now = fresh(NOW), 0, NOW
    while now <= NOW + timedelta(minutes=1):
        bucket, wait = draw(bucket, row.rate, now, promised=True)
        drawn += wait is None
        now += timedelta(seconds=1)
    assert drawn == 6


def test_buckets_are_of_an_account_or_of_the_whole_app() -> None:
    assert [each.bucket for each in draws("tiktok", "open", ANN)] == [
        *("tiktok:closed", f"tiktok:closed:{ANN}", f"tiktok:init:{ANN}")
    ]
    assert [(each.bucket, each.cost) for each in draws("youtube-shorts", Act.COMMENT, ANN)] == [("youtube:units", 50)]
    assert [(each.bucket, each.cost) for each in draws("bluesky", Act.COMMIT, BOB)] == [
        *((f"bluesky:points:{BOB}", 3), (f"bluesky:points_a_day:{BOB}", 3))
    ]
    assert closed_bucket("instagram-reels", None) == "instagram:closed"


@pytest.mark.parametrize("platform", NAMES)
@pytest.mark.parametrize("act", Act)
def test_every_act_of_every_platform_has_its_draws(platform: str, act: Act) -> None:
    for each in draws(platform, act, ANN):
        assert 0 < each.cost <= each.rate.burst


def test_an_app_wide_platform_has_one_bucket_for_all_accounts() -> None:
    (allowance,) = places("youtube-shorts", ANN, NOW)
    assert (allowance.bucket, allowance.most) == ("youtube:uploads", 100)
    assert places("youtube-shorts", BOB, NOW) == (allowance,)


@pytest.mark.parametrize(
    ("platform", "own", "named", "most"),
    [
        pytest.param("tiktok", None, None, 15, id="our-row"),
        pytest.param("tiktok", 4, None, 4, id="fewer-by-its-owner"),
        pytest.param("tiktok", 40, None, 15, id="its-owner-cannot-have-more"),
        pytest.param("instagram-reels", None, 100, 100, id="the-platform-names-more"),
        pytest.param("instagram-reels", None, 25, 25, id="the-platform-names-fewer"),
        pytest.param("instagram-reels", 30, 100, 30, id="fewest"),
        pytest.param("mastodon", 7, None, 7, id="no-row"),
        pytest.param("youtube-shorts", 3, None, 3, id="within-the-whole-app"),
    ],
)
def test_the_fewest_posts_count(platform: str, own: int | None, named: int | None, most: int) -> None:
    limits = AccountLimits(posts_a_day=named)
    found = places(platform, ANN, NOW, daily_limit=own, limits=limits, limits_read_at=NOW)
    assert (found[-1].most, found[-1].since, found[-1].renews_at) == (most, NOW - DAY, None)
    assert f":posts:{ANN}" in found[-1].bucket


def test_where_nothing_is_limited_there_is_nothing_to_reserve() -> None:
    assert places("mastodon", ANN, NOW) == ()


def test_what_the_platform_said_is_left_counts_from_when_it_said_so() -> None:
    read_at = NOW - timedelta(hours=1)
    *_, left = places("tiktok", ANN, NOW, limits=AccountLimits(posts_left_today=2), limits_read_at=read_at)
    assert (left.most, left.since) == (2, read_at)
    used = [read_at + timedelta(minutes=minute) for minute in (1, 2)]
    assert next_place(left, used, NOW) == read_at + DAY
    assert next_place(left, [*used[:1], read_at - timedelta(hours=3)], NOW) == NOW


def test_a_rolling_place_comes_back_a_day_after_it_was_taken() -> None:
    (allowance,) = places("tiktok", ANN, NOW, daily_limit=2)
    used = [NOW - timedelta(hours=hours) for hours in (30, 20, 10, 5)]
    assert next_place(allowance, used, NOW) == NOW - timedelta(hours=10) + DAY
    assert next_place(allowance, used[:2], NOW) == NOW


def test_no_place_at_all_is_asked_for_again_a_day_later() -> None:
    (allowance,) = places("tiktok", ANN, NOW, daily_limit=0)
    assert next_place(allowance, [], NOW) == NOW + DAY


@pytest.mark.parametrize(
    ("now", "began", "ends"),
    [
        pytest.param("2026-11-27T07:59", "2026-11-26T08:00", "2026-11-27T08:00", id="before-its-midnight"),
        pytest.param("2026-11-27T08:00", "2026-11-27T08:00", "2026-11-28T08:00", id="at-its-midnight"),
        pytest.param("2026-07-01T12:00", "2026-07-01T07:00", "2026-07-02T07:00", id="summer"),
        pytest.param("2026-03-08T12:00", "2026-03-08T08:00", "2026-03-09T07:00", id="day-of-23-hours"),
        pytest.param("2026-11-01T12:00", "2026-11-01T07:00", "2026-11-02T08:00", id="day-of-25-hours"),
    ],
)
def test_youtubes_day_ends_at_midnight_pacific(now: str, began: str, ends: str) -> None:
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (now, began, ends)]
    assert pacific_day(moments[0]) == tuple(moments[1:])


def test_a_place_taken_at_midnight_counts_for_the_day_that_begins() -> None:
    midnight, _ = pacific_day(NOW)
    (allowance,) = places("youtube-shorts", ANN, NOW)
    assert next_place(allowance, [midnight] * 100, NOW) == allowance.renews_at
    assert next_place(allowance, [midnight - timedelta(microseconds=1)] * 100, NOW) == NOW


@settings(max_examples=60)
@given(
    st.sampled_from([row.platform for row in PLACES]),
    st.integers(1, 6),
    st.lists(st.integers(1, 40 * 60), min_size=1, max_size=40),
)
def test_whoever_comes_when_a_place_is_free_never_exceeds_any_day(platform: str, most: int, waits: list[int]) -> None:
    """Requests arrive at any times; each takes the next place. No 24 hours have more than the account's limit."""
    now, taken = NOW, list[datetime]()
    for minutes in waits:
        now += timedelta(minutes=minutes)
        *_, own = places(platform, ANN, now, daily_limit=most)
        at = next_place(own, taken, now)
        if at == now:
            taken.append(now)
        else:
            assert at > now
            *_, then = places(platform, ANN, at, daily_limit=most)
            assert next_place(then, taken, at) == at
    for begin in taken:
        assert sum(begin <= each < begin + DAY for each in taken) <= most


def test_limits_survive_their_row() -> None:
    limits = AccountLimits(2, 100, 600.0, 1_000, 500, {"privacy_options": ["SELF_ONLY"], "duet_disabled": True})
    assert limits_of(limits_row(limits)) == limits
    assert limits_of({}) == AccountLimits()


def test_an_allowance_says_whose_limit_it_is() -> None:
    allowances: tuple[Allowance, ...] = places("youtube-shorts", ANN, NOW, daily_limit=3)
    assert [each.why for each in allowances] == [
        "YouTube Shorts takes 100 uploads a day of this installation, for all its accounts",
        "the account's own limit is 3 a day",
    ]


def test_one_tenant_has_half_of_the_installations_places_while_others_wait() -> None:
    account_id, tenant_id = UUID(int=1), UUID(int=2)
    both = [places("youtube-shorts", account_id, NOW, tenant_id=tenant_id, shared=shared) for shared in (False, True)]
    alone, shared = ({each.bucket: each.most for each in allowances} for allowances in both)
    assert alone == {"youtube:uploads": 100, f"youtube:uploads:{tenant_id}": 100}
    assert shared == {"youtube:uploads": 100, f"youtube:uploads:{tenant_id}": 50}
