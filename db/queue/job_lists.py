"""Lists of jobs by filter, of the queue or of the archive: every page costs about the same, whatever is asked for.

A list has one of two orders, each that of an index, so that a page goes on where the one before it ended: `id`, which
is the order in which jobs were enqueued (of jobs that are live or of any state), and `completed_at` (of jobs that have
ended in a state that is asked for). The place to go on from is a row's own, so a row that keeps fitting is shown once,
whatever is enqueued, begins and ends meanwhile.

No filter may make Postgres read a million rows for the few that fit. There are two ways to be sure:

* *A small set*: an index finds all that can fit (one id, the jobs of a cause, those that run, a tenant's, those that
  wait), and they are no more than `SMALL_SET`. They are read, filtered and sorted, and the answer is whole.
* *A walk*: along the index of the order, from the place to go on from, over `WALKED` rows at most. The filters look at
  each. A walk that found less than a page says so, and where it ended: the next page goes on from there. So even a
  rare combination is found, by going on, and no page ever pretends that there is nothing where it has not looked.

Only `=`, `<` and `>` of ids, texts and times may use an index under row-level security; so a text is looked for within
what is read. `TEXT_FIELDS` says where: never in payloads and results, which are masked where they are shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg

from db.postgres.rows import Listing, listing_of, row_of
from db.queue.dispatch import READY_JOBS
from db.schema.queue import BY_A_JOB
from domain.ids import first_id
from domain.queue.job_filters import JobFilter
from domain.text.filters import Cursor

WALKED: Final = 30_000
"""Rows that a page looks at in a walk: measured at 60 ms where nothing fits (in 1,000,000 jobs)."""

SMALL_SET: Final = 20_000
"""Rows of a set that is read whole."""

MOST_PENDING: Final = 150_000
"""Pending jobs that are read whole if the newest `WALKED` jobs had less than a page of them: measured at 120 ms for
100,000. They may be older than a million that have ended."""

ID_SLACK: Final = timedelta(hours=1)
"""The clock of a process that makes ids may differ from the database's."""

# As `WALK_THE_INDEX` of `db/queue/archive.py`, and for its reason: the rule of row-level security makes the planner
# expect so few rows that reading and sorting all of them would be cheap.
ALONG_INDEXES: Final = """
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true)
"""
SORT: Final = "SELECT set_config('enable_sort', %s, true)"
"""Rows that end in one moment are put in order among themselves (an incremental sort); a walk sorts no more."""

TEXT_FIELDS: Final = ("error_message", "ordering_key", "unique_key", "cause")
"""Where a text is looked for, in either case."""

LEAN: Final = """id, tenant_id, job_type, queue, status, priority, attempts, max_attempts, scheduled_for, created_at,
    started_at, completed_at, ordering_key, cause, left(error_message, 500) AS error_message"""
LIVE_LEAN: Final = f"{LEAN}, wake_at, worker_id, deadline_at, crashes, snoozes, cost"

# The sum keeps the planner from walking all attempts in the order of their ids until it meets one of this job.
FAILED_LAST = """(
    SELECT outcome FROM job_attempts a WHERE a.job_id = j.id ORDER BY a.id + 0 DESC LIMIT 1
) IN ('failed', 'lost')"""

STATE: Final = {
    "waiting": "status = 'pending' AND scheduled_for <= now()",
    "scheduled": "status = 'pending' AND scheduled_for > now()",
    "backoff": f"status = 'pending' AND scheduled_for > now() AND attempts > 0 AND {FAILED_LAST}",
}
"""States that are a part of `pending`. Only an attempt that counted can have failed: the others are not looked up."""

PENDING_SET = f"""
SELECT * FROM job_queue j WHERE {READY_JOBS} AND {{fitting}}
UNION ALL
SELECT * FROM job_queue j WHERE status = 'pending' AND wake_at IS NOT NULL AND {{fitting}}
"""

# What the last vacuum or analyze of the two indexes counted: to count them now would be to read them twice.
PENDING_ESTIMATE = """
SELECT coalesce(sum(reltuples), 0) FROM pg_class
WHERE oid IN (to_regclass('job_queue_ready_idx'), to_regclass('job_queue_deferred_idx'))
"""


@dataclass(frozen=True)
class Found:
    """A page of jobs. `further` is where the list goes on, if it may. `looked_at` is the number of jobs that were
    looked at if they were not all that there are: what fits among older ones is on further pages. A page may be shorter
    than asked for because its rows are large: the others are on the next one."""

    rows: list[dict[str, Any]]
    further: Cursor | None = None
    looked_at: int | None = None


class Query:
    """The parts of the statements for one page."""

    def __init__(self, wanted: JobFilter, limit: int, whole: bool) -> None:
        self.wanted = wanted
        self.limit = limit
        self.table = "job_archive" if wanted.archived else "job_queue"
        lean = LEAN if wanted.archived else LIVE_LEAN
        self._columns = "*" if whole else lean
        self.values: dict[str, Any] = {
            "state": wanted.state,
            "job_type": wanted.job_type,
            "queue": wanted.queue,
            "tenant_id": wanted.tenant_id,
            "cause": wanted.cause,
            "text": wanted.text,
            "since": wanted.since,
            "until": wanted.until,
            "limit": limit + 1,
        }
        if isinstance(wanted.since, datetime):
            self.values["since_id"] = first_id(wanted.since - ID_SLACK)
        if isinstance(wanted.until, datetime):
            self.values["until_id"] = first_id(wanted.until + ID_SLACK)
        if wanted.after is not None:
            self.values |= {"after_id": wanted.after.id, "after_end": wanted.after.at}

    def small_sets(self) -> list[str]:
        """The sets that an index finds, the likely smaller ones first."""
        wanted, rows = self.wanted, f"SELECT * FROM {self.table} j WHERE"
        sets = []
        if wanted.cause is not None and wanted.cause.startswith("job:"):
            sets.append(f"{rows} {BY_A_JOB} AND cause = %(cause)s")
        if wanted.state == "running":
            sets.append(f"{rows} status = 'running'")
        if wanted.tenant_id is not None:
            sets.append(f"{rows} tenant_id = %(tenant_id)s")
        return sets

    def walked(self) -> str:
        """The rows of a walk, in its order, without its end. The times of a filter are where it begins and ends; in
        the order of ids by what a version 7 id says of its time, and `ID_SLACK` more: a job to which another program
        gave an id of another kind may be beyond that."""
        conditions = [self._position()]
        if self.wanted.by_end:
            conditions += ["status = %(state)s", "completed_at IS NOT NULL", *self._times()]
            # The planner does not see that it follows from a value.
            conditions += ["status <> 'completed'"] if self.wanted.archived else []
        else:
            conditions += ["id >= %(since_id)s" if self.wanted.since is not None else ""]
            conditions += ["id < %(until_id)s" if self.wanted.until is not None else ""]
        rule = " AND ".join(filter(None, conditions)) or "true"
        return f"SELECT * FROM {self.table} j WHERE {rule} ORDER BY {self._order()}"

    def over(self, rows: str) -> str:
        """The page of those of the rows that fit."""
        return (
            f"SELECT {self._columns} FROM ({rows}) AS j WHERE {self.fitting()} ORDER BY {self._order()} LIMIT %(limit)s"
        )

    def fitting(self) -> str:
        return " AND ".join(filter(None, [self._position(), *self._filters()])) or "true"

    def paged(self, listing: Listing) -> Found:
        rows = listing.rows[: self.limit]
        more = len(listing.rows) > self.limit or listing.left_out > 0
        return Found(rows, self.position(rows[-1]) if more else None)

    def position(self, row: Mapping[str, Any]) -> Cursor:
        ended: datetime | None = row["completed_at"] if self.wanted.by_end else None
        return Cursor(row["id"], ended)

    def _order(self) -> str:
        return "completed_at DESC, id DESC" if self.wanted.by_end else "id DESC"

    def _position(self) -> str:
        if self.wanted.after is None:
            return ""
        # The first condition is what the index is entered by.
        at_end = "completed_at <= %(after_end)s AND (completed_at, id) < (%(after_end)s, %(after_id)s)"
        return at_end if self.wanted.by_end else "id < %(after_id)s"

    def _times(self) -> list[str]:
        column = "completed_at" if self.wanted.by_end else "created_at"
        since = [f"{column} >= %(since)s"] if self.wanted.since is not None else []
        return since + ([f"{column} < %(until)s"] if self.wanted.until is not None else [])

    def _filters(self) -> list[str]:
        wanted = self.wanted
        state = [] if wanted.state is None else [STATE.get(wanted.state, "status = %(state)s")]
        columns = ("job_type", "queue", "tenant_id", "cause")
        equal = [f"{column} = %({column})s" for column in columns if getattr(wanted, column) is not None]
        # Of NULL no text is a part: `OR` is true if one of the fields has it.
        fields = " OR ".join(f"strpos(lower({field}), lower(%(text)s)) > 0" for field in TEXT_FIELDS)
        text = [] if wanted.text is None else [f"({fields})"]
        return [*state, *equal, *self._times(), *text]


def choosing(wanted: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return a query of the ids of all jobs of the queue that fit, by the index of the state that is asked for, and its
    values. `since` and `until` are moments."""
    query = Query(replace(wanted, after=None), 0, whole=True)
    if wanted.state in ("pending", *STATE):
        rows = PENDING_SET.format(fitting=query.fitting())
        return f"SELECT id FROM ({rows}) AS fitting", query.values
    ended = "AND completed_at IS NOT NULL" if wanted.by_end else ""
    return f"SELECT id FROM job_queue j WHERE status = '{wanted.state}' {ended} AND {query.fitting()}", query.values


class JobLists:
    """Query group; system scope, in a transaction of one snapshot (`Explain.use_one_snapshot`)."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def page(self, wanted: JobFilter, *, limit: int, ids: list[UUID] | None = None, whole: bool = False) -> Found:
        """Return up to `limit` jobs that fit, in the order of the list. `ids`: only these. `whole`: rows have all
        columns, payload and result too; so many rows as are not too much at once."""
        self._driver.execute(ALONG_INDEXES)
        query = Query(wanted, limit, whole)
        if ids is not None:
            return self._of_set(query, f"SELECT * FROM {query.table} j WHERE id = ANY(%(ids)s)", {"ids": ids})
        for narrow in query.small_sets():
            if self._is_small(narrow, query.values, SMALL_SET):
                return self._of_set(query, narrow)
        found = self._walk(query)
        if found.looked_at is not None and wanted.state in ("pending", *STATE) and len(found.rows) < limit:
            [(pending,)] = self._driver.execute(PENDING_ESTIMATE).fetchall()
            if pending <= MOST_PENDING:
                return self._of_set(query, PENDING_SET.format(fitting=query.fitting()))
        return found

    def _is_small(self, rows: str, values: Mapping[str, Any], most: int) -> bool:
        count = f"SELECT count(*) FROM (SELECT FROM ({rows}) AS part LIMIT {most + 1}) AS counted"
        return bool(self._driver.execute(count.encode(), values).fetchall()[0][0] <= most)

    def _of_set(self, query: Query, rows: str, values: Mapping[str, Any] | None = None) -> Found:
        # OFFSET 0: the set is read by its own index, whatever order its rows are put in.
        return query.paged(listing_of(self._driver, query.over(f"{rows} OFFSET 0"), query.values | dict(values or {})))

    def _walk(self, query: Query) -> Found:
        walked = query.walked()
        self._driver.execute(SORT, ("off",))
        found = query.paged(listing_of(self._driver, query.over(f"{walked} LIMIT {WALKED}"), query.values))
        last = None
        if found.further is None:
            ended = f"SELECT id, completed_at FROM ({walked} OFFSET {WALKED - 1} LIMIT 1) AS last"
            last = row_of(self._driver, ended, query.values)
        self._driver.execute(SORT, ("on",))
        return found if last is None else Found(found.rows, query.position(last), WALKED)
