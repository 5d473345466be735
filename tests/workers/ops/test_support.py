"""Concepts that support grants or takes: for the running period, once for each key, never below what is used."""

import threading
from datetime import timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from db.transaction import SYSTEM
from domain.errors import QuotaExceeded, Rejected, UnknownTenant
from domain.ops.actions import Outcome, target
from domain.ops.tenant_filters import TenantFilter
from tests.builders import a_tenant, tenant
from tests.drain import drain
from workers.app import App
from workers.jobs.quota import reset_due
from workers.ops.actions import perform
from workers.ops.support import change_quota
from workers.ops.tenant_deletion import begin_deletion
from workers.ops.tenants import explain_quota, find_quota, find_with_people, tenant_list, tenant_report


def grant(app: App, tenant_id: UUID, count: int, key: str | None = None) -> str:
    return change_quota(app, tenant_id, count, who="ada", reason="the outage of Monday", key=key).says


def left(app: App, tenant_id: UUID) -> int:
    return int(find_quota(app, tenant_id)["remaining"])


def hold(app: App, tenant_id: UUID, count: int) -> None:
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, uuid4(), count, tx.now())


def disagreeing(app: App) -> int:
    with app.db.transaction(SYSTEM) as tx:
        return tx.health.violations("what a tenant has used is what the ledger says")


def fresh(app: App) -> UUID:
    """A tenant in the middle of a period."""
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    return a_tenant(app, created_at=now - timedelta(days=3), quota_reset_at=now + timedelta(days=27))


def test_what_is_granted_can_be_used_and_what_is_used_cannot_be_taken(app: App) -> None:
    tenant_id = fresh(app)
    assert grant(app, tenant_id, 5) == "5 concepts granted"
    hold(app, tenant_id, 12)
    assert left(app, tenant_id) == 3
    with pytest.raises(Rejected, match="3 of 15 are left, so that 4 concepts cannot be taken: what is used or held st"):
        grant(app, tenant_id, -4)
    assert grant(app, tenant_id, -3) == "3 concepts taken"
    assert left(app, tenant_id) == 0
    with pytest.raises(QuotaExceeded, match="1 concept asked for, 0 of 12 left"):
        hold(app, tenant_id, 1)
    assert disagreeing(app) == 0
    with app.db.transaction(tenant_id) as tx:
        found = [
            (row["kind"], row["amount"], row["used_after"], row["quota_after"]) for row in tx.quota.ledger(tenant_id)
        ]
    assert found == [("extra", -3, 12, 12), ("hold", 12, 12, 15), ("extra", 5, 0, 15)]
    sentences = " ".join(explain_quota(app, tenant_id).sentences)
    assert "2 concepts more were granted, last by ada, until " in sentences
    assert "So 12 of 12 are used, and 0 are left." in sentences


def test_the_plans_own_can_be_taken_until_the_period_ends(app: App) -> None:
    tenant_id = fresh(app)
    grant(app, tenant_id, -4)
    assert left(app, tenant_id) == 6
    assert "4 concepts were taken away, last by ada" in " ".join(explain_quota(app, tenant_id).sentences)


def test_each_act_is_in_the_audit_with_its_reason(app: App) -> None:
    tenant_id = fresh(app)
    changed = change_quota(app, tenant_id, 2, who="ada", reason=" an apology ", key="ticket 7")
    again = change_quota(app, tenant_id, 2, who="bob", reason="an apology", key="ticket 7")
    assert (again.again, again.says, again.action_id) == (True, "done before: 2 concepts granted", changed.action_id)
    with pytest.raises(Rejected, match="the key was used for another change: 2 concepts granted"):
        change_quota(app, tenant_id, 3, who="ada", reason="more", key="ticket 7")
    with app.db.transaction(SYSTEM) as tx:
        row = tx.actions.get(changed.action_id)
    assert row is not None
    assert (row["who"], row["action"], row["target"], row["reason"], row["outcome"]) == (
        *("person:ada", "quota.grant", f"tenant:{tenant_id}", "an apology", "done"),
    )
    assert (row["before"], row["after"]) == (
        {"granted": 0, "used": 0, "remaining": 10},
        {"granted": 2, "used": 0, "remaining": 12},
    )
    assert left(app, tenant_id) == 12


@pytest.mark.parametrize(("count", "reason"), [(5, "  "), (5, "x" * 501), (100_001, "much")])
def test_what_makes_no_sense_is_refused(app: App, count: int, reason: str) -> None:
    tenant_id = fresh(app)
    with pytest.raises(Rejected):
        change_quota(app, tenant_id, count, who="ada", reason=reason)
    assert left(app, tenant_id) == 10


def test_nobody_has_no_quota(app: App) -> None:
    with pytest.raises(UnknownTenant):
        grant(app, uuid4(), 1)


def test_many_at_once_are_in_one_order_and_a_key_counts_once(app: App) -> None:
    tenant_id = fresh(app)
    refused: list[Exception] = []

    def work(number: int) -> None:
        for turn in range(6):
            try:
                grant(app, tenant_id, 1, key=f"one of {turn}")
                grant(app, tenant_id, 2)
                hold(app, tenant_id, 1)
                grant(app, tenant_id, -2)
            except (Rejected, QuotaExceeded) as error:
                refused.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = tenant(app, tenant_id)
    with app.db.transaction(tenant_id) as tx:
        entries = tx.quota.ledger(tenant_id, 1000)
    assert row["quota_granted"] == sum(each["amount"] for each in entries if each["kind"] == "extra")
    assert len([each for each in entries if each["kind"] == "extra" and each["amount"] == 1]) == 6
    assert row["used_quota"] <= 10 + row["quota_granted"]
    assert disagreeing(app) == 0


def test_it_ends_with_the_period_whoever_begins_the_next(app: App, owner_url: str) -> None:
    by_calendar, by_hold, by_old_release, in_period = (a_tenant(app) for _ in range(4))
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
        tx.driver.execute("UPDATE tenants SET quota_reset_at = %s", (now + timedelta(days=1),))
    for tenant_id in (by_calendar, by_hold, by_old_release, in_period):
        grant(app, tenant_id, 5)
    with app.db.transaction(SYSTEM) as tx:
        past = "UPDATE tenants SET quota_reset_at = now() - interval '1 hour' WHERE id = ANY(%s)"
        tx.driver.execute(past, ([by_calendar, by_hold],))
    hold(app, by_hold, 1)
    with app.db.transaction(SYSTEM) as tx:
        reset_due.enqueue(tx)
    drain(app)
    with psycopg.connect(owner_url) as old:
        old.execute("UPDATE tenants SET quota_period_start = now() WHERE id = %s", (by_old_release,))
        old.execute("UPDATE tenants SET name = 'renamed' WHERE id = %s", (in_period,))
    granted = [tenant(app, each)["quota_granted"] for each in (by_calendar, by_hold, by_old_release, in_period)]
    assert granted == [0, 0, 0, 5]
    assert tenant(app, by_hold)["used_quota"] == 1
    assert disagreeing(app) == 0


def test_of_a_month_that_is_over_nobody_shows_the_old_numbers(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    tenant_id = a_tenant(app, created_at=now - timedelta(days=40), quota_reset_at=now + timedelta(days=1))
    grant(app, tenant_id, 2)
    hold(app, tenant_id, 12)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET quota_reset_at = now() WHERE id = %s", (tenant_id,))
    shown = find_quota(app, tenant_id)
    explained, report = explain_quota(app, tenant_id), tenant_report(app, tenant_id)
    assert (shown["quota"], shown["granted"], shown["used"], shown["remaining"]) == (10, 0, 0, 10)
    assert shown["period_start"] < shown["resets_at"] > now
    assert (explained.used, explained.remaining) == (report.used, report.remaining) == (0, 10)
    assert report.resets_at == shown["resets_at"]
    [listed] = tenant_list(app, TenantFilter(id=tenant_id)).rows
    for row in (listed, find_with_people(app, tenant_id)):
        assert (row["used_quota"], row["allowance"], row["quota_granted"]) == (0, 10, 0)
        assert row["quota_reset_at"] == shown["resets_at"]
    sentences = " ".join(explained.sentences)
    assert "So 0 of 10 are used, and 10 are left." in sentences
    assert "granted" not in sentences
    assert "is written down with the next concept, or the next reset." in sentences
    hold(app, tenant_id, 10)
    assert left(app, tenant_id) == 0


def test_lists_count_what_was_granted(app: App) -> None:
    tenant_id = fresh(app)
    grant(app, tenant_id, 5)
    assert [row["allowance"] for row in tenant_list(app, TenantFilter(id=tenant_id)).rows] == [15]


def test_looking_at_a_quota_waits_for_nobody(app: App) -> None:
    tenant_id = fresh(app)
    with app.db.transaction(tenant_id) as tx:
        tx.quota.lock(tenant_id)
        looking = threading.Thread(target=left, args=(app, tenant_id))
        looking.start()
        looking.join(5)
        assert not looking.is_alive()
    looking.join()


def unpaid(app: App, **columns: object) -> UUID:
    """A tenant whose period ended two days ago, and whose next invoice is not paid yet."""
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    month = {"quota_period_start": now - timedelta(days=32), "quota_reset_at": now - timedelta(days=2)}
    paying = {"subscription_tier": "PRO", "monthly_quota": 50, "quota_paid_until": month["quota_reset_at"]}
    return a_tenant(app, created_at=month["quota_period_start"], **(month | paying | columns))


def test_while_the_next_invoice_is_not_paid_no_answer_names_a_time_that_has_passed(app: App) -> None:
    tenant_id = unpaid(app, used_quota=50)
    due = tenant(app, tenant_id)["quota_reset_at"]
    granted = change_quota(app, tenant_id, 5, who="ada", reason="they pay tomorrow", key="once")
    waits = f"until the invoice that was due on {due:%Y-%m-%d %H:%M} UTC is paid"
    assert (granted.says, granted.remaining, granted.until) == (f"5 concepts granted, {waits}", 5, None)
    again = change_quota(app, tenant_id, 5, who="ada", reason="they pay tomorrow", key="once")
    assert (again.says, again.remaining, again.until) == (f"done before: {granted.says}", 5, None)
    assert f"5 concepts more were granted, last by ada, {waits}." in explain_quota(app, tenant_id).sentences
    fresh_count = perform(app, "quota.reset", target(f"tenant:{tenant_id}"), who="person:ada")
    assert fresh_count.says.startswith("50 given back; the next period waits for the invoice that was due on ")
    hold(app, tenant_id, 55)


def test_what_nobody_could_use_is_refused_by_page_and_shell(app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    tenant_id = unpaid(app, used_quota=40, quota_drawn_until=now - timedelta(days=1))
    for action, arguments in (("grant", {"count": 5}), ("take", {"count": 5}), ("reset", {})):
        done = perform(app, f"quota.{action}", target(f"tenant:{tenant_id}"), arguments, who="operator:ops", reason="y")
        assert done.outcome is Outcome.REFUSED
        assert done.says.startswith("nothing can be drawn since ")
    with pytest.raises(Rejected, match=r"nothing can be drawn since .*; try again when the next invoice is paid"):
        grant(app, tenant_id, 5)
    assert left(app, tenant_id) == 0


def test_of_what_is_granted_it_says_how_many_can_be_used(app: App) -> None:
    tenant_id = fresh(app)
    hold(app, tenant_id, 10)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET monthly_quota = 4 WHERE id = %s", (tenant_id,))
    with pytest.raises(Rejected, match="6 concepts more would leave none to use: 10 of 4 are used; grant at least 7"):
        grant(app, tenant_id, 6)
    assert grant(app, tenant_id, 8) == "8 concepts granted; of them 2 can be used: 10 of 12 are used"
    assert left(app, tenant_id) == 2


def test_a_key_of_a_period_that_is_over_shows_the_new_one(app: App) -> None:
    tenant_id = fresh(app)
    grant(app, tenant_id, 5, key="of November")
    hold(app, tenant_id, 12)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET quota_reset_at = now() WHERE id = %s", (tenant_id,))
    again = change_quota(app, tenant_id, 5, who="ada", reason="the outage of Monday", key="of November")
    assert again.says == "done before: 5 concepts granted, and it ended with its period"
    assert (again.granted, again.used, again.remaining) == (0, 0, 10)
    with app.db.transaction(SYSTEM) as tx:
        assert again.until is not None
        assert again.until > tx.now()


def test_nothing_is_done_to_the_quota_of_a_deleted_tenant(app: App) -> None:
    tenant_id = fresh(app)
    begin_deletion(app, tenant_id, who="person:ada")
    for action, arguments in (("grant", {"count": 5}), ("take", {"count": 5}), ("reset", {})):
        done = perform(app, f"quota.{action}", target(f"tenant:{tenant_id}"), arguments, who="operator:ops", reason="y")
        assert (done.outcome, done.error) == (Outcome.REFUSED, "TenantDeleted")


def test_a_fresh_count_is_one_though_a_clock_was_ahead(app: App) -> None:
    """A server that took over may be behind the one by whose clock concepts were taken."""
    tenant_id, job_id = fresh(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        tx.quota.hold(tenant_id, job_id, 5, tx.now() + timedelta(minutes=1))
    done = perform(app, "quota.reset", target(f"tenant:{tenant_id}"), who="person:ada")
    assert done.says.startswith("5 given back; the next reset stays at ")
    assert disagreeing(app) == 0
    with app.db.transaction(tenant_id) as tx:
        tx.quota.release(tenant_id, job_id)
    assert (left(app, tenant_id), disagreeing(app)) == (10, 0)
    assert any(each.startswith("ada gave a fresh count on ") for each in explain_quota(app, tenant_id).sentences)
