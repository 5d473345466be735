"""Row-level security: one rule for every table.

A transaction says in whose name it works by setting `app.tenant_id`, for its own length only:
a tenant's id (that tenant's rows), or `*` (the system scope: engine, ingest, operators). A transaction that says
nothing may touch nothing: the rule itself raises `SQLSTATE VD001`, which `db.transaction` turns into
`TenantContextNotSet`. The role below owns no table and cannot bypass the rule.
"""

from collections.abc import Iterator

APP_ROLE = "viral_app"
SCOPE_NOT_SET = "VD001"
SYSTEM_SCOPE = "*"

# The privilege to `SET ROLE` is its own since Postgres 16.
MAY_BECOME = "CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END"

CREATE_SCOPE_FUNCTION = f"""
CREATE FUNCTION app_scope() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    scope text := current_setting('app.tenant_id', true);
BEGIN
    IF scope IS NULL OR scope = '' THEN
        RAISE EXCEPTION 'tenant context not set: set app.tenant_id in this transaction first'
            USING ERRCODE = '{SCOPE_NOT_SET}';
    END IF;
    RETURN scope;
END $$
"""

DROP_SCOPE_FUNCTION = "DROP FUNCTION app_scope()"

# Two databases of one server may be migrated at once, and roles belong to the server: hence the handler.
CREATE_APP_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        CREATE ROLE {APP_ROLE} NOLOGIN NOBYPASSRLS;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role {APP_ROLE} is missing and % may not create it', current_user
            USING HINT = 'As a superuser: CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO ' || current_user;
END $$
"""

# Lets the owner's connections drop to the application's role (`SET ROLE`), where only one URL is configured.
GRANT_ROLE_TO_OWNER = f"""
DO $$ BEGIN
    IF NOT pg_has_role(current_user, '{APP_ROLE}', {MAY_BECOME}) THEN
        EXECUTE format('GRANT {APP_ROLE} TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING '% is not a member of {APP_ROLE}; connect the application as {APP_ROLE} itself', current_user;
END $$
"""


def protect(table: str, owner_column: str | None = "tenant_id") -> Iterator[str]:
    """Statements that put one table under the rule and let the application's role work in it.

    `owner_column` names the tenant that a row belongs to; None keeps the table to the system scope. Migrations call
    this: what it does for a table that exists must not change.
    """
    visible = f"IN ('*', {owner_column}::text)" if owner_column else "= '*'"
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    # The sub-select is evaluated once a statement, not once a row.
    yield f"CREATE POLICY scope ON {table} USING ((SELECT app_scope()) {visible})"
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP_ROLE}"
