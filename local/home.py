"""VIRAL_HOME holds, besides data, the passwords, the lock of the one `viral up`, and what a second shell has to know.

postgres/  redis/     data            secrets.json    passwords, kept as long as the data
postgres.log  .log    of this run     state.json      of the running `viral up`; gone when it stops
simulated.json        if all data are made up (`viral dev demo`)
                                      lock            held by it (an flock: a file left behind means nothing)
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from local.spawn import EmbeddedError, answers

ROLES = ("postgres", "viral_owner", "viral_app", "redis")


@dataclass(frozen=True)
class EmbeddedUrls:
    """An empty URL: that server is not embedded."""

    database_url: str = ""  # role viral_owner: owns the database, may create roles and databases; no superuser
    app_database_url: str = ""  # role viral_app: owns nothing, cannot bypass row-level security
    redis_url: str = ""


@dataclass(frozen=True)
class ChildRecord:
    name: str
    pid: int  # also the number of its process group
    argv: Sequence[str]


@dataclass(frozen=True)
class State:
    pid: int  # of `viral up`
    started_at: datetime
    urls: EmbeddedUrls = EmbeddedUrls()
    web_url: str = ""  # empty until the web process is up
    children: Sequence[ChildRecord] = field(default=())
    simulated: Mapping[str, str] = field(default_factory=dict)
    """Settings that lead to what `viral up --simulators` plays; no secrets."""


def read_state(home: Path) -> State | None:
    """Read what `viral up` runs on this home; None if nothing runs, or not all of it answers (yet)."""
    try:
        with open(home / "lock", encoding="utf-8") as lock:
            if not is_locked(lock.fileno()):
                return None
            holder = lock.read().strip()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise belongs_to_another(home) from error
    state = last_state(home)
    if state is None or str(state.pid) != holder:
        return None
    ports = [urlsplit(url).port for url in (state.urls.database_url, state.urls.redis_url) if url]
    return state if all(port and answers(port) for port in ports) else None


def last_state(home: Path) -> State | None:
    """Read what an earlier or the present run wrote down, true or not (any more)."""
    try:
        raw = json.loads((home / "state.json").read_text(encoding="utf-8"))
        return State(
            pid=int(raw["pid"]),
            started_at=datetime.fromisoformat(raw["started_at"]),
            urls=EmbeddedUrls(**raw["urls"]),
            web_url=raw["web_url"],
            children=[ChildRecord(**child) for child in raw["children"]],
            simulated=dict(raw.get("simulated", {})),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def new_state() -> State:
    return State(os.getpid(), datetime.now(UTC))


def write_state(home: Path, state: State) -> None:
    write_private(home / "state.json", asdict(state) | {"started_at": state.started_at.isoformat()})


def forget_state(home: Path) -> None:
    (home / "state.json").unlink(missing_ok=True)


def passwords(home: Path) -> dict[str, str]:
    """Read the passwords of the roles and of Redis, made at first use. None needs quoting in a URL."""
    path = home / "secrets.json"
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        found = {role: secrets.token_urlsafe(24) for role in ROLES}
        write_private(path, found)
    except PermissionError as error:
        raise belongs_to_another(home) from error
    except ValueError as error:
        raise EmbeddedError(f"{path} is damaged: restore it, or move {home} away to start empty.") from error
    if missing := [role for role in ROLES if role not in found]:
        raise EmbeddedError(f"{path} lacks {', '.join(missing)}: restore it, or move {home} away to start empty.")
    return found


SIMULATED = "simulated.json"
"""In a home whose data are made up; kept as long as they are."""


def mark_simulated(home: Path) -> None:
    """Write down that all data of this home are simulated, so that whatever shows them says so."""
    make_home(home)
    write_private(home / SIMULATED, {"simulated": True})


def is_simulated(home: Path) -> bool:
    return (home / SIMULATED).is_file()


def write_private(path: Path, content: object) -> None:
    """Write the file whole or not at all, readable for nobody else."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with private_file(draft) as file:
        json.dump(content, file, indent=1)
    draft.replace(path)


def private_file(path: Path) -> TextIO:
    """An empty file to write to, closed to others."""
    return open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8")


def make_home(home: Path) -> None:
    """Make the folder, closed to others. Root's lets others pass (not look): Postgres has to run as another user."""
    if home.is_dir():
        return
    try:
        home.mkdir(parents=True, exist_ok=True)  # another process may begin here at the same moment
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise EmbeddedError(
            f"The folder {home} cannot be created ({error.strerror}): choose another with --home or VIRAL_HOME."
        ) from error


@contextlib.contextmanager
def locked(home: Path, patience: float = 0.5) -> Iterator[None]:
    """Be the only `viral up` on this home. `patience` (seconds) outlasts a `read_state` that looks at this moment."""
    try:
        lock = os.open(home / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except PermissionError as error:
        raise belongs_to_another(home) from error
    try:
        deadline = time.monotonic() + patience
        while not try_lock(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise already_running(home)
            time.sleep(0.02)
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def is_locked(file: int) -> bool:
    if try_lock(file, fcntl.LOCK_SH):
        fcntl.flock(file, fcntl.LOCK_UN)
        return False
    return True


def try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise EmbeddedError(
            f"This file system cannot lock files ({error.strerror}): put VIRAL_HOME elsewhere."
        ) from error
    return True


def already_running(home: Path) -> EmbeddedError:
    pid = (home / "lock").read_text(encoding="utf-8").strip() or "unknown"
    state = last_state(home)
    web = f" at {state.web_url}" if state is not None and str(state.pid) == pid and state.web_url else ""
    return EmbeddedError(
        f"`viral up` is already running on {home} (pid {pid}){web}: use it, stop it, or choose another --home."
    )


def belongs_to_another(home: Path) -> EmbeddedError:
    return EmbeddedError(f"{home} was used by another user: run as that user, or choose another folder with --home.")
