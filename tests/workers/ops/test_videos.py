"""Requests for videos, and their answers: validated before anything is written, and idempotent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate, pairwise
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.errors import (
    ClipProviderUnusable,
    Conflict,
    Rejected,
    UnknownConcept,
    UnknownGeneration,
    UnknownMedia,
    UnknownVideo,
)
from domain.ops.actions import Outcome
from domain.ports import Watch
from domain.videos.media import StudioUnavailable
from domain.videos.script import ScriptUnusable
from tests.video_stage import MP4, Stage, a_concept, stage
from workers.jobs.media import keep
from workers.ops import videos
from workers.ops.video_files import warnings_of
from workers.settings import Settings


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    with stage(settings, tmp_path / "media") as made:
        yield made


def nothing_was_written(here: Stage) -> bool:
    return not videos.listed(here.app, None).videos and not here.live()


def a_file(here: Stage, tenant_id: UUID, tmp_path: Path, content: bytes = MP4) -> UUID:
    path = tmp_path / f"{uuid4()}.mp4"
    path.write_bytes(content)
    return keep(lambda: here.app.db.transaction(tenant_id), here.app.ports.media, tenant_id, path, extension="mp4").id


# --- estimates ----------------------------------------------------------------------------------------------


def test_the_price_is_shown_before(here: Stage) -> None:
    tenant_id = here.tenant(usd=1)
    generation_id = here.generation(tenant_id, a_concept(segments=3))
    options = videos.estimate(here.app, tenant_id, generation_id)
    shown = {(each.provider, each.layout): (each.clips, each.usd, each.usable) for each in options}
    assert shown["storyboard", "storyboard"] == (0, 0, True)
    assert shown["runway", "hook"] == (1, Decimal("0.48"), True)
    assert shown["runway", "scenes"] == (3, Decimal("1.44"), False)
    assert ("runway", "clip") not in shown, "it is longer than a clip"
    [luma] = [each for each in videos.providers(here.app) if each["provider"] == "luma"]
    assert shown["luma", "hook"] == (1, 5 * luma["usd_per_second"], True), "it makes clips of 5 or 10 seconds"
    reasons = {each.provider: each.reason for each in options if each.layout == "scenes"}
    assert "$1.00 of $1.00 are left" in str(reasons["runway"])
    assert "removed its Videos API" in str(reasons["openai"])
    assert nothing_was_written(here)


@given(
    lengths=st.lists(st.sampled_from([1, 3, 4, 9, 11, 40]), min_size=1, max_size=4).filter(lambda each: sum(each) >= 3),
    provider=st.sampled_from(["auto", "runway", "google", "luma", "openai"]),
    layout=st.sampled_from([None, "clip", "hook", "scenes"]),
)
@settings_of_hypothesis(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_can_be_asked_for_is_an_option_with_exactly_its_price(
    here: Stage, lengths: list[int], provider: str, layout: str | None
) -> None:
    tenant_id, ends = here.tenant(), list(accumulate(lengths, initial=0))
    script = [{"timeRange": f"{start}-{end}s", "visual": "A fox."} for start, end in pairwise(ends)]
    generation_id = here.generation(tenant_id, a_concept(script=script))
    wanted: dict[str, Any] = {"generation_id": generation_id, "provider": provider, "layout": layout}
    options = videos.estimate(here.app, tenant_id, generation_id)
    try:
        quoted = videos.quote(here.app, tenant_id, **wanted)
    except Rejected:
        with pytest.raises(Rejected):
            videos.request(here.app, tenant_id, **wanted)
        return
    video = videos.request(here.app, tenant_id, **wanted)
    assert quoted in options
    assert quoted is not None
    assert quoted.usable
    assert (quoted.provider, quoted.layout, quoted.usd) == (provider, video["layout"], video["estimated_usd"])
    assert quoted.clips == (len(lengths) if video["layout"] == "scenes" else 1)


def test_nothing_is_bought_for_more_than_was_agreed_to(here: Stage) -> None:
    tenant_id = here.tenant()
    wanted: dict[str, Any] = {"generation_id": here.generation(tenant_id, a_concept(segments=1, seconds=40))}
    wanted |= {"provider": "luma"}
    quoted = videos.quote(here.app, tenant_id, **wanted)
    assert quoted is not None
    assert (quoted.layout, quoted.usd) == ("hook", 2)
    with pytest.raises(Conflict, match=r"costs \$2.00 at most now, and not \$1.99"):
        videos.request(here.app, tenant_id, **wanted, at_most=Decimal("1.99"))
    assert nothing_was_written(here)
    videos.request(here.app, tenant_id, **wanted, at_most=quoted.usd)
    assert videos.quote(here.app, tenant_id, **wanted) is None, "there is one already"


# --- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("concept", "error", "says"),
    [
        ({"title": "A fox"}, ScriptUnusable, "no script"),
        (a_concept(segments=3, seconds=200), ScriptUnusable, "lasts 600 s"),
        (a_concept(title="x" * 10_000), ScriptUnusable, "10,000 characters"),
        ("a text", UnknownConcept, "no concept"),
    ],
)
def test_what_cannot_be_rendered_is_refused_and_costs_nothing(
    here: Stage, concept: object, error: type[Rejected], says: str
) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id, concept)  # type: ignore[arg-type]
    for provider in ("storyboard", "runway"):
        with pytest.raises(error, match=says):
            videos.request(here.app, tenant_id, generation_id=generation_id, provider=provider)
    assert nothing_was_written(here)


def test_what_is_not_there_is_said(here: Stage) -> None:
    tenant_id, other = here.tenant(), here.tenant()
    generation_id = here.generation(other)
    with pytest.raises(UnknownGeneration):
        videos.request(here.app, tenant_id, generation_id=generation_id)
    with pytest.raises(UnknownMedia):
        videos.request(here.app, tenant_id, media_id=uuid4())
    with pytest.raises(UnknownConcept, match="it has"):
        videos.request(here.app, other, generation_id=generation_id, concept_id="another")
    with pytest.raises(Rejected, match="name one"):
        videos.request(here.app, tenant_id)
    with pytest.raises(ClipProviderUnusable, match="removed its Videos API"):
        videos.request(here.app, other, generation_id=generation_id, provider="openai")
    with pytest.raises(UnknownVideo):
        videos.show(here.app, tenant_id, videos.request(here.app, other, generation_id=generation_id)["id"])


def test_concepts_without_ids_are_addressed_by_their_number(here: Stage) -> None:
    tenant_id = here.tenant()
    old = {name: value for name, value in a_concept().items() if name != "id"}
    generation_id = here.generation(tenant_id, a_concept(concept_id="first"), old | {"title": "Old"})
    assert videos.concepts_of(here.app, tenant_id, generation_id) == ["first", "#2"]
    unnamed = videos.request(here.app, tenant_id, generation_id=generation_id)
    assert unnamed["concept_id"] == "first"
    assert videos.request(here.app, tenant_id, generation_id=generation_id, concept_id="#2")["title"] == "Old"
    by_number = videos.request(here.app, tenant_id, generation_id=generation_id, concept_id="#1")
    by_id = videos.request(here.app, tenant_id, generation_id=generation_id, concept_id="first")
    assert (by_number["id"], by_id["existing"]) == (by_id["id"], True)
    assert videos.locate(here.app, "first") == (tenant_id, generation_id)


@pytest.mark.parametrize("again", [False, True])
def test_a_provider_that_nobody_knows_is_refused_also_where_there_is_a_video(here: Stage, again: bool) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id)
    first = videos.request(here.app, tenant_id, generation_id=generation_id)
    with pytest.raises(ClipProviderUnusable, match="no provider has the name 'lumo'; there are storyboard"):
        videos.request(here.app, tenant_id, generation_id=generation_id, provider="lumo", again=again)
    found = videos.request(here.app, tenant_id, generation_id=generation_id, provider="auto")
    assert (found["id"], found["existing"]) == (first["id"], True)


def test_a_key_brings_back_its_first_video(here: Stage) -> None:
    tenant_id = here.tenant()
    generation_id = here.generation(tenant_id)

    def ask(provider: str = "storyboard") -> UUID:
        row = videos.request(
            here.app, tenant_id, generation_id=generation_id, provider=provider, again=True, key="mine"
        )
        return row["id"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(lambda _: ask(), range(12)))) == 1
    here.run()
    first = ask()
    assert here.show(first)["status"] == "completed"
    assert len(videos.listed(here.app, tenant_id).videos) == 1
    with pytest.raises(Conflict) as refused:
        ask("runway")
    assert refused.value.code == "IDEMPOTENCY_KEY_REUSED"


def test_a_file_of_ones_own_becomes_a_video(here: Stage, tmp_path: Path) -> None:
    tenant_id = here.tenant(tier="FREE")
    media_id = a_file(here, tenant_id, tmp_path, b"mute")
    video = videos.request(here.app, tenant_id, media_id=media_id)
    assert videos.request(here.app, tenant_id, media_id=media_id)["id"] == video["id"]
    here.run()
    shown = here.show(video["id"])
    assert (shown["status"], shown["media_id"], shown["source"]) == ("completed", media_id, "own")
    assert shown["thumbnail_id"]
    assert warnings_of(shown) == ["it has no sound"], "once, and not for each platform"
    assert here.studio.drawn == []
    with pytest.raises(UnknownMedia):
        videos.request(here.app, here.tenant(), media_id=media_id)


def test_a_file_that_is_no_video_fails_in_words(here: Stage, tmp_path: Path) -> None:
    tenant_id = here.tenant(tier="FREE")
    video = videos.request(here.app, tenant_id, media_id=a_file(here, tenant_id, tmp_path, b"broken"))
    here.run()
    shown = here.show(video["id"])
    assert (shown["status"], shown["error_message"]) == ("failed", "it is no video that can be read")
    with here.app.db.transaction(tenant_id) as tx:
        assert tx.media.withdraw(tenant_id, shown["media_id"]), "what failed keeps its file"
    with here.app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("no job waits for a person") == 0, "its tenant is told, and nobody else can help"
    here.studio.fails = StudioUnavailable("there is no ffmpeg")
    here.ask(tenant_id)
    here.run()
    with here.app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("no job waits for a person") == 1


def test_a_file_of_ones_own_for_a_concept_is_looked_at_once(here: Stage, tmp_path: Path) -> None:
    tenant_id = here.tenant(tier="FREE")
    asked = {"media_id": a_file(here, tenant_id, tmp_path), "generation_id": here.generation(tenant_id)}
    first = videos.request(here.app, tenant_id, **asked)
    assert videos.request(here.app, tenant_id, **asked)["id"] == first["id"]
    here.run()
    assert videos.request(here.app, tenant_id, **asked)["id"] == first["id"]
    assert videos.request(here.app, tenant_id, **asked, again=True)["id"] != first["id"]


# --- what people decide -------------------------------------------------------------------------------------


def test_only_what_is_in_doubt_is_resolved(here: Stage) -> None:
    tenant_id = here.tenant()
    free = here.ask(tenant_id)
    with pytest.raises(Conflict, match="none of its clips is in doubt"):
        videos.resolve(here.app, free, "lost")
    bought = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.turn()
    with pytest.raises(Conflict, match="a job takes care of it"):
        videos.resolve(here.app, bought, "lost")
    here.run()
    here.bills["runway"].misbehave("500 after")
    unclear = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    with pytest.raises(Conflict, match="say which job"):
        videos.resolve(here.app, unclear, "found")
    with pytest.raises(Conflict, match="belongs to another submission"):
        videos.resolve(here.app, unclear, "found", here.bills["runway"].orders[0].id)
    with pytest.raises(Rejected, match="not negative"):
        videos.resolve(here.app, unclear, "lost", charged_usd=Decimal(-1))
    with pytest.raises(Rejected, match=r"\$99999 is more than 10 times the \$0.48 that were reserved"):
        videos.resolve(here.app, unclear, "lost", charged_usd=Decimal(99999))
    assert not videos.cancel(here.app, tenant_id, unclear).done
    here.assert_books()


def test_of_two_who_resolve_at_once_one_does(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("500 after")
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="runway")
    here.run()
    [order] = here.bills["runway"].orders

    def resolve(n: int) -> bool:
        try:
            if n % 2:
                return videos.resolve(here.app, video_id, "found", order.id).done
            return videos.resolve(here.app, video_id, "lost").done
        except Conflict:
            return False

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(resolve, range(8)))
    here.run()
    assert here.show(video_id)["status"] == "completed"
    assert here.budget(tenant_id).reserved == 0


def test_a_provider_is_disabled_and_enabled_again(here: Stage) -> None:
    tenant_id = here.tenant()
    assert videos.disable(here.app, "runway").outcome is Outcome.DONE
    assert videos.disable(here.app, "pika").outcome is Outcome.REFUSED
    shown = {each["provider"]: each["reason"] for each in videos.providers(here.app)}
    assert shown["storyboard"] is None
    assert "viral providers enable runway" in shown["runway"]
    assert "removed its Videos API" in shown["openai"]
    video_id = here.ask(tenant_id, a_concept(segments=4), provider="auto")
    here.run()
    assert [each["provider"] for each in here.show(video_id)["submissions"]] == ["google"]
    videos.enable(here.app, "runway")
    assert here.show(here.ask(tenant_id, a_concept(segments=4), provider="runway"))["status"] == "pending"


def test_a_provider_that_fails_rests_and_is_asked_last(here: Stage) -> None:
    tenant_id = here.tenant()
    here.bills["runway"].misbehave("limited")
    here.ask(tenant_id, a_concept(segments=4), provider="auto")
    here.turn()
    [runway] = [each for each in videos.providers(here.app) if each["provider"] == "runway"]
    assert (runway["failures"], runway["retry_at"]) == (1, here.clock[0] + timedelta(seconds=30))
    assert "429" in runway["last_error"]
    second = here.ask(tenant_id, a_concept(segments=4), provider="auto")
    here.run()
    assert [each["provider"] for each in here.show(second)["submissions"]] == ["google"]


def test_a_budget_is_set_and_shown(here: Stage) -> None:
    tenant_id = here.tenant(tier="PRO")
    assert videos.budget(here.app, tenant_id)["limit_usd"] == 25
    assert videos.set_budget(here.app, tenant_id, Decimal("7.5"))["own"]
    assert videos.budget(here.app, tenant_id)["left_usd"] == Decimal("7.5")
    assert videos.set_budget(here.app, tenant_id, None)["limit_usd"] == 25
    for wrong in (Decimal(-1), Decimal(10**7)):
        with pytest.raises(Rejected, match="a limit is 0 to"):
            videos.set_budget(here.app, tenant_id, wrong)


def test_a_list_is_read_in_pages(here: Stage) -> None:
    tenant_id = here.tenant()
    asked = [here.ask(tenant_id) for _ in range(5)]
    here.ask(here.tenant())
    first = videos.listed(here.app, tenant_id, limit=3)
    second = videos.listed(here.app, tenant_id, limit=3, after=first.next)
    assert [row["id"] for row in (*first.videos, *second.videos)] == asked[::-1]
    assert second.next is None
    assert len(videos.listed(here.app, None, status="pending").videos) == 6


def test_what_no_job_takes_care_of_is_found(here: Stage) -> None:
    tenant_id = here.tenant()
    video_id = here.ask(tenant_id)
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM job_queue")
    assert videos.recover(here.app) == 1
    assert videos.recover(here.app) == 0
    with here.app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM job_queue")
    generation_id = here.show(video_id)["generation_id"]
    assert videos.request(here.app, tenant_id, generation_id=generation_id)["id"] == video_id
    here.run()
    assert here.show(video_id)["status"] == "completed"


def test_drawing_is_cancelled_within_two_seconds_and_shows_how_far_it_is(here: Stage) -> None:
    tenant_id = here.tenant(tier="FREE")
    began = cancelled = 0.0
    shown: list[tuple[str, int | None]] = []

    def draw(watch: Watch) -> None:
        nonlocal began, cancelled
        began = monotonic()
        with ThreadPoolExecutor(1) as pool:
            for n in range(1000):
                watch(n / 1000)
                sleep(0.01)
                if n == 130:
                    video = here.show(video_id)
                    shown.append((video["stage"], video["percent"]))
                    cancelled = monotonic()
                    pool.submit(videos.cancel, here.app, tenant_id, video_id)

    here.studio.during = draw
    video_id = here.ask(tenant_id)
    here.run()
    assert cancelled > began
    assert monotonic() - cancelled < 2
    assert here.show(video_id)["status"] == "cancelled"
    [(stage_then, percent)] = shown
    assert stage_then == "drawing"
    assert percent is not None
    assert percent > 5
