"""The story of a quota tells every concept, and adds up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.billing.invoices import Invoice
from domain.billing.tiers import Tier
from domain.quota.explain import Backing, backing, explain
from domain.quota.quota import Quota
from tests.domain.billing.test_plan import PRICES, START, a_subscription, month, paid, plan

NOV, DEC = datetime(2026, 11, 5, 10, tzinfo=UTC), datetime(2026, 12, 5, 10, tzinfo=UTC)
NOW = NOV + timedelta(days=3)
PAID = Quota(50, 12, NOV, NOV, DEC, paid_until=DEC)
PAID_FOR, A_YEAR = Backing(frozenset({NOV, DEC})), Backing(frozenset({NOV, DEC + timedelta(days=300)}))


def entry(kind: str, amount: int, cause: str, taken_at: datetime = NOV) -> dict[str, Any]:
    return {"kind": kind, "amount": amount, "cause": cause, "period_start": NOV, "taken_at": taken_at}


def test_it_tells_where_every_concept_went() -> None:
    entries = [
        entry("adjust", 1, "sql:dashboard"),
        entry("release", -5, "job:3"),
        entry("hold", 5, "job:3"),
        entry("settle", -1, "job:1"),
        entry("hold", 5, "job:2"),
        entry("hold", 7, "job:1"),
        entry("reset", -44, "event:evt_1"),
    ]
    held = [{"count": 5, "taken_at": NOW - timedelta(hours=1)}]
    assert explain("PRO (active)", PAID, entries, held, NOW, behind=PAID_FOR) == [
        "On PRO (active): 50 concepts a month.",
        "This month began on 2026-11-05 10:00 UTC, by a paid invoice (known with event evt_1); "
        "the next begins when the invoice due on 2026-12-05 10:00 UTC is paid.",
        "+1 were entered by another program: see `viral quota show`.",
        "5 came back from a job: failed, or cancelled.",
        "17 were taken by 3 jobs.",
        "1 came back from a job: fewer were made than taken.",
        "5 of these are held by a job at work, the oldest since 2026-11-08 09:00 UTC.",
        "So 12 of 50 are used, and 38 are left.",
    ]


def test_what_changed_the_plan_afterwards_began_no_month() -> None:
    entries = [
        entry("grant", 0, "event:evt_canceled"),
        entry("grant", 0, "event:evt_upgraded"),
        entry("grant", -44, "event:evt_1"),
    ]
    assert "by a paid invoice (known with event evt_1)" in explain("FREE", PAID, entries, [], NOW, behind=PAID_FOR)[1]


def test_it_says_what_the_next_month_waits_for() -> None:
    late, annual = DEC + timedelta(hours=1), replace(PAID, paid_until=DEC + timedelta(days=300))
    sentences = {
        "free": explain("FREE", replace(PAID, paid_until=None), [], [], NOW)[1],
        "late": explain("FREE", replace(PAID, paid_until=None), [], [], NOW, unwritten=True)[2],
        "unpaid": explain("PRO (past_due)", PAID, [], [], late)[1],
        "annual": explain("PRO (active)", annual, [], [], NOW, behind=A_YEAR)[1],
    }
    assert "the next begins on 2026-12-05" in sentences["free"]
    assert "is written down with the next concept, or the next reset" in sentences["late"]
    assert "waits for its invoice" in sentences["unpaid"]
    assert "the next begins on 2026-12-05 10:00 UTC (paid until 2027-10-01" in sentences["annual"]


def test_a_fresh_count_has_a_name_and_forgets_what_was_before() -> None:
    restarted = replace(PAID, used=5, restarted_at=NOW)
    entries = [
        entry("hold", 5, "job:2", NOW),
        entry("reset", -12, "person:ada", NOW),
        entry("hold", 12, "job:1"),
        entry("reset", -44, "event:evt_1"),
    ]
    held = [{"count": 12, "taken_at": NOV}, {"count": 5, "taken_at": NOW}]
    sentences = explain("PRO (active)", restarted, entries, held, NOW, behind=PAID_FOR)
    assert "by a paid invoice (known with event evt_1)" in sentences[1]
    assert sentences[2:] == [
        "ada gave a fresh count on 2026-11-08 10:00 UTC.",
        "5 were taken by a job.",
        "5 of these are held by a job at work, the oldest since 2026-11-08 10:00 UTC.",
        "So 5 of 50 are used, and 45 are left.",
    ]


def test_more_used_than_the_plan_has_leaves_nothing_and_owes_nothing() -> None:
    assert explain("FREE (canceled)", replace(PAID, limit=10), [], [], NOW)[-1] == (
        "So 12 of 10 are used (2 more than this plan has: nothing is owed), and 0 are left."
    )


def test_what_is_not_an_invoice_is_not_called_one() -> None:
    word = replace(PAID, paid_until=DEC + timedelta(days=300))
    sentences = explain("PRO (active)", word, [entry("reset", -44, "event:evt_1")], [], NOW)[1]
    assert sentences == (
        "This month began on 2026-11-05 10:00 UTC, by what Stripe says of the subscription (known with event evt_1); "
        "the next begins on 2026-12-05 10:00 UTC (covered until 2027-10-01 10:00 UTC)."
    )


def test_a_pause_is_told_and_until_when_can_be_drawn() -> None:
    paused = a_subscription(collection_paused=True, paused_at=NOV)
    behind = backing([paused, a_subscription(id="sub_2", status="canceled", collection_paused=True)], [], PRICES)
    assert behind.paused_since == NOV
    quota = replace(PAID, drawn_until=DEC)
    sentences = explain("PRO (active)", quota, [], [], NOW, behind=behind)
    assert (
        sentences[2] == "At Stripe, collection paused since 2026-11-05 10:00 UTC: no invoice follows until it goes on."
    )
    assert sentences[-1] == "They can be drawn until 2026-12-05 10:00 UTC: nothing is paid for after that."
    over = explain("PRO (active)", quota, [], [], DEC, behind=behind)
    assert over[-1] == "None of them can be drawn since 2026-12-05 10:00 UTC: nothing is paid for after that."


def test_no_invoice_is_awaited_of_a_plan_that_ends_as_was_asked_for() -> None:
    row = a_subscription(period_start=START, period_end=month(1), cancel_at=month(1))
    bills = [paid(0, 1)]
    running = plan([row], bills, now=START).quota
    behind = backing([row], bills, PRICES)
    granted = replace(running, granted=3)
    sentences = explain("PRO (active)", granted, [entry("extra", 3, "person:ada")], [], START, behind=behind)
    ended = plan([replace(row, status="canceled", ended_at=month(1))], bills, now=month(1)).quota
    next_day = f"{ended.resets_at:%Y-%m-%d %H:%M} UTC"
    assert sentences[1].endswith(
        "its plan ends on 2026-02-28 12:00 UTC, as was asked for at Stripe, and no invoice follows: "
        f"then it is on FREE, and the next begins on {next_day}."
    )
    assert f"3 concepts more were granted, last by ada, until {next_day}, when the next begins." in sentences
    assert (
        "the next begins when the invoice due on 2026-02-28 12:00 UTC is paid"
        in explain(
            "PRO (active)", running, [], [], START, behind=backing([row, a_subscription(id="sub_2")], bills, PRICES)
        )[1]
    )
    later = replace(row, cancel_at=month(2))
    assert backing([later], bills, PRICES).ends == month(2)
    assert (
        "the invoice due on 2026-02-28"
        in explain("PRO", running, [], [], START, behind=backing([later], bills, PRICES))[1]
    )


def test_a_change_that_is_not_paid_is_told() -> None:
    row = a_subscription(status="past_due", price_ids=("price_agency",))

    def unpaid(*invoices: Invoice) -> tuple[str, ...]:
        return backing([row], invoices, PRICES).unpaid

    assert unpaid(paid(0, 1, price_id="price_starter")) == (
        f"AGENCY was ordered and is not paid: {Tier.STARTER} was last paid for, and counts until it is.",
    )
    assert unpaid(paid(0, 1, price_id="price_agency")) == ()
    trial = replace(row, trial_end=START, period_start=START, period_end=month(1))
    assert backing([trial], [], PRICES).unpaid == (
        "AGENCY was ordered, and nothing was ever paid for it: it counts once its invoice is paid.",
    )
