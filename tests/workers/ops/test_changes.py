"""What was changed is recorded once, by whoever comes first, and a restart of an old process is no deploy."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from db.migrate import upgrade as migrate
from db.ops.changes import LIST, RAIL
from db.security import seeing_all_tenants
from db.transaction import SYSTEM
from domain.ops.connections import Role
from tests.wait import until
from workers.app import App
from workers.ops.changes import SETTLES, Change, Start, StartNote, listed, note_start, rail, start_note, state_of
from workers.settings import Settings, load

SECRETS = {
    "DATABASE_URL": "postgresql://viral:hush-1@127.0.0.1/viral",
    "REDIS_URL": "redis://:hush-2@127.0.0.1:6379/0",
    "STRIPE_WEBHOOK_SECRET": "whsec_hush3,whsec_hush4",
    "ANTHROPIC_API_KEY": "hush-5",
    "GOOGLE_BASE_URL": "https://ann:hush-6@proxy.example.com/v1?key=hush-7",
}


def note(app: App, release: str, role: str = "web", part: str = "", **settings: str) -> bool:
    with app.db.transaction(SYSTEM) as tx:
        return note_start(tx, Start(role, release, settings, part))


def changes(app: App, kind: str | None = None) -> list[Change]:
    with app.db.transaction(SYSTEM) as tx:
        return listed(tx, kind=kind)[::-1]


def releases(app: App, role: str = "web") -> list[str | None]:
    return [each.release for each in changes(app, "deploy") if each.subject == role]


def age(url: str, by: timedelta = SETTLES) -> None:
    with psycopg.connect(seeing_all_tenants(url)) as connection:
        connection.execute("UPDATE changes SET at = at - %s::interval", (by,))


# --- deploys --------------------------------------------------------------------------------------------------------


def test_of_many_processes_that_start_at_once_one_records_the_deploy(app: App) -> None:
    note(app, "v1", threads="8")
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda _: note(app, "v2", threads="9"), range(64)))
    assert releases(app) == ["v1", "v2"]
    assert len(changes(app, "setting")) == 2


def test_each_role_has_deploys_of_its_own(app: App) -> None:
    for role in ("web", "worker"):
        note(app, "v1", role)
    assert releases(app, "web") == releases(app, "worker") == ["v1"]


def test_an_old_process_that_is_restarted_while_a_release_is_rolled_out_is_no_deploy(app: App) -> None:
    assert [note(app, release) for release in ("v1", "v2", "v1", "v2", "v1")] == [True, True, False, True, False]
    assert releases(app) == ["v1", "v2"]


def test_a_release_that_was_put_back_is_a_deploy_once_that_can_be_told(app: App, database_url: str) -> None:
    note(app, "v1")
    note(app, "v2")
    assert not note(app, "v1")
    age(database_url)
    assert note(app, "v1")
    assert releases(app) == ["v1", "v2", "v1"]


def test_while_the_newest_release_runs_an_older_one_is_not_taken_for_its_successor(app: App, database_url: str) -> None:
    note(app, "v1", "worker")
    note(app, "v2", "worker")
    age(database_url)
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(uuid4(), hostname="h", pid=1, queues=(), version="v2", lease=timedelta(minutes=1))
    assert not note(app, "v1", "worker")
    assert releases(app, "worker") == ["v1", "v2"]


def test_a_process_notes_its_start_in_the_background_and_goes_on_if_it_cannot(app: App, owner_url: str) -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute("ALTER TABLE changes RENAME TO away")
    began = StartNote(app.db, Start("web", "v1", {}), again=timedelta(milliseconds=20))
    began.start()
    with psycopg.connect(owner_url) as owner:
        owner.execute("ALTER TABLE away RENAME TO changes")
    until(lambda: releases(app) == ["v1"], "the start is noted")
    began.stop()


def test_a_migration_is_recorded_with_who_made_it(app: App, owner_url: str) -> None:
    migrate.downgrade(owner_url, "-1")
    before, after = migrate.upgrade(owner_url, cause="person:ann")
    [*_, change] = changes(app, "migration")
    assert (change.before, change.after, change.cause) == ({"revision": before}, {"revision": after}, "person:ann")
    migrate.upgrade(owner_url)
    assert len(changes(app, "migration")) <= 2


def test_a_note_that_waits_ends_when_it_is_stopped(app: App) -> None:
    note(app, "v1")
    note(app, app.release)
    note(app, "v2")
    waiting = start_note(app, Role.WEB)
    waiting.start()
    waiting.stop()
    assert releases(app) == ["v1", app.release, "v2"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"RELEASE": "v42"}, "v42"),
        ({"HEROKU_SLUG_COMMIT": "0123456789abcdef0123456789abcdef01234567"}, "0123456789ab"),
        ({"RENDER_GIT_COMMIT": "feed", "RELEASE": "2026.11"}, "2026.11"),
        ({"RELEASE": "a <b>\n" + "x" * 100}, "a__b__" + "x" * 58),
        ({}, "0.1.0"),
    ],
)
def test_the_release_is_what_the_environment_calls_it(environment: dict[str, str], name: str) -> None:
    assert load(environment).release_name == name


# --- settings -------------------------------------------------------------------------------------------------------


def test_changed_settings_are_named_with_what_they_were(app: App) -> None:
    note(app, "v1", worker_threads="8", log_level="INFO")
    note(app, "v1", worker_threads="16", media_dir="/media")
    first, second = changes(app, "setting")
    assert (first.before, first.after) == (None, {"worker_threads": "8", "log_level": "INFO"})
    assert second.before == {"worker_threads": "8", "log_level": "INFO", "media_dir": None}
    assert second.after == {"worker_threads": "16", "log_level": None, "media_dir": "/media"}
    assert second.says == "web: LOG_LEVEL: INFO → none; MEDIA_DIR: none → /media; WORKER_THREADS: 8 → 16"


def test_settings_that_a_restarted_process_still_has_are_no_change_back(app: App, database_url: str) -> None:
    assert [note(app, "v1", x=x) for x in ("1", "2", "1", "2", "1")] == [True, True, False, True, False]
    age(database_url)
    assert note(app, "v1", x="1")
    assert [each.after for each in changes(app, "setting")] == [{"x": "1"}, {"x": "2"}, {"x": "1"}]


def test_workers_of_other_queues_have_settings_of_their_own(app: App) -> None:
    for _ in range(2):
        note(app, "v1", "worker", "llm", x="1")
        note(app, "v1", "worker", "render", x="2")
    assert [each.subject for each in changes(app, "setting")] == ["worker llm", "worker render"]


def test_no_secret_is_kept_nor_anything_that_it_could_be_guessed_from() -> None:
    state = state_of(load(SECRETS | {"PORT": "4711", "WORKER_THREADS": "3"}))
    assert "hush" not in str(state)
    assert state == {
        "anthropic_api_key": "set",
        "database_url": "set",
        "google_base_url": "https://proxy.example.com/v1",
        "redis_url": "set",
        "stripe_webhook_secret": "2 set",
        "worker_threads": "3",
    }


def test_every_setting_can_be_told() -> None:
    assert state_of(Settings()) == {}


# --- limits and pauses ----------------------------------------------------------------------------------------------


def test_pauses_and_limits_are_recorded_with_the_decision(app: App) -> None:
    for decide in (
        *[lambda queues: queues.pause("llm")] * 2,
        *[lambda queues: queues.limit("llm", max_running=8)] * 2,
        lambda queues: queues.limit("llm", max_running=4, per_tenant=2),
        *[lambda queues: queues.resume("llm")] * 2,
    ):
        with app.db.transaction(SYSTEM) as tx:
            decide(tx.queues)
    assert [each.says for each in changes(app)] == [
        "llm is paused",
        "llm: max_running: none → 8",
        "llm: max_running: 8 → 4; max_running_per_tenant: none → 2",
        "llm goes on",
    ]


def test_a_decision_that_is_rolled_back_is_no_change(app: App) -> None:
    with pytest.raises(ZeroDivisionError), app.db.transaction(SYSTEM) as tx:
        tx.queues.pause("llm")
        _ = 1 / 0
    assert changes(app) == []


def test_many_who_pause_at_once_are_one_change(app: App) -> None:
    def pause(_: int) -> None:
        with app.db.transaction(SYSTEM) as tx:
            tx.queues.pause("llm")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pause, range(32)))
    assert [each.says for each in changes(app)] == ["llm is paused"]


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_rail_has_the_changes_of_its_time_oldest_first(app: App) -> None:
    note(app, "v1")
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    note(app, "v2")
    with app.db.transaction(SYSTEM) as tx:
        kinds = [each.says for each in rail(tx, now, now + timedelta(hours=1))]
        assert rail(tx, now - timedelta(hours=1), now - timedelta(minutes=1)) == []
    assert kinds == ["web runs v2, after v1"]


def test_rows_of_another_program_are_told_as_well_as_can_be(app: App, database_url: str) -> None:
    with psycopg.connect(seeing_all_tenants(database_url)) as connection:
        for kind in ("deploy", "setting", "limit", "pause", "migration"):
            for value in (None, Jsonb([1]), Jsonb({"release": {"x": 1}}), Jsonb("x")):
                connection.execute(
                    "INSERT INTO changes (kind, subject, before, after) VALUES (%s, %s, %s, %s)",
                    (kind, "web <b>", value, value),
                )
    assert len(changes(app)) == 20
    assert note(app, "v1")


def test_changes_are_read_by_indexes_and_a_rail_has_the_newest(app: App, database_url: str) -> None:
    with psycopg.connect(seeing_all_tenants(database_url), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO changes (kind, subject, at) "
            "SELECT CASE WHEN n % 4 = 0 THEN 'deploy' ELSE 'pause' END, 'llm', now() - n * interval '1 minute' "
            "FROM generate_series(20000, 1, -1) AS n"
        )
        connection.execute("ANALYZE changes")
    now = datetime.now(UTC)
    span = {"since": now - timedelta(days=1), "until": now, "limit": 50}
    whole = span | {"since": None, "until": None}
    with app.db.transaction(SYSTEM) as tx:
        for query, index, values in (
            (RAIL, "changes_at_idx", span | {"kind": None}),
            (RAIL, "changes_at_idx", span | {"kind": "deploy"}),
            (LIST, "changes_pkey", whole | {"kinds": None, "before": None}),
            (LIST, "changes_pkey", whole | {"kinds": ["deploy"], "before": 9000}),
        ):
            tx.driver.execute(f"SET LOCAL enable_sort = {'off' if query == LIST else 'on'}")
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {query}".encode(), values))
            assert index in plan, plan
            assert "Seq Scan" not in plan, plan
        found = rail(tx, now - timedelta(days=9), now)
        assert [each.at for each in found] == sorted(each.at for each in found)
        assert found[-1].at > now - timedelta(minutes=5)
        deploys = rail(tx, now - timedelta(days=9), now, kind="deploy", limit=3)
    assert [each.kind for each in deploys] == ["deploy"] * 3
    assert deploys[-1].at > now - timedelta(minutes=9)
