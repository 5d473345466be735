"""How many jobs may run at once: pauses and limits of a queue, and of one tenant in it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

ConcurrencyKey = tuple[str, UUID | None]
"""A queue, and the tenant whose job it is (None: the system's). Jobs with one key count together."""


@dataclass(frozen=True)
class Policy:
    """What an operator has decided of a queue, or of one tenant's jobs in it. None: no limit."""

    paused: bool = False
    max_running: int | None = None
    max_running_per_tenant: int | None = None


NO_POLICY = Policy()
NO_LIMIT = float("inf")

Policies = Mapping[ConcurrencyKey, Policy]
"""By queue and tenant; (queue, None) is the queue's own."""


def admit(
    waiting: Sequence[tuple[UUID, ConcurrencyKey]], running: Mapping[ConcurrencyKey, int], policies: Policies
) -> list[UUID]:
    """Return the waiting jobs that may start now, in their order; `running` counts those that have started.

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
        if paused(policies, key) or started[key] >= _tenant_limit(policies, key):
            continue
        if in_queue[queue] < _limit(policies, (queue, None)):
            admitted.append(job)
            started[key] += 1
            in_queue[queue] += 1
    return admitted


def paused(policies: Policies, key: ConcurrencyKey) -> bool:
    """Whether the queue, or the tenant in it, is paused."""
    return any(policies.get(each, NO_POLICY).paused for each in {key, (key[0], None)})


def limiting_keys(policies: Policies, keys: Collection[ConcurrencyKey]) -> set[ConcurrencyKey]:
    """Return the keys whose counts decide over jobs with these `keys`; (queue, None) stands for the whole queue.

    Nobody else may start jobs with them while they are counted.
    """
    whole_queues: set[ConcurrencyKey] = {
        (queue, None) for queue, _ in keys if _limit(policies, (queue, None)) != NO_LIMIT
    }
    return whole_queues | {key for key in keys if _tenant_limit(policies, key) != NO_LIMIT}


def _limit(policies: Policies, key: ConcurrencyKey) -> float:
    limit = policies.get(key, NO_POLICY).max_running
    return NO_LIMIT if limit is None else limit


def _tenant_limit(policies: Policies, key: ConcurrencyKey) -> float:
    if key[1] is None:
        return NO_LIMIT
    own = _limit(policies, key)
    everyones = policies.get((key[0], None), NO_POLICY).max_running_per_tenant
    return own if own != NO_LIMIT or everyones is None else everyones
