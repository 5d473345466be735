"""All experiments, in the order in which they run, with the seconds that each may take in the full form."""

from dataclasses import dataclass

from tests.chaos.experiments import (
    acts,
    autopilot,
    bloat,
    calendar,
    clocks,
    drain,
    eviction,
    failover,
    kills,
    learning,
    migrations,
    model,
    points,
    pooling,
    postgres_loss,
    posting,
    redis_failover,
    redis_loss,
    rendering,
    sabotage,
    tenants,
    webhooks,
    zombies,
)
from tests.chaos.stage import Experiment


@dataclass(frozen=True)
class Entry:
    name: str
    summary: str
    experiment: Experiment
    budget_s: float
    sabotage: str = ""


CATALOGUE = (
    Entry("R1", "kill -9 of random workers", kills.kills, 240),
    Entry("R2", "death at every named point", points.points, 300),
    Entry("R3", "Redis forgets, Redis is away", redis_loss.forgetting, 130),
    Entry("R4", "Redis hangs, connections reset", redis_loss.hanging, 120),
    Entry("R5", "Postgres crashes, COMMITs cut", postgres_loss.restarts, 240),
    Entry("R6", "zombies past their lease", zombies.zombies, 150),
    Entry("R7", "clocks ten minutes wrong", clocks.skewed, 60),
    Entry("R8", "killed schedulers, a simulated day", calendar.day, 120),
    Entry("R9", "a forgotten transaction, 1M rows", bloat.bloated, 220),
    Entry("R10", "a noisy tenant", tenants.noisy, 180),
    Entry("R11", "poison jobs", kills.poison, 60),
    Entry("R12", "SIGTERM to all processes", drain.drain, 80),
    Entry("R13", "webhooks five times, shuffled", webhooks.shuffled, 60),
    Entry("R14", "any operations in any order", model.agreement, 120),
    Entry("R15", "migrations up and down under load", migrations.migrating, 90),
    Entry("R16", "posts made once amid faults and deaths", posting.posting, 900),
    Entry("R17", "clips bought amid faults and deaths", rendering.rendering, 600),
    Entry("learn-kill", "death at every commit of learning", learning.learning, 300),
    Entry("acts-kill", "deletions, bulk acts, deliveries die", acts.acts, 240),
    Entry("autopilot", "a month of tenants left alone", autopilot.autopilot, 900),
    Entry("pooler", "everything through PgBouncer", pooling.pooled, 150),
    Entry("redis-failover", "a Redis replica is promoted", redis_failover.promoted, 90),
    Entry("eviction", "Redis evicts what waits, is full", eviction.evicted, 60),
    Entry("standby", "a synchronous standby is promoted", failover.promoted, 120),
    Entry("readonly", "connections lead to a reader", failover.landed_on_reader, 120),
    Entry("fence", "finish without the lease token", sabotage.caught, 60, sabotage="fence"),
    Entry("sweeper", "a dispatcher that never notifies", sabotage.caught, 60, sabotage="sweeper"),
    Entry("reaper", "a reaper that never rescues", sabotage.caught, 60, sabotage="reaper"),
    Entry("no-handle", "no handle kept before the post", sabotage.caught, 120, sabotage="no-handle"),
    Entry("retry", "a post begun again, its answer lost", sabotage.caught, 120, sabotage="retry"),
    Entry("resend", "an order sent again, its answer lost", sabotage.caught, 120, sabotage="resend"),
)
