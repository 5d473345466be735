"""How a process begins: it waits for a database that serves, and has the schema that this release works with."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from db.migrate.revisions import SchemaOlder
from db.transaction import NO_ANSWER

TRY_AGAIN_SECONDS = 1.0

log = structlog.get_logger()


def when_served(begin: Callable[[], object], asked_to_stop: SimpleQueue[Any], *, waits: str) -> bool:
    """Do `begin`, and again every second while the database is away or not migrated. False if asked to stop before.

    `waits` is the log's event for that.

    Raises:
        SchemaNewer: this release must not work on this database.
    """
    while True:
        try:
            begin()
        except (*NO_ANSWER, SchemaOlder) as error:
            log.warning(waits, reason=str(error), seldom=True)
        else:
            return True
        try:
            asked_to_stop.get(timeout=TRY_AGAIN_SECONDS)
        except Empty:
            continue
        return False
