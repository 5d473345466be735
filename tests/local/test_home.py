"""The folder of `viral up`, made by whoever comes first."""

import threading
from pathlib import Path

import pytest

from local.home import make_home
from local.spawn import EmbeddedError


def test_many_make_one_home_at_once(tmp_path: Path) -> None:
    for number in range(40):
        home, gate, failed = tmp_path / str(number) / "home", threading.Barrier(8), []

        def make(home: Path = home, gate: threading.Barrier = gate, failed: list[Exception] = failed) -> None:
            gate.wait(10)
            try:
                make_home(home)
            except EmbeddedError as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert failed == []
        assert home.is_dir()


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(EmbeddedError, match="cannot be created"):
        make_home(tmp_path / "home")
