"""A folder: what a full or a read-only disk, a killed process and several processes at once do to it."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

from domain.videos.media import StoreFull, StoreUnavailable, object_key
from integrations.store.folder import FolderStore, in_words
from tests.wait import until

ROOT = Path(__file__).resolve().parents[3]
MP4 = "video/mp4"


def a_file(folder: Path, content: bytes) -> tuple[str, Path]:
    path = folder / f"{uuid4()}.mp4"
    path.write_bytes(content)
    return object_key(uuid4(), sha256(content).digest(), "mp4"), path


def files_of(store: FolderStore) -> list[str]:
    return sorted(str(each.relative_to(store.folder)) for each in store.folder.rglob("*") if each.is_file())


def test_what_a_job_makes_beside_the_store_is_not_copied_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "media", web="")
    folder = store.incoming() / "video-1"
    folder.mkdir()
    key, path = a_file(folder, b"drawn")
    store.put(key, path, content_type=MP4)
    assert (store.folder / key).stat().st_ino == path.stat().st_ino


def test_a_full_disk_is_told_and_keeps_no_half(small_disk: Path, tmp_path: Path) -> None:
    store = FolderStore(small_disk, web="")
    key, path = a_file(tmp_path, os.urandom(1024 * 1024))
    with pytest.raises(StoreUnavailable, match=r"the media store is full: there is no space left"):
        store.put(key, path, content_type=MP4)
    assert files_of(store) == []
    small, path = a_file(tmp_path, b"small")
    store.put(small, path, content_type=MP4)
    assert files_of(store) == [small]


def test_a_disk_without_room_says_how_much_is_left(small_disk: Path, tmp_path: Path) -> None:
    FolderStore(tmp_path / "media", web="").check_room(1024 * 1024)
    with pytest.raises(StoreFull, match=r"the media store is full: 0\.5 MB are left of 0\.5, and 81.0 are needed"):
        FolderStore(small_disk, web="").check_room(65_000_000)


def test_a_read_only_disk_is_told(small_disk: Path, tmp_path: Path) -> None:
    store = FolderStore(small_disk, web="")
    key, path = a_file(tmp_path, b"one")
    store.put(key, path, content_type=MP4)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    other, path = a_file(tmp_path, b"two")
    with pytest.raises(StoreUnavailable, match="the media store cannot be written: read-only"):
        store.put(other, path, content_type=MP4)
    with pytest.raises(StoreUnavailable):
        store.delete(key)
    assert b"".join(store.read(key, 0, 9)) == b"one"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOTDIR])
def test_every_error_of_a_disk_is_worth_another_try(code: int) -> None:
    with pytest.raises(StoreUnavailable) as raised, in_words():
        raise OSError(code, os.strerror(code), "/a/secret/path")
    assert ("is full" in str(raised.value)) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert "/a/secret" not in str(raised.value)


@pytest.mark.proof
def test_a_process_that_is_killed_in_the_middle_leaves_no_half_under_the_key(tmp_path: Path) -> None:
    """Killed after each of many moments; whatever is under the key then is whole."""
    content = os.urandom(30 * 1024 * 1024)
    key, path = a_file(tmp_path, content)
    store = FolderStore(tmp_path / "media", web="")
    program = f"""
        from pathlib import Path
        from integrations.store.folder import FolderStore
        print("begun", flush=True)
        FolderStore(Path({str(store.folder)!r}), web="").put({key!r}, Path({str(path)!r}), content_type="")
    """
    halves = 0
    for after in (0, 1, 1, 5, 10, 20, 29):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        until(lambda c=child, mb=after: c.poll() is not None or _written(store) >= mb << 20, "so much to be written")
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        halves += bool(_written(store))
        target = store.folder / key
        if target.exists():
            assert target.read_bytes() == content
            target.unlink()
        store.sweep(datetime.now(UTC) + timedelta(days=1))
        assert files_of(store) == []
    assert halves
    store.put(key, path, content_type=MP4)
    assert (store.folder / key).read_bytes() == content


def test_a_sweep_takes_the_folder_of_a_killed_job_with_all_that_is_in_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "media", web="")
    drawing = store.incoming() / "video-1" / ".storyboard-1"
    drawing.mkdir(parents=True)
    (drawing / "bed.pcm").write_bytes(bytes(100))
    now = datetime.now(UTC)
    assert store.sweep(now - timedelta(hours=1)) == 0
    assert store.sweep(now + timedelta(hours=1)) == 1
    assert list(store.incoming().iterdir()) == []


def _written(store: FolderStore) -> int:
    """Bytes that are on their way."""
    try:
        return sum(each.stat().st_size for each in store.incoming().iterdir())
    except (FileNotFoundError, StoreUnavailable):
        return 0


def test_many_processes_at_once_make_one_secret(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    program = f"""
        import sys
        from pathlib import Path
        from integrations.store.folder import FolderStore
        sys.stdin.readline()
        print(FolderStore(Path({str(folder)!r}), web="").secret().hex())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        printed = {secret for secret, _ in pool.map(lambda child: child.communicate("go\n"), children)}
    assert printed == {f"{(folder / '.secret').read_bytes().hex()}\n"}
    assert (folder / ".secret").stat().st_mode & 0o777 == 0o600
    assert len((folder / ".secret").read_bytes()) == 32
    with ThreadPoolExecutor(8) as pool:
        again = {pool.submit(FolderStore(tmp_path / "other", web="").secret) for _ in range(32)}
        assert len({each.result() for each in again}) == 1


def test_another_secret_takes_effect_at_once_and_one_that_is_none_is_refused(folder: FolderStore) -> None:
    key = object_key(uuid4(), bytes(32), "mp4")

    def asked() -> dict[str, str]:
        query = urlsplit(folder.address(key, lifetime=timedelta(hours=1))).query
        return {name: value for name, [value] in parse_qs(query).items()}

    old = asked()
    (folder.folder / ".secret").unlink()
    assert not folder.is_signed(key, **old)
    assert folder.is_signed(key, **asked())
    for content in (b"", b"short"):
        (folder.folder / ".secret").write_bytes(content)
        with pytest.raises(StoreUnavailable, match=r"\.secret holds no secret of 32 bytes"):
            folder.address(key, lifetime=timedelta(hours=1))


def test_addresses_of_one_hour_are_one(tmp_path: Path) -> None:
    """A cache in front finds the file again."""
    now = [7200.0]
    store = FolderStore(tmp_path / "media", web="", clock=lambda: now[0])
    key = object_key(uuid4(), bytes(32), "mp4")
    first = store.address(key, lifetime=timedelta(hours=1))
    assert "expires=10800&" in first
    now[0] += 1
    second = store.address(key, lifetime=timedelta(hours=1))
    now[0] += 3599
    assert second == store.address(key, lifetime=timedelta(hours=1)) != first


def test_an_address_is_good_for_one_key_and_one_time(folder: FolderStore) -> None:
    key = object_key(uuid4(), bytes(32), "mp4")
    address = urlsplit(folder.address(key, lifetime=timedelta(hours=1)))
    asked = {name: value for name, [value] in parse_qs(address.query).items()}
    assert address.path == f"/media/{key}"
    assert folder.is_signed(key, **asked)
    assert not folder.is_signed(key.replace(".mp4", ".mov"), **asked)
    assert not folder.is_signed(object_key(UUID(int=0), bytes(32), "mp4"), **asked)
    assert not folder.is_signed(key, str(int(asked["expires"]) + 1), asked["signature"])
    assert not folder.is_signed(key, asked["expires"], asked["signature"][:-1] + "é")
    other = FolderStore(folder.folder.parent / "other", web="")
    assert not other.is_signed(key, **asked)
