from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.billing.reconcile import compare_invoice, compare_subscription, read_invoice, read_subscription
from domain.billing.subscriptions import ENTITLED, TERMINAL, Subscription, newer
from simulators.stripe.events import invoice, subscription
from tests.domain.billing.test_plan import START, WHO, a_subscription, month

STATUSES = sorted({*ENTITLED, *TERMINAL, "unpaid", "paused", "incomplete", "of_tomorrow"})

rows = st.builds(
    a_subscription,
    status=st.sampled_from(STATUSES),
    price_ids=st.sampled_from([("price_pro",), ("price_starter",), ("price_a", "price_b"), ("price_b", "price_a")]),
    period_start=st.sampled_from([None, START, month(1)]),
    cancel_at=st.sampled_from([None, month(2)]),
    ended_at=st.sampled_from([None, month(3)]),
    event_created=st.integers(0, 3).map(lambda n: START + timedelta(seconds=n)),
    event_rank=st.integers(0, 2),
)


def compare(ours: Subscription | None, theirs: Subscription) -> tuple[str, ...] | None:
    """The fields that a repair would change; None if nothing is to be repaired."""
    found = compare_subscription(ours, theirs, {})
    return None if found is None or found.event is None else tuple(found.changes)


@given(ours=st.none() | rows, theirs=rows)
def test_what_is_repaired_agrees_and_what_is_newer_here_is_left(
    ours: Subscription | None, theirs: Subscription
) -> None:
    merged = newer(ours, theirs) if compare(ours, theirs) else ours
    if merged is not None and merged.event_created <= theirs.event_created:
        later = replace(theirs, event_created=theirs.event_created + timedelta(minutes=1))
        if not (merged.status in TERMINAL and theirs.status not in TERMINAL) and merged != ours:
            assert compare_subscription(merged, later, {}) is None
    if ours is not None and ours.event_created > theirs.event_created:
        assert merged == ours


def test_a_difference_names_each_field_with_both_values() -> None:
    ours = a_subscription()
    theirs = replace(ours, status="past_due", cancel_at=month(1), event_created=month(1))
    found = compare_subscription(ours, theirs, {"id": "evt"})
    assert found is not None
    assert found.changes == {"status": ("active", "past_due"), "cancel_at": (None, month(1))}
    assert found.event == {"id": "evt"}


def test_the_order_of_items_and_when_we_were_told_are_no_difference() -> None:
    ours = a_subscription(price_ids=("price_a", "price_b"), ended_at=START)
    theirs = replace(ours, price_ids=("price_b", "price_a"), ended_at=None, event_created=month(1), event_rank=2)
    assert compare_subscription(ours, theirs, {}) is None


def test_what_is_over_here_and_runs_there_is_said_and_not_repaired() -> None:
    ours = a_subscription(status="canceled")
    found = compare_subscription(ours, a_subscription(event_created=month(1)), {"id": "evt"})
    assert found is not None
    assert found.event is None


def test_a_listed_subscription_reads_as_of_the_moment_of_asking() -> None:
    read, event = read_subscription(subscription(WHO, START, (START, month(1))), month(1))
    assert (read.event_created, read.status, read.period_end) == (month(1), "active", month(1))
    assert event["id"] == f"reconcile_sub_1_{int(month(1).timestamp())}"


def test_an_invoice_is_known_if_it_is_paid_for_the_same_lines() -> None:
    bill = invoice(WHO, (START, month(1)), at=START, billing_reason="subscription_create")
    theirs, event = read_invoice(bill, month(1))
    assert theirs is not None
    assert compare_invoice(theirs, theirs, event) is None
    for ours in (None, replace(theirs, status="open"), replace(theirs, lines=())):
        found = compare_invoice(ours, theirs, event)
        assert found is not None
        assert found.event == event


def test_an_invoice_of_no_subscription_is_never_missed() -> None:
    bill = invoice(WHO, (START, month(1)), at=START) | {"parent": None}
    assert read_invoice(bill, month(1))[0] is None
