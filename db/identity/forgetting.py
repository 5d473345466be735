"""Forgetting a person: what is left of them in events, jobs, attempts, archives and results.

`Identity.forget` has reduced what Clerk told of them. Here is the rest, which may be anywhere: in what Stripe told of
the customer that only they were, in whatever jobs of their own tenant did, and in any text that holds an identifier of
theirs (`domain/text/personal.py`): of a job, an event, or a name that somebody gave. Nothing here touches what a
tenant has
made: content goes with its tenant.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from db.postgres.rows import rows_of
from domain.text.personal import masked, without_people, written
from domain.text.redaction import MASK

TENANTS = """
SELECT tenant.id, NOT EXISTS (
    SELECT FROM users WHERE tenant_id = tenant.id AND clerk_id IS DISTINCT FROM %(clerk_id)s AND deleted_at IS NULL
        AND (clerk_id IS NOT NULL OR NOT coalesce(lower(email) = ANY(%(words)s), false))
) AND NOT EXISTS (
    SELECT FROM account_tenants JOIN organizations USING (clerk_id) WHERE home_id = tenant.id AND deleted_at IS NULL
)
FROM tenants tenant WHERE id IN (
    SELECT home_id FROM account_tenants WHERE clerk_id = %(clerk_id)s
    UNION SELECT tenant_id FROM users WHERE clerk_id = %(clerk_id)s
    UNION SELECT home_id FROM account_tenants
    JOIN organization_memberships ON organization_clerk_id = account_tenants.clerk_id WHERE user_clerk_id = %(clerk_id)s
)
"""
"""Those that the person works or worked in, and whether nobody else does."""

CUSTOMERS = """
SELECT id FROM stripe_customers WHERE tenant_id = ANY(%(tenants)s)
UNION SELECT stripe_customer_id FROM tenants WHERE id = ANY(%(tenants)s) AND stripe_customer_id IS NOT NULL
"""

SPAN = "SELECT id FROM webhook_events WHERE id > %(after)s ORDER BY id OFFSET %(span)s - 1 LIMIT 1"
EVENTS = """
SELECT id, source, payload, body IS NOT NULL, of_deserted FROM (
    SELECT *, source = 'stripe' AND (coalesce(subject = ANY(%(deserted)s), false) OR (
        lower(concat_ws(' ', payload #>> '{data,object,client_reference_id}',
            payload #>> '{data,object,metadata,tenantId}', payload #>> '{data,object,metadata,tenant_id}'))
            LIKE ANY(%(hints)s::text[])
        AND NOT EXISTS (SELECT FROM stripe_customers customer WHERE customer.id = event.subject
                        AND tenant_id <> ALL(%(tenants)s::uuid[]))
    )) AS of_deserted
    FROM webhook_events event
    WHERE id > %(after)s AND (%(until)s::uuid IS NULL OR id <= %(until)s) AND dropped_at IS NULL
) AS event
WHERE of_deserted OR ((source = 'stripe' OR type NOT LIKE 'user.%%')
    AND lower(payload::text) LIKE ANY(%(patterns)s::text[]))
ORDER BY id LIMIT %(limit)s
"""
"""Stripe's about the person, and everybody's that mention them, but what Clerk told of other people's accounts."""

# Somebody else may have the address now, or a second account, which is called after it.
CALLED_SO = """
SELECT home_id FROM account_tenants JOIN users USING (clerk_id)
WHERE deleted_at IS NULL AND lower(email) = ANY(%(words)s)
"""
NAMED_TENANTS = f"""
SELECT id, name FROM tenants
WHERE id = ANY(%(tenants)s) OR (lower(name) LIKE ANY(%(patterns)s::text[]) AND id NOT IN ({CALLED_SO}))
ORDER BY id FOR NO KEY UPDATE
"""
ANONYMOUS_ROWS = """
UPDATE users SET email = NULL, name = NULL, image_url = NULL, updated_at = now(), deleted_at = now()
WHERE clerk_id IS NULL AND tenant_id = ANY(%(tenants)s) AND lower(email) = ANY(%(words)s)
"""
KEYS = "UPDATE api_keys SET name = 'deleted' WHERE tenant_id = ANY(%(tenants)s) AND name <> 'deleted'"

ENDED: Final = "status IN ('completed', 'failed', 'cancelled')"
# Of a tenant in which nobody works any more; and jobs that applied events about the person.
CONCERNED = """
(tenant_id = ANY(%(tenants)s) OR (tenant_id IS NULL AND payload ->> 'event_id' IN (
    SELECT id::text FROM webhook_events WHERE subject = ANY(%(subjects)s))))
"""
EMPTY_JOBS = f"""
UPDATE job_queue SET error_message = NULL, result = NULL, unique_key = NULL, ordering_key = NULL,
    payload = CASE WHEN tenant_id IS NULL THEN payload ELSE '{{}}' END
WHERE {CONCERNED} AND {ENDED}
"""
EMPTY_ATTEMPTS = f"""
UPDATE job_attempts SET error_message = NULL, traceback = NULL
WHERE job_id IN (SELECT id FROM job_queue WHERE {CONCERNED}) AND num_nonnulls(error_message, traceback) > 0
"""
EMPTY_STEPS = f"""
UPDATE job_steps SET result = NULL
WHERE job_id IN (SELECT id FROM job_queue WHERE {CONCERNED} AND {ENDED})
    AND result IS NOT NULL
"""
EMPTY_ARCHIVE = f"""
UPDATE job_archive SET error_message = NULL, result = NULL, unique_key = NULL, ordering_key = NULL,
    payload = CASE WHEN tenant_id IS NULL THEN payload ELSE '{{}}' END,
    attempt_history = coalesce((SELECT jsonb_agg(each - 'error_message' - 'traceback' ORDER BY n)
                                FROM jsonb_array_elements(attempt_history) WITH ORDINALITY AS of (each, n)), '[]'),
    steps = coalesce((SELECT jsonb_agg(each - 'result' ORDER BY n)
                      FROM jsonb_array_elements(steps) WITH ORDINALITY AS of (each, n)), '[]')
WHERE completed_at >= %(since)s AND completed_at < %(until)s AND {CONCERNED}
"""

LIVE_MENTION = """
SELECT EXISTS (SELECT FROM job_queue WHERE status IN ('pending', 'running')
               AND lower(payload::text) LIKE ANY(%(patterns)s)
               AND job_type <> (SELECT job_type FROM job_queue WHERE id = %(own)s))
"""


@dataclass(frozen=True)
class Texts:
    """Columns of a table in which identifiers are looked for; `key` tells its rows apart, `of` says which of them."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    of: str = "true"


KINDS: Final = dict.fromkeys(("payload", "result", "attempt_history", "steps"), "jsonb")
QUEUE: Final = (
    Texts("job_queue", ("id",), ("payload", "result", "unique_key", "ordering_key"), ENDED),
    Texts("job_queue", ("id",), ("error_message",)),
    Texts("job_attempts", ("id",), ("error_message", "traceback")),
    Texts("job_steps", ("job_id", "step"), ("result",)),
)
ORGANIZATIONS: Final = Texts("organizations", ("clerk_id",), ("name",))
NAMED_KEYS: Final = Texts(
    "api_keys", ("id",), ("name",), f"tenant_id = ANY(%(tenants)s) OR tenant_id NOT IN ({CALLED_SO})"
)
ARCHIVE: Final = Texts(
    "job_archive",
    ("id", "completed_at"),
    ("payload", "result", "error_message", "unique_key", "ordering_key", "attempt_history", "steps"),
    "completed_at >= %(since)s AND completed_at < %(until)s",
)


@dataclass(frozen=True)
class Places:
    """Where there may be something of a person: their tenants, those in which nobody else works, and Stripe's
    customers of both."""

    tenants: list[UUID]
    deserted: list[UUID]
    customers: list[str]
    of_deserted: list[str]


class Forgetting:
    """Query group of the system scope. `words` are identifiers of the person."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def identifying_rows(self, clerk_id: str) -> list[dict[str, Any]]:
        """What says who the person is: the payloads of Clerk's events about their account, and their row."""
        query = "SELECT payload FROM webhook_events WHERE source = 'clerk' AND subject = %s AND type LIKE 'user.%%'"
        rows = [payload for (payload,) in self._driver.execute(query, (clerk_id,))]
        columns = "SELECT email, image_url FROM users WHERE clerk_id = %s"
        return rows + rows_of(self._driver, columns, (clerk_id,))

    def places(self, clerk_id: str, words: Sequence[str]) -> Places:
        """Where to look."""
        rows = self._driver.execute(TENANTS, {"clerk_id": clerk_id, "words": _small(words)}).fetchall()
        tenants, deserted = [row[0] for row in rows], [row[0] for row in rows if row[1]]
        return Places(tenants, deserted, self._customers(tenants), self._customers(deserted))

    def _customers(self, tenants: Sequence[UUID]) -> list[str]:
        return [row[0] for row in self._driver.execute(CUSTOMERS, {"tenants": list(tenants)})]

    def events(
        self, places: Places, words: Sequence[str], name: str | None, after: UUID, *, span: int, limit: int
    ) -> UUID | None:
        """Reduce events, of the `span` from `after` on up to `limit`: Stripe's about customers and tenants that nobody
        is any more, and those of the others, and of Clerk's, that mention the person. Returns where to go on."""
        row = self._driver.execute(SPAN, {"after": after, "span": span}).fetchone()
        until: UUID | None = row[0] if row else None
        given = {
            **{"after": after, "until": until, "limit": limit, "patterns": _patterns(words)},
            **{"deserted": places.of_deserted, "tenants": places.deserted},
            "hints": [f"%{tenant_id}%" for tenant_id in places.deserted],
        }
        rows = self._driver.execute(EVENTS, given).fetchall()
        forms = written(words)
        for event_id, source, payload, has_body, of_deserted in rows:
            # A single word may be part of an id; first and last name are none.
            own = [*forms, name] if name and " " in name and of_deserted else forms
            told = without_people(payload) if source == "stripe" else payload
            reduced = masked(told, own) if isinstance(payload, dict) else {}
            if (of_deserted or masked(payload, forms) != payload) and (has_body or reduced != payload):
                query = "UPDATE webhook_events SET payload = %s, body = NULL WHERE id = %s"
                self._driver.execute(query, (Jsonb(reduced), event_id))
        return rows[-1][0] if len(rows) == limit else until

    def rows(self, clerk_id: str, places: Places, words: Sequence[str]) -> None:
        """What says who they are in rows of their tenants, and in names that anybody gave. No event of an organization
        is applied meanwhile (`Identity.lock_organizations`): its tenant is called as it is."""
        given = {"tenants": places.tenants, "words": _small(words), "patterns": _patterns(words)}
        self._mask(ORGANIZATIONS, words, {})
        for tenant_id, name in self._driver.execute(NAMED_TENANTS.encode(), given).fetchall():
            then = masked(name, written(words))
            # That of a tenant which is theirs alone after all may have been masked when they were deleted.
            if tenant_id in places.deserted and MASK in then:
                then = clerk_id
            if then != name:
                self._driver.execute("UPDATE tenants SET name = %s WHERE id = %s", (then, tenant_id))
        self._driver.execute(ANONYMOUS_ROWS, given)
        self._driver.execute(KEYS, {"tenants": places.deserted})
        self._mask(NAMED_KEYS, words, given)

    def jobs(self, clerk_id: str, places: Places, words: Sequence[str]) -> None:
        """What jobs that are in the queue, and their attempts, say of the person."""
        given = self._concerning(clerk_id, places)
        for statement in (EMPTY_ATTEMPTS, EMPTY_STEPS, EMPTY_JOBS):
            self._driver.execute(statement, given)
        for texts in QUEUE:
            self._mask(texts, words, {})

    def archived(self, clerk_id: str, places: Places, words: Sequence[str], since: datetime, until: datetime) -> None:
        """What jobs that ended in [since, until), and are in the archive, say of the person."""
        span = {"since": since, "until": until}
        self._driver.execute(EMPTY_ARCHIVE, self._concerning(clerk_id, places) | span)
        self._mask(ARCHIVE, words, span)

    def mentioned_by_live_jobs(self, own: UUID, words: Sequence[str]) -> bool:
        """Whether a job that has not ended has an identifier among its arguments. Those of the type of `own` take
        theirs out themselves, and would wait for each other."""
        row = self._driver.execute(LIVE_MENTION, {"own": own, "patterns": _patterns(words)}).fetchone()
        return bool(row and row[0])

    def own_words(self, own: UUID) -> None:
        """Take the words out of the arguments of the job that looks for them."""
        self._driver.execute("UPDATE job_queue SET payload = payload - 'words' - 'name' WHERE id = %s", (own,))

    @staticmethod
    def _concerning(clerk_id: str, places: Places) -> dict[str, Any]:
        return {"tenants": places.deserted, "subjects": [clerk_id, *places.of_deserted]}

    def _mask(self, texts: Texts, words: Sequence[str], values: dict[str, Any]) -> None:
        if not words:
            return
        # As texts, so that JSON is what it was but for the words, whatever it is.
        as_text = [f"{name}::text" for name in texts.columns]
        query = f"""
            SELECT {", ".join([*texts.key, *as_text])} FROM {texts.table}
            WHERE ({texts.of}) AND lower(concat_ws(' ', {", ".join(as_text)})) LIKE ANY(%(patterns)s)
            ORDER BY {", ".join(texts.key)} FOR NO KEY UPDATE
        """
        change = f"""
            UPDATE {texts.table} SET {", ".join(f"{name} = %s::{KINDS.get(name, 'text')}" for name in texts.columns)}
            WHERE {" AND ".join(f"{name} = %s" for name in texts.key)}
        """
        found = self._driver.execute(query.encode(), values | {"patterns": _patterns(words)}).fetchall()
        for row in found:
            key, kept = row[: len(texts.key)], [masked(text, written(words)) for text in row[len(texts.key) :]]
            self._driver.execute(change.encode(), [*kept, *key])


def _small(words: Sequence[str]) -> list[str]:
    return [word.lower() for word in words]


def _patterns(words: Sequence[str]) -> list[str]:
    """LIKE's."""
    return ["%" + re.sub(r"([%_\\])", r"\\\1", word) + "%" for word in _small(written(words))]
