"""`make converge`, or `python -m tests.converge [--seed N] [--seconds N] [--only NAME,NAME]`: delivers every
scenario of a Stripe customer and of Clerk's people in many orders, on own servers. Report: `reports/converge.json`.

`--random N [--seed N]` delivers as many random scenarios of Stripe customers instead (`tests/converge/random_runs.py`),
and prints the one outcome of each. The number of one that diverges makes it again: `--random 1 --seed NUMBER`."""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

from db.migrate import upgrade as migrate
from db.security import seeing_all_tenants
from local.postgres import APP, OWNER, EmbeddedPostgres
from local.valkey import EmbeddedRedis
from simulators.personas import SHAPES
from simulators.stripe.api import StripeSimulator
from simulators.stripe.scenarios import SCENARIOS
from tests.converge import clerk_runs, late_runs, random_runs
from tests.converge.random_scenarios import CREATED, random_scenario
from tests.converge.runs import ORDERS, Diverged, State, events_of, run
from workers.app import App, build
from workers.runtime import logs
from workers.settings import Settings

ROOT = Path(__file__).parents[2]
USUAL, LONGEST = 300, 3600
"""Seconds."""
MOST_SCENARIOS = 100_000
FAILURES_KEPT = 5
LATE: Final = "late"
"""Not an order: the scenario by the clock, its events in time and then late (`tests/converge/late_runs.py`)."""


@dataclass
class ScenarioRuns:
    """The runs of one scenario: how many runs in which order, and what went wrong."""

    scenario: str
    events: int
    runs: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*ORDERS, LATE), 0))
    failed: int = 0
    failures: list[str] = field(default_factory=list)


def main() -> int:
    options = arguments()
    seed = options.seed if options.seed is not None else SystemRandom().randrange(2**32)
    if options.random:
        return deliver_random(options.random, seed)
    every_name = [*SCENARIOS, *clerk_runs.SCENARIOS]
    names = options.only.split(",") if options.only else every_name
    if unknown := set(names) - set(every_name):
        say(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(every_name)}")
        return 2
    say(f"seed {seed}   (the same again: --seed {seed}; {options.seconds} s, {len(SHAPES)} shapes)\n")
    began = time.monotonic()
    results = {
        name: ScenarioRuns(name, len(events_of(name, "basil") if name in SCENARIOS else clerk_runs.SCENARIOS[name]))
        for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        with (
            EmbeddedPostgres(Path(folder), durable=False) as postgres,
            EmbeddedRedis(Path(folder), persist=False) as redis,
        ):
            app = application(postgres, redis)
            try:
                rounds = walk(app, results, Random(seed), began + options.seconds)
            finally:
                app.close()
    table(results)
    failed = sum(result.failed for result in results.values())
    total = sum(sum(result.runs.values()) for result in results.values())
    took = round(time.monotonic() - began)
    write({"seed": seed, "rounds": rounds, "runs": total, "failed": failed, "took_s": took}, results)
    say(
        f"\n{total} runs in {rounds} rounds, {took} s, seed {seed}: "
        + (f"{failed} FAILED" if failed else "all converge")
    )
    return 1 if failed or not total else 0


def deliver_random(count: int, seed: int) -> int:
    """So many random scenarios, the first of this seed and each next of the next. Returns the exit status."""
    say(f"seed {seed}   (the same again: --random {count} --seed {seed})\n")
    began, runs, diverged = time.monotonic(), 0, 0
    stripe = StripeSimulator(CREATED, key="sk_live_fake")
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder), durable=False) as postgres,
        EmbeddedRedis(Path(folder), persist=False) as redis,
        stripe.serving() as base,
    ):
        app = application(postgres, redis)
        selling = application(postgres, redis, stripe_secret_key=stripe.key, stripe_api_base=base)
        apps = random_runs.Apps(app, selling, stripe)
        try:
            for number in range(seed, seed + count):
                scenario = random_scenario(number)
                says = f"scenario {number}  {scenario.shape:7}  {len(scenario.account.events):3} events  "
                try:
                    outcome = random_runs.run(apps, scenario, Random(number))
                except Diverged as error:
                    diverged += 1
                    say(f"{says}DIVERGES: {error}\n{random_runs.shrunk(apps, scenario)}")
                else:
                    runs += outcome.runs
                    say(f"{says}{outcome}")
        finally:
            selling.close()
            app.close()
    took = round(time.monotonic() - began)
    say(
        f"\n{count} random scenarios, {runs} runs, {took} s, seed {seed}: "
        + (f"{diverged} DIVERGE" if diverged else "one outcome a scenario")
    )
    return 1 if diverged else 0


def walk(app: App, results: dict[str, ScenarioRuns], rng: Random, until: float) -> int:
    """Every scenario in every shape and order, again and again until the time is up. Returns the full rounds made."""
    expected: dict[Any, State] = {}
    rounds = 0
    while True:
        for shape in (*SHAPES, None):
            for name, result in results.items():
                if (name in SCENARIOS) == (shape is None):
                    continue  # a scenario of Clerk has one shape only
                for order in ORDERS if shape is None else (*ORDERS, LATE):
                    if time.monotonic() > until:
                        return rounds
                    result.runs[order] += 1
                    try:
                        if shape is None:
                            clerk_runs.run(app, name, order, rng, expected)
                        elif order == LATE:
                            late_runs.run(app, name, shape, rng)
                        else:
                            run(app, name, shape, order, rng, expected)
                    except Diverged as error:
                        result.failed += 1
                        if len(result.failures) < FAILURES_KEPT:
                            result.failures.append(f"{shape or 'Clerk'}, {order}: {error}")
        rounds += 1


def application(postgres: EmbeddedPostgres, redis: EmbeddedRedis, **changes: Any) -> App:
    migrate.upgrade(postgres.url(OWNER))
    logs.configure("console", "ERROR")
    settings = Settings(
        database_url=postgres.url(APP),
        direct_url=seeing_all_tenants(postgres.url(OWNER)),
        redis_url=redis.url(),
        stripe_starter_price_id="price_starter",
        stripe_pro_price_id="price_pro",
        stripe_agency_price_id="price_agency",
        **changes,
    )
    return build(settings, name="converge")


def table(results: dict[str, ScenarioRuns]) -> None:
    width = max(len(name) for name in results)
    headings = "  ".join(f"{order:>9}" for order in (*ORDERS, LATE))
    say(f"{'scenario':<{width}}  events  {headings}  failures")
    for result in results.values():
        counts = "  ".join(f"{result.runs[order]:>9}" for order in (*ORDERS, LATE))
        say(f"{result.scenario:<{width}}  {result.events:>6}  {counts}  {result.failed or '-'}")
        for failure in result.failures:
            say(f"    {failure[:400]}")


def write(facts: dict[str, Any], results: dict[str, ScenarioRuns]) -> None:
    path = ROOT / "reports" / "converge.json"
    path.parent.mkdir(exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    about = {"at": at, "python": platform.python_version(), **facts}
    path.write_text(json.dumps(about | {"scenarios": [asdict(result) for result in results.values()]}, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make converge", description=__doc__)
    parser.add_argument("--seed", type=int, help="default: a new one")
    parser.add_argument(
        "--random", type=up_to(MOST_SCENARIOS), metavar="N", help="so many random scenarios of Stripe customers instead"
    )
    parser.add_argument("--seconds", type=up_to(LONGEST), default=USUAL, metavar="N")
    parser.add_argument("--only", help="these scenarios, comma-separated")
    return parser.parse_args()


def up_to(most: int) -> Callable[[str], int]:
    """A reader of whole numbers from 1 to `most`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}")
        return int(text)

    return number


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
