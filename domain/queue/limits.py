"""Who may start now: limits on how many jobs run at once, by queue and by tenant."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

Place = tuple[str, UUID | None]
"""A queue, and the tenant whose job it is (None: the system's)."""


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

Policies = Mapping[Place, Policy]
"""By queue and tenant; (queue, None) is the queue's own."""


def admit(waiting: Sequence[tuple[UUID, Place]], running: Mapping[Place, int], policies: Policies) -> list[UUID]:
    """Those of the jobs that may start now, the first in line first; `running` counts those that have started.

    A tenant's own limit replaces the one that its queue sets for every tenant. What belongs to no tenant is bound by
    the queue's limit alone.
    """
    started = Counter(running)
    in_queue: Counter[str] = Counter()
    for (queue, _), count in running.items():
        in_queue[queue] += count
    admitted = []
    for job, place in waiting:
        queue = place[0]
        if paused(policies, place) or started[place] >= _most_of_tenant(policies, place):
            continue
        if in_queue[queue] < _most(policies, (queue, None)):
            admitted.append(job)
            started[place] += 1
            in_queue[queue] += 1
    return admitted


def paused(policies: Policies, place: Place) -> bool:
    """Whether the queue, or the tenant in it, is paused."""
    return any(policies.get(each, EVERYTHING_GOES).paused for each in {place, (place[0], None)})


def bounds(policies: Policies, places: Collection[Place]) -> set[Place]:
    """Which counts decide over these places: the ones that nobody else may change while we count."""
    bound: set[Place] = set()
    for place in places:
        if policies.get((place[0], None), EVERYTHING_GOES).max_running is not None:
            bound.add((place[0], None))
        if place[1] is not None and _most_of_tenant(policies, place) != NO_LIMIT:
            bound.add(place)
    return bound


NO_LIMIT = float("inf")


def _most(policies: Policies, place: Place) -> float:
    limit = policies.get(place, EVERYTHING_GOES).max_running
    return NO_LIMIT if limit is None else limit


def _most_of_tenant(policies: Policies, place: Place) -> float:
    if place[1] is None:
        return NO_LIMIT
    own = _most(policies, place)
    everyones = policies.get((place[0], None), EVERYTHING_GOES).max_running_per_tenant
    return own if own != NO_LIMIT or everyones is None else everyones
