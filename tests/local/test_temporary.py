"""Homes for one run: what dead runs left is removed, and nobody's in use."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from local.temporary import BEGINNING, LOCK, PREFIX, remove_left


def a_folder(parent: Path, name: str, *, lock: bool = True, age: float = 0) -> Path:
    folder = parent / f"{PREFIX}{name}"
    (folder / "home" / "media").mkdir(parents=True)
    (folder / "home" / "media" / "video.mp4").touch()
    if lock:
        (folder / LOCK).touch()
    at = time.time() - age
    os.utime(folder, (at, at))
    return folder


def test_what_dead_runs_left_goes_and_what_is_used_or_anothers_stays(tmp_path: Path) -> None:
    dead, used = a_folder(tmp_path, "dead"), a_folder(tmp_path, "used", age=9 * BEGINNING)
    young, old = a_folder(tmp_path, "young", lock=False), a_folder(tmp_path, "old", lock=False, age=2 * BEGINNING)
    elsewhere = a_folder(tmp_path / "elsewhere", "kept")
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(elsewhere)
    with open(used / LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_left(tmp_path)
    left = [folder for folder in (dead, used, young, old, link, elsewhere) if folder.exists()]
    assert left == [used, young, link, elsewhere]
    assert (used / "home" / "media" / "video.mp4").exists()
    remove_left(tmp_path)
    assert not used.exists()


def test_data_that_lies_elsewhere_goes_along(tmp_path: Path) -> None:
    folder, data = a_folder(tmp_path, "dead"), tmp_path / "viral-1" / "postgres"
    data.mkdir(parents=True)
    (folder / "home" / "postgres").symlink_to(data)
    remove_left(tmp_path)
    assert (folder.exists(), data.parent.exists()) == (False, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_is_another_users_stays(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, "theirs")
    os.chown(folder, 65534, 65534)
    remove_left(tmp_path)
    assert folder.exists()
