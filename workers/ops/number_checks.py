"""The check of `viral doctor` about collecting numbers of posts."""

from datetime import UTC, datetime, timedelta

from db.transaction import Tx
from domain.concepts.wording import counted
from domain.text.readable import readable
from workers.app import App

LATELY = timedelta(days=1)
LATE = timedelta(minutes=30)
"""A look that has waited for so long has missed the first horizon, or soon will."""
MANY = 0.1
"""The share of horizons from which on it is worth a look that they are missed."""


def check_numbers(app: App, tx: Tx) -> tuple[str, str]:
    """Whether posts are measured in time."""
    now = app.clock() if app.clock is not None else datetime.now(UTC)
    lately = tx.snapshots.lately(since=now - LATELY, late=now - LATE)
    if lately.late:
        since = readable(lately.waits_since)
        remedy = "do `viral scheduler` and `viral worker` run, and does the queue social keep up (`viral queues list`)?"
        return (
            "warn",
            f"{counted(lately.late, 'post')} should have been measured by now, the first at {since}: {remedy}",
        )
    if lately.missed > MANY * (lately.missed + lately.met):
        so_many = f"horizons of the last day that were missed: {lately.missed} of {lately.missed + lately.met}"
        return "warn", f"{so_many}, most often because {lately.reason}"
    if not lately.met:
        return "ok", "no post had to be measured on the last day"
    return "ok", f"{counted(lately.met, 'horizon')} of posts met on the last day, {lately.missed} missed"
