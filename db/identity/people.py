"""Parts of queries that say who answers for a tenant, and as what. They are for the system scope.

A person answers for the tenant of their own account, for the one they work in, and for those of the organizations that
they are a member of. Whoever is deleted answers for nothing.
"""

LIVE_MEMBERS = """
account_tenants a JOIN organizations o ON o.clerk_id = a.clerk_id AND o.deleted_at IS NULL
JOIN organization_memberships m ON m.organization_clerk_id = o.clerk_id AND m.deleted_at IS NULL
"""


def answering(tenant: str) -> str:
    """Write a query for the people (rows of `users`, perhaps twice) who answer for the tenant whose id is this piece of
    SQL. Each part of the query uses an index."""
    return f"""
        SELECT u.* FROM users u WHERE u.tenant_id = {tenant} AND u.deleted_at IS NULL
        UNION ALL SELECT u.* FROM account_tenants a JOIN users u ON u.clerk_id = a.clerk_id
        WHERE a.home_id = {tenant} AND u.deleted_at IS NULL
        UNION ALL SELECT u.* FROM {LIVE_MEMBERS} JOIN users u ON u.clerk_id = m.user_clerk_id
        WHERE a.home_id = {tenant} AND u.deleted_at IS NULL"""


def only_banned(tenant: str) -> str:
    """Write a condition: somebody answers for the tenant, and everybody who does is banned."""
    return f"coalesce((SELECT bool_and(people.banned) FROM ({answering(tenant)}) AS people), false)"


def role_in(tenant: str, user: str = "u") -> str:
    """Write an expression: the person's role in the tenant, NULL if they do not answer for it. `user` is an alias of
    `users`."""
    return f"""
        CASE WHEN {user}.deleted_at IS NOT NULL THEN NULL WHEN {user}.tenant_id = {tenant} THEN {user}.role
        ELSE coalesce((
            SELECT m.role FROM {LIVE_MEMBERS} WHERE a.home_id = {tenant} AND m.user_clerk_id = {user}.clerk_id
            ORDER BY m.joined_at, m.clerk_id LIMIT 1
        ), (
            SELECT 'ADMIN' FROM account_tenants a WHERE a.home_id = {tenant} AND a.clerk_id = {user}.clerk_id
        )) END"""


def deserted(tenant: str) -> str:
    """Write a condition: nobody who may come in answers for the tenant; all are gone or banned, or none ever came."""
    return f"NOT EXISTS (SELECT FROM ({answering(tenant)}) AS people WHERE NOT people.banned)"
