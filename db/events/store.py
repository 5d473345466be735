"""The event store: finds events of Stripe and Clerk in `webhook_events`, records the outcome of each, and drops what is
not kept. `db/events/writer.py` adds those that arrive."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from db.postgres.rows import row_of, rows_of
from domain.billing.subscriptions import ENTITLED
from domain.errors import EventDropped, UnknownEvent
from domain.events.event import Event
from domain.events.outcomes import IGNORED, LINKLESS, Outcome, Status, listed

PAYLOADS = 20
"""Payloads that are fetched at once: a customer may have many, and each may be as large as a request's body."""

EVENT = ", ".join(Event.__slots__)
FIND_OURS = "SELECT * FROM webhook_events WHERE id = %s"
FIND_THEIRS = "SELECT * FROM webhook_events WHERE (source, external_id) IN (('stripe', %(id)s), ('clerk', %(id)s))"

PARKED = """
SELECT id, source, type FROM webhook_events
WHERE status LIKE 'parked:%%' AND starts_with(status, %(status)s) ORDER BY id LIMIT %(limit)s
"""

IGNORED_BY_TYPE = f"""
SELECT id, source, type FROM webhook_events
WHERE source IN ('stripe', 'clerk') AND status = '{Status.IGNORED_TYPE}' AND type = %s
      AND processed_at IS NOT NULL AND dropped_at IS NULL ORDER BY id LIMIT %s
"""

# The index has these columns in this order, and the two conditions.
DROP = """
UPDATE webhook_events SET body = NULL, payload = '{}', dropped_at = now()
WHERE id = ANY(ARRAY(
    SELECT id FROM webhook_events
    WHERE source = %(source)s AND status = ANY(%(statuses)s) AND received_at < %(before)s
          AND processed_at IS NOT NULL AND dropped_at IS NULL
    LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
))
"""

DROP_OF_DELETED = """
UPDATE webhook_events SET body = NULL, payload = '{}', dropped_at = now()
WHERE source = 'clerk' AND status = ANY(%(statuses)s) AND processed_at IS NOT NULL AND dropped_at IS NULL
      AND subject IN (
          SELECT clerk_id FROM users WHERE deleted_at IS NOT NULL
          UNION ALL SELECT clerk_id FROM organizations WHERE deleted_at IS NOT NULL)
"""

WAITING_FOR_A_LINK = f"""
SELECT id, subject FROM webhook_events
WHERE source = 'stripe' AND subject = ANY(%s) AND status LIKE 'parked:%%' AND status IN ({listed(LINKLESS)})
ORDER BY id
"""

OUTCOMES = """
SELECT source, status, count(*) AS events, count(flag) AS flagged, sum(duplicates)::int AS duplicates
FROM webhook_events WHERE received_at >= %s GROUP BY source, status ORDER BY source, events DESC, status
"""

REAPPLIABLE = f"""
SELECT event.id FROM webhook_events event
WHERE status LIKE 'parked:%%' AND source = 'stripe' AND CASE status
    WHEN 'parked:unknown_customer' THEN EXISTS (
        SELECT FROM tenants WHERE stripe_customer_id = event.subject
        UNION ALL SELECT FROM stripe_customers customer WHERE customer.id = event.subject AND tenant_id IS NOT NULL)
    WHEN 'parked:unknown_tenant' THEN EXISTS (
        SELECT FROM stripe_customers customer JOIN tenants tenant ON tenant.id = customer.tenant_id
        WHERE customer.id = event.subject)
    WHEN 'parked:other_customer' THEN EXISTS (
        SELECT FROM stripe_customers customer JOIN tenants tenant ON tenant.id = customer.tenant_id
        WHERE customer.id = event.subject
              AND (customer.deleted_at IS NOT NULL OR coalesce(tenant.stripe_customer_id = customer.id, true)))
    WHEN 'parked:unknown_price' THEN EXISTS (
        SELECT FROM stripe_subscriptions subscription
        WHERE subscription.id = event.payload #>> '{{data,object,id}}'
              AND (price_ids && %(prices)s::text[] OR status NOT IN ({listed(sorted(ENTITLED))})))
    WHEN 'parked:thin' THEN %(can_fetch)s
    WHEN 'parked:incomplete' THEN %(can_fetch)s
    ELSE false
END
ORDER BY event.id LIMIT %(limit)s
"""

# Stripe's events say when they occurred as `created`, in seconds; Clerk's as `timestamp`, in milliseconds.
ADD = """
INSERT INTO webhook_events (id, source, external_id, type, api_version, livemode, occurred_at, subject, payload)
SELECT %(id)s, %(source)s, %(external_id)s, body ->> 'type', body ->> 'api_version', (body ->> 'livemode')::boolean,
       to_timestamp(coalesce((body ->> 'created')::bigint, (body ->> 'timestamp')::bigint / 1000.0)), %(subject)s, body
FROM (SELECT %(payload)s::jsonb AS body) AS event
ON CONFLICT (source, external_id) DO NOTHING
"""

MARK = """
UPDATE webhook_events SET
    status = %(status)s, flag = coalesce(%(flag)s, flag), processed_at = now(),
    detail = CASE WHEN %(flag)s::text IS NULL AND flag IS NOT NULL THEN coalesce(detail, %(detail)s) ELSE %(detail)s END
WHERE id = %(id)s
"""

# The rows are locked by id, the order of whoever else changes several (`db/identity/forgetting.py`).
MARK_MANY = """
WITH outcome AS (
    SELECT * FROM unnest(%b::uuid[], %b::text[], %b::text[], %b::text[]) AS outcome (id, status, flag, detail)
), locked AS MATERIALIZED (
    SELECT id FROM webhook_events WHERE id = ANY(%b::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE webhook_events event SET
    status = outcome.status, flag = coalesce(outcome.flag, event.flag), processed_at = now(),
    detail = CASE WHEN outcome.flag IS NULL AND event.flag IS NOT NULL
        THEN coalesce(event.detail, outcome.detail) ELSE outcome.detail END
FROM locked JOIN outcome USING (id) WHERE event.id = locked.id
"""


class Replayable(NamedTuple):
    """A stored event that may be applied again."""

    id: UUID
    source: str
    type: str


class Events:
    """The queries of the event store."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def get(self, event_id: UUID) -> Event:
        """Return the event that is to be applied.

        Raises:
            UnknownEvent: no event has this id.
            EventDropped: its body is not kept any more, so there is nothing to apply.
        """
        query = f"SELECT {EVENT} FROM webhook_events WHERE id = %s"
        with self._driver.cursor(row_factory=class_row(Event)) as cursor:
            event = cursor.execute(query, (event_id,)).fetchone()
        if event is None:
            raise UnknownEvent(f"no event has the id {event_id}")
        if event.dropped_at is not None:
            raise EventDropped(event.external_id, event.dropped_at)
        return event

    def get_many(self, event_ids: Sequence[UUID]) -> dict[UUID, Event]:
        """Return the events that are to be applied, by their ids: those that are there and whose bodies are kept."""
        query = f"SELECT {EVENT} FROM webhook_events WHERE id = ANY(%b::uuid[]) AND dropped_at IS NULL"
        with self._driver.cursor(row_factory=class_row(Event)) as cursor:
            return {event.id: event for event in cursor.execute(query, (list(event_ids),), prepare=True)}

    def find(self, name: str) -> dict[str, Any] | None:
        """Return all columns of the event that has this id, ours or the sender's."""
        try:
            return row_of(self._driver, FIND_OURS, (UUID(name),))
        except ValueError:
            return row_of(self._driver, FIND_THEIRS, {"id": name})

    def recent(
        self,
        *,
        source: str | None = None,
        type: str | None = None,
        status: str | None = None,
        flagged: bool = False,
        limit: int = 50,
    ) -> list[dict[str, Any]]:
        """List events, the newest first, without payloads and bodies; `status` may be the beginning of one."""
        conditions = {
            "source = %(source)s": source is not None,
            "type = %(type)s": type is not None,
            "starts_with(status, %(status)s)": status is not None,
            "flag IS NOT NULL": flagged,
        }
        where = " AND ".join(condition for condition, applies in conditions.items() if applies) or "true"
        query = f"""
            SELECT id, source, external_id, type, api_version, livemode, occurred_at, received_at, status, detail, flag,
                   processed_at, dropped_at, job_id, subject, duplicates, duplicate_at
            FROM webhook_events WHERE {where} ORDER BY received_at DESC, id DESC LIMIT %(limit)s
        """
        return rows_of(self._driver, query, {"source": source, "type": type, "status": status, "limit": limit})

    def outcomes(self, since: datetime) -> list[dict[str, Any]]:
        """Count the events that were received since then, by source and status: all, those that carry a flag, and
        repeated deliveries."""
        return rows_of(self._driver, OUTCOMES, (since,))

    def add(self, event_id: UUID, source: str, external_id: str, body: Mapping[str, Any], subject: str | None) -> bool:
        """Store an event that was fetched from its source instead of delivered. False if it is there already."""
        values = {"id": event_id, "source": source, "external_id": external_id, "subject": subject}
        return self._driver.execute(ADD, values | {"payload": Jsonb(body)}).rowcount == 1

    def assign(self, event_id: UUID, job_id: UUID) -> None:
        """Record which job applies the event."""
        self._driver.execute("UPDATE webhook_events SET job_id = %s WHERE id = %s", (job_id, event_id))

    def mark(self, event_id: UUID, outcome: Outcome) -> None:
        """Record the outcome of the event. A flag that was raised stays, with the detail that explains it."""
        values = {"id": event_id, "status": outcome.status, "flag": outcome.flag, "detail": outcome.explained}
        self._driver.execute(MARK, values)

    def mark_many(self, outcomes: Mapping[UUID, Outcome]) -> None:
        """`mark` for any number of events, in one statement."""
        ids, found = list(outcomes), outcomes.values()
        columns = [[each.status.value for each in found], [each.flag for each in found]]
        self._driver.execute(MARK_MANY, (ids, *columns, [each.explained for each in found], ids), prepare=True)

    def drop_bodies(self, source: str, statuses: Sequence[Status], before: datetime, most: int) -> int:
        """Drop the bodies and payloads of events with these statuses that came before this time. Returns how many
        there were, `most` at most."""
        values = {"source": source, "statuses": list(statuses), "before": before, "most": most}
        return self._driver.execute(DROP, values).rowcount

    def drop_bodies_of_deleted(self) -> int:
        """Drop the bodies of ignored events about people and organizations that are deleted. Returns how many there
        were."""
        return self._driver.execute(DROP_OF_DELETED, {"statuses": list(IGNORED)}).rowcount

    def dropped(self, source: str, subject: str) -> bool:
        """Whether the body of any event about this subject was dropped."""
        query = "SELECT FROM webhook_events WHERE source = %s AND subject = %s AND dropped_at IS NOT NULL LIMIT 1"
        return self._driver.execute(query, (source, subject)).rowcount == 1

    def waiting(
        self,
        source: str,
        status: Status,
        subjects: Sequence[str],
        *,
        containing: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Event]:
        """Return the events about any of these subjects that are parked with this status and whose payload contains
        `containing`, in the order in which they came."""
        query = f"""
            SELECT {EVENT} FROM webhook_events
            WHERE source = %s AND status = %s AND subject = ANY(%s) AND payload @> %s ORDER BY received_at, id
        """
        with self._driver.cursor(row_factory=class_row(Event)) as cursor:
            return cursor.execute(query, (source, status, list(subjects), Jsonb(dict(containing)))).fetchall()

    def replace_payload(self, event_id: UUID, payload: Mapping[str, Any], subject: str | None) -> None:
        """Replace the payload of a thin event by what it stands for, and set its subject; `body` stays as signed."""
        self._driver.execute(
            "UPDATE webhook_events SET payload = %s, subject = coalesce(%s, subject) WHERE id = %s",
            (Jsonb(payload), subject, event_id),
        )

    def subjects(self, source: str) -> list[str]:
        """Return the subjects of all stored events of this source."""
        query = "SELECT DISTINCT subject FROM webhook_events WHERE source = %s AND subject IS NOT NULL ORDER BY subject"
        return [subject for (subject,) in self._driver.execute(query, (source,))]

    def about(self, source: str, subject: str) -> Iterator[dict[str, Any]]:
        """Yield the payloads that are kept of events about a subject, oldest first, fetched as they are asked for."""
        query = """
            SELECT payload FROM webhook_events
            WHERE source = %s AND subject = %s AND dropped_at IS NULL ORDER BY id
        """
        with self._driver.cursor(name="events_about") as cursor:
            cursor.itersize = PAYLOADS
            cursor.execute(query, (source, subject))
            yield from (payload for (payload,) in cursor)

    def parked(self, reason: str, limit: int) -> list[Replayable]:
        """Return parked events, oldest first, whose reason begins with this."""
        values = {"status": f"parked:{reason}", "limit": limit}
        return [Replayable(*row) for row in self._driver.execute(PARKED, values)]

    def ignored(self, kind: str, limit: int) -> list[Replayable]:
        """Return events of this type, oldest first, that were ignored for it and whose bodies are kept."""
        return [Replayable(*row) for row in self._driver.execute(IGNORED_BY_TYPE, (kind, limit))]

    def waiting_for_a_link(self, customer_ids: Sequence[str]) -> dict[UUID, str]:
        """Return parked Stripe events of these customers, oldest first, that wait for the customer's tenant, each with
        its customer."""
        return dict(self._driver.execute(WAITING_FOR_A_LINK, (list(customer_ids),)).fetchall())

    def any_parked(self) -> bool:
        row = self._driver.execute("SELECT EXISTS (SELECT FROM webhook_events WHERE status LIKE 'parked:%')").fetchone()
        return row is not None and bool(row[0])

    def reappliable(self, prices: Sequence[str], *, can_fetch: bool, limit: int) -> list[UUID]:
        """Return parked Stripe events that no longer lack anything, oldest first."""
        values = {"prices": list(prices), "can_fetch": can_fetch, "limit": limit}
        return [event_id for (event_id,) in self._driver.execute(REAPPLIABLE, values)]
