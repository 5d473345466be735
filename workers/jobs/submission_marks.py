"""Whether the database has what was submitted last: what is remembered outside of it is compared with its rows."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import NamedTuple

from domain.ports import SubmissionMarks
from workers.engine.job import SYSTEM, Tx

MARKS_KEPT = timedelta(days=30)
"""Submissions are rows for longer than that (`upkeep.prune`)."""


class Compared(NamedTuple):
    """`missing` of the last `found` submissions are not in the database. Where nothing is posted already, `halted` says
    since when and why, and nothing was compared."""

    found: int
    missing: int
    halted: str | None = None


def compare(begin: Callable[[], AbstractContextManager[Tx]], marks: SubmissionMarks | None, now: datetime) -> Compared:
    """Compare them; while the outside is read no transaction is open. What was missing when a restore ended counts no
    more."""
    with begin() as tx:
        tx.work_as(SYSTEM)
        last = tx.restores.last()
    if last is not None and last.ended_at is None:
        why = last.noticed or f"a person said that it went back to {last.taken_at}"
        return Compared(0, 0, f"{last.noticed_at:%Y-%m-%d %H:%M}: {why}")
    since = now - MARKS_KEPT
    if last is not None and last.ended_at is not None:
        since = max(since, last.ended_at)
    found = set(() if marks is None else marks.recall(since))
    if not found:
        return Compared(0, 0)
    with begin() as tx:
        tx.work_as(SYSTEM)
        return Compared(len(found), len(found - tx.restores.stored(found)))
