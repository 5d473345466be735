"""The jobs that a transaction has made ready; after its commit, the workers' queues are notified of them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID

DEFERRED = ""
"""In the place of a queue: a job is to be woken later, which a dispatcher that rests does not know."""


COST: Final = "viral_provider_cost_usd_total"
"""The metric that counts what services outside charge, by service."""


class Count(Protocol):
    """Has something counted when the transaction has committed."""

    def __call__(self, metric: str, *labels: str, by: int | Decimal = 1) -> object: ...


class Notifications(dict[str, dict[UUID, int]]):
    """Jobs that are ready, and their priorities, by queue.

    A queue without jobs asks the dispatcher to look at it: something may run there that could not before.
    """

    def __init__(self, jobs: Mapping[str, dict[UUID, int]] | None = None) -> None:
        super().__init__(jobs or {})
        self.counted: dict[tuple[str, ...], int | Decimal] = {}
        """How much else is to be counted after the commit, by metric and labels."""

    def count(self, metric: str, *labels: str, by: int | Decimal = 1) -> None:
        """Have something counted after the commit."""
        key = metric, *labels
        self.counted[key] = self.counted.get(key, 0) + by

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
