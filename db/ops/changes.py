"""What was changed in the system: deploys, settings, limits, pauses, migrations. (Limits and pauses are written by
`db/queue/policies.py`, migrations by `db/migrate/upgrade.py`.)"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('changes:' || %s, 0))"

RECORD = """
INSERT INTO changes (kind, subject, before, after, cause)
VALUES (%(kind)s, %(subject)s, %(before)s::jsonb, %(after)s::jsonb, %(cause)s)
"""

COLUMNS = "id, at, kind, subject, before, after, cause"

DEPLOYS = f"SELECT {COLUMNS} FROM changes WHERE kind = 'deploy' AND subject = %s ORDER BY id DESC LIMIT 200"

NEWEST = f"SELECT {COLUMNS} FROM changes WHERE kind = %s AND subject = %s ORDER BY id DESC LIMIT 1"

SETTINGS = """
SELECT DISTINCT ON (name) name, value
FROM changes,
     jsonb_each_text(CASE WHEN jsonb_typeof(after) = 'object' THEN after ELSE '{}' END) AS setting (name, value)
WHERE kind = 'setting' AND subject = %s ORDER BY name, changes.id DESC
"""

RUNS = """
SELECT EXISTS (SELECT FROM workers WHERE version = %(release)s AND lease_until > now() AND %(role)s = 'worker')
    OR EXISTS (SELECT FROM process_metrics
               WHERE role = %(role)s AND release = %(release)s AND reported_at > now() - %(lately)s::interval)
"""

LIST = f"""
SELECT {COLUMNS} FROM changes
WHERE (%(since)s::timestamptz IS NULL OR at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s)) AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s
"""

RAIL = f"""
SELECT * FROM (
    SELECT {COLUMNS} FROM changes
    WHERE at >= %(since)s AND at < %(until)s AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    ORDER BY at DESC, id DESC LIMIT %(limit)s
) AS newest ORDER BY at, id
"""

# What is in force stays, however old: the newest change of anything, and of settings those that no newer one replaces.
PRUNE = """
DELETE FROM changes WHERE id IN (
    SELECT old.id FROM changes AS old
    WHERE old.at < %(before)s
      AND EXISTS (SELECT FROM changes AS newer
                  WHERE newer.kind = old.kind AND newer.subject = old.subject AND newer.id > old.id)
      AND (old.kind <> 'setting' OR NOT EXISTS (
          SELECT FROM jsonb_object_keys(CASE jsonb_typeof(old.after) WHEN 'object' THEN old.after ELSE '{}' END) AS name
          WHERE NOT EXISTS (SELECT FROM changes AS newer
                            WHERE newer.kind = 'setting' AND newer.subject = old.subject AND newer.id > old.id
                              AND newer.after ? name)))
    ORDER BY old.at LIMIT %(limit)s)
"""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A row of `changes`. `cause` is anybody's text."""

    id: int
    at: datetime
    kind: str
    subject: str
    before: Any
    after: Any
    cause: str | None


class Changes:
    """Query group; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock(self, subject: str) -> None:
        """Let nobody else record changes of this subject until the transaction ends."""
        self._driver.execute(LOCK, (subject,))

    def record(
        self,
        kind: str,
        subject: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        cause: str | None = None,
    ) -> None:
        values: dict[str, Any] = {"kind": kind, "subject": subject, "cause": cause}
        values |= {"before": _json(before), "after": _json(after)}
        self._driver.execute(RECORD, values)

    def deploys(self, role: str) -> list[ChangeRow]:
        """The last 200 deploys of a role, newest first."""
        return self._rows(DEPLOYS, (role,))

    def settings(self, subject: str) -> tuple[dict[str, str | None], ChangeRow | None]:
        """The settings of such processes as they were recorded last, and the newest change of one, if there is any."""
        newest = self._rows(NEWEST, ("setting", subject))
        return dict(self._driver.execute(SETTINGS, (subject,)).fetchall()), newest[0] if newest else None

    def runs(self, role: str, release: str, lately: timedelta) -> bool:
        """Whether a process of the role is known to run the release now."""
        row = self._driver.execute(RUNS, {"role": role, "release": release, "lately": lately}).fetchone()
        return row is not None and bool(row[0])

    def listed(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kinds: Sequence[str] | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[ChangeRow]:
        """Changes in [since, until), newest first; `before` is the id of the last one that was shown."""
        wanted = list(kinds) if kinds else None
        values = {"since": since, "until": until, "kinds": wanted, "before": before, "limit": limit}
        # It would rather read and sort all of them.
        self._driver.execute("SET LOCAL enable_sort = off")
        rows = self._rows(LIST, values)
        self._driver.execute("SET LOCAL enable_sort = on")
        return rows

    def between(self, since: datetime, until: datetime, limit: int, kind: str | None = None) -> list[ChangeRow]:
        """Changes in [since, until), oldest first; of more than `limit` the newest."""
        return self._rows(RAIL, {"since": since, "until": until, "limit": limit, "kind": kind})

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` changes that were made before then, and return how many they were. What is in force
        stays."""
        return self._driver.execute(PRUNE, {"before": before, "limit": limit}).rowcount

    def _rows(self, query: str, values: Any) -> list[ChangeRow]:
        with self._driver.cursor(row_factory=class_row(ChangeRow)) as cursor:
            return cursor.execute(query.encode(), values).fetchall()


def _json(state: Mapping[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state)
