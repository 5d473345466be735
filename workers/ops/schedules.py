"""Schedules as an operator sees them: when each runs, when it last did, and whether one is overdue.

The calendar belongs to the scheduler, which is an entrypoint, so whoever asks passes it in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.queue.schedules import BY_HAND
from db.transaction import Tx


@dataclass(frozen=True)
class Timetable:
    """One schedule of the calendar. `overdue_since` takes the last runs of all schedules, and the time now."""

    name: str
    timetable: str
    catch_up: str
    next_fire: Callable[[datetime], datetime | None]
    overdue_since: Callable[[Mapping[str, datetime], datetime], datetime | None]


@dataclass(frozen=True)
class ScheduleOverview:
    """One schedule. `last_job` is the status of the job of its last run, or `gone`; `ahead` counts the runs that are
    recorded for a time still to come."""

    name: str
    timetable: str
    catch_up: str
    last_fire: datetime | None
    last_job: str | None
    last_job_id: UUID | None
    last_by_hand: datetime | None
    last_by_hand_job_id: UUID | None
    next_fire: datetime | None
    overdue_since: datetime | None
    ahead: int | None


def overview(tx: Tx, calendar: Sequence[Timetable]) -> list[ScheduleOverview]:
    """Describe every schedule of the calendar."""
    now = tx.now()
    last, made, ahead = tx.schedule_runs.last(now), tx.schedule_runs.latest(now), tx.schedule_runs.count_ahead(now)

    def describe(each: Timetable) -> ScheduleOverview:
        latest, by_hand = made.get(each.name), made.get(each.name + BY_HAND)
        return ScheduleOverview(
            name=each.name,
            timetable=each.timetable,
            catch_up=each.catch_up,
            last_fire=latest.fire_at if latest else None,
            last_job=(latest.status or "gone") if latest else None,
            last_job_id=latest.job_id if latest else None,
            last_by_hand=by_hand.fire_at if by_hand else None,
            last_by_hand_job_id=by_hand.job_id if by_hand else None,
            next_fire=each.next_fire(now),
            overdue_since=each.overdue_since(last, now),
            ahead=ahead.get(each.name),
        )

    return [describe(each) for each in calendar]
