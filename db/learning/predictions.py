"""What each model said of a post before it was out. Rows are added in the commit that adds the post, and never changed:
a trigger refuses that (`db/schema/learning.py`)."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import rows_of
from domain.learning.scoring import Predicted
from domain.text.storable import to_json

ADD = """
INSERT INTO post_predictions (tenant_id, post_id, horizon, model, platform, definition, shown, value, score, low, high,
    parts, features, prior_id, lessons)
VALUES (%(tenant_id)s, %(post_id)s, %(horizon)s, %(model)s, %(platform)s, %(definition)s, %(shown)s, %(value)s,
    %(score)s, %(low)s, %(high)s, %(parts)s, %(features)s, %(prior_id)s, %(lessons)s::uuid[])
ON CONFLICT (tenant_id, post_id, horizon, model) DO NOTHING
"""

OF_POST = """
SELECT post_id, horizon, model, platform, definition, shown, value, score, low, high, parts, features, prior_id,
    lessons, made_at
FROM post_predictions WHERE tenant_id = %s AND post_id = %s ORDER BY horizon, model
"""


class Predictions:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def add(
        self, tenant_id: UUID, post_id: UUID, predicted: Sequence[Predicted], lessons: Sequence[UUID] | None
    ) -> None:
        """Keep what the models said of a post; of a model and horizon that are there already the first stays.

        `lessons` are those that the post's concept was written with, None if nobody has asked whether there are any.
        """
        rows = [_row(tenant_id, post_id, each, lessons) for each in predicted]
        with self._driver.cursor() as cursor:
            cursor.executemany(ADD, rows)

    def of_post(self, tenant_id: UUID, post_id: UUID) -> list[dict[str, Any]]:
        """Return a post's rows, by horizon and model; none where the platform counts no views."""
        return rows_of(self._driver, OF_POST, (tenant_id, post_id))


def _row(tenant_id: UUID, post_id: UUID, each: Predicted, lessons: Sequence[UUID] | None) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "post_id": post_id,
        "horizon": each.key.horizon,
        "model": each.forecast.model,
        "platform": each.key.platform,
        "definition": each.key.definition,
        "shown": each.shown,
        "value": each.forecast.value,
        "score": each.score,
        "low": each.low,
        "high": each.high,
        "parts": to_json(dict(each.forecast.parts)),
        "features": to_json(each.features.row()),
        "prior_id": each.prior.id,
        "lessons": None if lessons is None else list(lessons),
    }
