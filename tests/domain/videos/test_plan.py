"""Who is asked, for which clips, at what price."""

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import ClipProviderUnusable
from domain.videos.plan import (
    BUSY_TRIES,
    ClipModel,
    Layout,
    LayoutUnusable,
    Past,
    chain,
    check_layout,
    clip_lengths,
    cut,
    fits,
    next_model,
    offer,
    plan_of,
)
from domain.videos.script import Script, ScriptSegment
from domain.videos.submissions import GIVEN_UP_AFTER, POLLS, RefusedFor, SubmissionState, poll_after

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def a_model(provider: str = "runway", **fields: object) -> ClipModel:
    row: dict[str, object] = {
        "provider": provider,
        "model": f"{provider}-1",
        "valid_from": NOW,
        "rank": 1,
        "durations": (2, 5, 10),
        "prompt_limit": 100,
        "resolution": "1080p",
        "width": 1080,
        "height": 1920,
        "has_sound": False,
        "usd_per_second": Decimal("0.12"),
        "patience": timedelta(minutes=20),
    }
    return ClipModel(**row | fields)  # type: ignore[arg-type]


def a_script(*seconds: float, prompt: str = "") -> Script:
    at, segments = 0.0, []
    for n, each in enumerate(seconds):
        segments.append(ScriptSegment(at, at + each, f"line {n}", f"A fox, take {n}.", "pan"))
        at += each
    return Script("A fox", "news", tuple(segments), prompt, "foxes", ())


# --- plans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "words"),
    [((), "none"), ((5,), "5 s"), ((5, 10), "5 or 10 s"), ((4, 8, 12), "4, 8 or 12 s"), ((2, 3, 4), "2 to 4 s")],
)
def test_lengths_that_nobody_sells_are_not_named(durations: tuple[int, ...], words: str) -> None:
    assert clip_lengths(durations) == words


def test_a_short_video_is_one_clip_and_a_long_one_has_a_hook() -> None:
    short, long = plan_of(a_script(3, 4), a_model()), plan_of(a_script(3, 4, 8), a_model())
    assert (short.layout, [clip.order.seconds for clip in short.clips], short.usd) == (
        Layout.CLIP,
        [10],
        Decimal("1.2"),
    )
    assert (long.layout, [clip.order.seconds for clip in long.clips], long.usd) == (Layout.HOOK, [5], Decimal("0.6"))


def test_scenes_are_a_clip_for_each_segment_and_the_price_is_their_sum() -> None:
    plan = plan_of(a_script(2, 4, 30), a_model(), "scenes")
    assert [(clip.scene, clip.order.seconds) for clip in plan.clips] == [(0, 2), (1, 5), (2, 10)]
    assert plan.usd == Decimal("2.04")
    assert [clip.order.prompt for clip in plan.clips] == [f"A fox, take {n}. pan" for n in range(3)]


def test_the_concepts_own_prompt_is_for_the_whole_video() -> None:
    script = a_script(3, 4, prompt="All of it")
    assert plan_of(script, a_model()).clips[0].order.prompt == "All of it"
    assert plan_of(script, a_model(), "hook").clips[0].order.prompt == "A fox, take 0. pan"


def test_what_does_not_fit_is_refused_with_what_does() -> None:
    with pytest.raises(
        LayoutUnusable, match="lasts 10 s at most, and the script 15 s: ask for the layout hook or scenes"
    ):
        plan_of(a_script(7, 8), a_model(), "clip")
    with pytest.raises(LayoutUnusable, match="there is storyboard, clip, hook, scenes"):
        check_layout("runway", "film")
    with pytest.raises(LayoutUnusable, match="name a provider"):
        check_layout("storyboard", "hook")
    with pytest.raises(LayoutUnusable, match="leave the provider out"):
        check_layout("auto", "storyboard")


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=8),
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.sampled_from([None, "hook", "scenes"]),
)
def test_a_plan_keeps_to_what_the_model_makes(seconds: list[int], durations: list[int], layout: str | None) -> None:
    script, model = a_script(*seconds), a_model(durations=tuple(durations))
    plan = plan_of(script, model, layout)
    for clip in plan.clips:
        wanted = script.seconds if plan.layout is Layout.CLIP else script.segments[clip.scene].seconds
        assert clip.order.seconds in durations
        assert clip.order.seconds >= min(wanted, max(durations))
        assert not any(wanted <= each < clip.order.seconds for each in durations), "a shorter one would do"
        assert clip.usd == model.usd_per_second * clip.order.seconds
    assert plan.usd == sum(clip.usd for clip in plan.clips)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.lists(
        st.tuples(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.decimals("0.01", 1, places=3)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([None, "clip", "hook", "scenes"]),
)
def test_an_offer_is_the_most_that_anyone_who_is_asked_takes(
    seconds: list[int], sold: list[tuple[list[int], Decimal]], layout: str | None
) -> None:
    script = a_script(*seconds)
    asked = [a_model(f"p{n}", durations=tuple(each), usd_per_second=usd) for n, (each, usd) in enumerate(sold)]
    able = [model for model in asked if fits(script, model, layout)]
    if not able:
        with pytest.raises(LayoutUnusable):
            offer(script, asked, layout)
        return
    offered = offer(script, asked, layout)
    first = plan_of(script, able[0], layout)
    assert (offered.layout, [clip.scene for clip in offered.clips]) == (
        first.layout,
        [clip.scene for clip in first.clips],
    )
    plans = [plan_of(script, each, first.layout) for each in asked if fits(script, each, first.layout)]
    for n, clip in enumerate(offered.clips):
        assert clip.usd == max(plan.clips[n].usd for plan in plans)


# --- prompts ------------------------------------------------------------------------------------------------


def units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@example("\u200d a", 2)
@example("a\u200d b", 2)
@given(
    st.text(alphabet=st.sampled_from("ab \u0301\u200d\U0001f469\U0001f3fd\U0001f1e9\U0001f1ea\ufe0fé日本")),
    st.integers(1, 30),
)
def test_a_prompt_is_cut_to_its_limit_and_within_no_character(text: str, limit: int) -> None:
    found = cut(text, limit)
    assert units(found) <= limit
    assert text.startswith(found)
    if found == text:
        return
    rest = text[len(found) :].lstrip() if found != text else ""
    following = text[len(found)]
    assert rest is not None
    if found:
        assert not unicodedata.category(following).startswith("M")
        assert following != "\u200d"
        assert not found.endswith("\u200d") or following.isspace()
        assert following != "\U0001f3fd"


def test_a_prompt_ends_with_a_word() -> None:
    assert cut("A fox runs through the snow", 15) == "A fox runs"
    assert cut("A fox runs", 10) == "A fox runs"
    assert cut("\U0001f98a" * 10, 7) == "\U0001f98a" * 3
    assert cut("東京の 夜明けに走る狐を追いかける", 12) == "東京の 夜明けに走る狐を"
    assert cut("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 5) == "\U0001f1e9\U0001f1ea"


# --- who is asked -------------------------------------------------------------------------------------------

ALL = {"runway", "google", "luma"}


def test_a_provider_that_is_named_is_the_only_one_asked_or_says_why_it_is_not() -> None:
    models = [a_model("runway", rank=2), a_model("google", rank=1)]
    assert [each.provider for each in chain(models, "runway", NOW, ALL)] == ["runway"]
    assert [each.provider for each in chain(models, "auto", NOW, ALL)] == ["google", "runway"]
    for fields, says in (
        ({"unavailable": "OpenAI removed its Videos API (Sora)"}, "removed its Videos API"),
        ({"sunset_at": NOW}, "ended its model runway-1 on 2026-11-27"),
        ({"enabled": False}, "runway is disabled here$"),
    ):
        with pytest.raises(ClipProviderUnusable, match=says):
            chain([a_model("runway", **fields)], "runway", NOW, ALL)
    with pytest.raises(ClipProviderUnusable, match=r"no key for runway here$"):
        chain(models, "runway", NOW, {"google"})
    with pytest.raises(ClipProviderUnusable, match="no provider has the name 'pika'; there are storyboard"):
        chain(models, "pika", NOW, ALL)
    with pytest.raises(ClipProviderUnusable, match="no clip can be bought: there is no key for google"):
        chain(models, "auto", NOW, ())


def test_who_rests_after_a_failure_is_asked_last() -> None:
    models = [a_model("runway", rank=1, retry_at=NOW + timedelta(minutes=1)), a_model("google", rank=2)]
    assert [each.provider for each in chain(models, "auto", NOW, ALL)] == ["google", "runway"]
    assert [each.provider for each in chain(models, "auto", NOW + timedelta(minutes=2), ALL)] == ["runway", "google"]


PASTS = st.lists(
    st.builds(
        Past,
        provider=st.sampled_from(sorted(ALL)),
        state=st.sampled_from([SubmissionState.REFUSED, SubmissionState.FAILED, SubmissionState.CANCELLED]),
        error_code=st.sampled_from([*RefusedFor, "failed"]),
        final_usd=st.sampled_from([None, Decimal(0), Decimal(1)]),
        ended_at=st.just(NOW),
    ),
    max_size=12,
)


@given(PASTS)
def test_nothing_is_bought_after_a_charge_and_nobody_is_asked_again_who_refused(past: list[Past]) -> None:
    models = [a_model(each) for each in sorted(ALL)]
    choice = next_model(models, past, NOW)
    charged = any(each.state != SubmissionState.REFUSED and each.final_usd != 0 for each in past)
    if charged:
        assert choice is None
        return
    tried = {each.provider for each in past}
    if tried != ALL:
        assert choice is not None
        assert choice[0].provider not in tried
        assert choice[1] == timedelta(0)
    elif choice is not None:
        mine = [each for each in past if each.provider == choice[0].provider]
        assert all(each.state == SubmissionState.REFUSED and each.error_code == "busy" for each in mine)
        assert len(mine) < BUSY_TRIES
        assert choice[1] > timedelta(0)


def test_a_busy_provider_is_waited_for_as_long_as_it_says() -> None:
    busy = [Past("runway", SubmissionState.REFUSED, RefusedFor.BUSY, None, NOW)]
    [(_, usual), (_, named)] = [
        next_model([a_model("runway", retry_at=at)], busy, NOW) or (None, None)
        for at in (None, NOW + timedelta(minutes=3))
    ]
    assert (usual, named) == (timedelta(seconds=15), timedelta(minutes=3))
    assert next_model([a_model("runway")], busy * BUSY_TRIES, NOW) is None
    assert next_model([replace(a_model("google"), rank=9)], busy, NOW) is not None


# --- looking at clips ---------------------------------------------------------------------------------------


@given(st.integers(1, 3600))
def test_a_clip_is_looked_at_ever_more_rarely_and_for_a_day(patience: int) -> None:
    since, looks = timedelta(0), 0
    while (wait := poll_after(since, timedelta(seconds=patience))) is not None:
        assert wait >= POLLS[0]
        if since < timedelta(seconds=patience):
            assert wait <= POLLS[1]
        since, looks = since + wait, looks + 1
    assert since >= GIVEN_UP_AFTER
    assert looks < 500
