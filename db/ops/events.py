"""Stored events as an operator looks for them: lists by any filters, what lies around one, whose it is.

A list is read by the way that its filters allow, the narrowest first: an id, a subject, the jobs that failed, a status
that few events have, a flag; else backwards through time. Each way reads `WALK` events at most and says how far it
came. All under row-level security: every condition that is to reach an index is an equality or a comparison of times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple
from uuid import UUID

from db.postgres.connection import AppConnection
from db.postgres.rows import row_of, rows_of
from domain.events.outcomes import UNCOMMON, Status
from domain.ops.event_filters import FAILED, NAMES, EventFilter
from domain.text.filters import Cursor

WALK: Final = 20_000
"""Events that one answer looks at. The next page looks at the next."""
ALL: Final = 10_000_000
"""Events that somebody who acts on all that match looks at; the time that a statement may take bounds it before."""
OF_ONE: Final = 5_000
"""Events of one subject, or whose job has failed, among which a filter looks."""
MOST_COUNTED: Final = 10_000
AROUND: Final = 20
"""Related events on either side of one."""

COLUMNS = ", ".join(
    f"event.{name}"
    for name in (
        *("id", "source", "external_id", "type", "api_version", "livemode", "occurred_at", "received_at", "status"),
        *("detail", "flag", "processed_at", "dropped_at", "job_id", "subject", "duplicates", "duplicate_at"),
    )
)
APPLYING = "'billing.apply_stripe_event', 'billing.fetch_stripe_event', 'identity.apply_clerk_event'"
A_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

SUBJECTS_OF_TENANT = """
SELECT stripe_customer_id AS subject FROM tenants WHERE id = %(tenant)s AND stripe_customer_id IS NOT NULL
UNION SELECT id FROM stripe_customers WHERE tenant_id = %(tenant)s
UNION SELECT clerk_id FROM users WHERE tenant_id = %(tenant)s AND clerk_id IS NOT NULL
UNION SELECT clerk_id FROM account_tenants WHERE home_id = %(tenant)s
"""

TENANT_OF_CUSTOMER = """
SELECT id FROM tenants WHERE stripe_customer_id = %(subject)s
UNION ALL SELECT tenant_id FROM stripe_customers WHERE id = %(subject)s AND tenant_id IS NOT NULL
LIMIT 1
"""
TENANT_OF_ACCOUNT = """
SELECT tenant_id AS id FROM users WHERE clerk_id = %(subject)s AND tenant_id IS NOT NULL
UNION ALL SELECT home_id FROM account_tenants WHERE clerk_id = %(subject)s
LIMIT 1
"""

# The applying jobs that failed, the latest first; whose payload another program wrote names no event.
JOB_FAILED = f"""
SELECT (payload ->> 'event_id')::uuid AS id FROM (
    SELECT payload FROM job_queue
    WHERE status = 'failed' AND completed_at IS NOT NULL AND job_type IN ({APPLYING})
    ORDER BY completed_at DESC LIMIT {OF_ONE}
) AS failed WHERE payload ->> 'event_id' ~ '{A_UUID}'
"""

# What is exactly this: events of any age.
NAMED = f"""
SELECT id FROM webhook_events WHERE source = 'stripe' AND external_id = %(text)s
UNION SELECT id FROM webhook_events WHERE source = 'clerk' AND external_id = %(text)s
UNION (SELECT id FROM webhook_events WHERE subject = %(text)s LIMIT {OF_ONE})
"""

# It would rather read and sort the whole table than walk back through an index for as long; and to start workers for it
# takes longer than the walk.
ALONG_INDEXES = """
SELECT set_config('enable_seqscan', %s, true), set_config('max_parallel_workers_per_gather', %s, true)
"""

ROWS = f"""
SELECT {COLUMNS} FROM webhook_events AS event WHERE id = ANY(%(ids)s::uuid[]) ORDER BY received_at DESC, id DESC
"""

LEDGER = """
SELECT * FROM quota_ledger WHERE tenant_id = %(tenant_id)s AND cause = ANY(%(causes)s) ORDER BY id LIMIT 50
"""

RELATED = f"""
SELECT {COLUMNS}, coalesce(event.occurred_at, event.received_at) AS happened_at,
       event.payload #>> '{{{{data,object,id}}}}' AS object_id
FROM (
    SELECT * FROM (
        SELECT * FROM webhook_events WHERE source = %(source)s AND subject = %(subject)s LIMIT {OF_ONE}
    ) AS of_subject
    WHERE (coalesce(occurred_at, received_at), id) {{side}} (%(happened_at)s, %(id)s)
    ORDER BY coalesce(occurred_at, received_at) {{order}}, id {{order}} LIMIT {AROUND}
) AS event ORDER BY happened_at, id
"""


class Way(NamedTuple):
    """The events among which filters look: a condition that an index answers, or these statuses, each by its index."""

    condition: str
    statuses: tuple[Status, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A page of events, newest first, and the place where the next page begins, if there may be one.

    `looked_at`: how many were looked at, if that ended the page; what matches beyond is on further pages. `exact`: the
    text is the id or the subject of these events, so nothing was looked for that only contains it. `count`: how many
    match, `MOST_COUNTED` + 1 at most, among those that a first page looks at; `counted_all`: there are no others.
    """

    rows: list[dict[str, Any]]
    further: Cursor | None
    looked_at: int | None
    exact: bool
    count: int
    counted_all: bool


class EventViews:
    """Query group; system scope."""

    def __init__(self, driver: AppConnection) -> None:
        self._driver = driver

    def page(self, wanted: EventFilter, *, limit: int) -> Found:
        """Return the newest events that match beyond the place `wanted.after`. `since` and `until` are moments."""
        values = {name: getattr(wanted, name) for name in NAMES} | {"statuses": [*wanted.statuses], "limit": limit + 1}
        if wanted.after is not None:
            values |= {"at": wanted.after.at, "at_id": wanted.after.id}
        way, exact = self._way(wanted, values)
        self._driver.execute(ALONG_INDEXES, ("off", "0"))
        counted = {"most": MOST_COUNTED + 1}
        first = self._all(looked_at(way, replace(wanted, after=None)), values | counted)[0]
        this = first
        if wanted.after is not None:
            this = self._all(looked_at(way, wanted), values | {"most": limit + 1})[0]
        rows = self._all(ROWS, {"ids": this["ids"][:limit]})
        self._driver.execute(ALONG_INDEXES, ("on", "2"))
        more = len(this["ids"]) > limit
        end = None if more or this["last_id"] is None else Cursor(this["last_id"], this["last_at"])
        further = Cursor(rows[-1]["id"], rows[-1]["received_at"]) if more else end
        counted_all = first["count"] <= MOST_COUNTED and first["last_id"] is None
        return Found(rows, further, None if end is None else WALK, exact, first["count"], counted_all)

    def choosing(self, wanted: EventFilter) -> tuple[str, dict[str, Any]]:
        """Return a query of the ids of all events that match, and its values. `since` and `until` are moments."""
        values: dict[str, Any] = {name: getattr(wanted, name) for name in NAMES}
        values["statuses"] = [*wanted.statuses]
        way, _ = self._way(wanted, values)
        return f"SELECT id FROM ({walk(way, replace(wanted, after=None), ALL)}) AS event WHERE fits", values

    def related(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the events of the same subject around this one, in the order in which they occurred, this one among
        them, with the id of the object that each is about (`object_id`)."""
        if row["subject"] is None:
            return []
        names = ("source", "subject", "id")
        values = {name: row[name] for name in names} | {"happened_at": row["occurred_at"] or row["received_at"]}
        before = rows_of(self._driver, RELATED.format(side="<=", order="DESC"), values)
        return before + rows_of(self._driver, RELATED.format(side=">", order="ASC"), values)

    def tenant_of(self, source: str, subject: str | None) -> UUID | None:
        """Return the tenant of a customer of Stripe or an account of Clerk, if it is known."""
        query = TENANT_OF_CUSTOMER if source == "stripe" else TENANT_OF_ACCOUNT
        row = None if subject is None else row_of(self._driver, query, {"subject": subject})
        return None if row is None else row["id"]

    def ledger_of(self, tenant_id: UUID, causes: Sequence[str]) -> list[dict[str, Any]]:
        """Return the entries of a tenant's quota ledger that have one of these causes, oldest first."""
        return rows_of(self._driver, LEDGER, {"tenant_id": tenant_id, "causes": [*causes]})

    def jobs_of(self, job_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the states of those of these jobs that are not in the archive."""
        query = "SELECT id, status FROM job_queue WHERE id = ANY(%s::uuid[])"
        return {row["id"]: row["status"] for row in rows_of(self._driver, query, ([*job_ids],))}

    def _way(self, wanted: EventFilter, values: dict[str, Any]) -> tuple[Way, bool]:
        """Return the narrowest way to what the filters ask for, and whether it is that of an exact text. What they name
        by other tables is looked up into `values`."""
        if wanted.tenant is not None:
            values["subjects"] = [row["subject"] for row in self._all(SUBJECTS_OF_TENANT, values)]
        if wanted.status == FAILED:
            values["failed"] = [row["id"] for row in self._all(JOB_FAILED, values)]
        if wanted.text is not None:
            values["named"] = [row["id"] for row in self._all(NAMED, values)]
            if values["named"]:
                return Way("id = ANY(%(named)s::uuid[])"), True
        if wanted.subject is not None:
            return Way("subject = %(subject)s"), False
        if wanted.tenant is not None:
            return Way("subject = ANY(%(subjects)s::text[])"), False
        if wanted.status == FAILED:
            return Way("id = ANY(%(failed)s::uuid[])"), False
        if wanted.statuses and all(status in UNCOMMON for status in wanted.statuses):
            return Way("", wanted.statuses), False
        return Way("flag IS NOT NULL" if wanted.flag is not None else ""), False

    def _all(self, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return rows_of(self._driver, query, values)


def looked_at(way: Way, wanted: EventFilter) -> str:
    """Write the query of one walk: the `ids` of a page of those that match, how many match (`count`; it ends at
    `most`), and the last event that was looked at (`last_at`, `last_id`), if the walk went as far as it may and found
    fewer."""
    found_less = "(SELECT count(*) FROM fitting) < %(most)s"
    last = f"CASE WHEN {found_less} THEN (SELECT {{}} FROM walked OFFSET {WALK - 1} LIMIT 1) END"
    return f"""
WITH walked AS MATERIALIZED ({walk(way, wanted)}),
     fitting AS MATERIALIZED (SELECT id FROM walked WHERE fits LIMIT %(most)s)
SELECT ARRAY(SELECT id FROM fitting LIMIT %(limit)s) AS ids, (SELECT count(*) FROM fitting) AS count,
       {last.format("id")} AS last_id, {last.format("received_at")} AS last_at
"""


def walk(way: Way, wanted: EventFilter, most: int = WALK) -> str:
    """Write the query of the events that one answer looks at, newest first, and whether each of them `fits`."""
    ordered = f"ORDER BY received_at DESC, id DESC LIMIT {most}"
    conditions = {
        way.condition: bool(way.condition),
        "received_at >= %(since)s": wanted.since is not None,
        "received_at < %(until)s": wanted.until is not None,
        "received_at <= %(at)s AND (received_at, id) < (%(at)s, %(at_id)s)": wanted.after is not None,
    }
    applying = [condition for condition, applies in conditions.items() if applies]
    # The index of a status is a partial one: only a word in the query itself tells that it has all there are.
    each = [[*applying, f"status = '{status}'"] for status in way.statuses] or [applying or ["true"]]
    columns = f"id, received_at, ({matching(wanted)}) IS TRUE AS fits"
    parts = [f"SELECT {columns} FROM webhook_events WHERE {' AND '.join(part)} {ordered}" for part in each]
    if len(parts) == 1:
        return parts[0]
    return f"SELECT * FROM ({' UNION ALL '.join(f'({part})' for part in parts)}) AS event {ordered}"


def matching(wanted: EventFilter) -> str:
    """Write the condition on the events that are looked at."""
    conditions = {
        "source = %(source)s": wanted.source is not None,
        "type = %(type)s": wanted.type is not None,
        "status = ANY(%(statuses)s::text[])": bool(wanted.statuses),
        "id = ANY(%(failed)s::uuid[])": wanted.status == FAILED,
        "flag IS NOT NULL": wanted.flag is not None,
        "%(flag)s = ANY(string_to_array(flag, ','))": wanted.flag not in (None, "any"),
        "subject = %(subject)s": wanted.subject is not None,
        "subject = ANY(%(subjects)s::text[])": wanted.tenant is not None,
        "(position(lower(%(text)s) IN lower(external_id)) > 0 OR position(lower(%(text)s) IN lower(subject)) > 0)": (
            wanted.text is not None
        ),
    }
    applying = [condition for condition, applies in conditions.items() if applies]
    return " AND ".join(applying) or "true"
