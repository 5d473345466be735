"""API keys. Their texts are not kept, only hashes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from db.locks import against_changes
from db.tables import api_keys, tenants
from domain.access import Key, NewKey

SHOWN = tuple(column for column in api_keys.c if column is not api_keys.c.key_hash)


class Access:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def key(self, key_hash: bytes) -> Key | None:
        row = self._sql.execute(select(*SHOWN).where(api_keys.c.key_hash == key_hash)).one_or_none()
        if row is None:
            return None
        return Key(row.id, row.tenant_id, tuple(row.scopes), row.expires_at, row.revoked_at, row.last_used_at)

    def note_use(self, key_id: UUID, now: datetime) -> None:
        self._sql.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))

    def keys(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """The tenant's keys, newest first, those that are over included; all columns but the hash."""
        query = select(*SHOWN).where(api_keys.c.tenant_id == tenant_id)
        newest_first = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc())
        return [dict(row) for row in self._sql.execute(newest_first).mappings()]

    def count_usable(self, tenant_id: UUID, now: datetime) -> int:
        """How many keys the tenant has; it gets no other one until this transaction ends."""
        self._sql.execute(against_changes(select(tenants.c.id).where(tenants.c.id == tenant_id)))
        of_tenant = select(func.count()).where(api_keys.c.tenant_id == tenant_id, _is_usable(now))
        return self._sql.execute(of_tenant).scalar_one()

    def add_key(self, key_id: UUID, tenant_id: UUID, key: NewKey) -> dict[str, Any]:
        """The row as it is stored, without the hash."""
        values = {
            "id": key_id,
            "tenant_id": tenant_id,
            "name": key.name,
            "prefix": key.prefix,
            "key_hash": key.hash,
            "scopes": sorted(key.scopes),
            "expires_at": key.expires_at,
        }
        return dict(self._sql.execute(insert(api_keys).values(values).returning(*SHOWN)).mappings().one())

    def revoke_key(self, tenant_id: UUID, key_id: UUID) -> bool:
        """Whether the tenant has such a key. One that is revoked already stays revoked since then."""
        this = (api_keys.c.id == key_id) & (api_keys.c.tenant_id == tenant_id)
        now_or_then = func.coalesce(api_keys.c.revoked_at, func.now())
        return self._sql.execute(update(api_keys).where(this).values(revoked_at=now_or_then)).rowcount == 1


def _is_usable(now: datetime) -> ColumnElement[bool]:
    return api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))
