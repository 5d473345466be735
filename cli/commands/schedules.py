"""`viral schedules`"""

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import AsJson, console, print_json, show
from cli.session import session
from cli.shell import Group

if TYPE_CHECKING:
    from scheduler.schedule import Schedule

app = Group()

COLUMNS = (
    "name",
    "timetable",
    "catch_up",
    "last_fire",
    "last_job",
    "last_by_hand",
    "next_fire",
    "overdue_since",
    "ahead",
)
AHEAD_SAYS = "Fires are recorded for a time still to come: a clock ran ahead, or a backup is of another time"
FOREVER = datetime.max.replace(tzinfo=UTC)


@app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """What fires when, what fired last, and what is overdue.

    All times are UTC. Overdue is a fire that should have been made and was not: no scheduler runs. Ahead are fires
    that are recorded for a time still to come; they count for nothing. The last job is gone if somebody deleted it.
    """
    from db.queue.schedules import BY_HAND
    from db.transaction import SYSTEM
    from scheduler.schedule import SCHEDULES, overdue_since

    with session() as current, current.db.transaction(SYSTEM) as tx:
        now = tx.now()
        last, made, ahead = tx.schedule_runs.last(now), tx.schedule_runs.latest(now), tx.schedule_runs.count_ahead(now)
    rows = []
    for schedule in SCHEDULES:
        latest, by_hand = made.get(schedule.name), made.get(schedule.name + BY_HAND)
        rows.append(
            {
                "name": schedule.name,
                "timetable": timetable(schedule.trigger),
                "catch_up": schedule.catch_up.value,
                "last_fire": latest and latest.fire_at,
                "last_job": latest and (latest.status or "gone"),
                "last_job_id": latest and latest.job_id,
                "last_by_hand": by_hand and by_hand.fire_at,
                "last_by_hand_job_id": by_hand and by_hand.job_id,
                "next_fire": next(iter(_fires(schedule, now, 1)), None),
                "overdue_since": overdue_since(schedule, last, now),
                "ahead": ahead.get(schedule.name),
            }
        )
    show(rows, COLUMNS, as_json=as_json, nothing="No schedules.")
    if not as_json and any(row["overdue_since"] for row in rows):
        console().print("\nNo scheduler seems to run: start one with `viral scheduler`.")
    if not as_json and any(row["ahead"] for row in rows):
        console().print(f"\n{AHEAD_SAYS}; the schedules go on by the clock of the database.")


@app.command("next")
def next_fires(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this schedule; a wrong one lists them all.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Show so many.")] = 5,
    as_json: AsJson = False,
) -> None:
    """The next fires, in UTC."""
    from scheduler.schedule import SCHEDULES

    chosen = SCHEDULES if name is None else [_named(name)]
    now = datetime.now(UTC)
    rows = [
        {"fire_at": fire_at, "name": schedule.name} for schedule in chosen for fire_at in _fires(schedule, now, count)
    ]
    rows.sort(key=lambda row: (row["fire_at"], row["name"]))
    show(rows[:count], ("fire_at", "name"), as_json=as_json, nothing="Nothing fires any more.")


@app.command()
def fire(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule; a wrong one lists them all.")],
    as_json: AsJson = False,
) -> None:
    """Make a fire now, by hand, and print its job's id.

    The timetable does not notice: what it owes, and what comes next, is fired as if this one had not been.
    """
    from db.transaction import SYSTEM

    schedule = _named(name)
    with session() as current, current.db.transaction(SYSTEM) as tx:
        now = tx.now()
        job_id = tx.schedule_runs.fire_by_hand(schedule.name, now, lambda: schedule.enqueue(tx, now))
    print_json({"id": job_id, "schedule": name, "fire_at": now}) if as_json else console().print(str(job_id))


def timetable(trigger: Any) -> str:
    """As crontab writes it, if it can be written so."""
    fields = {field.name: str(field) for field in getattr(trigger, "fields", ())}
    if (fields.get("second"), fields.get("year"), fields.get("week")) != ("0", "*", "*"):
        return str(trigger)
    return " ".join(fields[name] for name in ("minute", "hour", "day", "month", "day_of_week"))


def _fires(schedule: "Schedule", after: datetime, count: int) -> list[datetime]:
    from scheduler.schedule import runs_between

    return list(islice(runs_between(schedule.trigger, after, FOREVER), count))


def _named(name: str) -> "Schedule":
    from scheduler.schedule import SCHEDULES

    found = next((schedule for schedule in SCHEDULES if schedule.name == name), None)
    if found is None:
        known = ", ".join(schedule.name for schedule in SCHEDULES)
        raise typer.BadParameter(f"no such schedule; there are {known}", param_hint="NAME")
    return found
