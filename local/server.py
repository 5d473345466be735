"""The part that both embedded servers share: a process on a port of 127.0.0.1 which ends when ours does."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from local.home import make_home
from local.spawn import EmbeddedError, check_loopback, end, end_orphan, free_port, fresh_log, tail

READY_WITHIN = 60.0
"""Seconds; crash recovery of a big database, or loading a long append-only file, takes a while."""
PORT_PATIENCE = 1.0
"""Seconds that a server which may not choose another port waits for its own."""


class EmbeddedServer(ABC):
    """A server whose data is in a folder of `home`. Whoever starts it makes sure that nobody else does on the same home
    (`start_embedded` holds a lock). It takes the port that it used last if that is free; once started, the port never
    changes."""

    title: ClassVar[str]
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    """The signals that stop it, gentlest first, each with the seconds that it may take."""
    port_taken: ClassVar[str]
    """The words of its log when somebody else uses the port."""

    def __init__(self, home: Path, log: str, port: int | None) -> None:
        self.home = home.absolute()
        self._log = self.home / log
        self._port = port
        self._pinned = port is not None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            raise EmbeddedError(f"{self.title} has not been started.")
        return self._port

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            EmbeddedError: it cannot run, and nothing of it is left.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Begin to start, so that another server can start meanwhile; `wait_until_ready` has to follow."""
        check_loopback()
        make_home(self.home)
        self._prepare()
        self._spawn()

    def wait_until_ready(self) -> None:
        began = time.monotonic()
        try:
            while not self._is_ready():
                waited = time.monotonic() - began
                if waited > READY_WITHIN:
                    raise self._error("was not ready in time")
                if self.alive():
                    time.sleep(0.005)
                else:
                    self._start_again(waited)
        except BaseException:
            self.stop()
            raise
        self._pinned = True

    def stop(self) -> None:
        """Everything that was written before is on disk when this returns."""
        if self._process is not None:
            end(self._process, *self.stop_signals)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop_orphan(self) -> int | None:
        """Stop the server that an earlier run left on this data folder and return its pid; None if there is none."""
        pid = self._orphan()
        if pid is not None and not end_orphan(pid, *self.stop_signals, (signal.SIGKILL, 5.0)):
            raise EmbeddedError(f"A {self.title} of an earlier run (pid {pid}) does not stop: stop it, then try again.")
        return pid

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data folder if there is none, and refuse one on which the server cannot run."""

    @abstractmethod
    def _start_process(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server that answers is this one and serves."""

    @abstractmethod
    def _orphan(self) -> int | None:
        """The pid of a server that still runs on this data folder, started by an earlier run."""

    @abstractmethod
    def _last_port(self) -> int | None: ...

    def _waits_for_predecessor(self, log: str) -> bool:
        """Whether it ended because a killed predecessor is not quite gone yet."""
        return False

    def _spawn(self) -> None:
        port = self.port if self._pinned else free_port(self._port or self._last_port())
        with fresh_log(self._log) as log:
            self._process = self._start_process(port, log)
        self._port = port

    def _start_again(self, waited: float) -> None:
        """Spawn the process once more if what ended it may pass."""
        log = self._log.read_text(errors="replace")
        if self.port_taken in log:
            if self._pinned and waited > PORT_PATIENCE:
                raise self._error(f"needs port {self._port}, which somebody else uses")
        elif not self._waits_for_predecessor(log):
            raise self._error("did not start")
        time.sleep(0.05)
        self._spawn()

    def _error(self, problem: str) -> EmbeddedError:
        return EmbeddedError(f"The embedded {self.title} {problem}; its log ({self._log}) ends: {tail(self._log)}")


def in_wheel(package: str, pattern: str) -> Path | None:
    """The first path in an installed package that fits. The package is not imported: that reads the environment and can
    fail."""
    spec = find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((path for folder in folders for path in sorted(Path(folder).glob(pattern))), None)
