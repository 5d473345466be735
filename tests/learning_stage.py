"""Tenants whose posts are out and were measured, as rows: for tests of what is learned of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from db.transaction import SYSTEM
from domain.learning.learner import Learner, LearnerKey
from domain.learning.log import read
from domain.learning.numbers import Horizon
from tests.workers.ops.test_posts import NOW, Tenant
from workers.app import App

TIKTOK = LearnerKey("tiktok", Horizon.H24, "tiktok-views/likes+comments+shares")
MINUTE = timedelta(minutes=1)

ADD = """
WITH video AS (
    INSERT INTO videos (id, tenant_id, status, source) VALUES (%(video_id)s, %(tenant_id)s, 'pending', 'own')
), post AS (
    INSERT INTO social_posts (id, tenant_id, video_id, account_id, status, published_at)
    VALUES (%(post_id)s, %(tenant_id)s, %(video_id)s, %(account_id)s, %(status)s, %(at)s - interval '1 day')
), snapshot AS (
    INSERT INTO analytics_snapshots (tenant_id, post_id, captured_at, horizon, age, views, likes, comments, shares,
        definition)
    VALUES (%(tenant_id)s, %(post_id)s, %(at)s, %(horizon)s, interval '1 day', %(views)s, %(likes)s, %(comments)s,
        %(shares)s, %(views_definition)s)
)
INSERT INTO performance_feedback (id, tenant_id, post_id, platform, horizon, views, likes, comments, shares,
    observed_at)
VALUES (%(id)s, %(tenant_id)s, %(post_id)s, %(platform)s, %(horizon)s, %(views)s, %(likes)s, %(comments)s, %(shares)s,
    %(at)s)
"""
PREDICT = """
INSERT INTO post_predictions (tenant_id, post_id, horizon, model, platform, definition, value, score, low, high,
    features, prior_id, shown, lessons)
VALUES (%(tenant_id)s, %(post_id)s, %(horizon)s, %(model)s, %(platform)s, %(definition)s, %(value)s, 0, 0, 0,
    %(features)s, %(prior_id)s, %(shown)s AND %(model)s = 'shrinkage/v1', %(lessons)s::uuid[])
"""


@dataclass(frozen=True)
class Seen:
    """A post that was measured: `at` is so many minutes after the beginning; `predicted` is by model, None: nobody has
    said anything of it."""

    minute: float
    likes: int | None = 60
    views: int | None = 1000
    comments: int | None = 3
    shares: int | None = 2
    horizon: Horizon = Horizon.H24
    category: str | None = "news"
    predicted: Mapping[str, float] | None = field(
        default_factory=lambda: {"shrinkage/v1": 1.5, "running-median/v1": 1.75}
    )
    definition: str = TIKTOK.definition
    features: Mapping[str, Any] = field(default_factory=dict)
    prior_id: int | None = None
    status: str = "published"
    shown: bool = False
    lessons: Sequence[UUID] | None = None


class Learning(Tenant):
    """Somebody whose numbers come back."""

    def __init__(self, app: App, platform: str = "tiktok", **columns: Any) -> None:
        super().__init__(app, **columns)
        self.platform = platform
        self.accounts = [self.account(platform) for _ in range(2)]

    def see(self, *seen: Seen) -> list[UUID]:
        """Add posts with their outcomes; return the outcomes' ids."""
        with self._app.db.transaction(self.id) as tx, tx.driver.cursor() as cursor:
            rows = [self._row(each) for each in seen]
            cursor.executemany(ADD, rows)
            predicted = [
                row
                | {"model": model, "value": value, "definition": each.definition, "prior_id": each.prior_id}
                | {"shown": each.shown, "lessons": each.lessons if each.lessons is None else list(each.lessons)}
                for row, each in zip(rows, seen, strict=True)
                for model, value in (each.predicted or {}).items()
            ]
            cursor.executemany(PREDICT, predicted)
        return [row["id"] for row in rows]

    def _row(self, seen: Seen) -> dict[str, Any]:
        account_id = self.accounts[int(seen.minute) % len(self.accounts)]
        features = {"account": str(account_id), "category": seen.category} | dict(seen.features)
        return {
            **{"tenant_id": self.id, "platform": self.platform, "account_id": account_id, "horizon": seen.horizon},
            **{"id": uuid4(), "post_id": uuid4(), "video_id": uuid4(), "at": at(seen.minute), "status": seen.status},
            **{"views": seen.views, "likes": seen.likes, "comments": seen.comments, "shares": seen.shares},
            "views_definition": None if seen.views is None else "tiktok-views",
            "features": Jsonb({name: value for name, value in features.items() if value is not None}),
        }

    def states(self) -> dict[LearnerKey, dict[str, Any]]:
        """Return what each learner has kept."""
        query = "SELECT platform, horizon, definition, state FROM learners WHERE tenant_id = %s"
        with self._app.db.transaction(self.id) as tx:
            rows = tx.driver.execute(query, (self.id,)).fetchall()
        return {LearnerKey(platform, Horizon(horizon), of): state for platform, horizon, of, state in rows}

    def folded(self) -> dict[LearnerKey, dict[str, Any]]:
        """Return what each learner must have kept: the fold of what its log says is learned, in one go."""
        return {key: self._fold(key) for key in self.states()}

    def _fold(self, key: LearnerKey) -> dict[str, Any]:
        learner = Learner()
        with self._app.db.transaction(self.id) as tx:
            rows = tx.outcomes.page(self.id, key, after=None, limit=1_000_000)
            priors = tx.outcomes.priors([each for row in rows for each in row.prior_ids if each is not None])
            for each in (read(row, priors) for row in rows if row.learned):
                if each.outcome is not None:
                    assert each.key == key
                    learner.learn(each.outcome)
            [[state]] = tx.driver.execute("SELECT %s::jsonb", (Jsonb(learner.row()),)).fetchall()
        found: dict[str, Any] = state
        return found

    def log(self) -> list[tuple[UUID, bool, str | None]]:
        """Return each outcome in its order: whether it is learned, and why nothing was."""
        query = (
            "SELECT id, learned_at IS NOT NULL, set_aside FROM performance_feedback WHERE tenant_id = %s"
            " ORDER BY observed_at, id"
        )
        with self._app.db.transaction(self.id) as tx:
            return tx.driver.execute(query, (self.id,)).fetchall()


def at(minute: float) -> datetime:
    return NOW - 3 * timedelta(days=1) + minute * MINUTE


def adjustments(app: App, tenant_id: UUID) -> list[dict[str, Any]]:
    """Return the tenant's adjustments, the oldest first."""
    query = "SELECT to_jsonb(a) FROM scoring_adjustments a WHERE tenant_id = %s ORDER BY applied_at, category"
    with app.db.transaction(SYSTEM) as tx:
        return [row for (row,) in tx.driver.execute(query, (tenant_id,)).fetchall()]
