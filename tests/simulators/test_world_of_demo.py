"""The demo's world: from one seed comes one world; its sums are equal, its times in order, and what fails is mended."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID, uuid5

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.billing.tiers import PLANS, Tier
from domain.ops.metrics import metric
from domain.quota.quota import first_period, reset
from simulators.demo.director import LEAST as SHORTEST
from simulators.demo.director import MENDED, MOST, OPENING, Kind, acts
from simulators.demo.past import Account, Past, Resident, grown, past
from simulators.demo.series import gauges, series
from simulators.demo.tenants import LEAST, TENANTS, Course, clerk_events, stripe_events, tenants

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRICES: dict[Tier, str] = {tier: f"price_{tier.lower()}" for tier in Tier if tier is not Tier.FREE}

seeds = st.integers(0, 999_999)
moments = st.integers(0, 365 * 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds))


def a_past(seed: int, now: datetime, number: int) -> tuple[list[Resident], Past]:
    """Return the past of some of the tenants, each with the accounts that it would connect."""
    residents = []
    for each in tenants(seed, now)[:: TENANTS // number]:
        tenant_id = uuid5(UUID(int=seed), str(each.number))
        quota = reset(first_period(PLANS[each.tier_at(now)].monthly_quota, each.born), now)
        accounts = tuple(Account(uuid5(tenant_id, on), on, f"{on}-{each.number}", each.handle) for on in each.platforms)
        named = each.with_id(tenant_id)
        residents.append(Resident(named, quota.limit, quota.period_start, quota.resets_at, accounts))
    return residents, past(seed, now, residents)


@settings(max_examples=5, deadline=None)
@given(seeds, moments)
def test_one_seed_is_one_world_with_tenants_on_every_plan(seed: int, now: datetime) -> None:
    found = tenants(seed, now)
    assert found == tenants(seed, now)
    assert len(found) == len({each.who.email for each in found}) == TENANTS
    assert {each.tier_at(now) for each in found} == set(Tier)
    assert {each.course for each in found} == set(Course)
    for each in found:
        events = stripe_events(each, now, PRICES)
        assert [event["created"] for event in events] == sorted(event["created"] for event in events)
        assert all(event["created"] <= (now - LEAST).timestamp() for event in events)
        born = min(event["timestamp"] for event in clerk_events(each, now)) / 1000
        assert not events or born <= events[0]["created"]
        assert len({event["id"] for event in events}) == len(events)


@settings(max_examples=3, deadline=None)
@given(seeds, moments)
def test_sums_are_equal_and_times_in_order(seed: int, now: datetime) -> None:
    residents, found = a_past(seed, now, 6)
    _, again = a_past(seed, now, 6)
    assert found.tables == again.tables
    _check_ledgers(residents, found)
    for job in (*found.tables["job_queue"], *found.tables["job_archive"]):
        assert job["created_at"] <= job["started_at"] <= job["completed_at"] <= now
    for hold in found.tables["quota_holds"]:
        assert hold["status"] in ("settled", "released")
        assert hold["closed_at"] >= hold["taken_at"]
    posts = {row["id"]: row for row in found.tables["social_posts"]}
    assert {each.id for each in found.posts} == {row["external_id"] for row in posts.values() if row["external_id"]}
    for row in found.tables["analytics_snapshots"]:
        post = posts[row["post_id"]]
        age = row["captured_at"] - post["published_at"]
        on = next(each.platform for each in found.posts if each.id == post["external_id"])
        assert row["horizon"].opens <= age <= row["horizon"].closes
        assert row["views"] == grown(on, post["external_id"], age, row["captured_at"]).views
    for post in posts.values():
        assert (
            post["published_at"] is None or post["created_at"] <= post["scheduled_for"] <= post["published_at"] <= now
        )
        assert (post["measure_at"] is None) or post["measure_at"] > now - LEAST


def _check_ledgers(residents: list[Resident], found: Past) -> None:
    entries = defaultdict(list)
    for row in found.tables["quota_ledger"]:
        entries[row["tenant_id"]].append(row)
    for each in residents:
        rows, used = entries[each.id], 0
        for row in rows:
            used += row["amount"]
            assert row["used_after"] == used
            assert 0 <= used <= row["quota_after"]
        counted = [row for row in rows if row["taken_at"] >= each.period_start and row["kind"] != "reset"]
        assert found.used[each.id] == used == sum(row["amount"] for row in counted)
        assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)


@given(seeds)
def test_the_director_repeats_itself_by_seed_and_mends_what_it_breaks(seed: int) -> None:
    first = list(islice(acts(seed), 400))
    assert first == list(islice(acts(seed), 400))
    assert tuple(act.kind for act in first[: len(OPENING)]) == OPENING
    assert all(SHORTEST <= act.after <= MOST for act in first)
    assert {act.kind for act in first} == set(Kind)
    for number, act in enumerate(first[:350]):
        if act.kind in MENDED:
            mending, _ = MENDED[act.kind]
            assert mending in [later.kind for later in first[number + 1 : number + 40]], (number, act)


def test_what_is_counted_has_the_names_and_buckets_of_our_metrics() -> None:
    for row in (*series(), *gauges()):
        of = metric(row["name"])
        assert set(row["labels"]) == set(of.labels)
        assert row.get("shapes") is None or len(row["shapes"]) == len(of.buckets) + 1
