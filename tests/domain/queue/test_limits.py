"""However jobs come and go, no limit is exceeded, and nobody is refused without a reason."""

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.queue.limits import ConcurrencyKey, Policy, admit, limiting_keys, paused

ADA, BOB = UUID(int=1), UUID(int=2)
PLACES = st.tuples(st.sampled_from(["llm", "media"]), st.sampled_from([None, ADA, BOB]))
LIMITS = st.none() | st.integers(1, 4)


@st.composite
def some_policies(draw: st.DrawFn) -> dict[ConcurrencyKey, Policy]:
    decided = draw(st.dictionaries(PLACES, st.tuples(st.booleans(), LIMITS, LIMITS)))
    return {place: Policy(off, most, None if place[1] else each) for place, (off, most, each) in decided.items()}


def most_of_tenant(policies: dict[ConcurrencyKey, Policy], queue: str, tenant: UUID) -> int | None:
    own = policies.get((queue, tenant), Policy()).max_running
    return own if own is not None else policies.get((queue, None), Policy()).max_running_per_tenant


@given(st.lists(PLACES), st.dictionaries(PLACES, st.integers(0, 5)), some_policies())
def test_limits_hold_and_whoever_is_refused_is_refused_by_one(
    waiting: list[ConcurrencyKey], running: dict[ConcurrencyKey, int], policies: dict[ConcurrencyKey, Policy]
) -> None:
    jobs = [(UUID(int=n), place) for n, place in enumerate(waiting)]
    admitted = admit(jobs, running, policies)
    places = dict(jobs)
    after = Counter(running) + Counter(places[job] for job in admitted)
    assert admitted == [job for job, _ in jobs if job in admitted], "in their order"

    def full(place: ConcurrencyKey) -> bool:
        queue, tenant = place
        most = policies.get((queue, None), Policy()).max_running
        if most is not None and sum(n for (q, _), n in after.items() if q == queue) >= most:
            return True
        own = most_of_tenant(policies, queue, tenant) if tenant else None
        return own is not None and after[place] >= own

    for job, place in jobs:
        if job not in admitted:
            assert paused(policies, place) or full(place)
    for job in admitted:
        queue, tenant = places[job]
        assert not paused(policies, places[job])
        most = policies.get((queue, None), Policy()).max_running
        assert most is None or sum(n for (q, _), n in after.items() if q == queue) <= most
        own = most_of_tenant(policies, queue, tenant) if tenant else None
        assert own is None or after[places[job]] <= own


@given(st.lists(PLACES), some_policies())
def test_what_decides_is_locked_and_what_does_not_is_not(
    waiting: list[ConcurrencyKey], policies: dict[ConcurrencyKey, Policy]
) -> None:
    locked = limiting_keys(policies, waiting)
    for queue, tenant in waiting:
        assert ((queue, None) in locked) == (policies.get((queue, None), Policy()).max_running is not None)
        if tenant is not None:
            assert ((queue, tenant) in locked) == (most_of_tenant(policies, queue, tenant) is not None)
