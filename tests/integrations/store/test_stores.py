"""What both kinds of store promise, held on both."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from domain.ports import MediaStore
from domain.videos.media import MediaMissing, StoreUnavailable, object_key
from tests.wait import until

MP4 = "video/mp4"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> MediaStore:
    made: MediaStore = request.getfixturevalue(request.param)
    return made


def a_file(folder: Path, content: bytes) -> tuple[str, Path]:
    """A key of a new tenant, and a file of this content."""
    path = folder / f"{uuid4()}.mp4"
    path.write_bytes(content)
    return object_key(uuid4(), sha256(content).digest(), "mp4"), path


def whole(store: MediaStore, key: str) -> bytes:
    return b"".join(store.read(key, 0, 1 << 40))


def keeps(store: MediaStore, key: str, path: Path) -> bool:
    """Put the file, and return whether it is there as it is; False while the server is slow."""
    try:
        store.put(key, path, content_type=MP4)
        return whole(store, key) == path.read_bytes()
    except StoreUnavailable:
        return False


@pytest.mark.parametrize("size", [0, 1, 100_000, 20 * 1024 * 1024 + 1])
def test_what_is_put_is_read_again_whole_and_in_parts(store: MediaStore, tmp_path: Path, size: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    key, path = a_file(tmp_path, content)
    seen: list[float] = []
    store.put(key, path, content_type=MP4)
    store.get(key, tmp_path / "copy", watch=seen.append)
    assert (tmp_path / "copy").read_bytes() == content
    assert path.read_bytes() == content
    assert seen == sorted(seen)
    assert size == 0 or seen[-1] == 1
    if size > 100:
        assert b"".join(store.read(key, 7, 99)) == content[7:99]


def test_a_file_may_be_put_twice_and_deleted_twice(store: MediaStore, tmp_path: Path) -> None:
    key, path = a_file(tmp_path, b"one")
    for _ in range(2):
        store.put(key, path, content_type=MP4)
    assert store.has(key)
    for _ in range(2):
        store.delete(key)
    assert not store.has(key)
    with pytest.raises(MediaMissing):
        store.get(key, tmp_path / "copy", watch=lambda done: None)


def test_a_file_from_the_incoming_folder_is_kept_too(store: MediaStore) -> None:
    key, path = a_file(store.incoming(), b"two")
    store.put(key, path, content_type=MP4)
    path.unlink()
    assert whole(store, key) == b"two"


SOMEBODY = "01937f3c-5a30-7cc0-8f2e-0d9b0e4f6a11"


@pytest.mark.parametrize(
    "key", ["../x.mp4", "/etc/passwd", f"{SOMEBODY}/x.mp4", f"{SOMEBODY}/{'0' * 64}.exe", ".secret"]
)
def test_nothing_but_keys_is_opened(store: MediaStore, tmp_path: Path, key: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: store.put(key, tmp_path, content_type=MP4),
        lambda: whole(store, key),
        lambda: store.delete(key),
    ]
    for act in acts:
        with pytest.raises(MediaMissing):
            act()


def test_many_threads_put_one_content_while_others_delete_it_and_no_half_is_ever_read(
    store: MediaStore, tmp_path: Path
) -> None:
    content = b"x" * 300_000
    key, path = a_file(tmp_path, content)
    odd: list[object] = []
    read: set[str] = set()

    def act(number: int) -> None:
        for _ in range(5):
            try:
                if number % 4 == 3:
                    store.delete(key)
                else:
                    store.put(key, path, content_type=MP4)
                    read.add(sha256(whole(store, key)).hexdigest())
            except (MediaMissing, StoreUnavailable):
                pass  # deleted meanwhile; or the server is slower than one may wait for it
            except Exception as error:
                odd.append(error)

    threads = [Thread(target=act, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    until(lambda: keeps(store, key, path), "the store to keep the file")
    assert (odd, read) == ([], {sha256(content).hexdigest()})
