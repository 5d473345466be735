"""A replay predicts each post by what was there by then, and counts right."""

from dataclasses import replace as changed
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.learner import CHAMPION
from domain.learning.outcomes import Features, Judged
from domain.learning.pool import built_in
from domain.learning.replay.engine import OURS, YARDSTICKS, Options, replay, trailing_gaps
from domain.learning.replay.figures import Hit, by_range, figures, mean, spearman
from domain.learning.replay.report import report_values
from domain.learning.replay.rows import Post, Skipped, read_rows
from domain.learning.replay.yardsticks import Median, OriginalRule, original_weights
from domain.learning.scale import score_of

DEFINITION = "tiktok-views/likes+comments+shares"


def post(number: int, value: float, *, source: str = "a", account: str = "x", category: str | None = "food") -> Post:
    features = Features(account, category)
    return Post(number + 2, source, "tiktok", float(number), features, Judged(value, DEFINITION))


def stream(count: int, *, seed: int = 1, accounts: int = 8, source: str = "a", noise: float = 0.3) -> list[Post]:
    """Return posts of which the truth is known: an account's own level, and normal noise."""
    rng = Random(seed)
    levels = [rng.gauss(1.6, 0.4) for _ in range(accounts)]
    found = []
    for number in range(count):
        account = rng.randrange(accounts)
        value = max(0.0, rng.gauss(levels[account], noise))
        found.append(post(number, value, source=source, account=str(account)))
    return found


# --- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_counted_as_by_hand() -> None:
    hits = [Hit(1, 50, 60, 40, 59), Hit(2, 80, 40, 30, 90), Hit(3, 20, 25, 25, 30), Hit(4, 70, 70, 60, 80)]
    found = figures(hits)
    assert found is not None
    assert (found.n, found.gap, found.bias) == (4, (10 + 40 + 5) / 4, (10 - 40 + 5) / 4)
    assert (found.within20, found.within10, found.coverage) == (0.5, 0.75, 0.75)
    assert found.rank == pytest.approx(0.4)  # ranks 2 4 1 3 and 3 2 1 4: 1 - 6 * 6 / (4 * 15)


def test_ranges_are_of_the_posts_of_a_tenant_and_one_without_posts_is_nothing() -> None:
    found = by_range([Hit(number, 50, 50 + number) for number in (1, 30, 31, 100, 101)])
    assert {name: each and each.gap for name, each in found.items()} == {
        "1-30": 15.5,
        "31-100": 65.5,
        "31-": (31 + 100 + 101) / 3,
        "101-": 101,
        "1001-": None,
    }


def test_a_rank_correlation_takes_the_mean_of_equal_ranks_and_is_unknown_where_all_are_equal() -> None:
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)
    assert spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert spearman([1, 1], [1, 2]) is None
    assert spearman([1], [1]) is None


def test_each_stream_counts_once_in_the_mean() -> None:
    one, other = figures([Hit(1, 50, 60)] * 9), figures([Hit(1, 50, 52)])
    found = mean([one, None, other])
    assert found is not None
    assert (found.n, found.gap, found.coverage) == (10, 6, None)
    assert mean([None]) is None


def test_trailing_gaps_are_means_of_the_last_ones() -> None:
    hits = [Hit(n, 50, 50 + gap) for n, gap in enumerate((1, -3, 5, 7))]
    assert list(trailing_gaps(hits, 2)) == [2, 4, 6]
    assert list(trailing_gaps(hits, 5)) == []


# --- what is compared with --------------------------------------------------------------------------------------------


def test_the_original_cuts_at_100_and_its_rule_takes_steps_of_a_tenth_and_more() -> None:
    assert original_weights("food", "tiktok") == 100
    assert original_weights("news", "youtube-shorts") == round(55 * 1.1 * 1.3)
    rule = OriginalRule()
    rule.learn("food", "tiktok", 100, 81)  # 19 points off: nothing
    assert rule.factors == {}
    rule.learn("food", "tiktok", 100, 70)
    assert rule.factors["food", "tiktok"] == pytest.approx(1 / 1.15)
    rule.learn("food", "tiktok", 50, 80)
    assert rule.factors["food", "tiktok"] == pytest.approx(1.2 / 1.15)
    for _ in range(20):
        rule.learn("food", "tiktok", 100, 10)
    assert rule.factors["food", "tiktok"] == 0.5


@given(st.lists(st.floats(10, 100), min_size=1, max_size=30))
def test_a_running_median_is_the_median(scores: list[float]) -> None:
    median = Median(50)
    assert median.predict() == 50
    for score in scores:
        median.learn(score)
    ordered = sorted(scores)
    assert median.predict() == pytest.approx((ordered[(len(scores) - 1) // 2] + ordered[len(scores) // 2]) / 2)


# --- the play ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 10])
def test_a_prediction_knows_no_outcome_before_its_time(delay: int) -> None:
    """Two streams that differ from one post on are predicted alike until its outcome is there, and no longer."""
    at, posts = 20, stream(60)
    other = [*posts[:at], changed(posts[at], judged=Judged(3.9, DEFINITION)), *posts[at + 1 :]]
    options = Options(delay=delay, window=0)
    one, two = (replay(each, options).streams[0].hits for each in (posts, other))
    for rule in (OURS, *YARDSTICKS):
        same = [a.predicted == b.predicted for a, b in zip(one[rule], two[rule], strict=True)]
        assert all(same[: at + delay + 1]), rule
        assert rule == "original_weights" or not all(same[at + delay + 1 :]), rule


def test_the_same_posts_give_the_same_figures() -> None:
    posts = [*stream(150), *stream(90, seed=2, source="b")]
    posts.sort(key=lambda each: (each.order, each.line))
    assert report_values(replay(posts, Options()), []) == report_values(replay(posts, Options()), [])


def test_a_stream_of_which_the_truth_is_there_is_predicted_nearly_as_well_as_by_the_truth() -> None:
    """The noise alone is 10.6 points; the learner comes to within a twentieth of it, far below the median."""
    posts, rng = stream(1500, accounts=6), Random(1)
    levels = [rng.gauss(1.6, 0.4) for _ in range(6)]
    floor = [abs(score_of(each.judged.value or 0) - score_of(levels[int(each.features.account)])) for each in posts]
    report = replay(posts, Options(window=0))
    ours, median = report.ranges(OURS)["101-"], report.ranges("running_median")["101-"]
    assert ours is not None
    assert median is not None
    noise = sum(floor[100:]) / len(floor[100:])
    assert noise <= ours.gap < 1.05 * noise
    assert ours.gap < 0.85 * median.gap
    assert 0.75 < (ours.coverage or 0) < 0.85


def test_after_a_window_a_stream_begins_anew() -> None:
    report = replay(stream(25), Options(delay=0, window=10))
    for rule in (OURS, *YARDSTICKS):
        assert [hit.number for hit in report.streams[0].hits[rule]] == [*range(1, 11), *range(1, 11), *range(1, 6)]
        first, again = report.streams[0].hits[rule][0], report.streams[0].hits[rule][10]
        assert (first.predicted, first.low, first.high) == (again.predicted, again.low, again.high)


@pytest.mark.parametrize("per_account", [False, True], ids=["all", "account"])
def test_a_window_begins_with_the_pool_of_what_came_before(per_account: bool) -> None:
    level = built_in("tiktok").platform + 0.8
    posts = [post(n, level, account=str(n % 12)) for n in range(360)]
    hits = replay(posts, Options(per_account=per_account, delay=0, window=60)).streams[0].hits[OURS]
    assert [hit.number for hit in hits] == [*range(1, 61)] * 6
    before, after = hits[0].predicted, hits[300].predicted
    assert before == pytest.approx(score_of(built_in("tiktok").platform))
    # Five windows of one tenant, or twelve tenants of five posts in the first window alone, are enough for the pool.
    assert after == pytest.approx(score_of(level), abs=2)


def test_accounts_as_tenants_learn_from_each_other_by_the_pool_alone() -> None:
    level = built_in("tiktok").platform + 0.8
    posts = [post(n, level, account=str(n)) for n in range(49)]
    hits = replay(posts, Options(per_account=True, delay=0)).streams[0].hits[OURS]
    assert len({hit.predicted for hit in hits}) == 1  # the pool holds fewer than 50 posts, so nobody knows anything
    together = replay(posts, Options(delay=0)).streams[0].hits[OURS]
    assert together[-1].predicted > together[0].predicted + 5


def test_streams_with_pools_of_their_own_are_played_as_if_each_were_alone() -> None:
    one = [changed(each, order=each.order * 2) for each in stream(200, accounts=20)]
    other = [
        changed(each, order=each.order * 2 + 1, judged=Judged(3.0, DEFINITION))
        for each in stream(200, accounts=20, source="b")
    ]
    both = sorted([*one, *other], key=lambda each: each.order)
    alone = replay(one, Options(per_account=True)).streams[0]
    apart = replay(both, Options(per_account=True, pool_per_source=True)).streams[0]
    together = replay(both, Options(per_account=True)).streams[0]
    assert apart == alone
    assert together.hits[OURS] != alone.hits[OURS]


def test_the_order_of_lines_matters_for_posts_of_one_time_only() -> None:
    lines = [
        f"s{n % 3},tiktok,{n},a{n % 7},{('food', 'news', '')[n % 3]},1000,{20 + n * 37 % 90},3,2" for n in range(120)
    ]
    head = "source,platform,order_at,account,category,views,likes,comments,shares"

    def report(listed: list[str]) -> dict[str, Any]:
        return report_values(replay(read_rows("\n".join((head, *listed)).encode()).posts, Options()), [])

    mixed = Random(5).sample(lines, len(lines))
    assert mixed != lines
    assert report(mixed) == report(lines)


def test_another_model_scores_once_it_is_better_by_the_rules_of_production() -> None:
    """Posts differ by the hour alone, which the challenger knows of and the champion does not."""
    posts = []
    for number, each in enumerate(stream(900, accounts=1)):
        hour = number * 7 % 24
        judged = Judged(1.2 + 0.06 * hour, DEFINITION)
        posts.append(changed(each, judged=judged, features=changed(each.features, hour=hour)))
    [found] = replay(posts, Options(window=0)).streams
    assert set(found.models) == {CHAMPION, "ridge/v1"}
    assert found.models[CHAMPION] > 150
    gaps = [abs(hit.actual - hit.predicted) for hit in found.hits[OURS]]
    assert sum(gaps[-200:]) < 0.9 * sum(gaps[150:350])


def test_the_report_has_the_names_that_programs_read() -> None:
    found = report_values(replay(stream(40), Options()), [Skipped(7, "views: 'x' is no number")], ["mood"])
    assert set(found) == {"streams", "mean", "skipped", "ignored_columns"}
    [one] = found["streams"]
    assert set(one) == {"name", "n", "models", "ranges", "yardsticks"}
    assert one["models"] == {CHAMPION: 40}
    assert list(one["ranges"]) == ["1-30", "31-100", "31-", "101-", "1001-"]
    assert set(one["ranges"]["1-30"]) >= {"gap", "bias", "within20", "within10", "rank", "coverage"}
    assert one["ranges"]["101-"] is None
    assert set(one["yardsticks"]) == {"original_weights", "original_rule", "running_median"}
    assert found["mean"]["ranges"] == one["ranges"]
    assert found["skipped"] == [{"line": 7, "reason": "views: 'x' is no number"}]
