"""Concepts: made on request, or every day; paid for once, whatever happens on the way.

The hold is taken before anything is asked of anybody, and settled in the commit that keeps the concepts. What the trend
sources said and what the model answered are steps: an attempt after a crash has them already.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid5

from domain.concepts import trends
from domain.concepts.generation import (
    DEFAULT_COUNT,
    REMEMBERED,
    ConceptRequest,
    ConceptResponse,
    ConceptsInvalid,
    GenerationRefused,
    TrendsTooFew,
    Usage,
    check_count,
    compose,
    response_of,
    response_row,
    trends_of,
    usable,
    violations,
)
from domain.concepts.timing import SPREAD, due_day, spread, zone_of
from domain.concepts.trends import STILL_USED, Trend, collected_of, collected_row, sighting_of
from domain.ports import ConceptWriter, choose
from workers.engine.job import SYSTEM, Context, FailedJob, Generation, Tx, job

ANSWERS = 3
"""How often a generator may try to keep the rules; each answer of a model is paid for."""
PATIENCE = timedelta(minutes=2)
TENANTS_PER_TRANSACTION = 200
DAILY_PRIORITY = 7
"""Behind whoever waits in front of a screen."""


def give_back(tx: Tx, failed: FailedJob) -> None:
    """Nothing was made, so nothing is counted."""
    if failed.tenant_id is not None:
        tx.quota.release(failed.tenant_id, failed.id)


@job("generation.generate_concepts", queue="llm", on_failure=give_back)
def generate_concepts(ctx: Context, tenant_id: UUID, count: int = DEFAULT_COUNT, generator: str | None = None) -> None:
    """Make exactly `count` concepts from what people look at now, or fail and charge nothing.

    `generator`: "language-model" or "local-grammar/v1"; by default a language model if there is a key for one.
    """
    check_count(count)
    writer = choose(ctx.ports.writers, generator)
    with ctx.begin() as tx:
        check_variety(tx, writer, tenant_id, count, ctx.now())
        tx.quota.hold(tenant_id, ctx.job.id, count, ctx.now())
        preferences = tx.generating.preferences(tenant_id)
        past = tx.generating.past(tenant_id, ctx.now() - REMEMBERED)

    found = collected_of(
        ctx.step("trends", lambda key: collected_row(ctx.ports.trends.collect(preferences.region, ctx.now())))
    )
    live = trends.merge(found.sightings, region=found.region, now=found.at)
    known = trends.fill(live, region=found.region, rng=Random(ctx.job.id.int), now=found.at)  # noqa: S311 - repeatable
    evergreens = trends.evergreens(region=found.region, rng=Random(ctx.job.id.int), now=found.at)  # noqa: S311
    reserve = tuple(each for each in evergreens if each not in known)
    request = ConceptRequest(count, usable(known), past, found.region, ctx.job.id.int, found.at, reserve=reserve)
    response = _write(ctx, writer, request, tenant_id)
    known += [each for each in dict.fromkeys(trends_of(response, request)) if each not in known]

    sources = [trends.report_row(report) for report in found.reports]
    # Known beforehand, so that the job's result can name it.
    generation_id = uuid5(ctx.job.id, "generation")
    ctx.report(generation_id=str(generation_id), concepts=count, generator=response.generator, **_told(known, sources))
    with ctx.finish() as tx:
        generation = Generation(
            id=generation_id,
            date=found.at,
            concepts=compose(response, request, job_id=ctx.job.id, timezone=preferences.timezone),
            trends=[trends.as_row(trend) for trend in known],
            generator=response.generator,
            job_id=ctx.job.id,
            sources=sources,
        )
        tx.generations.save(tenant_id, generation)
        tx.quota.settle(tenant_id, ctx.job.id, count)


def check_variety(tx: Tx, writer: ConceptWriter, tenant_id: UUID, count: int, now: datetime) -> None:
    """See, before anything is held, whether the offline grammar has as many new concepts for the tenant: with the
    evergreen topics, or else with what the sources last said too.

    Raises:
        TrendsTooFew: how many there are.
        UnknownTenant: there is none of this id.
    """
    if not writer.runs_out:
        return
    region = tx.generating.preferences(tenant_id).region
    past = tx.generating.past(tenant_id, now - REMEMBERED)
    evergreens = trends.evergreens(region=region, rng=Random(0), now=now)  # noqa: S311 - nobody sees the order
    request = ConceptRequest(count, tuple(evergreens), past, region, 0, now)
    with suppress(TrendsTooFew):
        writer.write(request)
        return
    tx.work_as(SYSTEM)
    seen = [sighting_of(each) for each in tx.trends.last_seen(region, now - STILL_USED)]
    tx.work_as(tenant_id)
    writer.write(replace(request, trends=usable(trends.merge(seen, region=region, now=now)), reserve=request.trends))


@job("generation.daily", system=True)
def daily(ctx: Context) -> None:
    """Enqueue today's concepts for every tenant who wants them and whose hour it is, each spread over the hour.

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
            marked = tx.generating.mark_daily([(tenant_id, day) for tenant_id, (day, _) in due.items()])
            for tenant_id in sorted(marked):
                own = generate_concepts.with_options(delay=spread(tenant_id, SPREAD), priority=DAILY_PRIORITY)
                own.enqueue(tx, tenant_id=tenant_id, count=due[tenant_id][1])
        ctx.count(enqueued=len(marked))
        if len(asking) < TENANTS_PER_TRANSACTION:
            break
        after = asking[-1].id
    with ctx.finish():
        pass


def _write(ctx: Context, writer: ConceptWriter, request: ConceptRequest, tenant_id: UUID) -> ConceptResponse:
    """Ask until the answer keeps the rules. Each answer is a step of its own: none is paid for twice."""
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


def _told(known: Iterable[Trend], sources: list[dict[str, Any]]) -> dict[str, Any]:
    """For whoever looks at the job: what it was made from."""
    counts = [trend.live for trend in known]
    failed = {report["source"]: report["error"] for report in sources if report["state"] == "failed"}
    return {"live_trends": sum(counts), "evergreen_trends": len(counts) - sum(counts), "failed_sources": failed}
