"""How posts did: one post at each horizon, and many group by group. The API and the shell use this."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.concepts.timing import zone_of
from domain.errors import UnknownPost
from domain.learning.horizons import without_account
from domain.learning.numbers import Horizon
from domain.learning.performance import (
    CELL_COUNTS,
    METRICS,
    MOST_CELLS,
    AtHorizon,
    By,
    Cell,
    Look,
    Performance,
    at_horizons,
    figure_values,
    latest,
    look_values,
    period,
    weeks,
)
from domain.posting.posts import PostStatus
from workers.app import App
from workers.ops.post_changes import owner_of


@dataclass(frozen=True, slots=True)
class PostMetrics:
    """A post and its numbers. `next_at` is when it is measured next, None after the last time, and `note` why it could
    not be the last time, if so; `predicted_score` is what was expected of it, 0 to 100."""

    at: datetime
    post: dict[str, Any]
    predicted_score: float | None
    next_at: datetime | None
    note: str | None
    latest: Look | None
    horizons: Sequence[AtHorizon]


def metrics(app: App, tenant_id: UUID | None, post_id: UUID) -> PostMetrics:
    """Return what is known of a post at each horizon.

    Raises:
        UnknownPost: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner = owner_of(tx, tenant_id, post_id)
        post = tx.planned_posts.get(owner, post_id)
        if post is None:
            raise UnknownPost(f"there is no post {post_id}")
        found = tx.performance.looks(owner, post_id)
        predicted = tx.predictions.of_post(owner, post_id)
        now = app.now(tx)
    return PostMetrics(
        at=now,
        post=post,
        predicted_score=_predicted_score(predicted, post["prediction"]),
        next_at=post["measure_at"],
        note=post["measure_note"],
        latest=latest(found.looks),
        horizons=at_horizons(
            *(PostStatus(post["status"]), post["published_at"], found.looks, found.missed, now),
            note=post["measure_note"],
            account=without_account(post["account_status"], post["account_reason"]),
            named=post["external_id"] is not None,
        ),
    )


def _predicted_score(predicted: Sequence[Mapping[str, Any]], shown: Any) -> float | None:
    """Return the score of the row that is shown; of a post that has no rows, since an earlier release made it, what it
    has itself."""
    for row in predicted:
        if row["shown"]:
            return round(float(row["score"]), 4)
    score = shown.get("score") if isinstance(shown, Mapping) else None
    return float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None


def metric_values(found: PostMetrics) -> dict[str, Any]:
    """Return a post's numbers as programs read them."""
    return {
        "at": found.at,
        "post_id": found.post["id"],
        "platform": found.post["platform"],
        "status": found.post["status"],
        "published_at": found.post["published_at"],
        "predicted_score": found.predicted_score,
        "next_at": found.next_at,
        "note": found.note,
        "latest": None if found.latest is None else look_values(found.latest),
        "horizons": [_at(each) for each in found.horizons],
    }


def metric_rows(found: PostMetrics) -> list[dict[str, Any]]:
    """Return a post's horizons as rows of `HORIZON_COLUMNS`, and its latest look too if that met none."""
    about = {
        "post_id": found.post["id"],
        "platform": found.post["platform"],
        "predicted_score": found.predicted_score,
    }
    rows = [about | _at(each) for each in found.horizons]
    if found.latest is not None and found.latest.horizon is None:
        rows.append(about | look_values(found.latest))
    return rows


def _at(each: AtHorizon) -> dict[str, Any]:
    about = {"horizon": each.horizon, "state": each.state, "reason": each.reason, "due_at": each.due_at}
    return about | look_values(each.look)


def performance(
    app: App,
    tenant_id: UUID,
    *,
    by: By = By.PLATFORM,
    horizon: Horizon = Horizon.H24,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Performance:
    """Return how a tenant's posts did that were published in a period, at one horizon; weeks are those of its zone.

    Raises:
        UnknownTenant: there is none of this id.
        Rejected: it is no period, or one that is too long.
    """
    with app.db.transaction(tenant_id) as tx:
        zone = zone_of(tx.tenants.get(tenant_id)["timezone"])
        now = app.now(tx)
        begins, ends = period(since, until, now)
        found = tx.performance.cells(
            tenant_id,
            by=by,
            horizon=horizon,
            since=begins,
            until=ends,
            now=now,
            weeks=weeks(begins, ends, zone) if by == By.WEEK else (),
            limit=MOST_CELLS + 1,
        )
    return Performance(by, horizon, begins, ends, zone.key, found[:MOST_CELLS], len(found) > MOST_CELLS)


def performance_values(report: Performance) -> dict[str, Any]:
    """Return a report as programs read it."""
    about = {name: getattr(report, name) for name in ("by", "horizon", "since", "until", "time_zone", "more")}
    return about | {"cells": [_cell_values(cell) for cell in report.cells]}


def _cell_values(cell: Cell) -> dict[str, Any]:
    counts = {name: getattr(cell, name) for name in CELL_COUNTS}
    plain = {name: figure_values(getattr(cell, name)) for name in ("likes", "comments", "shares")}
    parted = {
        name: [{"definition": by} | figure_values(each) for by, each in cell.figures(name)]
        for name in ("views", "engagement")
    }
    return counts | {"unknown": {name: cell.unknown(name) for name in METRICS}} | parted | plain
