"""Files on their way to a store, of this machine."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from domain.videos.media import StoreUnavailable
from integrations.store.incoming import own_folder, sweep

FAR = datetime.now(UTC) + timedelta(days=1)


def name_of(above: Path) -> Path:
    return above / f"viral-incoming-{os.getuid()}"


def test_the_folder_is_made_once_and_nobody_else_looks_into_it(tmp_path: Path) -> None:
    assert own_folder(tmp_path) == own_folder(tmp_path) == name_of(tmp_path)
    assert name_of(tmp_path).stat().st_mode & 0o777 == 0o700


def a_link(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def of_somebody_else(path: Path) -> None:
    path.mkdir(mode=0o700)
    if os.getuid():
        pytest.skip("only root can give a folder away")
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize("made", [a_link, open_to_all, of_somebody_else, Path.touch])
def test_what_somebody_else_has_made_in_its_place_is_not_used(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(name_of(tmp_path))
    with pytest.raises(StoreUnavailable, match="is not a folder of our own"):
        own_folder(tmp_path)


def test_several_sweep_at_once_and_each_file_goes_once(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.part").touch()
        (tmp_path / f"{number}").mkdir()
    swept: list[int] = []
    threads = [Thread(target=lambda: swept.append(sweep(tmp_path, FAR))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(swept), list(tmp_path.iterdir())) == (6, [])
    assert sum(swept) >= 200


def test_what_is_young_stays_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "link").symlink_to(tmp_path / "kept")
    assert sweep(tmp_path / "incoming", datetime.now(UTC) - timedelta(hours=1)) == 0
    assert sweep(tmp_path / "incoming", FAR) == 1
    assert (tmp_path / "kept" / "file").exists()
