"""The dispatcher's memory of a queue: what is lost is noticed within seconds, what waits is never sent again."""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from db.queue.dispatch import ReadyJob
from scheduler.dispatcher import FIRST_WAIT, LONGEST_WAIT, WINDOW, Window

LONGEST_STEP = 1.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enqueue", "claim", "swallow", "lose the set", "nothing"]),
        st.integers(1, 8),
        st.floats(0.03, LONGEST_STEP),
    ),
    max_size=120,
)


@dataclass
class World:
    """The table, Redis and a dispatcher, without any of them."""

    window: Window = field(default_factory=Window)
    now: float = 0.0
    pending: list[str] = field(default_factory=list)
    redis: dict[str, float] = field(default_factory=dict)
    gone_since: dict[str, float] = field(default_factory=dict)
    sent: int = 0

    def take(self, number: int) -> list[str]:
        """Workers pop the most urgent."""
        taken = sorted(self.redis, key=lambda job: self.redis[job])[:number]
        for job in taken:
            del self.redis[job]
        return taken

    def look(self) -> list[str]:
        """As `Dispatcher` does. Returns what was sent."""
        jobs = [ReadyJob(job, float(score), limited=False) for score, job in enumerate(self.pending[:WINDOW])]
        new, before = self.window.update(jobs, self.now, whole=True)
        missing = before.keys() - self.redis.keys()
        self.redis.update({job: score for job, score in before.items() if job not in missing})
        assert not new.keys() & self.redis.keys(), "what waits is not sent again"
        self.redis.update(new)
        self.window.note_missing(before, missing, self.now)
        for job in new:
            self.gone_since.pop(job, None)
        self.sent += len(new)
        return list(new)


@given(STEPS)
def test_whatever_happens_to_redis_a_pending_job_is_missing_there_for_seconds_at_most(
    steps: list[tuple[str, int, float]],
) -> None:
    world = World()
    enqueued = lost = 0
    for act, number, seconds in steps:
        match act:
            case "enqueue":
                world.pending += [f"job{enqueued + n}" for n in range(number)]
                enqueued += number
            case "claim":
                taken = world.take(number)
                world.pending = [job for job in world.pending if job not in taken]
            case "swallow":
                taken = world.take(number)
                lost += len(taken)
                world.gone_since |= dict.fromkeys(taken, world.now)
            case "lose the set":
                lost += len(world.redis)
                world.gone_since |= dict.fromkeys(world.redis, world.now)
                world.redis.clear()
        world.now += seconds
        world.look()
        for job in world.pending:
            if job not in world.redis:
                assert world.now - world.gone_since[job] <= LONGEST_WAIT + 2 * LONGEST_STEP
    assert world.sent <= enqueued + lost, "nothing is sent that was not new or lost"


def test_twenty_thousand_that_nobody_takes_are_sent_once() -> None:
    world = World(pending=[str(n) for n in range(20_000)])
    for _ in range(10):
        world.now += 2.0
        world.look()
    assert world.sent == WINDOW


def test_a_set_that_vanished_is_whole_again_in_a_moment_however_long_it_had_waited() -> None:
    world = World(pending=[str(n) for n in range(100)])
    while world.now < 120:
        world.now += 0.5
        world.look()
    world.redis.clear()
    gone = world.now
    while len(world.redis) < 100:
        world.now += 0.5
        world.look()
    assert world.now - gone <= FIRST_WAIT + 1


def test_what_workers_pop_and_never_claim_is_sent_ever_more_rarely_but_within_seconds() -> None:
    """A type that only a newer release knows, or a worker whose database is away: 391 of these once waited 40 s."""
    world = World(pending=[str(n) for n in range(391)])
    sent_at = []
    while world.now < 60:
        if world.look():
            sent_at.append(world.now)
        world.take(391)
        world.now += 0.5
    waits = [later - earlier for earlier, later in pairwise(sent_at)]
    assert waits[:4] == [1.5, 2.5, 4.5, 5.5]
    assert set(waits[3:]) == {LONGEST_WAIT + 0.5}
