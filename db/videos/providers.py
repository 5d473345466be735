"""The models that make clips, as they are sold today, and how they have been doing. System scope."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import kwargs_row

from db.postgres.rows import rows_of
from domain.videos.plan import ClipModel

COLUMNS = """provider, model, valid_from, rank, durations, prompt_limit, resolution, width, height, has_sound,
    usd_per_second, patience, enabled, unavailable, sunset_at, failures, last_error, retry_at"""

CURRENT = f"""
SELECT {COLUMNS} FROM (
    SELECT DISTINCT ON (provider, model) * FROM video_providers
    WHERE valid_from <= %s ORDER BY provider, model, valid_from DESC
) AS current
ORDER BY rank, provider, model
"""

ENABLE = """
UPDATE video_providers SET enabled = %(enabled)s,
    failures = CASE WHEN %(enabled)s THEN 0 ELSE failures END,
    last_error = CASE WHEN %(enabled)s THEN NULL ELSE last_error END,
    retry_at = CASE WHEN %(enabled)s THEN NULL ELSE retry_at END
WHERE provider = %(provider)s RETURNING provider
"""

FAILED = """
UPDATE video_providers SET failures = failures + 1, last_error = %(error)s, retry_at = %(retry_at)s
WHERE provider = %(provider)s AND model = %(model)s AND valid_from = %(valid_from)s
"""

WORKED = """
UPDATE video_providers SET failures = 0, last_error = NULL, retry_at = NULL
WHERE provider = %(provider)s AND model = %(model)s AND valid_from = %(valid_from)s
    AND (failures > 0 OR retry_at IS NOT NULL)
"""


class VideoProviders:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def current(self, now: datetime) -> list[ClipModel]:
        """Return the row of each model that holds now, by rank."""
        with self._driver.cursor(row_factory=kwargs_row(_model)) as cursor:
            return cursor.execute(CURRENT.encode(), (now,)).fetchall()

    def lock(self, provider: str) -> list[dict[str, Any]]:
        """Return whether the provider's models may be asked, and how often they failed last; nobody else changes that
        before the transaction ends."""
        query = """
            SELECT model, enabled, failures FROM video_providers WHERE provider = %s
            ORDER BY model, valid_from FOR NO KEY UPDATE
        """
        return rows_of(self._driver, query, (provider,))

    def enable(self, provider: str, enabled: bool) -> bool:
        """Let a provider be asked, with its failures forgotten, or not. False if there is none of this name."""
        return self._driver.execute(ENABLE, {"provider": provider, "enabled": enabled}).fetchone() is not None

    def failed(self, model: ClipModel, error: str, retry_at: datetime) -> None:
        """Note that the provider could not be asked, and when it is worth trying again."""
        self._driver.execute(FAILED, _key(model) | {"error": error, "retry_at": retry_at})

    def worked(self, model: ClipModel) -> None:
        """Note that the provider takes orders."""
        self._driver.execute(WORKED, _key(model))


def _key(model: ClipModel) -> dict[str, Any]:
    return {"provider": model.provider, "model": model.model, "valid_from": model.valid_from}


def _model(**row: Any) -> ClipModel:
    return ClipModel(**row | {"durations": tuple(row["durations"])})
