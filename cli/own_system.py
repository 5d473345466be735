"""A whole system in a home of its own, with the outside simulated, as `viral dev loop` and `viral dev demo` run it.

Postgres and Redis, web, worker and scheduler are the product's own, as processes. Nothing of it meets a system that the
settings of this shell lead to.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import sample
from typing import TextIO

import typer

from cli.configuration import embedded_environment, resolve
from cli.processes import children, free_port
from db.migrate.upgrade import upgrade
from domain.errors import ViralError
from local.embedded import Embedded, start_embedded
from local.home import private_file
from local.spawn import LOOPBACK, answers
from local.supervisor import Supervisor
from local.temporary import temporary_home
from simulators.outside import Outside, outside
from web.server.listen import PortTaken
from workers.app import App, build
from workers.settings import Settings, load

LOG = "processes.log"
KEPT = frozenset({"FFMPEG_BIN", "FFPROBE_BIN", "FONTS_DIR", "POSTGRES_BIN", "LOG_LEVEL"})
"""Settings of this shell that such a system heeds. The others lead to what is somebody's own."""
LAST_LINES = 20
QUIET = range(18_000, 32_000)
"""Ports below those that systems give away by themselves."""
INTERRUPTED = 130
"""What a shell says of a program that Ctrl-C has ended."""


class RunFailed(ViralError):
    """What the system was started for came to no end."""


class RunStopped(Exception):
    """Whoever started it has stopped it."""


@dataclass(frozen=True)
class OwnSystem:
    """Servers that run, with the schema in them; `settings` and `environment` are of the processes to come."""

    settings: Settings
    environment: Mapping[str, str]
    embedded: Embedded
    played: Outside
    log: TextIO

    def run(self, name: str, work: Callable[[App, threading.Event], None], *, pool_size: int = 2) -> bool:
        """Keep the processes running while `work` is done, on a thread of its own, with what is set when somebody stops
        it. False: it was stopped by a signal.

        Raises:
            RunFailed: `work` raised an error of ours, or a process does not keep running; with their last lines.
        """
        stopped, ended = threading.Event(), threading.Event()
        failed: list[BaseException] = []
        supervisor = Supervisor(
            children(self.settings, self.environment, foreign_database=False),
            out=self.log,
            on_exit=self.embedded.restart_dead,
            on_children=lambda found: self.embedded.record(children=found),
            ready=lambda: answers(self.settings.port, LOOPBACK),
            on_stop=stopped.set,
        )

        def begin() -> None:
            try:
                with closing(build(resolve()[0], name=name, pool_size=pool_size)) as app:
                    work(app, stopped)
                ended.set()
            except RunStopped:
                pass
            except BaseException as error:
                if not stopped.is_set():  # what it worked with may be gone
                    failed.append(error)
            finally:
                supervisor.stop()

        worker = threading.Thread(target=begin, name="work")
        code = supervisor.run(worker.start)
        if worker.ident is not None:
            worker.join()
        if ended.is_set():
            return True
        if failed and not isinstance(failed[0], ViralError):
            raise failed[0]
        if failed or code:
            says = failed[0] if failed else "a process does not keep running"
            raise RunFailed(f"{says}\n{_last_lines(self.settings.viral_home / LOG)}")
        return False


@contextmanager
def own_system(home: Path, *, seed: int, durable: bool, port: int = 0, inhabited: bool = False) -> Iterator[OwnSystem]:
    """Start the servers in this home, and simulate what is outside. For the main thread (see `local.spawn`); it changes
    this process's environment. `port` is that of the web process (0: any); with `inhabited` language models and people
    who are notified are simulated too.

    Raises:
        EmbeddedError: the servers cannot run here.
        PortTaken: another program listens on the port.
    """
    settings = _own_settings(home, port)
    with (
        start_embedded(home, bin_dir=settings.postgres_bin, persist=durable) as embedded,
        outside(trends=True, models=inhabited, people=inhabited, seed=seed) as played,
        private_file(home / LOG) as log,
    ):
        os.environ.update(played.settings)
        environment = os.environ | embedded_environment(load(), embedded.urls)
        settings = load(environment)
        upgrade(settings.owner_url)
        embedded.record(web_url=settings.web_url, simulated=played.settings)
        yield OwnSystem(settings, environment, embedded, played, log)


def _own_settings(home: Path, port: int) -> Settings:
    """Take every setting but a few out of this process's environment: nothing of it meets what others lead to."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields and name.upper() not in KEPT:
            del os.environ[name]
    os.environ |= {"VIRAL_HOME": str(home), "LOG_FORMAT": "console", "WORKER_PROCESSES": "1"}
    os.environ |= {"WORKER_GRACE_SECONDS": "2"}  # whoever stops it does not wait for a video
    os.environ |= {"HOST": LOOPBACK, "PORT": str(free_port(LOOPBACK, port) if port else _quiet_port())}
    return load()


def _quiet_port() -> int:
    """Return a free port that no program is given which asks for any: until the web process listens, the simulators
    and others open many."""
    for wanted in sample(QUIET, len(QUIET)):
        with suppress(PortTaken):
            return free_port(LOOPBACK, wanted)
    return free_port(LOOPBACK)


def _last_lines(log: Path) -> str:
    written = log.read_text(errors="replace").splitlines()
    return "\n".join(["The last lines of the processes:", *written[-LAST_LINES:]])


def since(began: float) -> float:
    """Return the seconds since then, by the monotonic clock."""
    return round(time.monotonic() - began, 2)


@contextmanager
def own_home(kept: Path | None) -> Iterator[Path]:
    """Return a folder for a system: the one to keep, or one that is removed at the end, whatever happens.

    Raises:
        typer.BadParameter: there is something in the one to keep.
    """
    if kept is not None:
        if kept.exists() and (not kept.is_dir() or any(kept.iterdir())):
            raise typer.BadParameter(
                f"{kept} is there already, and the posts of another run would be on platforms that are gone:"
                " name a new folder",
                param_hint="--home",
            )
        yield kept.absolute()
        return
    with temporary_home() as home:
        yield home


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end it as Ctrl-C does, so that nothing is left behind."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
