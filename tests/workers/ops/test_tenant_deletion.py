"""All of a tenant can be taken away in one file, and deleted; no table is forgotten, and nobody else loses a row."""

import json
import threading
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.ops import tenant_rows
from db.schema.tables import metadata
from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected, UnknownTenant
from domain.ops.actions import target
from domain.videos.media import object_key
from tests.builders import a_tenant, beside, job_row, tenant
from tests.cutting import Died, Moments, rescue_all, watched
from tests.db.test_isolation import World, a_world
from tests.drain import drain
from workers.app import App
from workers.jobs.media import keep
from workers.ops.actions import perform
from workers.ops.support import change_quota
from workers.ops.tenant_deletion import KEEPS, begin_deletion
from workers.ops.tenant_export import export_tenant

OWNED = [table.name for table in metadata.sorted_tables if "tenant_id" in table.c]


@pytest.fixture
def world(app: App) -> World:
    return a_world(app)


def counts(app: App, tenant_id: UUID) -> dict[str, int]:
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT count(*) FROM {} WHERE tenant_id = %s"
        return {name: tx.driver.execute(query.format(name).encode(), (tenant_id,)).fetchall()[0][0] for name in OWNED}


def sql(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


def a_file(app: App, tenant_id: UUID, folder: Path, content: bytes) -> UUID:
    path = folder / uuid4().hex
    path.write_bytes(content)
    return keep(lambda: app.db.transaction(tenant_id), app.ports.media, tenant_id, path, extension="mp4").id


# --- no table is forgotten


def test_every_table_of_tenants_is_in_both_plans() -> None:
    """A new table: put it into `KEPT` with a reason, or leave it to be deleted; name its secrets."""
    gone = {*tenant_rows.deleted(), *tenant_rows.LATER, tenant_rows.MEDIA}
    assert set(OWNED) == gone | tenant_rows.KEPT.keys()
    assert not gone & tenant_rows.KEPT.keys()
    assert set(tenant_rows.exported()) | tenant_rows.NOT_EXPORTED.keys() == {*OWNED, *tenant_rows.OTHERS}


def test_columns_that_hold_bytes_are_secrets_or_hashes_of_content() -> None:
    """What is encrypted or hashed is bytes here; one that an export has is named with its reason."""
    harmless = {("media", "sha256"), ("imports", "sha256"), ("social_posts", "request_hash")}
    exported = {
        (name, column.name)
        for name in tenant_rows.exported()
        for column in metadata.tables[name].c
        if column.type.python_type is bytes and column.name not in tenant_rows.left_out(name)
    }
    assert exported == harmless & exported


# --- the export


def read(path: Path) -> tuple[Mapping[str, Any], dict[str, list[Any]], zipfile.ZipFile]:
    archive = zipfile.ZipFile(path)
    manifest = json.loads(archive.read("manifest.json"))
    rows = {
        name: [json.loads(line) for line in archive.read(each["file"]).splitlines()]
        for name, each in manifest["tables"].items()
    }
    return manifest, rows, archive


def test_an_export_has_every_row_of_the_tenant_and_none_of_another(world: World, tmp_path: Path) -> None:
    done = export_tenant(world.app, world.a, tmp_path / "a.zip")
    manifest, rows, archive = read(tmp_path / "a.zip")
    with archive:
        assert archive.testzip() is None
        for name, each in manifest["tables"].items():
            assert sha256(archive.read(each["file"])).hexdigest() == each["sha256"]
            assert len(rows[name]) == each["rows"] == done.tables[name]
    expected = counts(world.app, world.a)
    assert {name: len(rows[name]) for name in OWNED if name != "oauth_states"} == {
        name: count for name, count in expected.items() if name != "oauth_states"
    }
    assert manifest["not_exported"].keys() == {"oauth_states"}
    assert str(world.b) not in json.dumps(rows)
    assert manifest["tables"]["social_accounts"]["left_out"] == ["access_token", "refresh_token"]
    assert "access_token" not in rows["social_accounts"][0]
    assert "key_hash" not in rows["api_keys"][0]


def test_files_are_in_it_and_what_the_store_has_lost_is_named(app: App, tmp_path: Path) -> None:
    tenant_id = a_tenant(app)
    a_file(app, tenant_id, tmp_path, b"first" * 1000)
    a_file(app, tenant_id, tmp_path, b"second")
    lost = sha256(b"second").digest()
    app.ports.media.delete(object_key(tenant_id, lost, "mp4"))
    done = export_tenant(app, tenant_id, tmp_path / "it.zip")
    manifest, _, archive = read(tmp_path / "it.zip")
    with archive:
        assert archive.read(f"media/{sha256(b'first' * 1000).hexdigest()}.mp4") == b"first" * 1000
    assert manifest["media"] == {"files": 1, "bytes": 5000, "missing": [f"media/{lost.hex()}.mp4"]}
    assert (done.files, done.missing) == (1, [f"media/{lost.hex()}.mp4"])


class Vanishing:
    """A store whose files are deleted between a look and the reading."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def has(self, key: str) -> bool:
        found: bool = self._store.has(key)
        self._store.delete(key)
        return found

    def read(self, key: str, start: int, size: int) -> Any:
        return self._store.read(key, start, size)


def test_a_file_that_vanishes_while_it_is_read_is_missing_and_not_counted(app: App, tmp_path: Path) -> None:
    tenant_id = a_tenant(app)
    a_file(app, tenant_id, tmp_path, b"bytes")
    losing: Any = Vanishing(app.ports.media)
    done = export_tenant(replace(app, ports=replace(app.ports, media=losing)), tenant_id, tmp_path / "it.zip")
    name = f"media/{sha256(b'bytes').hexdigest()}.mp4"
    assert (done.files, done.bytes, done.missing) == (0, 0, [name])
    manifest, _, archive = read(tmp_path / "it.zip")
    archive.close()
    assert manifest["media"] == {"files": 0, "bytes": 0, "missing": [name]}


def test_an_export_is_of_one_moment_however_many_change_the_tenant_meanwhile(app: App, tmp_path: Path) -> None:
    """What is changed in one commit is in it whole, or not at all."""
    tenant_id, over, begun = a_tenant(app), threading.Event(), threading.Barrier(5)

    def change(n: int) -> None:
        mine = beside(app)
        for turn in range(400):
            change_quota(mine, tenant_id, 1, who="ada", reason="for the test")
            with mine.db.transaction(tenant_id) as tx:
                tx.driver.execute("INSERT INTO job_queue (job_type, tenant_id) VALUES ('x', %s)", (tenant_id,))
                tx.driver.execute("INSERT INTO api_usage (tenant_id, kind, name) VALUES (%s, 'llm', 'x')", (tenant_id,))
            if turn == 0:
                begun.wait()
            if over.is_set():
                return

    with ThreadPoolExecutor(4) as threads:
        changing = [threads.submit(change, n) for n in range(4)]
        begun.wait()
        found = []
        for n in range(4):
            export_tenant(app, tenant_id, tmp_path / f"{n}.zip")
            _, rows, archive = read(tmp_path / f"{n}.zip")
            archive.close()
            [row] = rows["tenants"]
            granted = sum(each["amount"] for each in rows["quota_ledger"] if each["kind"] == "extra")
            found.append(granted)
            assert row["quota_granted"] == granted
            assert len(rows["job_queue"]) == len(rows["api_usage"])
        over.set()
        for each in changing:
            each.result()
    assert found == sorted(found)
    assert found[-1] > found[0], "nobody changed anything meanwhile"


def test_a_file_is_whole_or_not_there(app: App, tmp_path: Path) -> None:
    tenant_id, path = a_tenant(app), tmp_path / "it.zip"

    def stop(what: str, count: int) -> None:
        if what == "users":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_tenant(app, tenant_id, path, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "it.zip.part").write_bytes(b"of a process that was killed" * 10_000)
    export_tenant(app, tenant_id, path)
    assert [each.name for each in tmp_path.iterdir()] == ["it.zip"]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="exists"):
        export_tenant(app, tenant_id, path)
    export_tenant(app, tenant_id, path, replace=True)
    with pytest.raises(UnknownTenant):
        export_tenant(app, uuid4(), tmp_path / "nobody.zip")


# --- the deletion


def test_nothing_is_left_but_what_is_kept_and_nobody_elses_row_moves(world: World, tmp_path: Path) -> None:
    app = world.app
    file = a_file(app, world.a, tmp_path, b"bytes")
    with app.db.transaction(world.a) as tx:
        row = tx.media.get(world.a, file)
    assert row is not None
    sql(app, "DELETE FROM stripe_subscriptions")
    sql(app, "UPDATE media SET extension = 'mp4'")
    before, wrong = counts(app, world.b), wrong_sums(app)
    begun = begin_deletion(app, world.a, who="person:ada")
    drain(app)
    assert "its posts are empty" in job_row(app, begun.job_id)["error_message"]
    assert job_row(app, begun.job_id)["status"] == "pending", "posts wait until nothing remembers the submission"
    left = counts(app, world.a)
    assert {name for name, count in left.items() if count} == {*tenant_rows.KEPT, *tenant_rows.LATER}
    assert not app.ports.media.has(row.key)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE post_submissions SET created_at = created_at - interval '40 days'")
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s", (begun.job_id,))
    drain(app)
    assert job_row(app, begun.job_id)["status"] == "completed"
    left = counts(app, world.a)
    assert {name for name, count in left.items() if count} == {*tenant_rows.KEPT}
    assert counts(app, world.b) == before
    assert tenant(app, world.a)["name"] == "deleted"
    assert set(left) & KEEPS.keys() == tenant_rows.KEPT.keys()
    assert wrong_sums(app) <= wrong, "the world's rows are made one by one; none is worse for the deletion"


def wrong_sums(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return tx.health.violations("what a tenant has used is what the ledger says")


@pytest.mark.proof
def test_it_goes_on_wherever_a_process_dies(app: App, tmp_path: Path) -> None:
    tenant_id = a_tenant(app)
    a_file(app, tenant_id, tmp_path, b"bytes")
    sql(app, "INSERT INTO job_queue (job_type, tenant_id) VALUES ('upkeep.prune', %s)", tenant_id)
    job_id = begin_deletion(app, tenant_id, who="person:ada").job_id
    at, died = 0, True
    while died:
        moments = Moments(at, _die, within_transactions=True)
        try:
            drain(watched(app, moments))
        except Died:
            rescue_all(app)
            sql(app, "UPDATE job_queue SET crashes = 0, attempts = 0, wake_at = NULL, scheduled_for = now()")
        died, at = moments.struck, at + 7
    assert at > 21
    assert job_row(app, job_id)["status"] == "completed"
    assert {name for name, count in counts(app, tenant_id).items() if count} <= tenant_rows.KEPT.keys()


def _die() -> None:
    raise Died


def test_it_waits_for_a_job_at_work_and_is_enqueued_once(app: App) -> None:
    tenant_id = a_tenant(app)
    running = uuid4()
    sql(
        app,
        "INSERT INTO job_queue (id, job_type, tenant_id, status, worker_id, lease_token, started_at)"
        " VALUES (%s, 'upkeep.prune', %s, 'running', gen_random_uuid(), 1, now())",
        *(running, tenant_id),
    )
    first = begin_deletion(app, tenant_id, who="person:ada")
    assert begin_deletion(app, tenant_id, who="person:ada").job_id == first.job_id
    drain(app)
    assert job_row(app, running)["cancel_requested_at"] is not None
    assert job_row(app, first.job_id)["status"] == "pending"
    sql(app, "UPDATE job_queue SET status = 'cancelled', completed_at = now() WHERE id = %s", running)
    sql(app, "UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s", first.job_id)
    drain(app)
    assert job_row(app, first.job_id)["status"] == "completed"


def test_a_subscription_that_runs_keeps_it(app: App) -> None:
    tenant_id = a_tenant(app)
    sql(app, "INSERT INTO stripe_customers (id, tenant_id) VALUES ('cus_1', %s)", tenant_id)
    sql(app, "UPDATE tenants SET stripe_customer_id = 'cus_1' WHERE id = %s", tenant_id)
    sql(
        app,
        "INSERT INTO stripe_subscriptions"
        " (id, customer_id, status, started_at, billing_cycle_anchor, event_created, event_rank)"
        " VALUES ('sub_1', 'cus_1', 'active', now(), now(), now(), 1)",
    )
    with pytest.raises(Conflict, match="sub_1 runs at Stripe"):
        begin_deletion(app, tenant_id, who="person:ada")
    with pytest.raises(Rejected, match="say why"):
        perform(app, "tenant.delete", target(f"tenant:{tenant_id}"), {"name": str(tenant_id)}, who="person:ada")
    assert tenant(app, tenant_id)["name"] != "deleted"
    sql(app, "UPDATE stripe_subscriptions SET status = 'canceled'")
    begin_deletion(app, tenant_id, who="person:ada")
