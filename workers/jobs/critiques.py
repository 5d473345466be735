"""Critiques say in words why outcomes differ from predictions, and leave lessons for the next concepts. They move no
number.

    reflexion.learn, feedback ──▶ reflexion.review: retires lessons, finds what is due ──▶ reflexion.critique, each
"""

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid5

from domain.concepts.formats import formats
from domain.concepts.generation import Usage
from domain.errors import Rejected
from domain.learning.critique import groups
from domain.learning.critique.budget import may_ask
from domain.learning.critique.cleaning import cleaned
from domain.learning.critique.critiques import (
    LESSON_LASTS,
    LOCAL_CRITIC,
    CritiqueRequest,
    CritiqueResponse,
    Evidence,
    Lesson,
)
from domain.learning.critique.groups import MISSES_A_DAY, GroupKey
from domain.learning.critique.lessons import retirement
from domain.ports import Critic, choose
from workers.engine.job import Context, Tx, job

ANSWERS = 2
"""How often a model is asked for one critique. Each answer is paid for."""
PATIENCE = timedelta(minutes=2)
AFTER_A_FAILURE = timedelta(hours=6)
"""So long a tenant gets no critique after one has failed, so that one error does not come back with each outcome."""
LATER = 8
"""The priority of what nobody waits for."""
LANGUAGE_MODEL = "a language model"
NOTHING_LEFT = "Nothing of what was written about these outcomes can be kept."


@job("reflexion.review", unique=("tenant_id",), priority=LATER)
def review(ctx: Context, tenant_id: UUID) -> None:
    """Retire lessons that have expired or do not help; enqueue the critiques that are due."""
    ctx.count(retired=0, critiques=0)
    with ctx.finish() as tx:
        now = ctx.now()
        tx.critiques.lock(tenant_id)
        for each in tx.critiques.live_lessons(tenant_id):
            because = retirement(tx.critiques.gaps(tenant_id, each, now), each["expires_at"], now)
            if because is not None:
                tx.critiques.retire(tenant_id, each["id"], because)
                ctx.count(retired=1)
        found = [] if tx.critiques.has_failed(tenant_id, now - AFTER_A_FAILURE) else _due(tx, tenant_id, now)
        critique.enqueue_many(tx, found)
        ctx.count(critiques=len(found))


@job("reflexion.critique", queue="llm", unique=("category", "platform", "account_id", "outcome_id"), priority=LATER)
def critique(
    ctx: Context,
    tenant_id: UUID,
    category: str,
    platform: str,
    *,
    account_id: UUID | None = None,
    outcome_id: UUID | None = None,
) -> None:
    """Have a critique written of a group of outcomes, or of one large miss, `outcome_id`. Whoever comes when it is
    written already, or no longer due, writes nothing.

    What it is about is a step: an attempt after a crash asks about the same, and an answer that was paid for is kept
    whatever has come since."""
    key = GroupKey(category, platform, account_id)
    with ctx.begin() as tx:
        tx.critiques.lock(tenant_id)
        found = _evidence(tx, tenant_id, key, outcome_id, ctx.now())
    evidence = [_evidence_of(each) for each in ctx.step("evidence", partial(_fixed, found))["evidence"]]
    with ctx.begin() as tx:
        tier = tx.critiques.lock(tenant_id)
        model = next((name for name in ctx.ports.critics if name != LOCAL_CRITIC), None)
        asks = model is not None and bool(evidence) and tx.critiques.is_begun(ctx.job.id)
        if model is not None and evidence and not asks:
            asks = may_ask(tier, tx.critiques.spent(tenant_id, ctx.job.id, ctx.now()))
            if asks:
                tx.critiques.begin(tenant_id, ctx.job.id)
    written = _write(ctx, tenant_id, _request(ctx, key, evidence, outcome_id), model if asks else None)
    with ctx.finish() as tx:
        tx.critiques.lock(tenant_id)
        if written is not None and not _is_written(tx, tenant_id, key, written[0], ctx.now()):
            _save(ctx, tx, tenant_id, key, written)


Written = tuple[CritiqueRequest, CritiqueResponse]


def _due(tx: Tx, tenant_id: UUID, now: datetime) -> list[dict[str, Any]]:
    """Return the payloads of the critiques that are due. The tenant is locked."""
    found = groups.due(tx.critiques.outcomes(tenant_id, now), tx.critiques.seen(tenant_id, now))
    payloads: list[dict[str, Any]] = [key._asdict() for key in found]
    left = max(0, MISSES_A_DAY - tx.critiques.misses_today(tenant_id, now))
    payloads += [
        {"category": each["category"], "platform": each["platform"], "account_id": each["account_id"]}
        | {"outcome_id": each["id"]}
        for each in tx.critiques.misses(tenant_id, now)[:left]
    ]
    return [{"tenant_id": tenant_id, **each} for each in payloads]


def _evidence(tx: Tx, tenant_id: UUID, key: GroupKey, outcome_id: UUID | None, now: datetime) -> list[Evidence]:
    """Return what a critique is about; nothing if it is not due. The tenant is locked."""
    if outcome_id is None:
        found = groups.due(tx.critiques.outcomes(tenant_id, now), tx.critiques.seen(tenant_id, now)).get(key, [])
        return tx.critiques.evidence(tenant_id, [each.id for each in found])
    due = outcome_id in [each["id"] for each in tx.critiques.misses(tenant_id, now)]
    within = tx.critiques.misses_today(tenant_id, now) < MISSES_A_DAY
    return tx.critiques.evidence(tenant_id, [outcome_id]) if due and within else []


def _is_written(tx: Tx, tenant_id: UUID, key: GroupKey, request: CritiqueRequest, now: datetime) -> bool:
    """Whether another job has written of these outcomes meanwhile."""
    ids = {each.outcome_id for each in request.evidence}
    if request.single:
        return any(
            each.concept_id and tx.critiques.is_criticised(tenant_id, each.concept_id) for each in request.evidence
        )
    seen = tx.critiques.seen(tenant_id, now).get(key)
    newest = max(tx.critiques.observed(tenant_id, list(ids)).values(), default=seen)
    return seen is not None and newest is not None and seen >= newest


def _request(ctx: Context, key: GroupKey, evidence: list[Evidence], outcome_id: UUID | None) -> CritiqueRequest | None:
    if not evidence:
        return None
    return CritiqueRequest(
        category=key.category,
        platform=key.platform,
        account=None if key.account_id is None else str(key.account_id),
        evidence=tuple(evidence),
        now=ctx.now(),
        single=outcome_id is not None,
        formats=tuple(sorted(each.name for each in formats())),
        patience=min(PATIENCE, ctx.remaining),
    )


def _write(ctx: Context, tenant_id: UUID, request: CritiqueRequest | None, model: str | None) -> Written | None:
    """Ask the model, once more if nothing can be kept of its answer; then, or without one, the offline critic
    writes."""
    if request is None:
        return None
    critic = ""
    for call in range(1, ANSWERS + 1) if model is not None else ():
        paid = partial(_record_usage, tenant_id, ctx.job.id, call)
        row = ctx.step(f"critique {call}", partial(_answer, choose(ctx.ports.critics, model), request), keep=paid)
        answer = _response_of(row)
        ctx.check()
        usable = cleaned(answer, request)
        if usable.critique and not answer.refusal and not answer.unreadable:
            return request, usable
        critic = answer.critic
        ctx.log.warning("critique.answer_unusable", critic=critic, call=call, refusal=answer.refusal)
    response = cleaned(choose(ctx.ports.critics, LOCAL_CRITIC).criticise(request), request)
    name = f"{response.critic}, after {critic} gave nothing to keep" if critic else response.critic
    return request, replace(response, critic=name, critique=response.critique or NOTHING_LEFT)


def _fixed(evidence: list[Evidence], key: str) -> dict[str, Any]:
    return {"evidence": [asdict(each) | {"outcome_id": str(each.outcome_id)} for each in evidence]}


def _answer(critic: Critic, request: CritiqueRequest, key: str) -> dict[str, Any]:
    """Return what the critic says; that it cannot be asked (a wrong key, no credit) is an answer too, of which nothing
    is kept, so that the offline critic writes."""
    try:
        return asdict(critic.criticise(request))
    except Rejected as error:
        return asdict(CritiqueResponse(LANGUAGE_MODEL, usage=Usage(LANGUAGE_MODEL), refusal=str(error)))


def _evidence_of(row: dict[str, Any]) -> Evidence:
    return Evidence(**{**row, "outcome_id": UUID(row["outcome_id"])})


def _response_of(row: dict[str, Any]) -> CritiqueResponse:
    """Read what `_answer` returned, once it was kept as JSON."""
    lessons = tuple(Lesson(**each) for each in row["lessons"])
    texts: dict[str, Any] = {name: tuple(row[name]) for name in ("reasons", "scoring_issues")}
    return CritiqueResponse(**row | texts | {"lessons": lessons, "usage": Usage(**row["usage"])})


def _record_usage(tenant_id: UUID, job_id: UUID, call: int, answer: dict[str, Any], tx: Tx) -> None:
    tx.generating.record(tenant_id, job_id, call, Usage(**answer["usage"]))


def _save(ctx: Context, tx: Tx, tenant_id: UUID, key: GroupKey, written: Written) -> None:
    """Keep a critique and its lessons. Sureness is the statistics', whatever the critic says."""
    request, response = written
    evidence, gaps = request.evidence, [each.gap for each in request.evidence]
    predicted, actual = (groups.mean([getattr(each, name) for each in evidence]) for name in ("predicted", "actual"))
    observed = tx.critiques.observed(tenant_id, [each.outcome_id for each in evidence])
    critique_id = uuid5(ctx.job.id, "critique")
    where = {"tenant_id": tenant_id, **key._asdict()}
    gap = round(actual - predicted, 4)
    row = where | {
        "id": critique_id,
        "concept_id": evidence[0].concept_id if request.single else None,
        "predicted_score": round(predicted, 4),
        "actual_score": round(actual, 4),
        "performance_gap": {
            "category": key.category,
            "platform": key.platform,
            "predictedVirality": round(predicted, 4),
            "actualViralityScore": round(actual, 4),
            "gap": gap,
        },
        "critique": response.critique,
        "hypothesized_reasons": list(response.reasons),
        "scoring_issues": list(response.scoring_issues),
        "adjustment_plan": response.adjustment_plan,
        "confidence_level": groups.confidence(gaps, single=request.single),
        "model": response.critic,
        "job_id": ctx.job.id,
        "evidence": [_kept(each, observed.get(each.outcome_id)) for each in evidence],
    }
    ids = [str(each.outcome_id) for each in evidence]
    lessons = [
        where
        | {
            "id": uuid5(critique_id, f"lesson {number}"),
            "critique_id": critique_id,
            "pattern": each.pattern,
            "recommendation": each.advice,
            "impact": "positive" if gap > 0 else "negative",
            "evidence_count": len(ids),
            "evidence": ids,
            "expires_at": ctx.now() + LESSON_LASTS,
            "formats": {"prefer": list(each.prefer), "avoid": list(each.avoid)},
        }
        for number, each in enumerate(response.lessons)
    ]
    tx.critiques.add(row, lessons)
    ctx.report(critique_id=str(critique_id), model=response.critic, outcomes=len(ids), lessons=len(lessons))


def _kept(each: Evidence, observed_at: datetime | None) -> dict[str, Any]:
    return {
        "outcome_id": str(each.outcome_id),
        "observed_at": None if observed_at is None else observed_at.isoformat(),
        "predicted": each.predicted,
        "actual": each.actual,
    }
