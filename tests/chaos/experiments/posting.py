"""R16: posts to platforms that fail in every way, by processes that die at every moment; then what people see there is
held against our rows."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from random import Random
from uuid import UUID

from domain.errors import ViralError
from tests.chaos import cuts
from tests.chaos.fleet import FAST, Fleet, fleet_of
from tests.chaos.post_runs import Run, runs
from tests.chaos.posts import DOUBLED, Books, Fault, Player, platforms
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage

PLAYERS = 4
RUNS, SLICE_RUNS, SABOTAGED_RUNS = 520, 3, 16
SHOWN = 12
"""Faults that are told in the table; all are in the report."""
KILLS, KILLED_RUNS, KILLED_SECONDS = 20, 40, 120
UNDER_WAY = 12
"""Posts that the killed processes have at a time."""
UNHURRIED = (
    "slow",
    "listed late",
    "id is late",
    "id never comes",
    "address expires",
    "fails as revoked",
    "uploads are forgotten",
)
"""Tricks that take real time where processes have a real clock."""
BUSY = """
SELECT DISTINCT w.pid, coalesce(p.status = 'submitting', false) FROM workers w
JOIN job_queue q ON q.worker_id = w.id AND q.status = 'running' AND q.job_type = 'posting.publish'
LEFT JOIN social_posts p ON p.job_id = q.id
WHERE w.lease_until > now() ORDER BY 2 DESC
"""
"""Processes that are at a post, those first that may be publishing it now."""


def posting(stage: Stage, finding: Finding) -> None:
    """R16."""
    rng = stage.rng()
    books = Books()
    with_kills = stage.full and not stage.sabotage
    cut_off(stage, finding, books, rng, spare=KILLED_SECONDS + 30 if with_kills else 20)
    if with_kills:
        killed(stage, finding, books, rng)
    judge(finding, books)


def cut_off(stage: Stage, finding: Finding, books: Books, rng: Random, *, spare: float) -> None:
    """Runs of every kind in this process, whose attempts are cut off at chosen moments."""
    wanted = SABOTAGED_RUNS if stage.sabotage else stage.size(RUNS, SLICE_RUNS)
    with cuts.installed(), ExitStack() as stack:
        players = [
            stack.enter_context(a_player(stage, number, stage.sabotage)) for number in range(stage.size(PLAYERS, 1))
        ]
        calls = {name: each.calls for name, each in players[0].stage.platforms.items()}
        planned = [run for name in calls for run in runs(rng, name, calls[name], wanted)]
        rng.shuffle(planned)
        play_all(stage, players, planned, spare)
        for each in players:
            books.add(each)
    for name, count in sorted(books.played.items()):
        finding.saw(f"runs on {name}", count, least=wanted if wanted < 100 else 500)
    finding.saw("processes cut off", sum(n for where, n in books.struck.items() if where.startswith("cut")))
    finding.saw("databases put back", books.struck["database put back"])


def play_all(stage: Stage, players: list[Player], planned: list[Run], spare: float) -> None:
    left = planned[::-1]
    failures: list[BaseException] = []

    def play(one: Player) -> None:
        while left and not failures and stage.left() > spare:
            try:
                run = left.pop()
            except IndexError:
                return
            try:
                one.play(run)
            except ViralError as error:
                name = type(error).__name__
                one.faults.append(Fault(f"{run.platform}: {name}", f"{name}: {error}. {run.words}"))
            except BaseException as error:
                error.add_note(run.words)
                failures.append(error)

    threads = [threading.Thread(target=play, args=(each,)) for each in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def killed(stage: Stage, finding: Finding, books: Books, rng: Random) -> None:
    """Real worker processes, killed at random, most of them while they are at a post."""
    with a_player(stage, PLAYERS) as one, fleet_of(one.system, **FAST, **one.environment) as fleet:
        for simulator in one.stage.platforms.values():
            simulator.held_seconds = 1.0
        calls = {name: each.calls for name, each in one.stage.platforms.items()}
        planned = [quick(run) for name in calls for run in runs(rng, name, calls[name], KILLED_RUNS)]
        rng.shuffle(planned)
        fleet.workers(3, threads=4)
        asked: list[tuple[Run, list[UUID]]] = []
        kills = Counter[str]()
        until = time.monotonic() + KILLED_SECONDS
        while time.monotonic() < until:
            is_open = one.open()
            if is_open < UNDER_WAY and planned and kills.total() < KILLS:
                run = planned.pop()
                asked.append((run, one.hand_over(run)))
                one.stage.due()
            elif not is_open and (kills.total() >= KILLS or not planned):
                break
            one.hurry()
            if kills.total() < KILLS and rng.random() < 0.2:
                kill_one(one.system, fleet, rng, kills)
            fleet.restart_fallen()
            time.sleep(0.1)
        decide_doubts(one, until)
        finding.figures["troubles"] = fleet.troubles()[:8]
        fleet.end()
        for run, post_ids in asked:
            one.judge(run, post_ids)
        books.add(one)
    finding.saw("worker processes killed", kills.total(), least=KILLS // 2)
    finding.saw("of them amid a post", kills["at a post"] + kills["publishing"])
    finding.figures["killed"] = dict(kills) | {"runs": len(asked)}


def kill_one(system: System, fleet: Fleet, rng: Random, kills: Counter[str]) -> None:
    """Kill any process, or one that is at a post now, if there is such."""
    if rng.random() < 0.3:
        found = [(pid, "at random") for pid in fleet.signed_on()]
        rng.shuffle(found)
    else:
        found = [(pid, "publishing" if submitting else "at a post") for pid, submitting in system.rows(BUSY)]
    for pid, where in found[:1]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            kills[where] += 1


def decide_doubts(one: Player, until: float) -> None:
    """Let the processes look, thrice, for what is in doubt."""
    for _ in range(3):
        if not one.ask_again():
            return
        while one.looking() and time.monotonic() < until:
            one.hurry()
            time.sleep(0.1)


def quick(run: Run) -> Run:
    """The run as other processes can play it in a short time, all of them at once: each post must be found."""
    trick = run.trick
    if trick is not None and (trick.loses or trick.repeats or trick.name in UNHURRIED):
        trick = None
    return replace(run, trick=trick, cuts=(), acts=(), restored=False, twins=False)


def judge(finding: Finding, books: Books) -> None:
    finding.figures["statuses"] = dict(sorted(books.statuses.items()))
    finding.figures["not_published"] = dict(books.reasons.most_common(20))
    finding.figures["in_doubt"] = dict(books.doubts.most_common(12))
    finding.figures["struck"] = dict(sorted(books.struck.items()))
    finding.figures["faults"] = dict(Counter(fault.kind for fault in books.faults).most_common())
    finding.figures["each_fault"] = [f"{fault.kind}: {fault.text}" for fault in books.faults]
    finding.trials += sum(books.played.values())
    finding.doubled = sum(DOUBLED in fault.kind for fault in books.faults)
    finding.lost = len(books.faults) - finding.doubled
    for fault in books.faults[:SHOWN]:
        finding.expect(False, fault.text)
    more = len(books.faults) - SHOWN
    finding.expect(more <= 0, f"{more} more, in the report: {finding.figures['faults']}")


@contextmanager
def a_player(stage: Stage, number: int, sabotage: str = "") -> Iterator[Player]:
    with stage.servers.system(f"{stage.name}-{number}".lower()) as system, platforms() as found:
        with stage.servers.admin() as connection:
            # Processes die here, and Postgres does not.
            connection.execute(f"ALTER DATABASE {system.name} SET synchronous_commit = off")
        one = Player(system, found, number + 1, sabotage)
        try:
            yield one
        finally:
            one.close()
