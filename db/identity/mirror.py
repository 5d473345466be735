"""The mirror of Clerk: people, organizations and who is a member of what; and which tenant each of them has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Text,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from db.identity.people import LIVE_MEMBERS, answering
from db.postgres.locks import against_changes
from db.schema.identity import account_tenants, api_keys, organization_memberships, organizations, users
from db.schema.tenants import tenants
from domain.identity.people import ActiveMembership, Membership, Organization, Person, Role, Row

PERSON = tuple(users.c[name] for name in Person.__slots__)
ORGANIZATION = tuple(organizations.c[name] for name in Organization.__slots__)
MEMBERSHIP = (
    organization_memberships.c.clerk_id,
    organization_memberships.c.organization_clerk_id,
    organization_memberships.c.user_clerk_id,
    organization_memberships.c.role,
    organization_memberships.c.joined_at,
    organization_memberships.c.source_updated_at,
    organization_memberships.c.deleted_at,
)

COLUMNS: dict[type, tuple[Column[Any], ...]] = {Person: PERSON, Organization: ORGANIZATION, Membership: MEMBERSHIP}


def _if_like(path: str, form: str) -> str:
    """Write SQL for the value at a path of a payload, if it has this form: whoever sends may have written anything."""
    return f"CASE WHEN payload #>> '{{{path}}}' ~ '{form}' THEN payload #> '{{{path}}}' END"


ID, TIME = "^[A-Za-z0-9_:.-]{1,255}$", "^[0-9]{1,15}$"
# Ids, times and roles: enough to apply the event again, and nothing that a person wrote. An event that was made of what
# Clerk's books say has no signed body.
FORGET = f"""
UPDATE webhook_events event SET body = NULL, payload = reduced.payload
FROM (SELECT id, jsonb_strip_nulls(jsonb_build_object(
    'type', type, 'object', 'event', 'timestamp', {_if_like("timestamp", TIME)},
    'instance_id', {_if_like("instance_id", ID)},
    'data', jsonb_build_object(
        'id', {_if_like("data,id", ID)}, 'user_id', {_if_like("data,user_id", ID)},
        'created_at', {_if_like("data,created_at", TIME)}, 'updated_at', {_if_like("data,updated_at", TIME)},
        'role', {_if_like("data,role", ID)},
        'organization', jsonb_build_object('id', {_if_like("data,organization,id", ID)}),
        'public_user_data', jsonb_build_object('user_id', {_if_like("data,public_user_data,user_id", ID)})
    ))) AS payload FROM webhook_events WHERE source = 'clerk' AND subject = %s) AS reduced
WHERE event.id = reduced.id AND event.dropped_at IS NULL
    AND (event.body IS NOT NULL OR event.payload <> reduced.payload)
"""


ANSWERING = (
    f"SELECT DISTINCT ON (created_at, id) * FROM ({answering('%(tenant_id)s')}) AS people ORDER BY created_at, id"
)

MEMBERSHIPS = (
    f"SELECT a.home_id, m.role FROM {LIVE_MEMBERS} WHERE m.user_clerk_id = %s ORDER BY m.joined_at, m.clerk_id"
)
SIGNED_IN = "SELECT id, tenant_id, role, banned FROM users WHERE clerk_id = %s AND deleted_at IS NULL"
SIGNED_IN_TO_ORGANIZATION = f"""
SELECT u.id, a.home_id, m.role, u.banned FROM {LIVE_MEMBERS} JOIN users u ON u.clerk_id = m.user_clerk_id
WHERE u.clerk_id = %s AND u.deleted_at IS NULL AND o.clerk_id = %s ORDER BY m.joined_at, m.clerk_id LIMIT 1
"""

TENANTS_OF = """
SELECT tenant_id FROM users WHERE clerk_id = :clerk_id AND tenant_id IS NOT NULL
UNION SELECT home_id FROM account_tenants WHERE clerk_id = :clerk_id
UNION SELECT a.home_id FROM organization_memberships m JOIN account_tenants a ON a.clerk_id = m.organization_clerk_id
WHERE m.user_clerk_id = :clerk_id
ORDER BY 1
"""

NAMED_AFTER = """
SELECT home_id FROM account_tenants WHERE clerk_id = %s
UNION SELECT tenant_id FROM users u WHERE clerk_id = %s AND tenant_id IS NOT NULL
      AND NOT EXISTS (SELECT FROM account_tenants a WHERE a.home_id = u.tenant_id)
"""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person who signed in: our id of them, the tenant they work in, their role, and whether they are `banned`."""

    user_id: UUID
    tenant_id: UUID
    role: Role
    banned: bool


class Identity:
    """Query group of the system scope. `clerk_id`s are ids at Clerk: `user_…`, `org_…`, `orgmem_…`."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    # --- signing in

    def signed_in(self, user_id: str, organization_id: str | None = None) -> SignedIn | None:
        """Return whom a session of this Clerk user acts as: in the organization that is active in it, or, without one,
        in the tenant that the person belongs to. None: such a person, or their membership, is not known (any more)."""
        if organization_id is None:
            row = self._sql.exec_driver_sql(SIGNED_IN, (user_id,)).one_or_none()
        else:
            row = self._sql.exec_driver_sql(SIGNED_IN_TO_ORGANIZATION, (user_id, organization_id)).one_or_none()
        return None if row is None else SignedIn(row[0], row[1], Role(row[2]), row[3])

    # --- locks

    def lock_person(self, clerk_id: str) -> None:
        """Lock the person until the transaction ends: nobody else applies events of them, even if they have no row yet,
        and no organization begins, changes or ends."""
        self._sql.execute(select(func.pg_advisory_xact_lock_shared(_lock("clerk"))))
        self._sql.execute(select(func.pg_advisory_xact_lock(_lock(f"clerk:{clerk_id}"))))

    def lock_organizations(self) -> None:
        """Lock all accounts until the transaction ends: nobody else applies any event of Clerk. Events of organizations
        are few, and each may concern all the people in one: a lock for each would deadlock with `lock_person`."""
        self._sql.execute(select(func.pg_advisory_xact_lock(_lock("clerk"))))

    # --- people

    def person(self, clerk_id: str) -> Person | None:
        return self.row(Person, clerk_id)

    def add_person(self, user_id: UUID, person: Person, at: ActiveMembership) -> bool:
        """Return False if another program, which knows no lock of ours, has just added them."""
        values = {"id": user_id, "tenant_id": at.tenant_id, "role": at.role, **_columns(person)}
        statement = upsert(users).values(values).on_conflict_do_nothing(index_elements=["clerk_id"])
        return self._sql.execute(statement.returning(users.c.id)).one_or_none() is not None

    def save_person(self, person: Person) -> None:
        values = _columns(person) | {"updated_at": func.now()}
        self._sql.execute(update(users).where(users.c.clerk_id == person.clerk_id).values(values))

    def of_tenant(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the tenant's users, oldest first."""
        query = select(users).where(users.c.tenant_id == tenant_id).order_by(users.c.created_at, users.c.id)
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def answering(self, tenant_id: UUID) -> list[dict[str, Any]]:
        """Return the people who answer for the tenant, oldest first: its account's person, those who work in it, and
        the members of its organization."""
        cursor = self._sql.exec_driver_sql(ANSWERING, {"tenant_id": tenant_id})
        return [dict(row) for row in cursor.mappings()]

    def find(self, name: str) -> list[dict[str, Any]]:
        """Return the people with this id (Clerk's or ours) or e-mail address, with all columns."""
        named = or_(users.c.clerk_id == name, users.c.email == name, users.c.id.cast(Text) == name)
        query = select(users).where(named).order_by(users.c.created_at, users.c.id)
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def recent(self, *, banned: bool = False, limit: int = 50) -> list[dict[str, Any]]:
        """Return people, the newest first; with `banned`, only those who are."""
        query = select(users).order_by(users.c.created_at.desc(), users.c.id).limit(limit)
        return [dict(row) for row in self._sql.execute(query.where(users.c.banned) if banned else query).mappings()]

    def forget(self, clerk_id: str) -> None:
        """Reduce the stored events about this person or organization to what happened; nothing says who it was."""
        self._sql.exec_driver_sql(FORGET, (clerk_id,))

    # --- organizations and their members

    def organization(self, clerk_id: str) -> Organization | None:
        return self.row(Organization, clerk_id)

    def membership(self, clerk_id: str) -> Membership | None:
        return self.row(Membership, clerk_id)

    def save(self, row: Organization | Membership) -> None:
        columns = zip(COLUMNS[type(row)], row.__slots__, strict=True)
        values = {column.name: getattr(row, name) for column, name in columns} | {"updated_at": func.now()}
        statement = upsert(COLUMNS[type(row)][0].table).values(values)
        self._sql.execute(statement.on_conflict_do_update(index_elements=["clerk_id"], set_=values))

    def members(self, organization_id: str) -> list[str]:
        """Return who is, was or will be a member as far as events say; they may have no row yet."""
        user_id = organization_memberships.c.user_clerk_id
        query = select(user_id).where(organization_memberships.c.organization_clerk_id == organization_id).distinct()
        return list(self._sql.execute(query.order_by(user_id)).scalars())

    def memberships_of(self, clerk_id: str) -> list[dict[str, Any]]:
        """Return the memberships that the person has or had, oldest first, with the names and the tenants of the
        organizations."""
        member = organization_memberships.c
        query = (
            select(*MEMBERSHIP, organizations.c.name, account_tenants.c.home_id)
            .select_from(organization_memberships)
            .outerjoin(organizations, organizations.c.clerk_id == member.organization_clerk_id)
            .outerjoin(account_tenants, account_tenants.c.clerk_id == member.organization_clerk_id)
            .where(member.user_clerk_id == clerk_id)
            .order_by(member.joined_at, member.clerk_id)
        )
        return [dict(row) for row in self._sql.execute(query).mappings()]

    # --- compared with Clerk's own books

    def row(self, kind: type[Row], clerk_id: str) -> Row | None:
        """Return the row of a person, an organization or a membership."""
        columns = COLUMNS[kind]
        row = self._sql.execute(select(*columns).where(columns[0] == clerk_id)).one_or_none()
        return None if row is None else _row(kind, row)

    def mirrored(self, kind: type[Row]) -> list[Row]:
        """Return the rows of a kind that are not deleted. A person whom another program added is not Clerk's before an
        event says so."""
        columns = COLUMNS[kind]
        its = columns[0].table.c
        query = select(*columns).where(its.deleted_at.is_(None))
        if kind is Person:
            query = query.where(its.source_updated_at.is_not(None))
        return [_row(kind, row) for row in self._sql.execute(query)]

    def newest_people(self, limit: int) -> list[Person]:
        """Return the newest people who are not deleted and of whom an event has told."""
        query = select(*PERSON).where(users.c.deleted_at.is_(None), users.c.source_updated_at.is_not(None))
        newest = query.order_by(users.c.created_at.desc(), users.c.clerk_id).limit(limit)
        return [Person(*row) for row in self._sql.execute(newest)]

    # --- who works where

    def tenants_of(self, clerk_id: str) -> list[UUID]:
        """Return the person's own tenant, the one they work in, and those of the organizations that they are or were
        in, by id."""
        query = text(TENANTS_OF).bindparams(clerk_id=clerk_id)
        return list(self._sql.execute(query).scalars())

    def lock_tenants(self, tenant_ids: Sequence[UUID]) -> None:
        """Lock the tenants by id, as the order of locks wants it of whoever will change several."""
        these = select(tenants.c.id).where(tenants.c.id.in_(tenant_ids)).order_by(tenants.c.id)
        self._sql.execute(against_changes(these))

    def own_tenant(self, clerk_id: str) -> UUID | None:
        """Return the account's own tenant: the personal one of a person, or that of an organization."""
        query = select(account_tenants.c.home_id).where(account_tenants.c.clerk_id == clerk_id)
        return self._sql.execute(query).scalar_one_or_none()

    def set_own_tenant(self, clerk_id: str, tenant_id: UUID) -> None:
        self._sql.execute(insert(account_tenants).values(clerk_id=clerk_id, home_id=tenant_id))

    def tenants_named_after(self, clerk_id: str) -> list[UUID]:
        """Return the account's own tenant; and the one that another program has put the person into, if it is no
        account's."""
        return [tenant_id for (tenant_id,) in self._sql.exec_driver_sql(NAMED_AFTER, (clerk_id, clerk_id))]

    def has_others(self, tenant_id: UUID, *, besides: str) -> bool:
        """Return whether anybody else works in the tenant."""
        return bool(self._sql.execute(select(_others_in(tenant_id, besides=besides))).scalar_one())

    def disable_own_tenant(self, clerk_id: str) -> None:
        """Unless somebody else works in the account's own tenant, revoke its keys and stop its daily concepts."""
        tenant_id = self.own_tenant(clerk_id)
        deserted = ~_others_in(tenant_id, besides=clerk_id)
        self._sql.execute(update(tenants).where(tenants.c.id == tenant_id, deserted).values(daily_enabled=False))
        keys = update(api_keys).where(api_keys.c.tenant_id == tenant_id, api_keys.c.revoked_at.is_(None), deserted)
        self._sql.execute(keys.values(revoked_at=func.now()))

    def active_membership(self, clerk_id: str) -> ActiveMembership:
        """Return where the person, who is known, works now."""
        query = select(users.c.tenant_id, users.c.role).where(users.c.clerk_id == clerk_id)
        row = self._sql.execute(query).one()
        return ActiveMembership(row.tenant_id, Role(row.role))

    def save_active_membership(self, clerk_id: str, active: ActiveMembership) -> None:
        values = {"tenant_id": active.tenant_id, "role": active.role, "updated_at": func.now()}
        self._sql.execute(update(users).where(users.c.clerk_id == clerk_id).values(values))

    def live_memberships(self, clerk_id: str) -> list[ActiveMembership]:
        """Return the tenants, with roles, that the person's live memberships give them, oldest first."""
        rows = self._sql.exec_driver_sql(MEMBERSHIPS, (clerk_id,))
        return [ActiveMembership(tenant_id, Role(role)) for tenant_id, role in rows]


def _row(kind: type[Row], row: Sequence[Any]) -> Row:
    values = dict(zip(kind.__slots__, row, strict=True))
    return kind(**values | {"role": Role(values["role"])} if "role" in values else values)


def _others_in(tenant_id: UUID | None, *, besides: str) -> ColumnElement[bool]:
    somebody_else = users.c.clerk_id.is_distinct_from(besides)
    return exists().where(users.c.tenant_id == tenant_id, somebody_else, users.c.deleted_at.is_(None))


def _lock(name: str) -> ColumnElement[int]:
    return func.hashtextextended(name, 0)


def _columns(row: Person | Organization) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__}
