"""Every table is under the one rule, and roles have the rights that they need, on a server without our role too."""

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from db.migrate import upgrade as migrate
from db.migrate.upgrade import MigrationRefused
from db.schema.tables import metadata
from db.security import RoleRefused
from db.transaction import SYSTEM, Database
from local.postgres import APP, OWNER, EmbeddedPostgres
from tests.db.catalog import rows, upgrade_at_once
from workers.app import App

SUPERUSER = "postgres"


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


@pytest.mark.proof
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
    ("statements", "reason"),
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
    bare: BareServer, superuser: psycopg.Connection[Any], statements: tuple[str, ...], reason: str
) -> None:
    url = bare.url(OWNER, bare.database())
    migrate.upgrade(url)
    for statement in statements:
        superuser.execute(statement)  # type: ignore[call-overload]
    with pytest.raises(RoleRefused, match=reason):
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
    """A tenant's row by its `tenant_id` (its `id` in `tenants`); whatever has no tenant is the system's alone, and the
    figures of all tenants together may be read."""
    rule = {
        name: (enabled, forced, policies)
        for name, enabled, forced, policies in rows(
            owner_url,
            """
            SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity,
                   (SELECT array_agg(p.polname || ' ' || p.polcmd::text || ' ' || p.polpermissive || ' '
                                     || pg_get_expr(p.polqual, p.polrelid) || coalesce(' check ' ||
                                        pg_get_expr(p.polwithcheck, p.polrelid), '') ORDER BY p.polname DESC)
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

    read_by_all = ["figures r true (( SELECT app_scope() AS app_scope) IS NOT NULL)"]
    assert rule == {
        name: (True, True, [f"scope * true {expected(name)}", *(read_by_all if name == "pooled_priors" else [])])
        for name in metadata.tables
    }


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
