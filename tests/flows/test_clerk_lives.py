"""However Clerk tells a life, the database ends the same: permuted, told twice, and applied by two workers at once."""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random, SystemRandom
from typing import Any
from uuid import UUID

import pytest

from db.transaction import SYSTEM
from integrations.fakes.clerk_lives import lives
from integrations.fakes.people import Body, Cast
from tests.builders import NOV_22, a_clerk_event, job_row
from tests.drain import drain
from workers.app import App

WHO = Cast(UUID(int=7), "cus_1", "sub_1", "user_ada", "ada@example.com", organization_id="org_acme")
LIVES = lives(WHO, NOV_22)

State = Mapping[str, Sequence[Mapping[str, Any]]]

USERS = """
SELECT to_jsonb(u) - '{id,tenant_id,created_at,updated_at}'::text[]
       || jsonb_build_object('works for', CASE WHEN u.deleted_at IS NULL THEN a.clerk_id END)
FROM users u LEFT JOIN account_tenants a ON a.home_id = u.tenant_id
"""
TENANTS = """
SELECT to_jsonb(t) - '{id,updated_at}'::text[] || jsonb_build_object('of', a.clerk_id)
FROM account_tenants a JOIN tenants t ON t.id = a.home_id
WHERE NOT EXISTS (SELECT FROM users WHERE clerk_id = a.clerk_id AND deleted_at IS NOT NULL)
  AND NOT EXISTS (SELECT FROM organizations WHERE clerk_id = a.clerk_id AND deleted_at IS NOT NULL)
"""
WRITTEN = {
    "users": USERS,
    "tenants": TENANTS,
    "organizations": "SELECT to_jsonb(o) - 'updated_at' FROM organizations o",
    "memberships": "SELECT to_jsonb(m) - 'updated_at' FROM organization_memberships m",
    "waiting": "SELECT to_jsonb(e.type || ' ' || e.status) FROM webhook_events e WHERE status LIKE 'parked%'",
}
"""Everything that the events decide. An account whose end was told first never had a tenant: those of ended ones are
left out."""


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOV_22)


@pytest.fixture
def rng() -> Random:
    seed = SystemRandom().randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")  # shown by pytest if the test fails
    return Random(seed)


def begin(app: App) -> None:
    tables = "webhook_events, job_queue, organizations, organization_memberships, account_tenants, users, tenants"
    with app.db.transaction(SYSTEM) as tx:
        for table in tables.split(", "):
            tx.driver.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]


def state(app: App) -> State:
    with app.db.transaction(SYSTEM) as tx:
        found = {name: [row for (row,) in tx.driver.execute(query).fetchall()] for name, query in WRITTEN.items()}  # type: ignore[call-overload]
    return {name: sorted(rows, key=str) for name, rows in found.items()}


def deliver(app: App, events: Sequence[Body], order: Sequence[int], *, at_once: bool = False) -> State:
    """In this order; every third time the message has an id of its own, as when Clerk sends an event anew."""
    begin(app)
    jobs = []
    for n, index in enumerate(order):
        jobs.append(a_clerk_event(app, events[index], f"msg_{index}" if n % 3 else f"msg_{index}_again_{n}"))
        if not at_once:
            drain(app)
    if at_once:
        run_at_once(app, list(dict.fromkeys(jobs)))
    rows = [job_row(app, job_id) for job_id in jobs]
    assert {(row["status"], row["attempts"], row["error_message"]) for row in rows} == {("completed", 1, None)}
    return state(app)


def run_at_once(app: App, jobs: Sequence[UUID]) -> None:
    """Two workers, each of which was told of all the jobs."""
    start = threading.Barrier(2)

    def work(order: Sequence[UUID]) -> None:
        runner = app.runner()
        start.wait()
        for job_id in order:
            runner.run_one(job_id)

    threads = [threading.Thread(target=work, args=(order,)) for order in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("life", LIVES)
def test_a_life_ends_the_same_in_any_order(app: App, life: str, rng: Random) -> None:
    events = LIVES[life]
    in_order = range(len(events))
    expected = deliver(app, events, in_order)
    assert expected["waiting"] == []
    assert expected["users"]
    told = [list(reversed(in_order)), [*in_order, *in_order]]
    for _ in range(8):
        order = [*in_order, *rng.choices(in_order, k=3)]
        rng.shuffle(order)
        told.append(order)
    for order in told:
        for at_once in (False, True):
            assert deliver(app, events, order, at_once=at_once) == expected, (order, at_once)


@pytest.mark.parametrize("life", LIVES)
def test_a_life_that_is_only_half_told_is_the_same_in_any_order(app: App, life: str, rng: Random) -> None:
    for _ in range(4):
        events = rng.sample(LIVES[life], k=rng.randint(1, len(LIVES[life])))
        order = list(range(len(events)))
        expected = deliver(app, events, order)
        rng.shuffle(order)
        told = [LIVES[life].index(events[index]) for index in order]
        assert deliver(app, events, order, at_once=rng.random() < 0.5) == expected, told


def ends(app: App, life: str) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Who works where and as what, and what the tenants are called."""
    found = deliver(app, LIVES[life], range(len(LIVES[life])))
    people = {user["clerk_id"]: (user["works for"], user["role"]) for user in found["users"]}
    return people, {tenant["of"]: tenant["name"] for tenant in found["tenants"]}


def test_the_ends_of_these_lives(app: App) -> None:
    """So that the comparison above is not one of empty tables."""
    homes = {"user_ada": "ada@example.com"}
    assert ends(app, "a career") == ({"user_ada": (None, "MEMBER")}, {"org_acme": "Acme"})
    assert ends(app, "an organization") == (
        {"user_ada": ("user_ada", "ADMIN"), "user_adaFriend": ("user_adaFriend", "ADMIN")},
        homes | {"user_adaFriend": "friend.ada@example.com"},
    )
    assert ends(app, "a member before anything else") == (
        {"user_ada": ("org_acme", "ADMIN")},
        homes | {"org_acme": "Acme"},
    )
    assert ends(app, "an address used again") == (
        {"user_ada": (None, "MEMBER"), "user_adaFriend": ("user_adaFriend", "ADMIN")},
        {"user_adaFriend": "ada@example.com"},
    )
    assert ends(app, "two organizations") == (
        {"user_ada": ("org_acmeElsewhere", "ADMIN")},
        homes | {"org_acme": "Acme", "org_acmeElsewhere": "Elsewhere"},
    )
    assert ends(app, "leaves and joins again") == (
        {"user_ada": ("org_acme", "MEMBER")},
        homes | {"org_acme": "Acme"},
    )
