"""Accounts of many people at once, for a batch of Clerk's events: each method is one statement, whoever they are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg

from db.identity.people import LIVE_MEMBERS
from db.schema.tables import metadata
from domain.identity.accounts import NOWHERE, Account
from domain.identity.people import ActiveMembership, Person, Role, tenant_name
from domain.quota.quota import Quota

BOOKKEEPING = frozenset({"users", "quota_holds", "quota_ledger", "api_usage", "system_metrics"}) | {
    name for name in metadata.tables if name.startswith("job_")
}
"""Tables whose rows a tenant has without having made anything."""
CONTENT = [table.name for table in metadata.sorted_tables if "tenant_id" in table.c and table.name not in BOOKKEEPING]

# The first is shared with all but whoever changes an organization; the second, of several people, is taken in the order
# of its keys. `hashtextextended` is what `Identity.lock_person` uses.
LOCK_CLERK = "SELECT pg_advisory_xact_lock_shared(hashtextextended('clerk', 0))"
LOCK_PEOPLE = """
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended('clerk:' || clerk_id, 0) AS key FROM unnest(%b::text[]) AS clerk_id ORDER BY key
) AS ordered
"""

COLUMNS = {
    "clerk_id": "text",
    "email": "text",
    "name": "text",
    "image_url": "text",
    "last_login_at": "timestamptz",
    "source_updated_at": "timestamptz",
    "deleted_at": "timestamptz",
    "banned": "bool",
}
LOAD = f"""
SELECT wanted.clerk_id, u.id IS NOT NULL, {", ".join(f"u.{name}" for name in Person.__slots__)}, u.tenant_id, u.role,
       own.home_id, offer.home_id, offer.role, coalesce(u.deleted_at, o.deleted_at) IS NOT NULL
FROM unnest(%b::text[]) AS wanted (clerk_id)
LEFT JOIN users u ON u.clerk_id = wanted.clerk_id
LEFT JOIN account_tenants own ON own.clerk_id = wanted.clerk_id
LEFT JOIN organizations o ON o.clerk_id = wanted.clerk_id
LEFT JOIN LATERAL (
    SELECT a.home_id, m.role FROM {LIVE_MEMBERS} WHERE m.user_clerk_id = wanted.clerk_id
    ORDER BY m.joined_at, m.clerk_id LIMIT 1
) AS offer ON true
"""

CHANGED = {name: kind for name, kind in COLUMNS.items() if name not in ("clerk_id", "deleted_at", "last_login_at")}
# Other programs write the last login too, and move people: what is not changed here is left as it is.
SAVE = f"""
UPDATE users SET {", ".join(f"{name} = new.{name}" for name in CHANGED)}, updated_at = now(),
    last_login_at = greatest(users.last_login_at, new.last_login_at),
    tenant_id = coalesce(new.tenant_id, users.tenant_id), role = coalesce(new.role, users.role)
FROM unnest({", ".join(f"%b::{kind}[]" for kind in COLUMNS.values())}, %b::uuid[], %b::text[])
    AS new ({", ".join(COLUMNS)}, tenant_id, role)
WHERE users.clerk_id = new.clerk_id
"""

ADD_TENANTS = """
INSERT INTO tenants (id, name, created_at, monthly_quota, used_quota, quota_anchor, quota_period_start, quota_reset_at)
SELECT id, name, %s, %s, %s, %s, %s, %s FROM unnest(%b::uuid[], %b::text[]) AS new (id, name)
"""
ADD_OWN_TENANTS = "INSERT INTO account_tenants (clerk_id, home_id) SELECT * FROM unnest(%b::text[], %b::uuid[])"
ADD_PEOPLE = f"""
INSERT INTO users (id, tenant_id, role, {", ".join(COLUMNS)})
SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::text[], {", ".join(f"%b::{kind}[]" for kind in COLUMNS.values())})
ON CONFLICT (clerk_id) DO NOTHING
"""

OTHERS_IN = """
EXISTS (SELECT FROM users u WHERE u.tenant_id = wanted.tenant_id AND u.clerk_id IS DISTINCT FROM wanted.clerk_id
        AND u.deleted_at IS NULL)
"""
LOCK_NAMES = f"""
SELECT wanted.clerk_id, t.name, NOT {OTHERS_IN}
FROM unnest(%b::text[], %b::uuid[]) AS wanted (clerk_id, tenant_id) JOIN tenants t ON t.id = wanted.tenant_id
ORDER BY t.id FOR NO KEY UPDATE OF t
"""
RENAME = """
UPDATE tenants SET name = new.name, updated_at = now() FROM unnest(%b::uuid[], %b::text[]) AS new (id, name)
WHERE tenants.id = new.id
"""
IN_USE = f"""
SELECT wanted.tenant_id FROM unnest(%b::text[], %b::uuid[]) AS wanted (clerk_id, tenant_id)
WHERE {OTHERS_IN} OR EXISTS (SELECT FROM tenants t WHERE t.id = wanted.tenant_id
                             AND (t.subscription_tier <> 'FREE' OR t.stripe_customer_id IS NOT NULL))
      OR {" OR ".join(f"EXISTS (SELECT FROM {table} c WHERE c.tenant_id = wanted.tenant_id)" for table in CONTENT)}
"""


class ClerkAccounts:
    """Query group of the system scope. `clerk_id`s are ids at Clerk."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def lock(self, clerk_ids: Iterable[str]) -> None:
        """`Identity.lock_person` for any number of people; of two who lock the same ones, one waits."""
        self._driver.execute(LOCK_CLERK)
        self._driver.execute(LOCK_PEOPLE, (list(clerk_ids),), prepare=True)

    def load(self, clerk_ids: Iterable[str]) -> dict[str, Account]:
        """Return an account for each id, also if there is nothing of it yet."""
        rows = self._driver.execute(LOAD, (list(clerk_ids),), prepare=True)
        return {row[0]: _account(*row) for row in rows}

    def add(self, people: Mapping[UUID, tuple[Person, UUID, ActiveMembership]], quota: Quota) -> bool:
        """Add people, by our ids, each with a tenant of their own, and where they work. Return False if another
        program, which knows no lock of ours, has just added one of them."""
        rows = list(people.values())
        tenant_ids, names = [own for _, own, _ in rows], [tenant_name(person) for person, _, _ in rows]
        period = (quota.period_start, quota.limit, quota.used, quota.anchor, quota.period_start, quota.resets_at)
        self._driver.execute(ADD_TENANTS, (*period, tenant_ids, names), prepare=True)
        self._driver.execute(ADD_OWN_TENANTS, ([person.clerk_id for person, _, _ in rows], tenant_ids), prepare=True)
        places = ([at.tenant_id for _, _, at in rows], [at.role.value for _, _, at in rows])
        arrays = (list(people), *places, *_columns([person for person, _, _ in rows]))
        return self._driver.execute(ADD_PEOPLE, arrays, prepare=True).rowcount == len(rows)

    def save(self, people: Sequence[tuple[Person, ActiveMembership | None]]) -> None:
        """Save people who are there and not deleted, and for whom it is given, where they work now."""
        tenant_ids = [at and at.tenant_id for _, at in people]
        roles = [at and at.role.value for _, at in people]
        self._driver.execute(SAVE, (*_columns([person for person, _ in people]), tenant_ids, roles), prepare=True)

    def lock_names(self, own_tenants: Mapping[str, UUID | None]) -> dict[str, tuple[str, bool]]:
        """Lock the own tenants of people, by id. Return of each its name, and whether nobody else works there."""
        rows = self._driver.execute(LOCK_NAMES, _pairs(own_tenants), prepare=True)
        return {clerk_id: (name, alone) for clerk_id, name, alone in rows}

    def rename(self, names: Mapping[UUID | None, str]) -> None:
        """Rename tenants that are locked."""
        self._driver.execute(RENAME, ([*names], [*names.values()]), prepare=True)

    def in_use(self, own_tenants: Mapping[str, UUID | None]) -> set[UUID]:
        """Return those of the own tenants of people that are a customer, have made something, or are somebody else's
        too."""
        return {tenant_id for (tenant_id,) in self._driver.execute(IN_USE.encode(), _pairs(own_tenants), prepare=True)}


def _account(clerk_id: str, exists: bool, *row: Any) -> Account:
    *values, tenant_id, role, own_tenant, offered, offered_role, ended = row
    return Account(
        clerk_id,
        Person(*values) if exists else None,
        ActiveMembership(tenant_id, Role(role)) if exists else NOWHERE,
        own_tenant,
        ActiveMembership(offered, Role(offered_role)) if offered else None,
        ended,
    )


def _pairs(own_tenants: Mapping[str, UUID | None]) -> tuple[list[str], list[UUID | None]]:
    return list(own_tenants), list(own_tenants.values())


def _columns(people: Sequence[Person]) -> list[list[Any]]:
    return [[getattr(person, name) for person in people] for name in COLUMNS]
