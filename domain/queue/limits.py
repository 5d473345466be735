"""Decides which jobs may start now: limits on how many jobs run at once, by queue and by tenant."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

ConcurrencyKey = tuple[str, UUID | None]
"""A queue, and the tenant whose job it is (None: the system's): what running jobs are counted by."""


@dataclass(frozen=True)
class Policy:
    """What operators decided of a queue, or of one tenant's jobs in it. None: no limit."""

    paused: bool = False
    max_running: int | None = None
    max_running_per_tenant: int | None = None

    @property
    def limited(self) -> bool:
        return self.max_running is not None or self.max_running_per_tenant is not None


EVERYTHING_GOES = Policy()

Policies = Mapping[ConcurrencyKey, Policy]
"""By queue and tenant; (queue, None) is the queue's own."""


def admit(
    waiting: Sequence[tuple[UUID, ConcurrencyKey]], running: Mapping[ConcurrencyKey, int], policies: Policies
) -> list[UUID]:
    """Select the jobs that may start now, in their order; `running` counts those that have started.

    A tenant's own limit replaces the one that its queue sets for every tenant. What belongs to no tenant is bound by
    the queue's limit alone.
    """
    started = Counter(running)
    in_queue: Counter[str] = Counter()
    for (queue, _), count in running.items():
        in_queue[queue] += count
    admitted = []
    for job, key in waiting:
        queue = key[0]
        if paused(policies, key) or started[key] >= _most_of_tenant(policies, key):
            continue
        if in_queue[queue] < _most(policies, (queue, None)):
            admitted.append(job)
            started[key] += 1
            in_queue[queue] += 1
    return admitted


def paused(policies: Policies, key: ConcurrencyKey) -> bool:
    """Whether the queue, or the tenant in it, is paused."""
    return any(policies.get(each, EVERYTHING_GOES).paused for each in {key, (key[0], None)})


def limiting_keys(policies: Policies, keys: Collection[ConcurrencyKey]) -> set[ConcurrencyKey]:
    """Select the keys whose counts decide over these: the ones that nobody else may change while we count."""
    limiting: set[ConcurrencyKey] = set()
    for key in keys:
        if policies.get((key[0], None), EVERYTHING_GOES).max_running is not None:
            limiting.add((key[0], None))
        if key[1] is not None and _most_of_tenant(policies, key) != NO_LIMIT:
            limiting.add(key)
    return limiting


NO_LIMIT = float("inf")


def _most(policies: Policies, key: ConcurrencyKey) -> float:
    limit = policies.get(key, EVERYTHING_GOES).max_running
    return NO_LIMIT if limit is None else limit


def _most_of_tenant(policies: Policies, key: ConcurrencyKey) -> float:
    if key[1] is None:
        return NO_LIMIT
    own = _most(policies, key)
    everyones = policies.get((key[0], None), EVERYTHING_GOES).max_running_per_tenant
    return own if own != NO_LIMIT or everyones is None else everyones
