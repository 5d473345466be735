"""Concepts are made on request, or every day, and are paid for once, whatever happens on the way.

The quota is held before anything is asked of anybody, and settled in the commit that keeps the concepts. Collecting the
trends and each answer of the model are steps: an attempt after a crash has their results already.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid5

from domain.concepts import imported, trends
from domain.concepts.generation import (
    DEFAULT_COUNT,
    REMEMBERED,
    ConceptRequest,
    ConceptResponse,
    ConceptsInvalid,
    Generation,
    GenerationRefused,
    TrendsTooFew,
    Usage,
    check_count,
    compose,
    request_for,
    response_of,
    response_row,
    trends_of,
    usable,
    violations,
)
from domain.concepts.imported import AudioTrend, CompetitorVideo
from domain.concepts.timing import SPREAD, day_key, due_day, spread, zone_of
from domain.concepts.trends import STILL_USED, collected_of, collected_row, sighting_of
from domain.learning.critique.lessons import MOST_AT_ONCE, ActiveLesson, held_back, lesson_of
from domain.ports import ConceptWriter, choose
from workers.engine.job import SYSTEM, Context, FailedJob, Tx, job

ANSWERS = 3
"""How often a generator may try to keep the rules. Each answer of a model is paid for."""
PATIENCE = timedelta(minutes=2)
TENANTS_PER_TRANSACTION = 200
DAILY_PRIORITY = 7
"""Daily concepts come after those that somebody waits for in front of a screen."""


def release_hold(tx: Tx, failed: FailedJob) -> None:
    """A job that made nothing counts nothing."""
    if failed.tenant_id is not None:
        tx.quota.release(failed.tenant_id, failed.id)


@job("generation.generate_concepts", queue="llm", on_failure=release_hold)
def generate_concepts(ctx: Context, tenant_id: UUID, count: int = DEFAULT_COUNT, generator: str | None = None) -> None:
    """Make exactly `count` concepts from what people look at now, or fail and charge nothing.

    `generator`: "language-model" or "local-grammar/v1"; by default a language model if there is a key for one.
    """
    check_count(count)
    writer = choose(ctx.ports.writers, generator)
    with ctx.begin() as tx:
        preferences = tx.generating.preferences(tenant_id)
        past = tx.generating.past(tenant_id, ctx.now() - REMEMBERED)
        check_variety(tx, writer, tenant_id, ConceptRequest(count, (), past, preferences.region, 0, ctx.now()))
        tx.quota.hold(tenant_id, ctx.job.id, count, ctx.now())
        scoring = tx.learners.scoring(tenant_id)
        brought = imported_trends(tx, tenant_id, preferences.region, ctx.now())
        without = held_back(ctx.job.id)
        lessons = () if without else tx.critiques.lessons(tenant_id, ctx.now(), limit=MOST_AT_ONCE)

    # What an answer is written from is fixed with the trends: it may be a later attempt that keeps the concepts.
    fixed = ctx.step("trends", partial(_collect, ctx, preferences.region, brought, lessons))
    collected, lessons = collected_of(fixed), tuple(map(lesson_of, fixed.get("lessons", ())))
    request, listed = request_for(collected, count=count, past=past, seed=ctx.job.id.int, lessons=lessons)
    response = _write(ctx, writer, request, tenant_id)

    listed += [trend for trend in dict.fromkeys(trends_of(response, request)) if trend not in listed]
    generation = Generation(
        id=uuid5(ctx.job.id, "generation"),
        date=collected.at,
        concepts=compose(response, request, scoring, job_id=ctx.job.id, timezone=preferences.timezone),
        trends=[trends.as_row(trend) for trend in listed],
        generator=response.generator,
        job_id=ctx.job.id,
        sources=[trends.report_row(report) for report in collected.reports],
    )
    ctx.report(
        generation_id=str(generation.id),
        concepts=count,
        generator=response.generator,
        live_trends=sum(trend.live for trend in listed),
        evergreen_trends=sum(not trend.live for trend in listed),
        failed_sources={each.source: each.error for each in collected.reports if each.state == "failed"},
    )
    with ctx.finish() as tx:
        tx.generations.save(tenant_id, generation)
        tx.quota.settle(tenant_id, ctx.job.id, count)


Imported = tuple[tuple[AudioTrend, ...], tuple[CompetitorVideo, ...]]


def imported_trends(tx: Tx, tenant_id: UUID, region: str, now: datetime) -> Imported:
    """Return the sounds of the region and the videos of the tenant's competitors that were seen lately. The transaction
    is in the tenant's scope, and stays there."""
    since, until = now - imported.USED_FOR, now + imported.CLOCKS_DIFFER
    competitors = tx.imported_trends.recent_competitors(tenant_id, since, until, imported.MOST_SIGHTINGS)
    tx.work_as(SYSTEM)
    audio = tx.imported_trends.recent_audio(region, since, until, imported.MOST_SIGHTINGS)
    tx.work_as(tenant_id)
    return audio, competitors


def check_variety(tx: Tx, writer: ConceptWriter, tenant_id: UUID, wanted: ConceptRequest) -> None:
    """Check, before anything is held, that the offline grammar has enough new concepts for the tenant: of evergreen
    topics, or else of what the sources last said too. `wanted` has no trends yet.

    Raises:
        TrendsTooFew: there are fewer; the text says how many.
    """
    if not writer.runs_out:
        return
    region, now = wanted.region, wanted.now
    evergreens = trends.evergreens(region=region, rng=Random(0), now=now)  # noqa: S311 - nobody sees the order
    request = replace(wanted, trends=tuple(evergreens))
    with suppress(TrendsTooFew):
        writer.write(request)
        return
    audio, competitors = imported_trends(tx, tenant_id, region, now)
    tx.work_as(SYSTEM)
    seen = [sighting_of(each) for each in tx.trends.last_seen(region, now - STILL_USED)]
    tx.work_as(tenant_id)
    seen += [*imported.audio_sightings(audio), *imported.competitor_sightings(competitors)]
    writer.write(replace(request, trends=usable(trends.merge(seen, region=region, now=now)), reserve=request.trends))


@job("generation.daily", system=True)
def daily(ctx: Context) -> None:
    """Enqueue today's concepts for every tenant that wants them and whose hour it is, spread over the hour.

    It asks whose day has not been served yet, so running it twice or late serves nobody twice.
    """
    after = UUID(int=0)
    while True:
        with ctx.begin() as tx:
            now = ctx.now()
            asking = tx.generating.wanting_daily(after, now, TENANTS_PER_TRANSACTION)
            due = {
                each.id: (day, each.count)
                for each in asking
                if each.count > 0 and (day := due_day(zone_of(each.timezone), each.hour, each.last_on, now))
            }
            marked = tx.generating.mark_daily({tenant_id: day for tenant_id, (day, _) in due.items()})
            jobs = {}
            for tenant_id in sorted(marked):
                day, count = due[tenant_id]
                own = generate_concepts.with_options(
                    delay=spread(tenant_id, SPREAD), priority=DAILY_PRIORITY, unique_key=day_key(day)
                )
                jobs[tenant_id] = own.enqueue(tx, tenant_id=tenant_id, count=count), count
            tx.quota.hold_many(jobs, now)
        ctx.count(enqueued=len(marked))
        if len(asking) < TENANTS_PER_TRANSACTION:
            break
        after = asking[-1].id
    with ctx.finish():
        pass


def _collect(ctx: Context, region: str, brought: Imported, lessons: Sequence[ActiveLesson], key: str) -> dict[str, Any]:
    collected = imported.joined(ctx.ports.trends.collect(region, ctx.now()), *brought)
    return collected_row(collected) | {"lessons": [each.row() for each in lessons]}


def _write(ctx: Context, writer: ConceptWriter, request: ConceptRequest, tenant_id: UUID) -> ConceptResponse:
    """Ask until the answer keeps the rules. Each answer is a step of its own, so that none is paid for twice."""
    wrong: list[str] = []
    for call in range(1, ANSWERS + 1):
        asked = replace(request, violations=tuple(wrong), patience=min(PATIENCE, ctx.remaining))
        paid = partial(_record_usage, tenant_id, ctx.job.id, call)
        response = response_of(ctx.step(f"concepts {call}", partial(_answer, writer, asked), keep=paid))
        ctx.check()
        if response.refusal:
            raise GenerationRefused(f"{response.generator} declines to write about these topics: {response.refusal}")
        wrong = violations(response, request)
        if not wrong:
            return response
        ctx.log.warning("generation.answer_unusable", generator=response.generator, call=call, violations=wrong[:10])
    raise ConceptsInvalid(
        f"{response.generator} broke the rules in {ANSWERS} answers; the last time: {'; '.join(wrong[:5])}"
    )


def _answer(writer: ConceptWriter, request: ConceptRequest, key: str) -> dict[str, Any]:
    return response_row(writer.write(request))


def _record_usage(tenant_id: UUID, job_id: UUID, call: int, answer: dict[str, Any], tx: Tx) -> None:
    tx.generating.record(tenant_id, job_id, call, Usage(**answer["usage"]))
