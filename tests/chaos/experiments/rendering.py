"""R17: videos are bought of providers that fail in every way, by processes that die at every moment; then the
providers' bill is held against our books."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import psutil

from domain.errors import ViralError
from tests.builders import a_tenant
from tests.chaos import cuts
from tests.chaos.fleet import FAST, fleet_of
from tests.chaos.renders import (
    PROVIDERS,
    Books,
    Player,
    Providers,
    QuickStudio,
    a_clip,
    compare,
    decide,
    providers,
    runs,
)
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage
from tests.wait import until

PLAYERS = 3
RUNS_OF_A_TENANT = 20
KILLED_RUNS, KILLS, KILLED_SECONDS = 8, 20, 150
UNHURRIED = ("limited", "never ends")
"""Tricks that take real time where processes have a real clock."""
HURRY = """
UPDATE job_queue SET scheduled_for = now(), wake_at = now()
WHERE status = 'pending' AND job_type LIKE 'videos.%' AND scheduled_for > now() + interval '0.3 s'
"""


def rendering(stage: Stage, finding: Finding) -> None:
    """R17."""
    rng = stage.rng()
    with stage.servers.system(stage.name) as system:
        film = a_clip(system.folder)
        media = system.folder / "media"
        with cuts.installed(), ExitStack() as stack:
            played = [
                stack.enter_context(player(system, film, media, stage.sabotage))
                for _ in range(stage.size(PLAYERS, PLAYERS - 1))
            ]
            cut_off(stage, finding, system, played, media, rng)
            left = [path.name for path in played[0].app.ports.media.incoming().iterdir()]
            finding.expect(not left, f"temporary files are left: {left[:5]}")
    if stage.full and not stage.sabotage:
        with stage.servers.system(f"{stage.name}-killed") as system:
            killed(stage, finding, system, film, rng)
    finding.expect(not encoders(), f"ffmpeg is left: {encoders()}")


def cut_off(
    stage: Stage, finding: Finding, system: System, players: Sequence[Player], media: Path, rng: Random
) -> None:
    """Runs of every kind in this process, whose attempts are cut off at chosen moments."""
    wanted = 12 if stage.sabotage else stage.size(600, 8)
    tenants = [a_tenant(system.app, subscription_tier="AGENCY") for _ in range(1 + 3 * wanted // RUNS_OF_A_TENANT)]
    planned = [run for provider in PROVIDERS for run in runs(rng, tenants, provider, wanted)]
    rng.shuffle(planned)
    left = planned[::-1]
    failures: list[BaseException] = []

    def play(one: Player) -> None:
        while left and not failures and stage.left() > 30:
            with suppress(IndexError):
                run = left.pop()
                try:
                    one.play(run)
                except ViralError as error:
                    one.stuck.append(f"run {run.id}: {type(error).__name__}: {error}")
                except BaseException as error:
                    failures.append(error)

    threads = [threading.Thread(target=play, args=(each,)) for each in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    books = judge(finding, "cut off", system, players, media)
    struck = sum((each.struck for each in players), Counter[str]())
    for where in sorted(struck):
        finding.figures.setdefault("struck", {})[where] = struck[where]
    finding.saw("processes cut off", sum(n for where, n in struck.items() if where.startswith("cut")))
    finding.saw("cancelled by the user", sum(n for where, n in struck.items() if where.startswith("user")))
    for provider in PROVIDERS:
        count = sum(run.provider == provider and run.id in each.videos for run in planned for each in players)
        finding.saw(f"faulted runs of {provider}", count, least=wanted // 2 if wanted < 100 else 500)
    finding.trials += books.runs
    decisions = Counter[str]()
    for each in players:
        decisions += decide(each, list(each.outside.orders()))
    finding.figures["decided"] = dict(decisions)
    books = judge(finding, "decided", system, players, media)
    finding.expect(not books.open, f"after a person has decided, there are still {dict(books.open)}")


def killed(stage: Stage, finding: Finding, system: System, film: bytes, rng: Random) -> None:
    """Real worker processes with the real studio, killed at random while they buy, copy and draw."""
    with providers(film) as outside, a_fleet(system, outside) as (fleet, media):
        one = Player(system, outside, QuickStudio(film), media)
        tenants = [a_tenant(system.app, subscription_tier="AGENCY") for _ in range(6)]
        planned = [run for provider in PROVIDERS for run in runs(rng, tenants, provider, KILLED_RUNS)]
        for simulator in outside.simulators.values():
            tricks = [trick for run in planned for trick in run.tricks if trick not in UNHURRIED]
            simulator.misbehave(*tricks)
        for run in planned:
            one.request(run)
        kills, deadline = 0, time.monotonic() + KILLED_SECONDS
        while system.value(UNFINISHED) and time.monotonic() < deadline:
            system.rows(HURRY)
            if kills < KILLS and rng.random() < 0.15 and (victims := fleet.signed_on()):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    kills += 1
            fleet.restart_fallen()
            time.sleep(0.3)
        finding.saw("worker processes killed", kills, least=KILLS // 2)
        finding.expect(not system.value(UNFINISHED), f"{system.value(UNFINISHED)} jobs are not finished")
        fleet.end()
        until(lambda: not encoders(), "every ffmpeg to be gone", seconds=5)
        judge(finding, "killed", system, [one], media)
        # What a killed process had under way is deleted by `upkeep.media`, when it is old.
        store = one.app.ports.media
        finding.figures["files_left_by_kills"] = len(list(store.incoming().iterdir()))
        store.sweep(datetime.now(UTC) + timedelta(minutes=1))
        finding.expect(not list(store.incoming().iterdir()), "upkeep.media would leave temporary files")
        finding.trials += len(planned)
        one.close()


UNFINISHED = "SELECT count(*) FROM job_queue WHERE job_type LIKE 'videos.%' AND status IN ('pending', 'running')"


def judge(finding: Finding, part: str, system: System, players: Sequence[Player], media: Path) -> Books:
    played: dict[UUID, UUID] = {}
    posts: dict[UUID, int] = {}
    for each in players:
        played |= each.videos
        posts |= each.posts
    books = compare(system, played, posts, [order for each in players for order in each.outside.orders()], media)
    stuck = [what for each in players for what in each.stuck]
    finding.figures[part] = {
        "runs": books.runs,
        "orders": books.orders,
        "submissions": dict(books.states),
        "videos": dict(books.statuses),
        "refused": [
            " ".join(map(str, row))
            for row in system.rows(
                "SELECT provider, error_code, left(error_message, 90), count(*) FROM provider_jobs "
                "WHERE state = 'refused' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 8"
            )
        ],
        "faults": [*books.faults, *stuck][:20],
    }
    finding.lost = (finding.lost or 0) + len(stuck)
    finding.doubled = (finding.doubled or 0) + len(books.faults)
    for fault in [*books.faults, *stuck][:5]:
        finding.expect(False, f"{part}: {fault}")
    return books


@contextmanager
def player(system: System, film: bytes, media: Path, sabotage: str) -> Iterator[Player]:
    with providers(film) as outside:
        one = Player(system, outside, QuickStudio(film), media, sabotage)
        try:
            yield one
        finally:
            one.close()


@contextmanager
def a_fleet(system: System, outside: Providers) -> Iterator[tuple["object", Path]]:
    media = system.folder / "media"
    media.mkdir(exist_ok=True)
    environment = outside.environment | {"MEDIA_DIR": str(media)} | FAST
    with fleet_of(system, **environment) as fleet:
        fleet.workers(3, threads=4)
        yield fleet, media


def encoders() -> list[str]:
    """Command lines of the ffmpegs that this process or one of its descendants started, or that nobody owns."""
    return [
        " ".join(process.info["cmdline"] or ())[:200]
        for process in psutil.process_iter(["name", "cmdline", "ppid"])
        if "ffmpeg" in (process.info["name"] or "") and (process.info["ppid"] == 1 or _descends(process))
    ]


def _descends(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return os.getpid() in [parent.pid for parent in process.parents()]
    return False
