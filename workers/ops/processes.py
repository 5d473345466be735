"""Worker processes as an operator sees them: which are alive, and which queues they work on."""

from collections.abc import Iterable, Mapping
from typing import Any

from db.transaction import Tx
from workers.engine.queues import QUEUES


def overview(tx: Tx) -> list[dict[str, Any]]:
    """List the worker processes, the youngest first, each with its `state` and the age of its last heartbeat."""
    now = tx.now()
    return [row | {"state": state(row), "heartbeat_age": now - row["heartbeat_at"]} for row in tx.workers.all()]


def state(worker: Mapping[str, Any]) -> str:
    """Return `alive`, `draining` (it finishes what it has begun) or `dead` for a row of `workers`."""
    if not worker["alive"]:
        return "dead"
    return "draining" if worker["draining"] else "alive"


def serving(workers: Iterable[Mapping[str, Any]], queue: str) -> int:
    """Count the processes that take jobs of the queue. An undeclared queue is worked on with the default one."""
    worked_as = queue if queue in QUEUES else "default"
    return sum(state(worker) == "alive" and worked_as in worker["queues"] for worker in workers)
