"""Files on their way to a store: the folder of this machine for them, and what killed processes left there."""

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from domain.videos.media import StoreUnavailable


def own_folder(above: Path | None = None) -> Path:
    """Return a folder among the temporary files of this machine that nobody else can look into.

    Raises:
        StoreUnavailable: somebody else has made what has its name; it is not used.
        OSError: it cannot be made.
    """
    folder = (above or Path(tempfile.gettempdir())) / f"viral-incoming-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StoreUnavailable(
            f"{folder} is not a folder of our own that others cannot open: delete it, or set TMPDIR to another folder"
        )
    return folder


def sweep(folder: Path, before: datetime) -> int:
    """Delete what lies in the folder since before then, and return how many files that was. Another process may be
    doing the same, and files may arrive meanwhile."""
    swept = 0
    for left in folder.iterdir():
        with suppress(FileNotFoundError):
            if left.lstat().st_mtime < before.timestamp():
                shutil.rmtree(left) if stat.S_ISDIR(left.lstat().st_mode) else left.unlink()
                swept += 1
    return swept
