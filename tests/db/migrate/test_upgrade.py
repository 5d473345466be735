"""Migrations go up and down, give up rather than block, and keep what older releases have written."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, partialmethod
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError

from db.migrate import upgrade as migrate
from db.migrate.revisions import Schema, SchemaNewer, SchemaOlder, check, known_revisions
from db.migrate.upgrade import MIGRATIONS, MigrationRefused
from db.ops.health import Health
from db.security import seeing_all_tenants
from local.postgres import APP, OWNER
from tests.conftest import Servers
from tests.db.catalog import anything, catalog, rows, upgrade_at_once


def test_there_is_one_migration_head() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [migrate.newest()]


def test_every_migration_and_the_template_give_up_rather_than_block(tmp_path: Path) -> None:
    """They run while the system works. The template is judged by a revision made with it."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    config = Config()
    config.set_main_option("script_location", str(folder))
    command.revision(config, "a change", rev_id="zzzz")
    careless = []
    for path in (folder / "versions").glob("*.py"):
        if "CONCURRENTLY" in path.read_text():
            continue  # makes nobody wait, and may itself have to wait for long
        _, up, down = re.split(r"^def (?:upgrade|downgrade)\(\)", path.read_text(), flags=re.MULTILINE)
        careless += [
            f"{path.name}: {setting}"
            for body in (up, down)
            for setting in ("lock_timeout", "statement_timeout")
            if not re.search(f"SET (LOCAL )?{setting} = '", body)
        ]
    assert careless == []
    assert any(path.name.startswith("zzzz") for path in (folder / "versions").iterdir())


# --- up and down --------------------------------------------------------------------------------------------


def test_up_down_and_up_again_leaves_nothing_behind_in_between(servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(OWNER, empty_database)
    before = anything(url)
    assert migrate.upgrade(url) == (None, migrate.newest())
    first = catalog(url)
    rows(url, "SELECT make_job_archive_week(now())")
    assert migrate.downgrade(url, "base") == (migrate.newest(), None)
    alembics_own = {name for name in anything(url) if "alembic_version" in name}
    assert anything(url) - alembics_own == before
    migrate.upgrade(url)
    assert catalog(url) == first
    assert migrate.upgrade(url) == (migrate.newest(), migrate.newest())


class Cut(BaseException):
    """A kill."""


@pytest.mark.proof
@pytest.mark.timeout(400)
def test_a_migration_that_is_killed_between_its_commits_goes_on(
    servers: Servers, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes indexes without a lock commits before them and after each: killed there, the next run ends it."""
    url, whole = servers.postgres.url(OWNER, empty_database), MigrationContext.autocommit_block
    script = ScriptDirectory(str(MIGRATIONS))
    killed = 0
    for revision in reversed([*script.walk_revisions()]):
        for after in (0, 1, None) if "autocommit_block" in Path(revision.path).read_text() else ():
            with monkeypatch.context() as patch, suppress(Cut, InvalidRequestError):
                patch.setattr(MigrationContext, "autocommit_block", partialmethod(_cut_short, whole, after))
                _to(url, revision.revision)
            killed += 1
        _to(url, revision.revision)
    assert killed > 50
    assert migrate.upgrade(url) == (migrate.newest(), migrate.newest())


def _to(url: str, revision: str) -> None:
    """Migrate without what `migrate.upgrade` does afterwards, which wants the newest schema."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with migrate.owners_engine(url).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()


@contextmanager
def _cut_short(context: MigrationContext, whole: Callable[[Any], Any], after: int | None) -> Iterator[None]:
    """`after`: so many statements; None: all of them, and the revision is not noted any more."""
    with whole(context):
        assert context.bind is not None
        ran = count()

        def run(*_: object) -> None:
            if next(ran) == after:
                raise Cut

        event.listen(context.bind, "before_cursor_execute", run)
        try:
            yield
        finally:
            event.remove(context.bind, "before_cursor_execute", run)
    raise Cut


def test_a_fresh_count_given_before_the_period_was_derived_stays_one(servers: Servers, empty_database: str) -> None:
    """0014: until then it began a period, which the next event would derive away."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0013")
    tenants = (
        "INSERT INTO tenants (name, quota_period_start) VALUES ('by hand', now()), ('by SQL', now()), ('not', now())"
    )
    entries = """
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        SELECT id, kind, amount, 0, 10, period_start, cause, quota_period_start - interval '1 microsecond'
        FROM tenants JOIN (
            VALUES ('by hand', 'reset', 0, now(), 'person:ada'), ('by SQL', 'adjust', -3, now(), 'sql:x'),
                   ('not', 'reset', 0, now(), 'job:1')
        ) AS v (name, kind, amount, period_start, cause) USING (name)
    """
    with psycopg.connect(url) as owner:
        owner.execute("SET LOCAL app.tenant_id = '*'")
        owner.execute(tenants)
        owner.execute(entries)
    migrate.upgrade(url)
    with psycopg.connect(url) as owner:
        owner.execute("SET LOCAL app.tenant_id = '*'")
        found = owner.execute("SELECT name, quota_restarted_at = quota_period_start FROM tenants").fetchall()
    assert dict(found) == {"by hand": True, "by SQL": True, "not": None}


def test_what_could_never_be_meant_is_mended_where_it_is_already(servers: Servers, empty_database: str) -> None:
    """0017, on a database in which other programs have left such rows: nothing is lost, and nothing fails."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0015")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
        SET app.tenant_id = '*';
        INSERT INTO tenants (name, quota_anchor, quota_reset_at, daily_last_on, created_at)
        VALUES ('odd', '-infinity', 'infinity', 'infinity', '0044-03-15 BC');
        INSERT INTO users (tenant_id, last_login_at) SELECT id, 'infinity' FROM tenants;
        INSERT INTO schedule_fires (schedule, fire_at)
        VALUES ('s', 'infinity'), ('s', '-infinity'), ('s', '4000-01-01 BC'), ('s', '2026-01-01Z');
        INSERT INTO job_queue (job_type, attempts, crashes, rings, snoozes, payload_version, cancel_requested_at)
        VALUES ('odd', -1, -32768, -5, -2147483648, -1, 'infinity'), ('plain', 0, 0, 0, 0, 1, NULL);
        """
        )
    migrate.upgrade(url)
    url += "&" if "?" in url else "?"
    url += "options=-c%20app.tenant_id%3D*"
    found = rows(
        url,
        "SELECT attempts, crashes, wake_count, snoozes, payload_version, extract(year FROM cancel_requested_at)::int "
        "FROM job_queue ORDER BY job_type",
    )
    assert found == [(0, 0, 0, 0, 1, 9999), (0, 0, 0, 0, 1, None)]
    years = "extract(year FROM quota_anchor)::int, extract(year FROM quota_reset_at)::int, daily_last_on::text"
    assert rows(url, f"SELECT {years} FROM tenants") == [(1970, 9999, "9999-01-01")]
    assert rows(url, "SELECT extract(year FROM last_login_at)::int, name FROM users") == [(9999, None)]
    assert rows(url, "SELECT extract(year FROM fire_at)::int FROM schedule_fires") == [(2026,)]
    assert rows(url, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []


USER_EVENT = """
INSERT INTO webhook_events (source, external_id, type, subject, payload)
SELECT 'clerk', 'msg_' || %(who)s || %(at)s, 'user.updated', %(who)s,
       jsonb_build_object('data', jsonb_build_object('banned', %(banned)s::boolean, 'updated_at', %(at)s::jsonb))
"""


def test_who_is_banned_already_is_banned_from_the_migration_on(servers: Servers, empty_database: str) -> None:
    """As the event says that their row is of; neither one before it, nor one that cannot be read, counts."""
    url = seeing_all_tenants(servers.postgres.url(OWNER, empty_database))
    migrate.upgrade(url, "0019")
    people = {"now": [(2000, True)], "lifted": [(1000, True), (2000, False)], "odd": [('"x"', True), (2000, False)]}
    people["never"] = [(2000, False)]
    with psycopg.connect(url) as owner:
        owner.execute("INSERT INTO tenants (name) VALUES ('x')")
        for who, events in people.items():
            row = (
                "INSERT INTO users (clerk_id, tenant_id, source_updated_at) SELECT %s, id, to_timestamp(2) FROM tenants"
            )
            owner.execute(row, (who,))
            for at, banned in events:
                owner.execute(USER_EVENT, {"who": who, "at": str(at), "banned": banned})
    migrate.upgrade(url)
    assert rows(url, "SELECT clerk_id FROM users WHERE banned") == [("now",)]


def test_outcomes_of_the_past_become_words(servers: Servers, empty_database: str) -> None:
    """0020, on what the releases before have written: nothing that was said is lost."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0019")
    url = seeing_all_tenants(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
        INSERT INTO webhook_events (source, external_id, type, status, flag) VALUES
            ('stripe', '1', 'a', 'ignored:unhandled type a', NULL),
            ('stripe', '2', 'b', 'ignored:' || repeat('x', 400), NULL),
            ('stripe', '3', 'c', 'parked:thin', NULL),
            ('stripe', '4', 'd', 'applied', 'several subscriptions at once'),
            ('stripe', '5', 'e', 'seen by hand', NULL),
            ('stripe', '6', 'f', 'received', NULL);
        INSERT INTO tenants (name) VALUES ('ada@example.com'), ('bob@example.com'), ('A team');
        INSERT INTO users (clerk_id, tenant_id, deleted_at)
        SELECT 'user_' || left(name, 3), id, CASE WHEN name LIKE 'ada%' THEN now() END FROM tenants;
        """
        )
    migrate.upgrade(url)
    assert rows(url, "SELECT status, flag, left(detail, 24) FROM webhook_events ORDER BY external_id") == [
        ("ignored:type", None, "unhandled type a"),
        ("ignored:other", None, "x" * 24),
        ("parked:thin", None, None),
        ("applied", "other", "several subscriptions at"),
        ("ignored:other", None, "seen by hand"),
        ("received", None, None),
    ]
    assert rows(url, "SELECT name FROM tenants ORDER BY name") == [("A team",), ("bob@example.com",), ("user_ada",)]
    assert rows(url, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []


def test_a_payload_that_is_too_large_already_stops_no_migration_and_no_claim(
    servers: Servers, empty_database: str
) -> None:
    """0022."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0019")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
        SET app.tenant_id = '*';
        INSERT INTO job_queue (job_type, payload)
        SELECT 'large', jsonb_object_agg(n, md5(n::text)) FROM generate_series(1, 20000) n;
        INSERT INTO job_queue (job_type, payload) VALUES ('plain', '{"n": 1}');
        """
        )
    migrate.upgrade(url)
    url += "&" if "?" in url else "?"
    url += "options=-c%20app.tenant_id%3D*"
    [(large,), (plain,)] = rows(url, "SELECT payload FROM job_queue ORDER BY job_type")
    assert (list(large), plain) == (["larger_than_256_KiB"], {"n": 1})
    assert rows(url, "SELECT conname FROM pg_constraint WHERE NOT convalidated") == []


@pytest.mark.proof
def test_the_wake_columns_agree_whichever_release_writes(servers: Servers, empty_database: str) -> None:
    """0023, in a rolling deploy: the release before writes `ring_at` and `rings`, and this one the new names."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0022")
    url = seeing_all_tenants(url)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO job_queue (job_type, ring_at, rings) VALUES ('past', '2030-01-01Z', 3), ('plain', NULL, 0)"
        )
    migrate.upgrade(servers.postgres.url(OWNER, empty_database))
    with psycopg.connect(url, autocommit=True) as owner:

        def both(job_type: str) -> tuple[Any, ...]:
            query = """
                SELECT wake_at IS NOT DISTINCT FROM ring_at AND wake_count = rings,
                       extract(year FROM wake_at)::int, wake_count
                FROM job_queue WHERE job_type = %s
            """
            agree, *values = owner.execute(query, (job_type,)).fetchall()[0]
            assert agree, job_type
            return tuple(values)

        assert both("past") == (2030, 3)
        assert both("plain") == (None, 0)
        # The release before: enqueues, defers, wakes.
        owner.execute("INSERT INTO job_queue (job_type, ring_at) VALUES ('before', '2031-01-01Z')")
        assert both("before") == (2031, 0)
        owner.execute(
            "UPDATE job_queue SET ring_at = '2032-01-01Z', rings = least(rings + 1, 1000) WHERE job_type = 'before'"
        )
        assert both("before") == (2032, 1)
        owner.execute("UPDATE job_queue SET ring_at = NULL, rings = 0 WHERE job_type IN ('past', 'before')")
        assert both("past") == both("before") == (None, 0)
        # This release does.
        owner.execute("INSERT INTO job_queue (job_type, wake_at) VALUES ('this', '2031-01-01Z')")
        assert both("this") == (2031, 0)
        owner.execute(
            "UPDATE job_queue SET wake_at = '2032-01-01Z', wake_count = wake_count + 1 WHERE job_type = 'this'"
        )
        assert both("this") == (2032, 1)
        owner.execute("UPDATE job_queue SET wake_at = NULL, wake_count = 0 WHERE job_type = 'this'")
        assert both("this") == (None, 0)
        with pytest.raises(psycopg.errors.CheckViolation):
            owner.execute("UPDATE job_queue SET ring_at = 'infinity' WHERE job_type = 'this'")
    migrate.downgrade(servers.postgres.url(OWNER, empty_database), "0022")
    assert rows(url, "SELECT count(*) FROM job_queue WHERE ring_at IS NULL") == [(4,)]


def test_of_several_live_videos_of_a_concept_the_newest_stays_and_a_killed_migration_is_repeated(
    servers: Servers, empty_database: str
) -> None:
    """0025, where something else than a release wrote `videos`."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0024")
    with psycopg.connect(seeing_all_tenants(url), autocommit=True) as owner:
        owner.execute(
            """
            WITH tenant AS (INSERT INTO tenants (name) VALUES ('old') RETURNING id),
            generation AS (INSERT INTO generations (tenant_id) SELECT id FROM tenant RETURNING tenant_id, id)
            INSERT INTO videos (tenant_id, generation_id, concept_id, title, created_at)
            SELECT tenant_id, id, concept, title, title::timestamptz FROM generation, (VALUES
                ('c1', '2026-11-01Z'), ('c1', '2026-11-02Z'), ('c1', '2026-11-03Z'), ('c2', '2026-11-01Z'),
                (NULL, '2026-11-01Z')
            ) AS old (concept, title)
            """
        )
        migrate.upgrade(url, "0025")
        live = "SELECT concept_id, title FROM videos WHERE status = 'pending' ORDER BY concept_id"
        stay = [("c1", "2026-11-03Z"), ("c2", "2026-11-01Z"), (None, "2026-11-01Z")]
        assert owner.execute(live).fetchall() == stay
        owner.execute("UPDATE alembic_version SET version_num = '0024'")
        migrate.upgrade(url, "0025")
        assert owner.execute(live).fetchall() == stay
        assert (
            owner.execute(
                "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid"
            ).fetchall()
            == []
        )


@pytest.mark.proof
def test_of_several_posts_of_a_video_those_that_were_sent_stay_and_only_a_person_chooses_between_them(
    servers: Servers, empty_database: str
) -> None:
    """0027, where something else than a release wrote `social_posts`."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0025")
    with psycopg.connect(seeing_all_tenants(url), autocommit=True) as owner:
        owner.execute(
            """
            WITH tenant AS (INSERT INTO tenants (name) VALUES ('old') RETURNING id),
            generation AS (INSERT INTO generations (tenant_id) SELECT id FROM tenant RETURNING tenant_id, id),
            account AS (
                INSERT INTO social_accounts (tenant_id, platform, external_id)
                SELECT id, 'tiktok', 'ada' FROM tenant RETURNING tenant_id, id
            ),
            old (video, attempt, status, external_id, submitted_at) AS (VALUES
                ('v1', 1, 'published', 'a', now()), ('v1', 2, 'draft', NULL, NULL), ('v1', 3, 'failed', 'a', now()),
                ('v2', 1, 'scheduled', NULL, NULL), ('v2', 2, 'scheduled', NULL, NULL),
                ('v3', 1, 'submitted', NULL, now()), ('v3', 2, 'claimed', NULL, NULL), ('v3', 3, 'draft', NULL, NULL),
                ('v4', 1, 'published', 'b', now()), ('v4', 2, 'unconfirmed', NULL, now())
            ),
            video AS (
                INSERT INTO videos (tenant_id, generation_id, concept_id, title)
                SELECT tenant_id, id, video, video FROM generation, (SELECT DISTINCT video FROM old) AS each
                RETURNING tenant_id, id, title
            )
            INSERT INTO social_posts
                (tenant_id, video_id, account_id, attempt_group, status, caption, external_id, submitted_at)
            SELECT tenant_id, video.id, account.id, attempt, status, video || attempt, external_id, submitted_at
            FROM old JOIN video ON title = video JOIN account USING (tenant_id)
            """
        )
        with pytest.raises(MigrationRefused, match="these social_posts were sent, and are the same post") as refused:
            migrate.upgrade(url)
        of_v4 = "SELECT id::text FROM social_posts WHERE caption LIKE 'v4%' ORDER BY id"
        assert ", ".join(id_ for (id_,) in owner.execute(of_v4)) in str(refused.value)
        owner.execute("UPDATE social_posts SET status = 'failed' WHERE caption = 'v42'")
        migrate.upgrade(url)
        found = owner.execute("SELECT caption, status, external_id FROM social_posts ORDER BY caption").fetchall()
    assert found == [
        ("v11", "published", "a"),
        ("v12", "cancelled", None),
        ("v13", "failed", None),
        ("v21", "cancelled", None),
        ("v22", "scheduled", None),
        ("v31", "submitted", None),
        ("v32", "cancelled", None),
        ("v33", "cancelled", None),
        ("v41", "published", "b"),
        ("v42", "failed", None),
    ]


@pytest.mark.proof
def test_gaps_of_critiques_that_are_there_get_the_other_sign_and_have_it_back_below(
    servers: Servers, empty_database: str
) -> None:
    owner = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(owner, "0029")
    url = seeing_all_tenants(owner)
    gaps = [{"gap": 22.5, "gapPercentage": -26, "x": "y"}, {"gap": 0, "gapless": True}, {"other": 5}, {}]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO tenants (name) VALUES ('ada')")
        for place, gap in enumerate(gaps):
            connection.execute(
                "INSERT INTO self_critiques (tenant_id, concept_id, performance_gap) SELECT id, %s, %s FROM tenants",
                (str(place), json.dumps(gap)),
            )
    found = "SELECT performance_gap FROM self_critiques ORDER BY concept_id"
    migrate.upgrade(owner)
    turned = [{"gap": -22.5, "gapPercentage": 26, "x": "y"}, *gaps[1:]]
    assert [gap for (gap,) in rows(url, found)] == turned
    migrate.downgrade(owner, "0029")
    assert [gap for (gap,) in rows(url, found)] == gaps


@pytest.mark.proof
def test_two_upgrades_of_one_empty_database_at_once_both_succeed(servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(OWNER, empty_database)
    newest = migrate.newest()
    assert sorted(upgrade_at_once([url, url])) == [f"{newest} {newest}", f"None {newest}"]


def test_an_unreachable_server_is_an_error_that_says_so() -> None:
    with pytest.raises(MigrationRefused, match="the schema was not changed as asked"):
        migrate.upgrade("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")


def test_who_does_not_own_the_tables_is_told_which_url_decides(servers: Servers, empty_database: str) -> None:
    owner = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(owner, "0046")
    with pytest.raises(MigrationRefused, match=r"must be owner of .*; DIRECT_URL, else DATABASE_URL, has to log in as"):
        migrate.upgrade(servers.postgres.url(APP, empty_database))


def test_a_schema_of_a_newer_release_is_left_alone(servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for move in (migrate.upgrade, partial(migrate.downgrade, revision="base")):
        with pytest.raises(MigrationRefused, match="at 9999, which this release does not know"):
            move(url)
    assert rows(url, "SELECT version_num FROM alembic_version") == [("9999",)]


def test_a_release_may_go_back_to_where_a_newer_one_was(servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("COMMENT ON TABLE alembic_version IS 'older releases that may work on this schema: 9998'")
    with pytest.raises(SchemaNewer, match="run `viral migrate --allow-newer`"):
        check(schema_of(url))
    for _ in range(2):
        assert migrate.upgrade(url, allow_newer=True) == ("9999", "9999")
    assert schema_of(url) == Schema("9999", frozenset({"9998", str(migrate.newest())}))
    check(schema_of(url))


@pytest.mark.proof
def test_the_release_before_goes_on_until_it_is_replaced(servers: Servers, empty_database: str) -> None:
    """Its processes may be started again between the migration and their replacement."""
    url = servers.postgres.url(OWNER, empty_database)
    before = "0014"
    migrate.upgrade(url, before)
    assert schema_of(url) == Schema(before)
    with pytest.raises(SchemaOlder, match=r"at 0014, .*: run `viral migrate`"):
        check(schema_of(url))
    migrate.upgrade(url)
    assert schema_of(url) == Schema(migrate.newest(), frozenset({before}))
    assert migrate.upgrade(url, allow_newer=True) == (migrate.newest(), migrate.newest())
    assert schema_of(url).compatible == {before}
    migrate.downgrade(url, before)
    assert schema_of(url) == Schema(before)


def test_the_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory(str(migrate.MIGRATIONS))
    assert known_revisions() == {script.revision for script in scripts.walk_revisions()}
    assert migrate.newest() == scripts.get_current_head()


def test_a_table_that_is_in_use_is_told_as_such(servers: Servers, empty_database: str) -> None:
    """The table that is always there stands for those that a migration changes: those wait for five seconds."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url)
    with psycopg.connect(url) as busy:
        busy.execute("LOCK TABLE alembic_version")
        with pytest.raises(MigrationRefused, match=r"a table was in use by others for too long .*: try again"):
            migrate.upgrade(f"{url}?options=-clock_timeout%3D100ms")
    assert migrate.upgrade(url) == (migrate.newest(), migrate.newest())


def schema_of(url: str) -> Schema:
    with psycopg.connect(url) as connection:
        return Health(connection).schema()
