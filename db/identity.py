"""Users as Clerk knows them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update

from db.tables import users
from domain.identity import Person, Role

COLUMNS = tuple(users.c[name] for name in Person.__slots__)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who signed in: our id of the user, the tenant they work in, and as what."""

    user_id: UUID
    tenant_id: UUID
    role: Role


class Identity:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def signed_in(self, user_id: str, organization_id: str | None = None) -> SignedIn | None:
        """Whom a session of this Clerk user acts as, in the tenant that the person belongs to. None: such a person is
        not known (any more)."""
        query = select(users.c.id, users.c.tenant_id, users.c.role)
        row = self._sql.execute(query.where(users.c.clerk_id == user_id, users.c.deleted_at.is_(None))).one_or_none()
        return None if row is None else SignedIn(row.id, row.tenant_id, Role(row.role))

    def person(self, clerk_id: str) -> Person | None:
        row = self._sql.execute(select(*COLUMNS).where(users.c.clerk_id == clerk_id)).one_or_none()
        return None if row is None else Person(*row)

    def lock_person(self, clerk_id: str) -> tuple[Person | None, UUID | None]:
        """The person and their tenant. Until the transaction ends, nobody else applies events of this person, even
        of one who has no row yet."""
        self._sql.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"clerk:{clerk_id}", 0))))
        row = self._sql.execute(select(*COLUMNS, users.c.tenant_id).where(users.c.clerk_id == clerk_id)).one_or_none()
        if row is None:
            return None, None
        *fields, tenant_id = row
        return Person(*fields), tenant_id

    def add(self, user_id: UUID, person: Person, tenant_id: UUID | None, role: str) -> None:
        values = {"id": user_id, "tenant_id": tenant_id, "role": role, **_columns(person)}
        self._sql.execute(insert(users).values(values))

    def save(self, person: Person) -> None:
        values = _columns(person) | {"updated_at": func.now()}
        self._sql.execute(update(users).where(users.c.clerk_id == person.clerk_id).values(values))

    def of_tenant(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """The tenant's users, oldest first."""
        query = select(users).where(users.c.tenant_id == tenant_id).order_by(users.c.created_at, users.c.id)
        return [dict(row) for row in self._sql.execute(query).mappings()]


def _columns(person: Person) -> dict[str, Any]:
    return {name: getattr(person, name) for name in Person.__slots__}
