"""The check of `viral doctor` about learning."""

from datetime import UTC, datetime, timedelta

from db.transaction import Tx
from domain.concepts.wording import counted
from domain.learning.learner import TRAILING
from domain.text.readable import readable
from workers.app import App

LATE = timedelta(hours=1)
"""Outcomes are learned within minutes."""
NAMED = 3
"""Tenants that are named."""


def check_learning(app: App, tx: Tx) -> tuple[str, str]:
    """Whether outcomes are learned, and champions are worth something. (Whether schedules run, such as the pool's, is a
    check of its own.)"""
    now = app.clock() if app.clock is not None else datetime.now(UTC)
    waiting, since = tx.guard_rails.waiting()
    if since is not None and since < now - LATE:
        return (
            "warn",
            f"{counted(waiting, 'outcome')} wait to be learned, the first since {readable(since)}: do `viral scheduler`"
            " and `viral worker` run, and did a job fail (`viral jobs list --type reflexion.learn --status failed`)?",
        )
    worse = tx.guard_rails.worse_tenants(least=TRAILING, limit=NAMED + 1)
    if worse:
        first = worse[0]
        named = ", ".join(dict.fromkeys(str(each["tenant_id"]) for each in worse[:NAMED]))
        more = " and others" if len(worse) > NAMED else ""
        return (
            "warn",
            f"scores of {first['platform']} miss by {first['champion_gap']:.1f} points, a running median by"
            f" {first['median_gap']:.1f}, for {named}{more}: `viral reflexion status --tenant ID`",
        )
    return "ok", "outcomes are learned" if tx.learners.keys() else "nothing was learned yet"
