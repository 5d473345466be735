"""Row-level security: one rule for every table, and the role that works under it.

A transaction names the scope in which it works by setting `app.tenant_id`, for its own length only: a tenant's id (that
tenant's rows), or `*` (the system scope: engine, webhooks, operators). A transaction without a scope may touch nothing:
the rule itself raises SQLSTATE VD001, which `db.transaction` turns into `TenantContextNotSet`. The rule is forced: it
binds the owner of the tables as well. The application's role owns no table and cannot bypass the rule; where it cannot
be had (a host whose owner may not create roles), the owner itself works under the rule.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from domain.errors import ViralError

APP_ROLE = "viral_app"
SCOPE_NOT_SET = "VD001"
SYSTEM_SCOPE = "*"

# The privilege to `SET ROLE` is its own since Postgres 16.
MAY_BECOME = "CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END"

CREATE_SCOPE_FUNCTION = f"""
CREATE OR REPLACE FUNCTION app_scope() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
BEGIN
    IF scope IS NULL OR scope = '' THEN
        RAISE EXCEPTION 'tenant context not set: set app.tenant_id in this transaction first'
            USING ERRCODE = '{SCOPE_NOT_SET}',
                  HINT = 'A tenant''s id, or * for the rows of all: SET LOCAL app.tenant_id = ''*'', or on a direct '
                         'connection options=-c%20app.tenant_id%3D* in the URL.';
    END IF;
    RETURN scope;
END $$
"""

DROP_SCOPE_FUNCTION = "DROP FUNCTION app_scope()"

# Two databases of one server may be migrated at once, and roles belong to the server: hence the handler. An owner who
# may not create roles works itself, under the forced rule; one whom the rule cannot bind must not.
CREATE_APP_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        CREATE ROLE {APP_ROLE} NOLOGIN NOBYPASSRLS;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolbypassrls) THEN
            RAISE EXCEPTION 'the role {APP_ROLE} is missing, and % may bypass row-level security but not create it',
                current_user
                USING HINT = 'As a superuser: CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO ' || current_user;
        END IF;
END $$
"""

# It lets the owner's transactions take the application's role (`SET LOCAL ROLE`), where only one URL is configured. If
# Postgres refuses, `migrate` reports it, and so do processes that have the owner's URL.
GRANT_ROLE_TO_OWNER = f"""
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}')
       AND NOT pg_has_role(current_user, (SELECT oid FROM pg_roles WHERE rolname = '{APP_ROLE}'), {MAY_BECOME}) THEN
        EXECUTE format('GRANT {APP_ROLE} TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$
"""


def for_app_role(statement: str) -> str:
    """Return the GRANT or REVOKE `statement`, to be run only if the application's role exists."""
    return f"""
DO $do$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        {statement};
    END IF;
END $do$
"""


def seeing_all_tenants(url: str) -> str:
    """Return the URL of a direct connection whose session has the system scope, for people and programs with plain
    SQL."""
    return f"{url}{'&' if '?' in url else '?'}options=-c%20app.tenant_id%3D{SYSTEM_SCOPE}"


def protect(table: str, owner_column: str | None = "tenant_id") -> Iterator[str]:
    """Yield the statements that put one table under the rule and let the application's role work in it.

    `owner_column` names the tenant that a row belongs to; None keeps the table to the system scope. Migrations call
    this: its effect on a table that exists must not change. A migration after 0016 also forces the rule.
    """
    visible = f"IN ('*', {owner_column}::text)" if owner_column else "= '*'"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    # The sub-select is evaluated once for a statement, not for each row.
    yield f"CREATE POLICY scope ON {table} USING ((SELECT app_scope()) {visible})"
    yield for_app_role(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP_ROLE}")


def force(table: str) -> str:
    """Return the statement that lets the rule bind the owner of the table too."""
    return f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"


# --- who works under the rule -------------------------------------------------------------------------------

IDENTIFY = f"""
SELECT current_user, pg_backend_pid(), coalesce(app.rolname = current_user, false), app.oid IS NOT NULL,
       app.oid IS NOT NULL AND pg_has_role(current_user, app.oid, {MAY_BECOME}),
       login.rolsuper OR login.rolbypassrls, coalesce(app.rolsuper OR app.rolbypassrls, false),
       EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('tenants') AND pg_has_role(relowner, 'USAGE')),
       EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('tenants') AND relforcerowsecurity)
FROM pg_roles login LEFT JOIN pg_roles app ON app.rolname = '{APP_ROLE}' WHERE login.rolname = current_user
"""


class Login(NamedTuple):
    """The role that a connection logged in as, and what it may do; the fields are the columns of `IDENTIFY`."""

    role: str
    backend_pid: int
    is_app_role: bool
    app_role_exists: bool
    may_become_app_role: bool
    bypasses: bool
    app_role_bypasses: bool
    owns_tables: bool
    rule_is_forced: bool


class RoleRefused(ViralError):
    """Row-level security would not bind the role that the database's URL logs in as, which only a person can change."""


def role_to_take(login: Login) -> str:
    """Return the role that each transaction takes: the application's, or "" where the login role is bound itself.

    Raises:
        RoleRefused: neither is bound by row-level security.
    """
    if login.is_app_role or login.may_become_app_role:
        if login.app_role_bypasses:
            mend = f"ALTER ROLE {APP_ROLE} NOSUPERUSER NOBYPASSRLS"
            raise RoleRefused(f"{APP_ROLE} may bypass row-level security: {mend}")
        return APP_ROLE
    grant = f"GRANT {APP_ROLE} TO {login.role}"
    if login.bypasses:
        create = "" if login.app_role_exists else f"CREATE ROLE {APP_ROLE} NOLOGIN, run `viral migrate`, and "
        raise RoleRefused(f"{login.role} may bypass row-level security: {create}{grant}, as a superuser")
    if login.owns_tables and login.app_role_exists:
        raise RoleRefused(
            f"{login.role} owns the tables and is no member of {APP_ROLE}: {grant}, as a superuser,"
            f" or let DATABASE_URL log in as {APP_ROLE}"
        )
    if login.owns_tables and not login.rule_is_forced:
        raise RoleRefused(f"{login.role} owns the tables and is not bound by row-level security: run `viral migrate`")
    return ""


# --- the rights of the application's role -------------------------------------------------------------------


def _missing_rights(role: str) -> str:
    """Return a query for the statements that grant the role (an expression) what it lacks on the tables under the rule.
    No right is needed to change an entry of the ledger, because none is ever changed."""
    return f"""
SELECT format('GRANT %s ON %s TO %I', privileges, string_agg(name, ', ' ORDER BY name), {role}) FROM (
    SELECT name, string_agg(privilege, ', ' ORDER BY privilege) AS privileges FROM (
        SELECT c.oid::regclass::text AS name, needed.privilege
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed (privilege)
        WHERE p.polname = 'scope' AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace
              AND NOT (c.relname = 'quota_ledger' AND needed.privilege IN ('UPDATE', 'DELETE'))
        UNION ALL SELECT 'alembic_version', 'SELECT' WHERE to_regclass('alembic_version') IS NOT NULL
    ) AS rights
    WHERE NOT has_table_privilege({role}, name, privilege) GROUP BY name
) AS missing GROUP BY privileges ORDER BY 1
"""


MISSING_RIGHTS = _missing_rights("current_user")

# The role may have been made after the tables.
GRANT_RIGHTS = f"""
DO $$
DECLARE
    missing text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        RETURN;
    END IF;
    FOR missing IN {_missing_rights(f"'{APP_ROLE}'")} LOOP
        EXECUTE missing;
    END LOOP;
    IF NOT has_schema_privilege('{APP_ROLE}', 'public', 'USAGE') THEN
        GRANT USAGE ON SCHEMA public TO {APP_ROLE};
    END IF;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE};
    GRANT EXECUTE ON FUNCTION make_job_archive_week(timestamptz), drop_job_archive_weeks(timestamptz) TO {APP_ROLE};
END $$
"""


def lacking(grants: Sequence[str]) -> str:
    """Say in one line which rights the role lacks, and how it gets them."""
    return f"the role of DATABASE_URL lacks rights: run `viral migrate`, or as the tables' owner: {'; '.join(grants)}"
