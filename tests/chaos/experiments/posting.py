"""R16: posts to platforms that fail in every way, by processes that die at every moment; then what people see there is
held against our rows."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from domain.errors import ViralError
from tests.chaos import cuts
from tests.chaos.post_runs import Run, runs
from tests.chaos.posts import Books, Player, platforms
from tests.chaos.report import Finding
from tests.chaos.stage import Stage

PLAYERS = 4
RUNS, SLICE_RUNS, SABOTAGED_RUNS = 520, 3, 16


def posting(stage: Stage, finding: Finding) -> None:
    """R16."""
    rng = stage.rng()
    wanted = SABOTAGED_RUNS if stage.sabotage else stage.size(RUNS, SLICE_RUNS)
    books = Books()
    with cuts.installed(), ExitStack() as stack:
        players = [stack.enter_context(a_player(stage, number)) for number in range(stage.size(PLAYERS, 1))]
        calls = {name: each.calls for name, each in players[0].stage.platforms.items()}
        planned = [run for name in calls for run in runs(rng, name, calls[name], wanted)]
        rng.shuffle(planned)
        play_all(stage, players, planned)
        for each in players:
            books.add(each)
    judge(finding, books, wanted)


def play_all(stage: Stage, players: list[Player], planned: list[Run]) -> None:
    left = planned[::-1]
    failures: list[BaseException] = []

    def play(one: Player) -> None:
        while left and not failures and stage.left() > 20:
            try:
                run = left.pop()
            except IndexError:
                return
            try:
                one.play(run)
            except ViralError as error:
                one.faults.append(f"{type(error).__name__}: {error}. {run.words}")
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


def judge(finding: Finding, books: Books, wanted: int) -> None:
    for name, count in sorted(books.played.items()):
        finding.saw(f"runs on {name}", count, least=wanted if wanted < 100 else 500)
    finding.saw("processes cut off", sum(n for where, n in books.struck.items() if where.startswith("cut")))
    finding.saw("databases put back", books.struck["database put back"])
    finding.figures["statuses"] = dict(sorted(books.statuses.items()))
    finding.figures["not_published"] = dict(books.reasons.most_common(20))
    finding.figures["in_doubt"] = dict(books.doubts.most_common(12))
    finding.figures["struck"] = dict(sorted(books.struck.items()))
    finding.trials += sum(books.played.values())
    finding.doubled = sum("times" in fault for fault in books.faults)
    finding.lost = len(books.faults) - finding.doubled
    for fault in books.faults[:8]:
        finding.expect(False, fault)


@contextmanager
def a_player(stage: Stage, number: int) -> Iterator[Player]:
    with stage.servers.system(f"{stage.name}-{number}".lower()) as system, platforms() as found:
        with stage.servers.admin() as connection:
            # Processes die here, and Postgres does not.
            connection.execute(f"ALTER DATABASE {system.name} SET synchronous_commit = off")
        one = Player(system, found, number + 1, stage.sabotage)
        try:
            yield one
        finally:
            one.close()
