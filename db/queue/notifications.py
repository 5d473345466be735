"""The jobs that a transaction has made ready; after its commit, the workers' queues are notified of them."""

from collections.abc import Mapping
from uuid import UUID

DEFERRED = ""
"""In the place of a queue: a job is to be woken later, which a dispatcher that rests does not know."""


class Notifications(dict[str, dict[UUID, int]]):
    """Jobs that are ready, and their priorities, by queue.

    A queue without jobs asks the dispatcher to look at it: something may run there that could not before.
    """

    def add(self, queue: str, job_id: UUID, priority: int) -> None:
        self.setdefault(queue, {})[job_id] = priority

    def look_at(self, queue: str) -> None:
        self.setdefault(queue, {})

    def defer(self) -> None:
        self.setdefault(DEFERRED, {})

    def merge(self, others: Mapping[str, Mapping[UUID, int]]) -> None:
        """Add those of another transaction."""
        for queue, jobs in others.items():
            self.setdefault(queue, {}).update(jobs)
