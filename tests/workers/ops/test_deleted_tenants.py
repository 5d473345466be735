"""A deleted tenant stays deleted: nothing begins for it, whoever asks, whatever is paid, and whatever comes late."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.schema.deletion import RECORDS, guarded
from db.schema.tables import metadata
from db.transaction import SYSTEM
from domain.errors import Conflict, TenantDeleted
from domain.ops.actions import Kind, Outcome, Target
from domain.ops.tenant_filters import TenantFilter
from tests.builders import NOV_22, a_stripe_event, a_tenant, beside, event_row, job_row, tenant
from tests.db.test_isolation import World, a_world
from tests.drain import drain
from tests.workers.jobs.test_billing import active, checkout, paid, people
from tests.workers.jobs.test_identity import ADA, apply, created, the_user, updated
from workers.app import App
from workers.jobs.generation import generate_concepts
from workers.jobs.quota import reset_due
from workers.ops import overview, tenants
from workers.ops.acting import Within, retry_job
from workers.ops.actions import perform
from workers.ops.bulk import begin, bulk, preview
from workers.ops.jobs import enqueue, of_job
from workers.ops.support import change_quota
from workers.ops.tenant_deletion import begin_deletion
from workers.ops.tenant_export import export_tenant

WHY: dict[str, str] = {"who": "ada", "reason": "asked for"}


@pytest.fixture
def world(app: App) -> World:
    return a_world(app)


def sql(app: App, statement: str, *values: object) -> list[Any]:
    with app.db.transaction(SYSTEM) as tx:
        cursor = tx.driver.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def a_deleted_tenant(app: App, **columns: Any) -> UUID:
    tenant_id = a_tenant(app, **columns)
    begin_deletion(app, tenant_id, who="person:ada")
    return tenant_id


# --- nothing begins


def test_every_table_refuses_a_deleted_tenants_rows_but_those_that_say_what_has_happened(world: World) -> None:
    """A new table: it is guarded by itself (`db/schema/deletion.py`), and its migration makes the trigger."""
    app, found = world.app, dict[tuple[str, UUID], str | None]()
    sql(
        app,
        "UPDATE tenants SET deletion_began_at = now(), daily_enabled = false, subscription_tier = 'FREE',"
        " monthly_quota = 0, quota_granted = 0, stripe_subscription_id = NULL WHERE id = %s",
        world.a,
    )
    written = "UPDATE {name} SET tenant_id = tenant_id WHERE tenant_id = %s"
    # No entry of it is ever changed.
    entry = (
        "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause)"
        " SELECT id, 'extra', 0, used_quota, 0, now(), 'test' FROM tenants WHERE id = %s"
    )
    for name in (table.name for table in metadata.sorted_tables if "tenant_id" in table.c):
        for owner in (world.a, world.b):
            found[name, owner] = None
            try:
                sql(app, entry if name == "quota_ledger" else written.format(name=name), owner)
            except TenantDeleted as error:
                found[name, owner] = str(error)
    refused = {name for (name, owner), says in found.items() if says and owner == world.a}
    assert refused == set(guarded())
    assert all(says is None or f"tenant {owner} was deleted on 20" in says for (_, owner), says in found.items())
    assert not any(says for (_, owner), says in found.items() if owner == world.b)
    assert set(guarded()) | RECORDS.keys() == {name for name, _ in found}


def test_whatever_is_begun_for_it_is_refused_and_says_why(app: App, tmp_path: Path) -> None:
    tenant_id = a_deleted_tenant(app)
    acts: dict[str, Callable[[], object]] = {
        "a job": lambda: enqueue(app, generate_concepts, {"tenant_id": str(tenant_id), "count": 1}),
        "a job of another program": lambda: sql(
            app, "INSERT INTO job_queue (job_type, tenant_id) VALUES ('x', %s)", tenant_id
        ),
        "quota": lambda: change_quota(app, tenant_id, 3, **WHY),
        "less quota": lambda: change_quota(app, tenant_id, -3, **WHY),
        "an export": lambda: export_tenant(app, tenant_id, tmp_path / "it.zip"),
        "a person": lambda: sql(app, "INSERT INTO users (clerk_id, tenant_id) VALUES ('user_x', %s)", tenant_id),
        "an account": lambda: sql(
            app, "INSERT INTO account_tenants (clerk_id, home_id) VALUES ('org_x', %s)", tenant_id
        ),
        "a plan": lambda: sql(app, "UPDATE tenants SET subscription_tier = 'PRO' WHERE id = %s", tenant_id),
        "its return": lambda: sql(app, "UPDATE tenants SET deletion_began_at = NULL WHERE id = %s", tenant_id),
        "daily concepts": lambda: sql(app, "UPDATE tenants SET daily_enabled = true WHERE id = %s", tenant_id),
    }
    for name, act in acts.items():
        with pytest.raises(TenantDeleted, match=f"tenant {tenant_id} was deleted on 20"):
            act()
            pytest.fail(f"{name} was begun")
    again = perform(app, "quota.reset", Target(Kind.TENANT, str(tenant_id)), {}, who="person:ada")
    assert (again.outcome, "was deleted on 20" in again.says) == (Outcome.REFUSED, True)
    # Of several tenants' jobs, the others' are enqueued.
    other = a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        each = [{"tenant_id": one, "count": 1} for one in (other, tenant_id, other)]
        generate_concepts.enqueue_many(tx, each)
    assert sql(app, "SELECT tenant_id FROM job_queue WHERE job_type = 'generation.generate_concepts'") == [(other,)] * 2


def test_an_ended_job_of_it_is_not_begun_again(app: App) -> None:
    tenant_id, failed = a_tenant(app), uuid4()
    sql(
        app,
        "INSERT INTO job_queue (id, job_type, tenant_id, status, completed_at)"
        " VALUES (%s, 'generation.generate_concepts', %s, 'failed', now())",
        failed,
        tenant_id,
    )
    begin_deletion(app, tenant_id, who="person:ada")
    with pytest.raises(TenantDeleted), app.db.transaction(SYSTEM) as tx:
        retry_job(Within(tx, app.job_types, tx.now()), of_job(failed), {})
    shown = preview(app, "job.retry", who="person:ada", targets=[of_job(failed)])
    begin(app, shown.id, who="person:ada", reason="mended")
    sql(
        app,
        "UPDATE job_queue SET scheduled_for = now() + interval '1 hour', wake_at = now() + interval '1 hour'"
        " WHERE job_type = 'tenants.delete'",
    )
    drain(app)
    [refused] = bulk(app, shown.id).refused
    assert (refused["outcome"], "was deleted on" in refused["says"]) == ("refused", True)


def test_many_who_begin_something_while_it_is_deleted_leave_nothing(app: App) -> None:
    """Whoever was faster is waited for, and what they began is deleted; whoever was slower is refused."""
    for _ in range(2):
        tenant_id, start = a_tenant(app), threading.Barrier(9)

        def begin(n: int, of: UUID = tenant_id, start: threading.Barrier = start) -> str:
            mine = beside(app)
            start.wait()
            done = 0
            try:
                for _ in range(20):
                    with mine.db.transaction(SYSTEM if n % 2 else of) as tx:
                        tx.driver.execute("INSERT INTO job_queue (job_type, tenant_id) VALUES ('x', %s)", (of,))
                        tx.driver.execute(
                            "INSERT INTO posting_policies (tenant_id, late_after) VALUES (%s, '1h')"
                            " ON CONFLICT DO NOTHING",
                            (of,),
                        )
                    done += 1
            except TenantDeleted:
                return "refused"
            return f"done {done}"

        with ThreadPoolExecutor(8) as threads:
            results = [threads.submit(begin, n) for n in range(8)]
            start.wait()
            job_id = begin_deletion(app, tenant_id, who="person:ada").job_id
            [before] = sql(app, "SELECT count(*) FROM job_queue WHERE tenant_id = %s", tenant_id)
            answers = [each.result() for each in results]
        assert set(answers) <= {"refused", "done 20"}
        assert sql(app, "SELECT count(*) FROM job_queue WHERE tenant_id = %s", tenant_id) == [before], "late ones"
        drain(app)
        assert job_row(app, job_id)["status"] == "completed"
        assert sql(app, "SELECT count(*) FROM job_queue WHERE tenant_id = %s", tenant_id) == [(0,)]


# --- what is paid


CLOSED = ("FREE", 0, 0, False)


def state(app: App, tenant_id: UUID) -> tuple[Any, ...]:
    row = tenant(app, tenant_id)
    return tuple(row[name] for name in ("subscription_tier", "monthly_quota", "quota_granted", "daily_enabled"))


def outcomes(app: App, jobs: list[UUID]) -> list[tuple[str, str | None]]:
    rows = [event_row(app, job_id) for job_id in jobs]
    return [(row["status"], row["flag"]) for row in rows]


def test_a_checkout_that_ends_after_the_deletion_is_recorded_and_a_person_is_told(app: App) -> None:
    tenant_id = a_deleted_tenant(app, used_quota=2)
    who = people(tenant_id)
    jobs = []
    for body in (active(who, kind="created"), checkout(who), paid(who), active(who)):
        jobs.append(a_stripe_event(app, body))
        drain(app)
    assert state(app, tenant_id) == CLOSED
    assert {flag for _, flag in outcomes(app, jobs)} == {"deleted_tenant"}
    assert "money for a tenant that was deleted on 20" in event_row(app, jobs[-1])["detail"]
    assert "sub_1" in event_row(app, jobs[-1])["detail"]
    with app.db.transaction(SYSTEM) as tx:
        assert tx.billing.subscription("sub_1") is not None, "the mirror has it, for whoever ends it at Stripe"
    harms = [harm.says for harm in overview.status(app).harms if harm.cause == "flagged:deleted_tenant"]
    assert harms == [f"4 events of the last 30 days are flagged: {overview.MEANS['deleted_tenant']}."]
    # When it is ended, there is nothing to look at.
    ended = active(
        who, kind="deleted", status="canceled", at=NOV_22 + timedelta(days=60), ended_at=NOV_22 + timedelta(days=60)
    )
    late = a_stripe_event(app, ended)
    drain(app)
    assert "nothing follows" in event_row(app, late)["detail"]
    assert state(app, tenant_id) == CLOSED


def test_events_in_any_order_around_the_deletion_never_make_it_pay_again(app: App) -> None:
    rng = Random(46)
    for n, order in enumerate(rng.sample([*permutations(range(4))], 6)):
        tenant_id = a_tenant(app, used_quota=1)
        who = replace(people(tenant_id), customer_id=f"cus_{n}", subscription_id=f"sub_{n}", user_id=f"user_{n}")
        bodies: list[Any] = [active(who, kind="created"), checkout(who), paid(who)]
        deleted, late, refused = False, list[UUID](), list[str]()
        for step in order:
            if step == 3:
                try:
                    begin_deletion(app, tenant_id, who="person:ada")
                    deleted = True
                except Conflict as error:
                    refused.append(error.code)
            else:
                late.append(a_stripe_event(app, bodies[step]))
                drain(app)
        row = tenant(app, tenant_id)
        assert (row["deletion_began_at"] is not None) is deleted
        assert refused == ([] if deleted else ["SUBSCRIPTION_RUNS"])
        if deleted:
            assert state(app, tenant_id) == CLOSED
            assert ("deleted_tenant" in {flag for _, flag in outcomes(app, late)}) is True
        else:
            assert row["subscription_tier"] == "PRO"


def test_of_a_deletion_and_a_checkout_at_once_one_wins(app: App) -> None:
    """Either the subscription keeps the tenant, or it is deleted and does not pay."""
    for n in range(6):
        tenant_id = a_tenant(app)
        who = replace(people(tenant_id), customer_id=f"cus_{n}", subscription_id=f"sub_{n}", user_id=f"user_{n}")
        jobs = [a_stripe_event(app, body) for body in (active(who, kind="created"), checkout(who), paid(who))]
        start = threading.Barrier(2)

        def delete(of: UUID = tenant_id, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                begin_deletion(beside(app), of, who="person:ada")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(delete)
            start.wait()
            drain(app)
        drain(app)
        row = tenant(app, tenant_id)
        assert (row["deletion_began_at"] is not None) is result.result()
        if result.result():
            assert state(app, tenant_id) == CLOSED
            assert "deleted_tenant" in {flag for _, flag in outcomes(app, jobs)}
        else:
            assert row["subscription_tier"] == "PRO"


def test_its_quota_has_no_next_month(app: App) -> None:
    tenant_id = a_tenant(app, used_quota=3)
    begin_deletion(app, tenant_id, who="person:ada")
    drain(app)
    sql(
        app,
        "UPDATE tenants SET quota_period_start = quota_period_start - interval '1 year',"
        " quota_reset_at = quota_reset_at - interval '1 year',"
        " quota_paid_until = quota_paid_until - interval '1 year' WHERE id = %s",
        tenant_id,
    )
    entries = len(sql(app, "SELECT 1 FROM quota_ledger WHERE tenant_id = %s", tenant_id))
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    drain(app)
    assert len(sql(app, "SELECT 1 FROM quota_ledger WHERE tenant_id = %s", tenant_id)) == entries
    with app.db.transaction(SYSTEM) as tx:
        assert tx.health.violations("due quotas are reset within two hours") == 0
        assert tx.health.violations("what a tenant has used is what the ledger says") == 0


# --- its people


def test_events_of_its_people_do_not_open_it_again(app: App) -> None:
    """Whoever comes back gets a tenant of their own."""
    apply(app, created())
    first = the_user(app)["tenant_id"]
    begin_deletion(app, first, who="person:ada")
    drain(app)
    assert sql(app, "SELECT 1 FROM users WHERE clerk_id = %s", ADA.user_id) == []
    apply(app, updated(first_name="Ida"))
    again = the_user(app)["tenant_id"]
    assert again != first
    assert tenant(app, again)["deletion_began_at"] is None
    assert tenant(app, first)["name"] == "deleted"


def test_whoever_works_in_it_and_is_at_home_elsewhere_works_there(app: App) -> None:
    apply(app, created())
    home, place = the_user(app)["tenant_id"], a_tenant(app)
    sql(app, "UPDATE users SET tenant_id = %s, role = 'MEMBER'", place)
    begin_deletion(app, place, who="person:ada")
    drain(app)
    assert (the_user(app)["tenant_id"], the_user(app)["role"]) == (home, "ADMIN")


# --- what is shown


def test_it_is_listed_where_it_is_asked_for_and_hurts_nobody(app: App) -> None:
    kept, gone = a_tenant(app, name="Kept"), a_deleted_tenant(app, name="Gone")

    def listed(**wanted: Any) -> dict[UUID, tuple[str, list[str]]]:
        rows = tenants.tenant_list(app, TenantFilter(**wanted)).rows
        return {row["id"]: (row["subscription_status"], row["harms"]) for row in rows}

    assert listed().keys() == {kept}
    assert listed(harm="deserted").keys() == {kept}
    assert listed(status="deleted") == {gone: ("deleted", [])}
    assert listed(id=gone) == {gone: ("deleted", [])}
    shown = tenants.find_with_people(app, gone)
    assert (shown["deserted"], shown["deletion_began_at"] is not None) == (False, True)
    assert tenants.tenant_report(app, gone).tenant["deletion_began_at"] is not None


def test_a_deletion_again_changes_no_mark(app: App) -> None:
    tenant_id = a_deleted_tenant(app)
    at = tenant(app, tenant_id)["deletion_began_at"]
    begin_deletion(app, tenant_id, who="person:ada")
    drain(app)
    begin_deletion(app, tenant_id, who="person:ada")
    drain(app)
    assert tenant(app, tenant_id)["deletion_began_at"] == at
    assert len(sql(app, "SELECT 1 FROM quota_ledger WHERE tenant_id = %s AND kind = 'grant'", tenant_id)) == 1
