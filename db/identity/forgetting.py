"""Removes a deleted person from events, jobs, attempts, archives, results and names.

`Identity.forget` has reduced Clerk's events about them. The rest may be anywhere: in Stripe's events about a customer
that was only theirs, in the jobs of their own tenant, and in any text with an identifier of theirs
(`domain/text/personal.py`): of a job, an event, or a name that somebody chose. Nothing here touches what a tenant has
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
"""It finds the tenants that the person works or worked in, and whether nobody else does."""

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
"""It finds Stripe's events about the person, and all that mention them, but Clerk's about other people's accounts."""

# Somebody else may have the address now, or a second account: its tenant keeps its name.
OWN_TENANTS_WITH_ADDRESS = """
SELECT home_id FROM account_tenants JOIN users USING (clerk_id)
WHERE deleted_at IS NULL AND lower(email) = ANY(%(words)s)
"""
NAMED_TENANTS = f"""
SELECT id, name FROM tenants
WHERE id = ANY(%(tenants)s) OR (lower(name) LIKE ANY(%(patterns)s::text[]) AND id NOT IN ({OWN_TENANTS_WITH_ADDRESS}))
ORDER BY id FOR NO KEY UPDATE
"""
ANONYMOUS_ROWS = """
UPDATE users SET email = NULL, name = NULL, image_url = NULL, updated_at = now(), deleted_at = now()
WHERE clerk_id IS NULL AND tenant_id = ANY(%(tenants)s) AND lower(email) = ANY(%(words)s)
"""
KEYS = "UPDATE api_keys SET name = 'deleted' WHERE tenant_id = ANY(%(tenants)s) AND name <> 'deleted'"

ENDED: Final = "status IN ('completed', 'failed', 'cancelled')"
# It is true of jobs of a tenant in which nobody works any more, and of jobs that applied events about the person.
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
    """Columns of a table in which identifiers are searched; `key` is its primary key, `where` selects its rows."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    where: str = "true"


KINDS: Final = dict.fromkeys(("payload", "result", "attempt_history", "steps"), "jsonb")
QUEUE: Final = (
    Texts("job_queue", ("id",), ("payload", "result", "unique_key", "ordering_key"), ENDED),
    Texts("job_queue", ("id",), ("error_message",)),
    Texts("job_attempts", ("id",), ("error_message", "traceback")),
    Texts("job_steps", ("job_id", "step"), ("result",)),
)
ORGANIZATIONS: Final = Texts("organizations", ("clerk_id",), ("name",))
NAMED_KEYS: Final = Texts(
    "api_keys", ("id",), ("name",), f"tenant_id = ANY(%(tenants)s) OR tenant_id NOT IN ({OWN_TENANTS_WITH_ADDRESS})"
)
ARCHIVE: Final = Texts(
    "job_archive",
    ("id", "completed_at"),
    ("payload", "result", "error_message", "unique_key", "ordering_key", "attempt_history", "steps"),
    "completed_at >= %(since)s AND completed_at < %(until)s",
)


@dataclass(frozen=True)
class Places:
    """The places where a person may be mentioned: their tenants, those in which nobody else works, and Stripe's
    customers of both."""

    tenants: list[UUID]
    deserted: list[UUID]
    customers: list[str]
    of_deserted: list[str]


class Forgetting:
    """The queries of forgetting, in the system scope. `words` are identifiers of the person."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def identifying_rows(self, clerk_id: str) -> list[dict[str, Any]]:
        """Return what identifies the person: the payloads of Clerk's events about their account, and their row."""
        query = "SELECT payload FROM webhook_events WHERE source = 'clerk' AND subject = %s AND type LIKE 'user.%%'"
        rows = [payload for (payload,) in self._driver.execute(query, (clerk_id,))]
        columns = "SELECT email, image_url FROM users WHERE clerk_id = %s"
        return rows + rows_of(self._driver, columns, (clerk_id,))

    def places(self, clerk_id: str, words: Sequence[str]) -> Places:
        """Find the person's tenants, and their customers at Stripe."""
        rows = self._driver.execute(TENANTS, {"clerk_id": clerk_id, "words": _small(words)}).fetchall()
        tenants, deserted = [row[0] for row in rows], [row[0] for row in rows if row[1]]
        return Places(tenants, deserted, self._customers(tenants), self._customers(deserted))

    def _customers(self, tenants: Sequence[UUID]) -> list[str]:
        return [row[0] for row in self._driver.execute(CUSTOMERS, {"tenants": list(tenants)})]

    def events(
        self, places: Places, words: Sequence[str], name: str | None, after: UUID, *, span: int, limit: int
    ) -> UUID | None:
        """Reduce up to `limit` of the next `span` events after `after`: Stripe's about deserted customers and tenants,
        and all others that mention the person. Returns the id after which to go on, None at the end."""
        row = self._driver.execute(SPAN, {"after": after, "span": span}).fetchone()
        until: UUID | None = row[0] if row else None
        values = {
            **{"after": after, "until": until, "limit": limit, "patterns": _patterns(words)},
            **{"deserted": places.of_deserted, "tenants": places.deserted},
            "hints": [f"%{tenant_id}%" for tenant_id in places.deserted],
        }
        rows = self._driver.execute(EVENTS, values).fetchall()
        forms = written(words)
        for event_id, source, payload, has_body, of_deserted in rows:
            # A single word may be a part of an id; a first and a last name together are not.
            own = [*forms, name] if name and " " in name and of_deserted else forms
            anonymous = without_people(payload) if source == "stripe" else payload
            reduced = masked(anonymous, own) if isinstance(payload, dict) else {}
            if (of_deserted or masked(payload, forms) != payload) and (has_body or reduced != payload):
                query = "UPDATE webhook_events SET payload = %s, body = NULL WHERE id = %s"
                self._driver.execute(query, (Jsonb(reduced), event_id))
        return rows[-1][0] if len(rows) == limit else until

    def rows(self, clerk_id: str, places: Places, words: Sequence[str]) -> None:
        """Remove what identifies them from rows of their tenants, and from names that anybody chose. No event of an
        organization is applied meanwhile (`Identity.lock_organizations`), because its tenant has its name."""
        values = {"tenants": places.tenants, "words": _small(words), "patterns": _patterns(words)}
        self._mask(ORGANIZATIONS, words, {})
        for tenant_id, name in self._driver.execute(NAMED_TENANTS.encode(), values).fetchall():
            new_name = masked(name, written(words))
            # The name of a tenant that is theirs alone by now may have been masked when they were deleted.
            if tenant_id in places.deserted and MASK in new_name:
                new_name = clerk_id
            if new_name != name:
                self._driver.execute("UPDATE tenants SET name = %s WHERE id = %s", (new_name, tenant_id))
        self._driver.execute(ANONYMOUS_ROWS, values)
        self._driver.execute(KEYS, {"tenants": places.deserted})
        self._mask(NAMED_KEYS, words, values)

    def jobs(self, clerk_id: str, places: Places, words: Sequence[str]) -> None:
        """Remove the person from jobs that are in the queue, their attempts and steps."""
        for statement in (EMPTY_ATTEMPTS, EMPTY_STEPS, EMPTY_JOBS):
            self._driver.execute(statement, self._concerning(clerk_id, places))
        for texts in QUEUE:
            self._mask(texts, words, {})

    def archived(self, clerk_id: str, places: Places, words: Sequence[str], since: datetime, until: datetime) -> None:
        """Remove the person from archived jobs that ended in [since, until)."""
        span = {"since": since, "until": until}
        self._driver.execute(EMPTY_ARCHIVE, self._concerning(clerk_id, places) | span)
        self._mask(ARCHIVE, words, span)

    def mentioned_by_live_jobs(self, own: UUID, words: Sequence[str]) -> bool:
        """Whether a job that has not ended has an identifier among its arguments. Jobs of the type of `own` do not
        count: they remove theirs themselves, and would wait for each other."""
        row = self._driver.execute(LIVE_MENTION, {"own": own, "patterns": _patterns(words)}).fetchone()
        return bool(row and row[0])

    def own_words(self, own: UUID) -> None:
        """Remove the words from the arguments of the job that searches for them."""
        self._driver.execute("UPDATE job_queue SET payload = payload - 'words' - 'name' WHERE id = %s", (own,))

    @staticmethod
    def _concerning(clerk_id: str, places: Places) -> dict[str, Any]:
        return {"tenants": places.deserted, "subjects": [clerk_id, *places.of_deserted]}

    def _mask(self, texts: Texts, words: Sequence[str], values: dict[str, Any]) -> None:
        if not words:
            return
        # JSON is masked as text, so that nothing but the words changes, whatever it is.
        as_text = [f"{name}::text" for name in texts.columns]
        query = f"""
            SELECT {", ".join([*texts.key, *as_text])} FROM {texts.table}
            WHERE ({texts.where}) AND lower(concat_ws(' ', {", ".join(as_text)})) LIKE ANY(%(patterns)s)
            ORDER BY {", ".join(texts.key)} FOR NO KEY UPDATE
        """
        change = f"""
            UPDATE {texts.table} SET {", ".join(f"{name} = %s::{KINDS.get(name, 'text')}" for name in texts.columns)}
            WHERE {" AND ".join(f"{name} = %s" for name in texts.key)}
        """
        found = self._driver.execute(query.encode(), values | {"patterns": _patterns(words)}).fetchall()
        for row in found:
            key, new_texts = row[: len(texts.key)], [masked(text, written(words)) for text in row[len(texts.key) :]]
            self._driver.execute(change.encode(), [*new_texts, *key])


def _small(words: Sequence[str]) -> list[str]:
    return [word.lower() for word in words]


def _patterns(words: Sequence[str]) -> list[str]:
    """Return patterns of LIKE that find the words anywhere in a text."""
    return ["%" + re.sub(r"([%_\\])", r"\\\1", word) + "%" for word in _small(written(words))]
