"""Files are kept and deleted by many at once; whatever happens, a stored row has its file."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from db.schema.videos import media, provider_jobs, videos
from db.transaction import SYSTEM
from domain.errors import StillUsed
from domain.videos.media import Media, MediaMissing, StoreUnavailable, object_key
from integrations.store.folder import FolderStore
from tests.builders import a_tenant, job_row
from workers.app import App
from workers.jobs import upkeep
from workers.jobs.media import discard, discard_unused, keep

DAY = timedelta(days=1)
Row = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "media", web="http://127.0.0.1")


@pytest.fixture
def app(app: App, store: FolderStore) -> App:
    return replace(app, ports=replace(app.ports, media=store))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a clip")
    return path


def kept(app: App, tenant_id: UUID, path: Path) -> Media:
    return keep(partial(app.db.transaction, tenant_id), app.ports.media, tenant_id, path, extension="mp4")


def discarded(app: App, file: Media) -> bool:
    return discard(partial(app.db.transaction, file.tenant_id), app.ports.media, file.tenant_id, file.id)


def rows(app: App) -> list[Row]:
    with app.db.transaction(SYSTEM) as tx:
        return [dict(row) for row in tx.sql.execute(select(media)).mappings()]


def is_there(store: FolderStore, row: Row) -> bool:
    key = object_key(row["tenant_id"], row["sha256"], row["extension"])
    try:
        store.open(key).file.close()
    except MediaMissing:
        return False
    return True


def without_their_file(app: App, store: FolderStore) -> list[Row]:
    return [row for row in rows(app) if row["stored_at"] is not None and not is_there(store, row)]


def a_video(app: App, tenant_id: UUID, **columns: Any) -> UUID:
    with app.db.transaction(tenant_id) as tx:
        statement = insert(videos).values(tenant_id=tenant_id, **columns).returning(videos.c.id)
        video_id: UUID = tx.sql.execute(statement).scalar_one()
    return video_id


def test_one_content_is_kept_once_for_each_tenant(app: App, store: FolderStore, path: Path) -> None:
    ada, bob = a_tenant(app), a_tenant(app)
    first, again, other = kept(app, ada, path), kept(app, ada, path), kept(app, bob, path)
    assert first.id == again.id != other.id
    assert first.sha256 == sha256(b"a clip").digest()
    assert discarded(app, first)
    assert is_there(store, next(row for row in rows(app) if row["tenant_id"] == bob))
    with app.db.transaction(bob) as tx:
        assert tx.media.get(ada, other.id) is tx.media.use(ada, other.id) is None
        assert [each.id for each in tx.media.stored(bob, limit=10)] == [other.id]


def test_what_the_store_has_lost_is_put_again_by_whoever_has_the_bytes(
    app: App, store: FolderStore, path: Path
) -> None:
    ada = a_tenant(app)
    first = kept(app, ada, path)
    store.delete(first.key)
    assert kept(app, ada, path).id == first.id
    assert without_their_file(app, store) == []


def test_what_is_used_or_in_the_making_is_not_deleted(app: App, path: Path) -> None:
    ada = a_tenant(app)
    file = kept(app, ada, path)
    shown = a_video(app, ada, thumbnail_id=file.id, status="failed")
    with pytest.raises(StillUsed):
        discarded(app, file)
    with app.db.transaction(ada) as tx:
        tx.sql.execute(update(videos).where(videos.c.id == shown).values(thumbnail_id=None, status="rendering"))
        clip = {"video_id": shown, "scene": 0, "attempt": 1, "provider": "runway", "model": "gen4.5", "resolution": "x"}
        more = {"prompt": "x", "seconds": 5, "month": "2026-11-01", "estimated_usd": 1, "state": "succeeded"}
        tx.sql.execute(insert(provider_jobs).values(tenant_id=ada, media_id=file.id, **clip, **more))
    with pytest.raises(StillUsed):
        discarded(app, file)
    with app.db.transaction(ada) as tx:
        tx.sql.execute(update(videos).where(videos.c.id == shown).values(status="completed"))
    assert discarded(app, file)
    assert rows(app) == []


class Interrupted(Exception):
    pass


class DyingStore(FolderStore):
    """A store whose process dies before or after an act: what follows is not done."""

    dies = ""

    def put(self, key: str, source: Path, *, content_type: str) -> None:
        self._die("before put")
        super().put(key, source, content_type=content_type)
        self._die("after put")

    def delete(self, key: str) -> None:
        self._die("before delete")
        super().delete(key)
        self._die("after delete")

    def _die(self, where: str) -> None:
        if self.dies == where:
            raise Interrupted


@pytest.mark.parametrize("dies", ["before put", "after put", "before delete", "after delete"])
def test_who_dies_anywhere_leaves_no_stored_row_without_its_file(
    app: App, tmp_path: Path, path: Path, dies: str
) -> None:
    store = DyingStore(tmp_path / "media", web="http://127.0.0.1")
    app = replace(app, ports=replace(app.ports, media=store))
    ada = a_tenant(app)
    store.dies = dies
    with pytest.raises(Interrupted):
        discarded(app, kept(app, ada, path))
    assert [row["stored_at"] for row in rows(app)] == [None]
    [left] = rows(app)
    with app.db.transaction(ada) as tx:
        assert tx.media.use(ada, left["id"]) is None
    store.dies = ""
    kept(app, ada, path)
    assert [is_there(store, row) for row in rows(app)] == [True]
    assert rows(app)[0]["stored_at"] is not None


def test_who_began_before_a_deletion_begins_again(app: App, tmp_path: Path, path: Path) -> None:
    """The object is put, then deleted by somebody else (who dies then), and only then marked."""
    ada = a_tenant(app)

    class Overtaken(DyingStore):
        overtaken = False

        def put(self, key: str, source: Path, *, content_type: str) -> None:
            super().put(key, source, content_type=content_type)
            if not self.overtaken:
                self.overtaken = True
                kept(app, ada, path)
                self.dies = "after delete"
                with pytest.raises(Interrupted):
                    discarded(app, kept(app, ada, path))
                self.dies = ""

    store = Overtaken(tmp_path / "media", web="http://127.0.0.1")
    app = replace(app, ports=replace(app.ports, media=store))
    kept(app, ada, path)
    assert store.overtaken
    assert [(row["stored_at"] is not None, is_there(store, row)) for row in rows(app)] == [(True, True)]


@pytest.mark.proof(but=["0"])
@pytest.mark.parametrize("seed", range(4))
def test_many_threads_store_use_and_delete_one_content(app: App, store: FolderStore, path: Path, seed: int) -> None:
    ada = a_tenant(app)
    begin = Barrier(8)
    odd: list[object] = []

    def act(number: int) -> None:
        rng = Random(seed * 100 + number)
        begin.wait()
        for _ in range(12):
            try:
                choice = rng.randrange(4)
                file = kept(app, ada, path) if choice < 2 else None
                if choice == 2:
                    for row in rows(app):
                        discard(
                            partial(app.db.transaction, ada), app.ports.media, ada, row["id"], unfinished_before=FAR
                        )
                elif choice == 3:
                    odd.extend(without_their_file_now(app, store, ada))
                elif file is not None and rng.random() < 0.1:
                    with app.db.transaction(ada) as tx:
                        if tx.media.use(ada, file.id) is not None:
                            tx.sql.execute(insert(videos).values(tenant_id=ada, media_id=file.id))
            except (StillUsed, StoreUnavailable):
                pass
            except Exception as error:
                odd.append(error)

    threads = [Thread(target=act, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert odd == []
    assert without_their_file(app, store) == []


FAR = datetime.fromisoformat("2100-01-01T00:00:00Z")


def without_their_file_now(app: App, store: FolderStore, tenant_id: UUID) -> list[Row]:
    """Look while others work: a row that is locked against deletion has its file if it is stored."""
    with app.db.transaction(tenant_id) as tx:
        found = tx.sql.execute(select(media).with_for_update()).mappings().all()
        return [dict(row) for row in found if row["stored_at"] is not None and not is_there(store, dict(row))]


# --- upkeep -------------------------------------------------------------------------------------------------


def test_upkeep_deletes_what_nothing_has_used_for_a_month(
    app: App, store: FolderStore, tmp_path: Path, drain: Callable[[], int]
) -> None:
    ada = a_tenant(app)
    files: dict[str, Media] = {}
    for name, days in (("old", 31), ("fresh", 29), ("used", 400), ("thumbnail", 400)):
        (tmp_path / name).write_text(name)
        files[name] = kept(app, ada, tmp_path / name)
        aged(app, files[name].id, days)
    a_video(app, ada, media_id=files["used"].id, thumbnail_id=files["thumbnail"].id, status="completed")
    with app.db.transaction(ada) as tx:
        never = tx.media.begin(ada, sha256=b"n" * 32, size=1, extension="mp4")
        coming = tx.media.begin(ada, sha256=b"c" * 32, size=1, extension="mp4")
    aged(app, never.id, 1.1)
    left = store.incoming() / "left.part"
    left.write_bytes(b"half")
    with app.db.transaction(SYSTEM) as tx:
        job_id = upkeep.media.enqueue(tx)
    drain()
    assert job_row(app, job_id)["result"] == {"deleted": 2, "left_on_the_way": 0}
    assert {row["id"] for row in rows(app)} == {files[name].id for name in ("fresh", "used", "thumbnail")} | {coming.id}
    assert without_their_file(app, store) == []
    assert not is_there(store, {"tenant_id": ada, "sha256": files["old"].sha256, "extension": "mp4"})
    assert left.exists()
    assert store.sweep(FAR) == 1


def aged(app: App, media_id: UUID, days: float) -> None:
    with app.db.transaction(SYSTEM) as tx:
        at = tx.now() - days * DAY
        tx.sql.execute(update(media).where(media.c.id == media_id).values(last_used_at=at))


def test_upkeep_leaves_what_came_into_use_since_it_was_found(app: App, store: FolderStore, path: Path) -> None:
    ada = a_tenant(app)
    file = kept(app, ada, path)
    aged(app, file.id, 31)
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        assert list(tx.media.unused(before=now, unfinished_before=now, limit=10)) == [(ada, file.id)]
    a_video(app, ada, media_id=file.id, status="completed")
    begin = partial(app.db.transaction, SYSTEM)
    assert not discard_unused(begin, store, ada, file.id, before=now, unfinished_before=now)
    assert [is_there(store, row) for row in rows(app)] == [True]
