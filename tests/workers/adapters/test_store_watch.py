"""Processes that do not see one folder are found out, and those that do are not."""

import os
import subprocess
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from sqlalchemy import update

from db.schema.ops import store_views
from db.transaction import SYSTEM
from integrations.store.folder import FolderStore
from integrations.store.incoming import own_folder
from tests.builders import a_tenant
from tests.integrations.store.conftest import small_disk
from tests.wait import until
from workers.adapters.store_watch import StoreWatch, divided
from workers.app import App
from workers.jobs.media import keep
from workers.ops.doctor import examine
from workers.settings import Settings

__all__ = ["small_disk"]

ONE = "media store of all processes"


def a_watch(app: App, folder: Path | None, role: str, store: str = "") -> StoreWatch:
    kept = FolderStore(folder, web="http://127.0.0.1") if folder else None
    return StoreWatch(app.db, kept, store=store or f"folder {folder}", role=role, interval=timedelta(milliseconds=50))


def looked(app: App, *watches: StoreWatch) -> list[str]:
    """Let each look twice, and compare; all of them started a while ago."""
    for _ in range(2):
        for each in watches:
            each.look()
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(update(store_views).values(started_at=tx.now() - timedelta(minutes=1)))
    with app.db.transaction(SYSTEM) as tx:
        return divided(tx.store_views.fresh(timedelta(minutes=1)))


def test_processes_with_one_folder_see_each_other(app: App, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "media")
    assert looked(app, a_watch(app, tmp_path / "media", "web"), a_watch(app, tmp_path / "link", "worker")) == []


def test_two_folders_of_one_name_are_told_apart(app: App, tmp_path: Path) -> None:
    """As on two dynos, each with a disk of its own."""
    web = a_watch(app, tmp_path / "one", "web", "folder /app/media")
    worker = a_watch(app, tmp_path / "two", "worker", "folder /app/media")
    assert len(looked(app, web, worker)) == 2


def test_a_bucket_and_a_folder_are_not_one_store_and_one_bucket_is(app: App, tmp_path: Path) -> None:
    web = a_watch(app, None, "web", "bucket videos at Amazon")
    assert looked(app, web, a_watch(app, None, "worker", "bucket videos at Amazon")) == []
    assert "different stores" in looked(app, web, a_watch(app, tmp_path, "worker"))[0]


def test_a_folder_that_cannot_be_used_is_named(app: App, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "worker" in looked(app, a_watch(app, tmp_path / "file", "worker"))[0]


def test_a_process_that_started_just_now_is_not_missed_yet(app: App, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        a_watch(app, tmp_path / folder, "web").look()
    with app.db.transaction(SYSTEM) as tx:
        assert divided(tx.store_views.fresh(timedelta(minutes=1))) == []


def test_who_stops_is_not_missed(app: App, tmp_path: Path) -> None:
    web, worker = a_watch(app, tmp_path, "web"), a_watch(app, tmp_path, "worker")
    web.start()
    worker.start()

    def both() -> bool:
        with app.db.transaction(SYSTEM) as tx:
            return [len(view.sees) for view in tx.store_views.fresh(timedelta(minutes=1))] == [2, 2]

    until(both, "both to see each other")
    worker.stop()
    web.look()
    with app.db.transaction(SYSTEM) as tx:
        assert [(view.role, len(view.sees)) for view in tx.store_views.fresh(timedelta(minutes=1))] == [("web", 1)]
    web.stop()


def test_a_process_begins_by_sweeping_what_others_left_on_their_way_to_a_bucket(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old, young = (own_folder() / name for name in ("old.part", "young.part"))
    for each in (old, young):
        each.touch()
    os.utime(old, (0, 0))
    watch = a_watch(app, None, "worker", "bucket videos at Amazon")
    watch.start()
    until(lambda: not old.exists(), "what is old to be swept")
    watch.stop()
    assert young.exists()


class ForbiddenIfMissing(BaseHTTPRequestHandler):
    """An S3 as it answers keys that may not list the bucket: 403 for a file that is not there."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_GET(self) -> None:
        content = self.files.get(self.path)
        if content is None:
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        else:
            self._answer(206, content, {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"})

    def do_POST(self) -> None:
        """Delete all, which is what is asked for here."""
        self.rfile.read(int(self.headers["Content-Length"]))
        keys = "".join(f"<Deleted><Key>{path.partition('/videos/')[2]}</Key></Deleted>" for path in self.files)
        self.files.clear()
        self._answer(200, f"<DeleteResult>{keys}</DeleteResult>".encode())

    def log_message(self, *args: object) -> None: ...

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        always = {"ETag": '"x"', "Last-Modified": "Fri, 27 Nov 2026 20:00:00 GMT", "Content-Length": str(len(body))}
        for name, value in {**always, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def test_the_doctor_finds_a_bucket_that_does_not_say_what_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "writer")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), ForbiddenIfMissing)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        changed = {"s3_bucket": "videos", "s3_endpoint_url": base}
        found = examine(Settings.model_validate(settings.model_dump() | changed), ())
    finally:
        server.shutdown()
        server.server_close()
    [store] = [each for each in found if each["check"] == "media store"]
    assert store["state"] == "fail"
    assert "s3:ListBucket" in store["says"]
    assert ForbiddenIfMissing.files == {}


def test_the_doctor_fails_for_two_disks_and_for_a_store_that_cannot_be_written(
    app: App, settings: Settings, tmp_path: Path
) -> None:
    def findings(**changed: object) -> dict[str, tuple[str, str]]:
        examined = examine(Settings.model_validate(settings.model_dump() | changed), ())
        return {each["check"]: (each["state"], each["says"]) for each in examined}

    found = findings(media_dir=tmp_path / "media")
    assert found["media store"][0] == "ok"
    assert found[ONE][0] == "ok"
    assert not list((tmp_path / "media").glob("*/*.png"))
    looked(app, a_watch(app, tmp_path / "one", "web"), a_watch(app, tmp_path / "two", "worker"))
    (tmp_path / "file").touch()
    found = findings(media_dir=tmp_path / "file")
    assert found["media store"][0] == "fail"
    assert found[ONE][0] == "fail"
    assert "S3_BUCKET" in found[ONE][1]


def test_the_doctor_says_how_much_room_is_left(settings: Settings, small_disk: Path) -> None:
    def store() -> tuple[str, str]:
        examined = examine(Settings.model_validate(settings.model_dump() | {"media_dir": small_disk}), ())
        return next((each["state"], each["says"]) for each in examined if each["check"] == "media store")

    assert store() == ("fail", "the media store is full: 0.5 MB are left of 0.5, and 80.0 are needed")
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    state, says = store()
    assert (state, "its disk has 0.52 GB left" in says) == ("warn", True)


def test_the_doctor_finds_another_folder_than_before(app: App, settings: Settings, tmp_path: Path) -> None:
    ada = a_tenant(app)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a clip")
    store = FolderStore(tmp_path / "media", web="")
    keep(partial(app.db.transaction, ada), store, ada, path, extension="mp4")

    def found(folder: str) -> tuple[str, str]:
        examined = examine(Settings.model_validate(settings.model_dump() | {"media_dir": tmp_path / folder}), ())
        return next((each["state"], each["says"]) for each in examined if each["check"] == "media store")

    assert found("media")[0] == "ok"
    state, says = found("other")
    assert (state, says[:65]) == ("fail", "it lacks 1 of the 1 newest files: is MEDIA_DIR (or S3_BUCKET) ano")
