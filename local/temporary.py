"""A home that is gone after its run, however that ends: what a killed one leaves is removed by the next."""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.embedded import without_interrupts
from local.home import is_locked, try_lock

PREFIX = "viral-loop-"
LOCK = "run.lock"
"""Held (an flock) as long as the run lives; the kernel lets go of it when the run is killed."""
BEGINNING = 60.0
"""Seconds in which a folder may have no lock yet."""


@contextmanager
def temporary_home() -> Iterator[Path]:
    """Return a home that does not exist yet, in a folder that is removed at the end; remove those of dead runs."""
    remove_left(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with open(folder / LOCK, "wb") as lock:
            try_lock(lock.fileno(), fcntl.LOCK_EX)
            if os.geteuid() == 0:
                folder.chmod(0o711)  # Postgres runs as another user, and has to pass
            yield folder / "home"
    finally:
        with without_interrupts():
            _remove(folder)


def remove_left(parent: Path) -> None:
    """Remove the folders that dead runs of this user have left in `parent`; one in use is never touched."""
    for folder in sorted(parent.glob(f"{PREFIX}*")):
        try:
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not _is_used(folder, found.st_mtime):
                _remove(folder)
        except OSError:  # another run is just removing it
            continue


def _is_used(folder: Path, changed_at: float) -> bool:
    try:
        with open(folder / LOCK, "rb") as lock:
            return is_locked(lock.fileno())
    except FileNotFoundError:
        return time.time() < changed_at + BEGINNING


def _remove(folder: Path) -> None:
    data = folder / "home" / "postgres"
    if data.is_symlink():  # where Postgres cannot reach it here (`local/privileges.py`)
        shutil.rmtree(data.resolve().parent, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
