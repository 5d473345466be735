"""API keys. Only the hash of a key's text is stored."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import ColumnElement, Connection, String, case, cast, func, insert, literal, select, update

from db.identity.people import LIVE_MEMBERS, only_banned, role_in
from db.postgres.locks import against_changes
from db.schema.identity import api_keys
from db.schema.tenants import tenants
from domain.identity.access import Key, NewKey
from domain.identity.people import Role

CREATED_BY = case(
    (api_keys.c.parent_id.is_not(None), literal("key:") + cast(api_keys.c.parent_id, String)),
    (api_keys.c.maker_id.is_not(None), literal("user:") + cast(api_keys.c.maker_id, String)),
    (api_keys.c.operator.is_not(None), "operator"),
    else_="unknown",
).label("created_by")
SHOWN = (*(column for column in api_keys.c if column is not api_keys.c.key_hash), CREATED_BY)

KEY = f"""
SELECT k.id, k.tenant_id, k.scopes, k.expires_at, k.revoked_at, k.last_used_at, k.maker_id,
       CASE WHEN k.maker_id IS NOT NULL THEN {role_in("k.tenant_id")} END AS role,
       CASE WHEN k.maker_id IS NULL THEN {only_banned("k.tenant_id")} ELSE coalesce(u.banned, false) END AS banned
FROM api_keys k LEFT JOIN users u ON u.id = k.maker_id
"""
BY_HASH = f"{KEY} WHERE k.key_hash = %(key_hash)s"
BY_ID = f"{KEY} WHERE k.id = %(key_id)s AND k.tenant_id = %(tenant_id)s"

ROLE = f"SELECT {role_in('%(tenant_id)s')} FROM users u WHERE u.id = %(user_id)s"

REVOKE_WITH_DESCENDANTS = """
WITH RECURSIVE descendants AS (
    SELECT id FROM api_keys WHERE id = %(key_id)s AND tenant_id = %(tenant_id)s
    UNION SELECT k.id FROM api_keys k JOIN descendants ON k.parent_id = descendants.id AND k.tenant_id = %(tenant_id)s
)
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE tenant_id = %(tenant_id)s AND id IN (SELECT id FROM descendants)
"""

# A key stands as long as its maker has the account whose tenant it is, a membership that had begun when it was made, or
# (of a row that another program made) the place that the row says. A person who leaves and joins again makes new ones.
REVOKE_OF_LEAVERS = f"""
UPDATE api_keys k SET revoked_at = now() FROM users u
WHERE u.id = k.maker_id AND k.revoked_at IS NULL AND k.tenant_id = ANY(%(tenants)s::uuid[])
AND (%(clerk_id)s::text IS NULL OR u.clerk_id = %(clerk_id)s) AND (u.deleted_at IS NOT NULL OR NOT (
    EXISTS (SELECT FROM account_tenants a WHERE a.clerk_id = u.clerk_id AND a.home_id = k.tenant_id)
    OR EXISTS (SELECT FROM {LIVE_MEMBERS}
               WHERE a.home_id = k.tenant_id AND m.user_clerk_id = u.clerk_id AND m.joined_at <= k.created_at)
    OR (u.tenant_id = k.tenant_id AND NOT EXISTS (SELECT FROM account_tenants a WHERE a.clerk_id = u.clerk_id))
))
"""


class Keys:
    """Query group of the look-up that every request with a key begins with; system scope."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def find(self, key_hash: bytes) -> Callable[[], Key | None]:
        """Look the key up, and return what reads the answer; in a pipelined transaction that is here with the commit,
        in one round trip."""
        cursor = self._driver.cursor(row_factory=namedtuple_row).execute(BY_HASH, {"key_hash": key_hash}, prepare=True)
        return lambda: _key(cursor.fetchone())


class Access:
    """Query group. `key_of`, `role` and `revoke_of_leavers` read other tenants' people: they need the system's
    scope."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def key_of(self, tenant_id: UUID, key_id: UUID) -> Key | None:
        parameters = {"tenant_id": tenant_id, "key_id": key_id}
        return _key(self._sql.exec_driver_sql(BY_ID, parameters).one_or_none())

    def role(self, tenant_id: UUID, user_id: UUID) -> Role | None:
        """Return the person's role in the tenant now; None if they have none."""
        role = self._sql.exec_driver_sql(ROLE, {"tenant_id": tenant_id, "user_id": user_id}).scalar_one_or_none()
        return None if role is None else Role(role)

    def note_use(self, key_id: UUID, now: datetime) -> None:
        self._sql.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))

    def keys(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the tenant's keys, newest first, ended ones included; all columns but the hash. `created_by` is
        `user:ID`, `key:ID`, `operator` or `unknown`."""
        query = select(*SHOWN).where(api_keys.c.tenant_id == tenant_id)
        newest_first = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc())
        return [dict(row) for row in self._sql.execute(newest_first).mappings()]

    def count_usable(self, tenant_id: UUID, now: datetime) -> int:
        """Count the tenant's usable keys; it gets and loses none until this transaction ends."""
        self._lock(tenant_id)
        of_tenant = select(func.count()).where(api_keys.c.tenant_id == tenant_id, _is_usable(now))
        return self._sql.execute(of_tenant).scalar_one()

    def add_key(self, key_id: UUID, tenant_id: UUID, key: NewKey) -> dict[str, Any]:
        """Store the key and return its row, without the hash."""
        values = {
            "id": key_id,
            "tenant_id": tenant_id,
            "name": key.name,
            "prefix": key.prefix,
            "key_hash": key.hash,
            "scopes": sorted(key.scopes),
            "expires_at": key.expires_at,
            "maker_id": key.maker.user_id,
            "parent_id": key.maker.parent_id,
            "operator": key.maker.operator,
        }
        return dict(self._sql.execute(insert(api_keys).values(values).returning(*SHOWN)).mappings().one())

    def rename_key(self, tenant_id: UUID, key_id: UUID, name: str) -> None:
        this = (api_keys.c.id == key_id) & (api_keys.c.tenant_id == tenant_id)
        self._sql.execute(update(api_keys).where(this).values(name=name))

    def revoke_key(self, tenant_id: UUID, key_id: UUID) -> bool:
        """Revoke the key and all keys that it made; a key that is revoked already keeps its time. Returns whether the
        tenant has such a key."""
        self._lock(tenant_id)
        parameters = {"tenant_id": tenant_id, "key_id": key_id}
        return self._sql.exec_driver_sql(REVOKE_WITH_DESCENDANTS, parameters).rowcount > 0

    def revoke_of_leavers(self, tenants_of: Sequence[UUID], *, made_by: str | None = None) -> None:
        """Lock these tenants, and revoke their keys whose makers have left: all, or those `made_by` one Clerk user."""
        if not tenants_of:
            return
        these = select(tenants.c.id).where(tenants.c.id.in_(tenants_of)).order_by(tenants.c.id)
        self._sql.execute(against_changes(these))
        self._sql.exec_driver_sql(REVOKE_OF_LEAVERS, {"tenants": list(tenants_of), "clerk_id": made_by})

    def _lock(self, tenant_id: UUID) -> None:
        self._sql.execute(against_changes(select(tenants.c.id).where(tenants.c.id == tenant_id)))


def _key(row: Any) -> Key | None:
    if row is None:
        return None
    role = None if row.role is None else Role(row.role)
    stored = (tuple(row.scopes), row.expires_at, row.revoked_at, row.last_used_at)
    return Key(row.id, row.tenant_id, *stored, row.maker_id, role, row.banned)


def _is_usable(now: datetime) -> ColumnElement[bool]:
    return api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))
