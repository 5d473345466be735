"""How learning does, why a score is what it is, and another model at an operator's word. The API and the shell use
this."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from db.learning.learners import LockedLearner
from db.transaction import SYSTEM, Tx
from domain.concepts.categories import categories
from domain.errors import Conflict, Rejected, UnknownPost
from domain.learning.accuracy import skill
from domain.learning.learner import MODELS, YARDSTICK, Learner, LearnerKey, learner_of
from domain.learning.models.ridge import LEAST_OUTCOMES
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, SHOWN, Features
from domain.learning.pool import built_in
from domain.learning.promotion import Step, compared
from domain.learning.scale import score_of
from domain.learning.scoring import SCORED, Predicted, shown_of, shown_row
from workers.app import App
from workers.ops.post_changes import owner_of

HISTORY = 100


class NotLearned(Conflict):
    """The tenant has no learner that is meant."""

    def __init__(self, message: str) -> None:
        super().__init__("NOT_LEARNED", message)


# --- how it does ------------------------------------------------------------------------------------------------------


def status(app: App, tenant_id: UUID) -> dict[str, Any]:
    """Return each of a tenant's learners, what was set aside, and what waits.

    Raises:
        UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        rows, set_aside = tx.guard_rails.standings(tenant_id), tx.guard_rails.set_aside(tenant_id)
        priors = tx.learners.newest_priors()
        waiting, since = tx.guard_rails.waiting()
        counts = tx.learning.stats(tenant_id, tx.now())
    return {
        "tenant_id": tenant_id,
        "learners": [_learner(row, priors) for row in rows],
        "set_aside": set_aside,
        "waiting": waiting,
        "waiting_since": since,
        "critiques": counts.critiques,
        "insights": counts.insights,
        "adjustments": counts.adjustments,
    }


def overview(app: App) -> dict[str, Any]:
    """Return how learning does over all tenants."""
    with app.db.transaction(SYSTEM) as tx:
        platforms, pool = tx.guard_rails.overview(), tx.guard_rails.pool_changed()
        waiting, since = tx.guard_rails.waiting()
    return {"platforms": platforms, "waiting": waiting, "waiting_since": since, "pool_changed_at": pool}


def history(app: App, tenant_id: UUID, *, limit: int = HISTORY) -> list[dict[str, Any]]:
    """Return what changed a tenant's scores, newest first.

    Raises:
        UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        return tx.guard_rails.history(tenant_id, limit=limit)


def _learner(row: Mapping[str, Any], priors: Mapping[LearnerKey, Any]) -> dict[str, Any]:
    learner = learner_of(row["state"]) or Learner()
    key = LearnerKey(row["platform"], Horizon(row["horizon"]), row["definition"])
    champion = row["champion"]
    gaps = {}
    for name in MODELS:
        found = compared(learner.trailing, champion, name)
        if found.outcomes:
            gaps[name] = {"outcomes": found.outcomes, "gap": found.candidate, "champions_gap": found.champion}
    median = gaps.get(YARDSTICK)
    names = ("platform", "horizon", "definition", "outcomes", "champion", "previous", "champion_since", "updated_at")
    return {name: row[name] for name in (*names, "champion_since_outcomes")} | {
        "trailing": gaps,
        "skill": median and skill(median["champions_gap"], median["gap"]),
        "drifting": learner.drift.alarmed > 0,
        "pooled": key in priors,
    }


# --- why a score is what it is ----------------------------------------------------------------------------------------


def explain_post(app: App, tenant_id: UUID | None, post_id: UUID) -> dict[str, Any]:
    """Return what was expected of a post, part by part, and what came.

    Raises:
        UnknownPost: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner = owner_of(tx, tenant_id, post_id)
        rows = tx.predictions.of_post(owner, post_id)
        settled = tx.accuracy.of_post(owner, post_id)
        post = tx.planned_posts.get(owner, post_id)
    if post is None:
        raise UnknownPost(f"there is no post {post_id}")
    outcomes = {
        str(horizon): {"actual": each.actual_score, "set_aside": each.set_aside} for horizon, each in settled.items()
    }
    return {
        "post_id": post_id,
        "platform": post["platform"],
        "predictions": [
            {name: row[name] for name in ("horizon", "model", "shown", "definition", "score", "low", "high", "made_at")}
            | {"parts": _parts(row["parts"]), "features": row["features"], "pooled": row["prior_id"] is not None}
            for row in rows
        ],
        "outcomes": outcomes,
    }


def explain_concept(app: App, tenant_id: UUID, *, platform: str, category: str) -> dict[str, Any]:
    """Return what a concept of this category would score now, part by part.

    Raises:
        UnknownTenant: there is none of this id.
        Rejected: nothing is predicted for the platform, or there is no such category.
    """
    if platform not in SCORED:
        raise Rejected(f"platform: nothing is predicted for {platform}; use {', '.join(SCORED)}")
    if category not in categories():
        raise Rejected(f"category: there is no {category!r}; use {', '.join(categories())}")
    with app.db.transaction(tenant_id) as tx:
        tx.tenants.get(tenant_id)
        found = tx.learners.scoring(tenant_id).predict(platform, Features("", category), app.now(tx).date())
    shown = shown_of(found)
    if shown is None:
        raise Rejected(f"platform: nothing is predicted for {platform}")
    at_horizon = [each for each in found if each.key.horizon == SHOWN]
    return {"platform": platform, "category": category, **shown_row(shown), **_by_model(at_horizon, shown)}


def _by_model(found: list[Predicted], shown: Predicted) -> dict[str, Any]:
    return {
        "outcomes": shown.outcomes,
        "pooled": shown.prior.id is not None,
        "parts": _parts(shown.forecast.parts),
        "models": {each.forecast.model: each.score for each in found},
    }


def _parts(parts: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what a score is the sum of, in its order: each part in log engagement, and the score with it."""
    order = ("prior", "platform", "category", "features", "account")
    total, found = 0.0, []
    for name in sorted(parts, key=lambda each: order.index(each) if each in order else len(order)):
        total += parts[name]
        found.append({"part": name, "value": parts[name], "score": score_of(total)})
    return found


# --- another model ----------------------------------------------------------------------------------------------------


def promote(
    app: App, tenant_id: UUID, model: str, *, platform: str | None = None, horizon: str | None = None
) -> list[dict[str, Any]]:
    """Let a model score for a tenant's learners, or for those of a platform or horizon, whatever the figures say; it
    goes back by itself if it does worse. Return each learner with the model before.

    Raises:
        UnknownTenant: there is none of this id.
        Rejected: there is no such model, or it cannot score.
        NotLearned: there is no such learner, or the model says nothing there yet.
    """
    if model == YARDSTICK:
        raise Rejected(f"{model} never scores: the others are compared with it")
    if model not in MODELS:
        raise Rejected(f"there is no model {model!r}; use {', '.join(each for each in MODELS if each != YARDSTICK)}")
    done = []
    with app.db.transaction(tenant_id) as tx:
        for locked in tx.learners.lock(tenant_id, _keys(tx, tenant_id, platform, horizon)):
            key, learner = locked.key, locked.learner or Learner()
            prior = tx.learners.newest_priors().get(key)
            if model not in learner.predict(Features(""), prior or built_in(key.platform)):
                missing = max(0, LEAST_OUTCOMES - learner.count)
                raise NotLearned(
                    f"{model} says nothing yet for {key.platform} at {key.horizon}: of the outcomes that it needs,"
                    f" {missing} of {LEAST_OUTCOMES} are missing; name --platform and --horizon where it does"
                )
            done.append(_change(tx, tenant_id, locked, Step.PROMOTION, model))
    return done


def roll_back(
    app: App, tenant_id: UUID, *, platform: str | None = None, horizon: str | None = None
) -> list[dict[str, Any]]:
    """Let the model score again that did before the last promotion; that one is not proposed again for a while.

    Raises:
        UnknownTenant: there is none of this id.
        NotLearned: there is no such learner, or none where another model has scored before.
    """
    with app.db.transaction(tenant_id) as tx:
        done = [
            _change(tx, tenant_id, locked, Step.ROLLBACK, locked.previous)
            for locked in tx.learners.lock(tenant_id, _keys(tx, tenant_id, platform, horizon))
            if locked.previous is not None
        ]
        if not done:
            raise NotLearned("no other model has scored before: there is nothing to go back to")
    return done


def _keys(tx: Tx, tenant_id: UUID, platform: str | None, horizon: str | None) -> list[LearnerKey]:
    if horizon is not None and horizon not in LEARNED:
        raise Rejected(f"horizon: nothing is predicted for {horizon}; use {' or '.join(LEARNED)}")
    tx.tenants.get(tenant_id)
    found = [
        LearnerKey(row["platform"], Horizon(row["horizon"]), row["definition"])
        for row in tx.guard_rails.standings(tenant_id)
        if platform in (None, row["platform"]) and horizon in (None, row["horizon"])
    ]
    if not found:
        where = " ".join(each for each in (platform, horizon) if each)
        raise NotLearned(f"nothing was learned yet{f' of {where}' if where else ''}: there is no learner to change")
    return found


def _change(tx: Tx, tenant_id: UUID, locked: LockedLearner, step: Step, model: str) -> dict[str, Any]:
    """Let the model score for a learner that is locked, unless it does; return both."""
    key, champion = locked.key, locked.champion
    if model != champion:
        tx.guard_rails.change(
            *(tenant_id, key),
            step=step,
            model=model,
            champion=champion,
            outcomes=locked.outcomes,
            reason=f"an operator has {model} score instead of {champion}",
            report={"by": "operator"},
        )
    about = {"platform": key.platform, "horizon": key.horizon, "definition": key.definition}
    return about | {"champion": model, "before": champion}
