"""`viral schedules`"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any

import typer

from cli.arguments import among, one_of
from cli.output import AsJson, console, print_json, show
from cli.session import for_system
from cli.shell import Group
from scheduler.schedule import SCHEDULES, Schedule, overdue_since, runs_between
from workers.ops.schedules import Timetable, overview

app = Group()

NAMES = tuple(each.name for each in SCHEDULES)

COLUMNS = (
    *("name", "timetable", "catch_up", "last_fire", "last_job", "last_by_hand", "next_fire", "overdue_since"),
    "ahead",
)
OVERDUE = "\nNo scheduler seems to run: start one with `viral scheduler`."
AHEAD = (
    "\nRuns are recorded for a time still to come: a clock ran ahead, or a backup is of another time; "
    "the schedules go on by the clock of the database."
)
FOREVER = datetime.max.replace(tzinfo=UTC)


@app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """Show what runs when, what ran last, and what is overdue.

    All times are UTC. One that finds nothing to do leaves no run, so the last one may be long ago. A schedule is
    overdue if it should have run and did not: no scheduler runs. Ahead are runs that are recorded for a time still to
    come; they count for nothing. The last job is gone if somebody deleted it.

    \b
    viral schedules list
    """
    with for_system() as tx:
        rows = [vars(each) for each in overview(tx, calendar())]
    show(rows, COLUMNS, as_json=as_json, nothing="No schedules.")
    if not as_json and any(row["overdue_since"] for row in rows):
        console().print(OVERDUE)
    if not as_json and any(row["ahead"] for row in rows):
        console().print(AHEAD)


@app.command("next")
def next_runs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Only this schedule; a wrong one lists them all.", autocompletion=among(NAMES)
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Show so many.")] = 5,
    as_json: AsJson = False,
) -> None:
    """List the next runs, in UTC.

    \b
    viral schedules next quota.reset_due
    """
    chosen = SCHEDULES if name is None else [_named(name)]
    now = datetime.now(UTC)
    rows = [{"fire_at": fire_at, "name": each.name} for each in chosen for fire_at in islice(_runs(each, now), count)]
    rows.sort(key=lambda row: (row["fire_at"], row["name"]))
    show(rows[:count], ("fire_at", "name"), as_json=as_json, nothing="Nothing runs any more.")


@app.command()
def fire(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A schedule; a wrong one lists them all.", autocompletion=among(NAMES))
    ],
    as_json: AsJson = False,
) -> None:
    """Run a schedule once now, by hand, and print its job's id.

    The timetable does not notice: what it owes, and what comes next, runs as if this had not been.

    \b
    viral schedules fire upkeep.prune
    """
    schedule = _named(name)
    with for_system() as tx:
        now = tx.now()
        job_id = tx.schedule_runs.fire_by_hand(schedule.name, now, lambda: schedule.enqueue(tx, now))
    print_json({"id": job_id, "schedule": name, "fire_at": now}) if as_json else console().print(str(job_id))


def calendar() -> list[Timetable]:
    """Return the calendar of the scheduler, as what shows it takes it."""
    return [
        Timetable(
            each.name,
            timetable(each.trigger),
            each.catch_up.value,
            next_fire=partial(_next_fire, each),
            overdue_since=partial(overdue_since, each),
        )
        for each in SCHEDULES
    ]


def timetable(trigger: Any) -> str:
    """Write a timetable as crontab does, if it can be written so."""
    fields = {field.name: str(field) for field in getattr(trigger, "fields", ())}
    if (fields.get("second"), fields.get("year"), fields.get("week")) != ("0", "*", "*"):
        return str(trigger)
    return " ".join(fields[name] for name in ("minute", "hour", "day", "month", "day_of_week"))


def _runs(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    return runs_between(schedule.trigger, after, FOREVER)


def _next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    return next(_runs(schedule, after), None)


def _named(name: str) -> Schedule:
    schedules = {each.name: each for each in SCHEDULES}
    one_of(schedules, name, "NAME", "schedule")
    return schedules[name]
