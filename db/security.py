"""Row-level security: one rule for every table.

A transaction says in whose name it works by setting `app.tenant_id`, for its own length only:
a tenant's id (that tenant's rows), or `*` (the system scope: engine, ingest, operators). A transaction that says
nothing may touch nothing: the rule itself raises `SQLSTATE VD001`, which `db.transaction` turns into
`TenantContextNotSet`. The role below owns no table and cannot bypass the rule.
"""

from collections.abc import Iterator

from sqlalchemy import MetaData, Table

APP_ROLE = "viral_app"
SCOPE_NOT_SET = "VD001"
SYSTEM_SCOPE = "*"

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
    IF NOT pg_has_role(current_user, '{APP_ROLE}', 'SET') THEN
        EXECUTE format('GRANT {APP_ROLE} TO %I', current_user);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING '% is not a member of {APP_ROLE}; connect the application as {APP_ROLE} itself', current_user;
END $$
"""


def visible_rows(table: Table) -> str:
    """The rule of one table, as a boolean SQL expression; evaluated once a statement, not once a row."""
    if "tenant_id" in table.c:
        return "(SELECT app_scope()) IN ('*', tenant_id::text)"
    if table.name == "tenants":
        return "(SELECT app_scope()) IN ('*', id::text)"
    return "(SELECT app_scope()) = '*'"


def protect(metadata: MetaData) -> Iterator[str]:
    """Statements that switch the rule on for every table and let the application's role work under it."""
    for table in metadata.sorted_tables:
        yield f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"
        yield f"CREATE POLICY scope ON {table.name} USING ({visible_rows(table)})"
        yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.name} TO {APP_ROLE}"
    yield f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}"
