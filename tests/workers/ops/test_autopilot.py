"""What an autopilot may do, as people set it: whoever else changes it at the same time, and whose accounts they are."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert

from db.schema.autopilot import autopilot_chains, autopilot_events
from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected, UnknownAccount, UnknownChain, UnknownTenant
from tests.workers.ops.test_posts import NOW, Tenant
from workers.app import App
from workers.jobs.upkeep import prune
from workers.ops import autopilot, posts
from workers.ops.autopilot_checks import check_autopilots
from workers.ops.explain import explain as explain_job

BY = "person:ada"


@pytest.fixture
def app(app: App) -> App:
    return replace(app, clock=lambda: NOW)


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def a_chain(app: App, tenant_id: UUID, **columns: Any) -> UUID:
    """A chain of today, at its first stage; `columns` of its row may say otherwise."""
    row = {
        "id": uuid4(),
        "tenant_id": tenant_id,
        "day": NOW.date(),
        "place": 1,
        "mode": "auto",
        "month": date(2026, 11, 1),
    }
    row |= {"created_at": NOW, "look_after": None if columns.get("stage") in ("stopped", "done") else NOW}
    row |= {"ended_at": NOW if columns.get("stage") in ("stopped", "done") else None}
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(autopilot_chains).values(row | columns))
    return UUID(str((row | columns)["id"]))


def an_event(app: App, tenant_id: UUID, chain_id: UUID, kind: str, message: str, **columns: Any) -> None:
    row = {"tenant_id": tenant_id, "chain_id": chain_id, "kind": kind, "message": message, "at": NOW}
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(autopilot_events).values(row | columns))


def together(*acts: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(acts)) as pool:
        return [each.result() for each in [pool.submit(act) for act in acts]]


# --- settings -----------------------------------------------------------------------------------------------------


def test_it_is_off_until_somebody_says_otherwise(app: App, ada: Tenant) -> None:
    found = autopilot.show(app, ada.id)
    assert (found.settings["mode"], found.settings["changed_by"], found.accounts) == ("off", None, [])
    assert found.next == ["nothing: it is off"]
    with pytest.raises(UnknownTenant):
        autopilot.show(app, uuid4())


def test_many_who_change_one_thing_each_lose_nothing(app: App, ada: Tenant) -> None:
    changes: list[dict[str, Any]] = [
        {"mode": "auto"},
        {"least_score": 77},
        {"videos_a_day": 2},
        {"concepts_a_day": 9},
        {"times": ["18:30", "12:00"]},
        {"budget_usd": Decimal("12.50")},
    ]
    together(*(lambda each=each: autopilot.change(app, ada.id, each, by=BY) for each in changes))
    found = autopilot.show(app, ada.id).settings
    assert {name: found[name] for each in changes for name in each} == {
        **{"mode": "auto", "least_score": 77, "videos_a_day": 2, "concepts_a_day": 9},
        **{"times": ["12:00", "18:30"], "budget_usd": Decimal("12.50")},
    }
    assert (found["changed_by"], found["changed_at"]) == ("ada", NOW)


def test_what_makes_no_sense_changes_nothing(app: App, ada: Tenant) -> None:
    for wrong in ({"provider": "nobody"}, {"mode": "auto", "least_score": 101}, {"videos_a_day": 6}):
        with pytest.raises(Rejected):
            autopilot.change(app, ada.id, wrong, by=BY)
    assert autopilot.show(app, ada.id).settings["changed_at"] is None


def test_a_change_that_changes_nothing_is_nobodys(app: App, ada: Tenant) -> None:
    autopilot.change(app, ada.id, {"mode": "auto"}, by=BY)
    again = autopilot.change(app, ada.id, {"mode": "auto"}, by="person:grace")
    assert again.settings["changed_by"] == "ada"


# --- consent ------------------------------------------------------------------------------------------------------


def test_auto_is_not_said_to_ask_nobody_where_the_policy_asks(app: App, ada: Tenant) -> None:
    autopilot.consent(app, ada.id, ada.account("bluesky"), by=BY)
    assert "nobody is asked" in autopilot.change(app, ada.id, {"mode": "auto"}, by=BY).next[-1]
    posts.set_policy(app, ada.id, needs_approval=True)
    assert "waits until a person approves it" in autopilot.show(app, ada.id).next[-1]


def test_the_first_consent_is_kept_by_whoever_it_was(app: App, ada: Tenant) -> None:
    account = ada.account("bluesky")
    together(
        *(lambda n=n: autopilot.consent(app, ada.id, account, by=f"person:{n}") for n in range(8)),
    )
    (row,) = autopilot.show(app, ada.id).accounts
    assert (row["id"], row["consented_at"], row["obstacle"]) == (account, NOW, None)
    again = autopilot.consent(app, ada.id, account, by="person:late")
    assert again.accounts == [row]
    assert row["consented_by"] in map(str, range(8))


def test_consent_and_withdrawal_that_race_end_in_one_of_both(app: App, ada: Tenant) -> None:
    account = ada.account("bluesky")
    acts: list[Callable[[], object]] = []
    for _ in range(4):
        acts.append(lambda: autopilot.consent(app, ada.id, account, by=BY))
        acts.append(lambda: autopilot.withdraw(app, ada.id, account))
    together(*acts)
    autopilot.withdraw(app, ada.id, account)
    (row,) = autopilot.show(app, ada.id).accounts
    assert row["consented_at"] is None
    assert "before, either" in autopilot.withdraw(app, ada.id, account).says


def test_only_an_own_account_that_can_be_posted_to_may_consent(app: App, ada: Tenant) -> None:
    others = Tenant(app).account()
    with pytest.raises(UnknownAccount):
        autopilot.consent(app, ada.id, others, by=BY)
    with pytest.raises(UnknownAccount):
        autopilot.withdraw(app, ada.id, others)
    with pytest.raises(Conflict, match="has to be connected again") as away:
        autopilot.consent(app, ada.id, ada.account(status="needs_reconnect"), by=BY)
    with pytest.raises(Conflict, match="TikTok wants its owner to choose privacy_level") as unchosen:
        autopilot.consent(app, ada.id, ada.account("tiktok"), by=BY)
    assert (away.value.code, unchosen.value.code) == ("NOT_ACTIVE", "CHOICE_NEEDED")
    autopilot.consent(app, ada.id, ada.account("tiktok", settings={"privacy_level": "SELF_ONLY"}), by=BY)


def test_withdrawing_cancels_what_waits_on_that_account_only(app: App, ada: Tenant) -> None:
    video, one, other = ada.video(), ada.account("mastodon"), ada.account("bluesky")
    for account in (one, other):
        autopilot.consent(app, ada.id, account, by=BY)
    first, second = ada.create(video, one, other, at=NOW + timedelta(hours=5))
    chain = a_chain(app, ada.id, stage="posts", video_id=video, id=first["group_id"])
    done = autopilot.withdraw(app, ada.id, one)
    assert done.says == "the autopilot posts to it no more; 1 post that waited is cancelled"
    posts = {each.account_id: each for each in autopilot.explain(app, ada.id, chain).explanation.posts}
    assert {account: each.status for account, each in posts.items()} == {one: "cancelled", other: "scheduled"}
    assert {first["id"], second["id"]} == {each.id for each in posts.values()}


def test_who_changed_it_is_called_as_they_are_called_now(app: App, ada: Tenant) -> None:
    account = ada.account()
    autopilot.change(app, ada.id, {"mode": "approve"}, by=f"user:{uuid4()}")
    autopilot.consent(app, ada.id, account, by=f"key:{uuid4()}")
    found = autopilot.show(app, ada.id)
    assert found.settings["changed_by"] == "somebody who has left"
    assert found.accounts[0]["consented_by"] == "an API key that is gone"


# --- chains -------------------------------------------------------------------------------------------------------


def test_chains_come_by_pages_and_the_latest_are_shown(app: App, ada: Tenant) -> None:
    days = [NOW.date() - timedelta(days=back) for back in range(3)]
    made = [a_chain(app, ada.id, day=day, place=place, stage="done") for day in days for place in (2, 1)]
    made.append(a_chain(app, ada.id, day=days[2] - timedelta(days=1), stage="posts"))
    a_chain(app, Tenant(app).id)
    found, after = [], None
    while True:
        page = autopilot.chains(app, ada.id, limit=2, after=after)
        found += [row["id"] for row in page.chains]
        if (after := page.next) is None:
            break
    assert found == made
    assert [row["id"] for row in autopilot.show(app, ada.id).chains] == [*made[:2], made[-1]]


def test_nobody_elses_chain_is_explained(app: App, ada: Tenant) -> None:
    chain = a_chain(app, Tenant(app).id)
    with pytest.raises(UnknownChain):
        autopilot.explain(app, ada.id, chain)
    assert autopilot.explain(app, None, chain).chain["id"] == chain


def test_a_job_says_for_which_chain_it_is(app: App, ada: Tenant) -> None:
    with app.db.transaction(SYSTEM) as tx:
        job_id = prune.enqueue(tx)
        tx.driver.execute("UPDATE job_queue SET tenant_id = %s WHERE id = %s", (ada.id, job_id))
    assert not [each for each in explain_job(app, job_id).reasons if each.code == "autopilot"]
    chains = [a_chain(app, ada.id, place=place, reason="concepts are made") for place in (1, 2)]
    for chain in chains:
        an_event(app, ada.id, chain, "begun", "the day's concepts are made", job_id=job_id)
    (reason,) = [each for each in explain_job(app, job_id).reasons if each.code == "autopilot"]
    assert reason.says == (
        f"it is part of the autopilot's chain {chains[0]} and of 1 more of 2026-11-27 (concepts: concepts are made)"
    )
    assert reason.advice == f"`viral autopilot explain {chains[0]}`"


# --- all of them --------------------------------------------------------------------------------------------------


def test_operators_see_who_has_it_on_and_what_cannot_work(app: App, ada: Tenant) -> None:
    def doctor() -> tuple[str, str]:
        with app.db.transaction(SYSTEM) as tx:
            return check_autopilots(app, tx)

    assert doctor() == ("ok", "no tenant has it on")
    autopilot.change(app, ada.id, {"mode": "auto"}, by=BY)
    (row,) = autopilot.switched_on(app)
    assert (row["tenant_id"], row["mode"], row["accounts"]) == (ada.id, "auto", 0)
    assert doctor()[0] == "warn"
    assert "1 tenant has no account that consents" in doctor()[1]
    autopilot.consent(app, ada.id, ada.account(), by=BY)
    assert doctor() == ("ok", "1 tenant has it on")
    for back in range(3):
        assert doctor()[0] == "ok"
        a_chain(app, ada.id, day=NOW.date() - timedelta(days=back), stage="stopped", reason="no concept is good enough")
    assert doctor()[0] == "warn"
    assert f"{ada.id}: no concept is good enough" in doctor()[1]
    a_chain(app, ada.id, day=NOW.date(), place=2, stage="done")
    assert doctor()[0] == "ok"
    autopilot.change(app, ada.id, {"provider": "auto"}, by=BY)
    assert "has a provider that costs money, and a budget of 0" in doctor()[1]
    autopilot.change(app, ada.id, {"provider": "runway", "budget_usd": Decimal(5)}, by=BY)
    assert doctor()[0] == "warn"
    assert "the provider runway, which cannot be asked" in doctor()[1]
    assert "there is no key for runway here" in doctor()[1]
