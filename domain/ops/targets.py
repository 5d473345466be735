"""How long a due job of each queue may wait until it is late: what an operator is to look at first.

A job is due when it should begin, so its age says what a customer waits for beyond the work itself; the number of those
that wait says nothing of the kind. Each target is what a queue's own work takes, and not a promise to customers.
"""

from datetime import timedelta
from typing import Final

TARGETS: Final = {
    # Somebody has paid, and looks at a page that still says FREE.
    "events": timedelta(seconds=30),
    # Short jobs that wait for Postgres only: a minute means that nobody works on them, or that one holds up the rest.
    "default": timedelta(minutes=1),
    # A call of a language model takes up to a minute, and its accounts are limited.
    "llm": timedelta(minutes=5),
    # A clip takes its provider minutes anyway; what waits here has asked for one, or is to fetch one.
    "media": timedelta(minutes=10),
    # A drawing takes minutes of a core, and a machine has few.
    "render": timedelta(minutes=20),
    # A post was promised for its minute.
    "social": timedelta(minutes=2),
}


def target(queue: str) -> timedelta:
    """Return the target of a queue; one that only a job names is worked on with the default one."""
    return TARGETS.get(queue, TARGETS["default"])
