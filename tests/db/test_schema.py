"""Models, migrations and contract say the same of the database.

The migrated schema is held against one made from `db.schema.tables` in a second database, catalog against catalog:
that sees what alembic's comparison does not (checks, index predicates, storage parameters, identities, sequences,
functions and triggers).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from db.migrate import upgrade as migrate
from db.migrate.revisions import Schema, SchemaNewer, SchemaOlder, check, known_revisions
from db.migrate.upgrade import MIGRATIONS, MigrationRefused, owners_engine
from db.ops.health import Health
from db.schema.tables import metadata
from db.security import RoleRefused, seeing_all_tenants
from db.transaction import SYSTEM, Database
from domain.quota import quota
from local.postgres import APP, OWNER, EmbeddedPostgres
from tests.builders import job_row
from tests.conftest import Servers
from workers.app import App

SUPERUSER = "postgres"

TABLES = """
SELECT c.relname, c.relkind, coalesce(c.reloptions, '{}'), pg_get_partkeydef(c.oid)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND c.relname NOT LIKE 'alembic%'
"""
COLUMNS = """
SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
       pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname NOT LIKE 'alembic%'
"""
CONSTRAINTS = """
SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conname NOT LIKE 'alembic%'
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE 'alembic%'
"""
FUNCTIONS = """
SELECT 'function ' || proname, pg_get_functiondef(oid), proacl::text
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""
TRIGGERS = """
SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
"""
EVERYTHING = """
SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'policy ' || polname FROM pg_policy
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'
UNION ALL SELECT 'extension ' || extname FROM pg_extension
UNION ALL SELECT 'default privileges of ' || defaclrole::regrole FROM pg_default_acl
"""


def rows(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query, values or None).fetchall()


def catalog(url: str) -> dict[str, tuple[Any, ...]]:
    """Every table, sequence, column, constraint, index, function and trigger, by name."""
    found: dict[str, tuple[Any, ...]] = {}
    for query in (TABLES, COLUMNS, CONSTRAINTS, INDEXES, FUNCTIONS, TRIGGERS):
        found |= {f"{name}": tuple(facts) for name, *facts in rows(url, query)}
    return found


def anything(url: str) -> set[str]:
    return {name for (name,) in rows(url, EVERYTHING)}


def upgrade_at_once(urls: Sequence[str]) -> list[str]:
    """`migrate.upgrade`, in a process for each (alembic keeps its context in a global). Returns what each printed."""
    program = (
        "import sys; from db.migrate.upgrade import upgrade;"
        "print('ready', flush=True); input(); print(*upgrade(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True)
        for url in urls
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in processes]


# --- models and migrations ----------------------------------------------------------------------------------


def test_the_migrated_schema_is_the_one_that_the_models_describe(
    servers: Servers, owner_url: str, empty_database: str
) -> None:
    drawn = servers.postgres.url(OWNER, empty_database)
    engine = owners_engine(drawn)
    metadata.create_all(engine)
    migrated, described = catalog(owner_url), catalog(drawn)
    differences = {
        name: (migrated.get(name), described.get(name))
        for name in migrated.keys() | described.keys()
        if migrated.get(name) != described.get(name)
    }
    assert differences == {}
    assert {"job_queue", "job_lease_token", "job_queue.status", "job_queue_ready_idx"} <= migrated.keys()
    assert {"job_archive", "job_archive.steps", "job_archive_id_idx"} <= migrated.keys()
    assert {"function complete_job", "function app_scope", "trigger quota_agrees_with_ledger"} <= migrated.keys()


def test_alembic_finds_nothing_to_migrate(owner_url: str) -> None:
    """What a developer would be offered by `alembic revision --autogenerate`."""
    with owners_engine(owner_url).connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_what_a_developer_is_offered_does_not_touch_the_archives_weeks(owner_url: str, tmp_path: Path) -> None:
    """`alembic check`, as a person runs it, with `migrations/env.py`."""
    rows(owner_url, "SELECT make_job_archive_week(now())")
    environment = os.environ | {"DIRECT_URL": owner_url}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=MIGRATIONS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


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


def test_a_fresh_count_given_before_the_period_was_derived_stays_one(servers: Servers, empty_database: str) -> None:
    """0014: until then it began a period, which the next event would derive away."""
    url = servers.postgres.url(OWNER, empty_database)
    migrate.upgrade(url, "0013")
    given = (
        "INSERT INTO tenants (name, quota_period_start) VALUES ('by hand', now()), ('by SQL', now()), ('not', now())"
    )
    told = """
        INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause, taken_at)
        SELECT id, kind, amount, 0, 10, period_start, cause, quota_period_start - interval '1 microsecond'
        FROM tenants JOIN (
            VALUES ('by hand', 'reset', 0, now(), 'person:ada'), ('by SQL', 'adjust', -3, now(), 'sql:x'),
                   ('not', 'reset', 0, now(), 'job:1')
        ) AS v (name, kind, amount, period_start, cause) USING (name)
    """
    with psycopg.connect(url) as owner:
        owner.execute("SET LOCAL app.tenant_id = '*'")
        owner.execute(given)
        owner.execute(told)
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


TOLD = """
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
        for who, told in people.items():
            row = (
                "INSERT INTO users (clerk_id, tenant_id, source_updated_at) SELECT %s, id, to_timestamp(2) FROM tenants"
            )
            owner.execute(row, (who,))
            for at, banned in told:
                owner.execute(TOLD, {"who": who, "at": str(at), "banned": banned})
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


def test_two_upgrades_of_one_empty_database_at_once_both_succeed(servers: Servers, empty_database: str) -> None:
    url = servers.postgres.url(OWNER, empty_database)
    newest = migrate.newest()
    assert sorted(upgrade_at_once([url, url])) == [f"{newest} {newest}", f"None {newest}"]


def test_an_unreachable_server_is_an_error_that_says_so() -> None:
    with pytest.raises(MigrationRefused, match="the schema was not changed as asked"):
        migrate.upgrade("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")


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


# --- a server that knows nothing of us ----------------------------------------------------------------------


class BareServer:
    """A Postgres of its own, on which the application's role does not exist: roles belong to the whole server."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres
        self.forget_app_role()

    def url(self, role: str, database: str) -> str:
        return self._postgres.url(role, database)

    def forget_app_role(self) -> None:
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute(f"DROP ROLE IF EXISTS {APP}")

    @property
    def has_app_role(self) -> bool:
        return bool(rows(self.url(SUPERUSER, "postgres"), "SELECT FROM pg_roles WHERE rolname = %s", APP))

    def database(self) -> str:
        name = f"bare_{uuid4().hex[:8]}"
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        return name

    def clear(self) -> None:
        """Drop the databases, whose grants hold the role; then the role."""
        with psycopg.connect(self.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bare%'").fetchall():
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.forget_app_role()


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    bin_dir = os.environ.get("POSTGRES_BIN")
    home = tmp_path_factory.mktemp("bare")
    with EmbeddedPostgres(home, durable=False, bin_dir=Path(bin_dir) if bin_dir else None) as postgres:
        yield BareServer(postgres)


@pytest.fixture
def bare(own_postgres: BareServer) -> Iterator[BareServer]:
    yield own_postgres
    own_postgres.clear()


def usable(url: str) -> tuple[str, int]:
    """Who works there, through `Database`, and how many tenants they see after adding one."""
    with closing(Database(url, pool_size=1, new_id=uuid4)) as database, database.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO tenants (name) VALUES ('Ada')")
        row = tx.driver.execute("SELECT current_user, count(*) FROM tenants").fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("role", [OWNER, SUPERUSER])
def test_the_applications_role_is_made_if_the_server_lacks_it(bare: BareServer, role: str) -> None:
    url = bare.url(role, bare.database())
    migrate.upgrade(url)
    assert usable(url) == (APP, 1)


def test_two_databases_of_one_such_server_can_be_migrated_at_once(bare: BareServer) -> None:
    urls = [bare.url(OWNER, bare.database()) for _ in range(2)]
    assert upgrade_at_once(urls) == [f"None {migrate.newest()}"] * 2
    assert [usable(url) for url in urls] == [(APP, 1)] * 2


@pytest.fixture
def superuser(bare: BareServer) -> Iterator[psycopg.Connection[Any]]:
    """Of the bare server, whose owner may not make roles as long as this lasts."""
    with psycopg.connect(bare.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {OWNER} NOCREATEROLE")
        yield connection
        connection.execute(f"ALTER ROLE {OWNER} CREATEROLE NOBYPASSRLS")


def test_an_owner_who_may_not_make_the_role_works_under_the_rule_itself(
    bare: BareServer, superuser: psycopg.Connection[Any]
) -> None:
    """A host that gives one role and no more. Should the role come later, the next migration lets it work."""
    url = bare.url(OWNER, bare.database())
    migrate.upgrade(url)
    assert usable(url) == (OWNER, 1)
    database = Database(url, pool_size=1, new_id=uuid4)
    with database.transaction(uuid4()) as tx:
        assert tx.driver.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
    with database.transaction(SYSTEM) as tx:
        assert tx.archive.make_week(datetime(2026, 3, 4, tzinfo=UTC))
        assert tx.health.identity().mode == "owner"
    database.close()
    superuser.execute(f"CREATE ROLE {APP} NOLOGIN")
    superuser.execute(f"GRANT {APP} TO {OWNER}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        usable(url)
    migrate.upgrade(url)
    assert usable(url) == (APP, 2)


@pytest.mark.parametrize(
    ("statements", "refusal"),
    [
        ((f"CREATE ROLE {APP}",), f"GRANT {APP} TO {OWNER}, as a superuser"),
        (
            (f"CREATE ROLE {APP}", f"ALTER ROLE {OWNER} BYPASSRLS"),
            f"{OWNER} may bypass row-level security: GRANT {APP}",
        ),
        ((f"ALTER ROLE {OWNER} BYPASSRLS",), f"{OWNER} may bypass row-level security: CREATE ROLE {APP}"),
        (
            (f"CREATE ROLE {APP} BYPASSRLS", f"GRANT {APP} TO {OWNER}"),
            f"{APP} may bypass row-level security: ALTER ROLE {APP} NOSUPERUSER NOBYPASSRLS",
        ),
    ],
)
def test_a_role_that_the_rule_would_not_bind_is_refused(
    bare: BareServer, superuser: psycopg.Connection[Any], statements: tuple[str, ...], refusal: str
) -> None:
    url = bare.url(OWNER, bare.database())
    migrate.upgrade(url)
    for statement in statements:
        superuser.execute(statement)  # type: ignore[call-overload]
    with pytest.raises(RoleRefused, match=refusal):
        usable(url)


def test_an_owner_of_tables_without_the_forced_rule_is_refused(
    bare: BareServer, superuser: psycopg.Connection[Any]
) -> None:
    """The schema of the release before, with its owner's URL."""
    url = bare.url(OWNER, bare.database())
    migrate.upgrade(url)
    with psycopg.connect(url) as owner:
        owner.execute("ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY")
    with pytest.raises(RoleRefused, match="run `viral migrate`"):
        usable(url)


def test_an_owner_who_may_bypass_the_rule_and_not_make_the_role_is_told_what_to_ask_for(
    bare: BareServer, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute(f"ALTER ROLE {OWNER} BYPASSRLS")
    with pytest.raises(MigrationRefused, match=f"the role {APP} is missing, and {OWNER} may bypass"):
        migrate.upgrade(bare.url(OWNER, bare.database()))


def test_rights_that_the_application_s_role_lacks_are_named_and_given_again(owner_url: str, app: App) -> None:
    with psycopg.connect(owner_url) as owner:
        owner.execute(f"REVOKE INSERT, UPDATE ON webhook_events FROM {APP}")
        owner.execute(f"REVOKE SELECT ON tenants FROM {APP}")
        owner.execute(f"REVOKE SELECT ON alembic_version FROM {APP}")
    with app.db.transaction(SYSTEM) as tx:
        missing = tx.health.missing_rights()
    assert missing == [
        f"GRANT INSERT, UPDATE ON webhook_events TO {APP}",
        f"GRANT SELECT ON alembic_version, tenants TO {APP}",
    ]
    migrate.upgrade(owner_url)
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.missing_rights() == []


# --- row-level security and grants --------------------------------------------------------------------------


def test_every_table_is_under_the_one_rule(owner_url: str) -> None:
    """A tenant's row by its `tenant_id` (its `id` in `tenants`); whatever has no tenant is the system's alone."""
    rule = {
        name: (enabled, forced, policies)
        for name, enabled, forced, policies in rows(
            owner_url,
            """
            SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity,
                   (SELECT array_agg(p.polname || ' ' || p.polcmd::text || ' ' || p.polpermissive || ' '
                                     || pg_get_expr(p.polqual, p.polrelid) || coalesce(' check ' ||
                                        pg_get_expr(p.polwithcheck, p.polrelid), ''))
                    FROM pg_policy p WHERE p.polrelid = c.oid)
            FROM pg_class c
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND c.relname <> 'alembic_version'
            """,
        )
    }

    def expected(name: str) -> str:
        columns = metadata.tables[name].columns
        owner = "id" if name == "tenants" else "tenant_id" if "tenant_id" in columns else None
        scope = "( SELECT app_scope() AS app_scope)"
        return f"(({scope} = '*'::text) OR ({scope} = ({owner})::text))" if owner else f"({scope} = '*'::text)"

    assert rule == {name: (True, True, [f"scope * true {expected(name)}"]) for name in metadata.tables}


def test_the_applications_role_may_work_in_the_tables_and_nothing_more(owner_url: str) -> None:
    """Nor may everybody, through PUBLIC."""
    granted = rows(
        owner_url,
        """
        SELECT relname, relkind, given.privilege_type
        FROM pg_class, LATERAL aclexplode(relacl) AS given
        WHERE relnamespace = 'public'::regnamespace AND given.grantee IN (0, %s::regrole)
        """,
        APP,
    )
    sequences = {(name, privilege) for name, kind, privilege in granted if kind == "S"}
    others = {(name, privilege) for name, kind, privilege in granted if kind != "S"}
    work = {(name, privilege) for name in metadata.tables for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")}
    work -= {("quota_ledger", "UPDATE"), ("quota_ledger", "DELETE")}
    assert others == {*work, ("alembic_version", "SELECT")}
    assert {privilege for _, privilege in sequences} == {"USAGE"}
    assert "job_lease_token" in {name for name, _ in sequences}


def test_what_runs_with_the_owners_rights_is_named_here_and_nobody_else_may_call_it(owner_url: str) -> None:
    """It finds its tables on a path of its own, whatever the caller's is."""
    found = rows(
        owner_url,
        """
        SELECT proname, proowner::regrole::text, proconfig[1],
               ARRAY(SELECT grantee::regrole::text FROM aclexplode(proacl) ORDER BY 1)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef ORDER BY 1
        """,
    )
    path = "search_path=public, pg_temp"
    names = ("drop_job_archive_weeks", "make_job_archive_week")
    triggers = ("quota_agrees", "quota_entry_agrees")
    assert found == [
        *((name, OWNER, path, [APP, OWNER]) for name in names),
        *((name, OWNER, path, [OWNER]) for name in triggers),
    ]


def test_the_applications_role_owns_nothing_and_cannot_bypass(owner_url: str) -> None:
    [(is_super, bypasses, makes_roles)] = rows(
        owner_url, "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = %s", APP
    )
    assert (is_super, bypasses, makes_roles) == (False, False, False)
    assert rows(owner_url, "SELECT objid FROM pg_shdepend WHERE refobjid = %s::regrole AND deptype = 'o'", APP) == []
    [(may_create,)] = rows(owner_url, "SELECT has_schema_privilege(%s, 'public', 'CREATE')", APP)
    assert not may_create


# --- the contract with other programs -----------------------------------------------------------------------

CONTRACT = {
    "tenants": "name subscription_tier subscription_status stripe_customer_id stripe_subscription_id monthly_quota "
    "used_quota quota_anchor quota_reset_at",
    "users": "clerk_id email name image_url tenant_id role last_login_at",
    "api_keys": "key_hash",
    "webhook_events": "source external_id type api_version livemode payload occurred_at received_at status job_id",
    "generations": "tenant_id date concepts trends is_favorite",
    "videos": "",
    "social_accounts": "",
    "social_posts": "",
    "performance_feedback": "",
    "analytics_snapshots": "",
    "self_critiques": "",
    "reflexion_insights": "",
    "scoring_adjustments": "",
    "audio_trends": "",
    "competitor_videos": "",
    "quota_holds": "",
    "quota_ledger": "",
    "job_queue": "tenant_id job_type queue status priority payload result error_message attempts max_attempts "
    "scheduled_for started_at completed_at created_at unique_key ordering_key",
    "job_attempts": "",
    "job_steps": "",
    "job_archive": "tenant_id job_type queue status priority payload result error_message attempts max_attempts "
    "scheduled_for started_at completed_at created_at unique_key ordering_key batch_id attempt_history steps",
    "workers": "",
    "schedule_fires": "",
    "system_metrics": "",
    "api_usage": "",
}


def test_the_tables_and_columns_that_others_rely_on_are_there(owner_url: str) -> None:
    there = {(table, column): kind for table, column, kind in rows(owner_url, INFORMATION)}
    promised = {(table, column) for table, names in CONTRACT.items() for column in [*names.split(), *_ids(table)]}
    assert promised - there.keys() == set()
    assert [name for name, kind in there.items() if kind == "timestamp without time zone"] == []


INFORMATION = """
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
"""


def _ids(table: str) -> list[str]:
    keyed_otherwise = {"quota_holds", "job_steps", "schedule_fires"}
    return [] if table in keyed_otherwise else ["id"]


def owner(url: str, query: str, *values: Any) -> dict[str, Any]:
    """One statement as the dashboard would send it: the owner's role, no scope, any session time zone."""
    with psycopg.connect(url, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("SET timezone = 'America/New_York'")
        row = connection.execute(query, values).fetchone()
    assert row is not None
    return row


def test_a_job_inserted_by_plain_sql_is_enqueued_and_runs(app: App, owner_url: str, drain: Callable[[], int]) -> None:
    row = owner(owner_url, "INSERT INTO job_queue (job_type) VALUES ('quota.reset_due') RETURNING *")
    expected = {"status": "pending", "queue": "default", "priority": 5, "max_attempts": 3, "attempts": 0, "payload": {}}
    assert {name: row[name] for name in expected} == expected
    assert (row["scheduled_for"], row["wake_at"]) == (row["created_at"], None)
    assert row["id"].version == 7
    assert abs((row["id"].int >> 80) / 1000 - row["created_at"].timestamp()) < 60
    assert drain() == 1
    assert job_row(app, row["id"])["status"] == "completed"


def test_a_tenant_inserted_by_plain_sql_is_on_the_free_plan_from_now_on(owner_url: str) -> None:
    row = owner(owner_url, "INSERT INTO tenants (name) VALUES ('Ada') RETURNING *")
    now = row["created_at"]
    free = quota.first_period(10, now)
    assert (row["subscription_tier"], row["subscription_status"]) == ("FREE", "none")
    assert (row["monthly_quota"], row["used_quota"], row["quota_paid_until"]) == (free.limit, free.used, None)
    assert (row["quota_anchor"], row["quota_period_start"]) == (now, now)
    assert row["quota_reset_at"] == free.resets_at


def test_a_user_inserted_by_plain_sql_is_a_member(owner_url: str) -> None:
    tenant_id = owner(owner_url, "INSERT INTO tenants (name) VALUES ('Ada') RETURNING id")["id"]
    row = owner(owner_url, "INSERT INTO users (clerk_id, tenant_id) VALUES ('user_1', %s) RETURNING *", tenant_id)
    assert (row["role"], row["email"], row["deleted_at"]) == ("MEMBER", None, None)
    # Mail addresses are reused after a deletion, and many people have none: they are not unique.
    for clerk_id, email in (("user_2", "a@example.com"), ("user_3", "a@example.com"), ("user_4", ""), ("user_5", "")):
        query = "INSERT INTO users (clerk_id, email, tenant_id) VALUES (%s, %s, %s) RETURNING id"
        owner(owner_url, query, clerk_id, email, tenant_id)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "'waiting'"),
        ("status", "'running'"),
        ("payload", "'[]'"),
        ("payload", "'null'"),
        ("max_attempts", "0"),
        ("scheduled_for", "'infinity'"),
        ("cancel_requested_at", "'infinity'"),
        ("created_at", "'0044-03-15 BC'"),
        ("attempts", "-1"),
        ("crashes", "-1"),
        ("payload_version", "0"),
        ("tenant_id", "gen_random_uuid()"),
    ],
)
def test_a_job_that_could_never_run_is_refused_at_the_door(owner_url: str, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        owner(owner_url, f"INSERT INTO job_queue (job_type, {column}) VALUES ('x', {value}) RETURNING id")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("used_quota", "-1"), ("monthly_quota", "-1"), ("subscription_tier", "'GOLD'")),
        *(("quota_anchor", "'-infinity'"), ("quota_reset_at", "'infinity'"), ("daily_last_on", "'infinity'")),
    ],
)
def test_a_tenant_cannot_have_what_no_plan_has(owner_url: str, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        owner(owner_url, f"INSERT INTO tenants (name, {column}) VALUES ('Ada', {value}) RETURNING id")
