import random
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedEvent
from domain.events.outcomes import Ignored, Status
from domain.identity.events import read, triage
from domain.identity.people import (
    ActiveMembership,
    Membership,
    Organization,
    Person,
    Role,
    active_membership,
    identifies,
    merged,
    renamed,
    tenant_name,
    without_person,
)
from simulators.clerk.events import clerk_deleted_user, clerk_event, clerk_user
from simulators.personas import Persona

AT = datetime(2026, 5, 4, 10, 0, 0, 250_000, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
WHO = Persona(UUID(int=1), "cus_1", "sub_1", "user_1", "ada@example.com")


def created(**fields: Any) -> dict[str, Any]:
    return clerk_event("user.created", {**clerk_user(WHO, created_at=AT), **fields}, at=AT)


def changed(**fields: Any) -> Person:
    fact = read(created(**fields))
    assert isinstance(fact, Person)
    return fact


# --- reading


def test_a_created_user_reads_to_the_millisecond_with_the_primary_address() -> None:
    assert changed(last_sign_in_at=1_777_888_800_001) == Person(
        clerk_id="user_1",
        email="ada@example.com",
        name="Ada Lovelace",
        image_url=changed().image_url,
        last_login_at=datetime(2026, 5, 4, 10, 0, 0, 1000, tzinfo=UTC),
        source_updated_at=AT,
    )


@pytest.mark.parametrize("primary", [None, "idn_of_nobody"])
def test_without_a_primary_address_there_is_no_second_choice(primary: str | None) -> None:
    assert changed(primary_email_address_id=primary).email is None


def test_a_person_without_a_name_goes_by_their_user_name() -> None:
    assert changed(first_name=None, last_name=" ").name is None
    assert changed(first_name=None, last_name=None, username="ada").name == "ada"
    assert changed(first_name="Ada", last_name=None).name == "Ada"


def test_what_a_database_cannot_store_is_replaced_in_names() -> None:
    assert changed(first_name="A\0da", last_name="\ud800").name == "A\ufffdda \ufffd"


def test_a_deleted_user_is_its_id_and_the_time_of_the_event() -> None:
    assert read(clerk_event("user.deleted", clerk_deleted_user(WHO), at=LATER)) == Person("user_1", deleted_at=LATER)


def test_a_body_without_a_timestamp_takes_the_deliverys() -> None:
    body = {"type": "user.deleted", "data": clerk_deleted_user(WHO)}
    assert read(body, sent_at=LATER) == Person("user_1", deleted_at=LATER)
    with pytest.raises(MalformedEvent, match="timestamp: missing"):
        read(body)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("subscription.created", "Clerk's own billing"),
        ("subscriptionItem.active", "Clerk's own billing"),
        ("paymentAttempt.updated", "Clerk's own billing"),
        ("customer.subscription.created", None),
        ("session.ended", "only session.created"),
        ("organizationInvitation.accepted", "whoever accepts it"),
        ("email.created", "carries one-time codes"),
        ("role.created", "nothing here follows"),
        ("moon.risen", None),
    ],
)
def test_what_changes_nothing_is_ignored_for_a_reason(kind: str, reason: str | None) -> None:
    fact = read(clerk_event(kind, {"id": "x"}, at=AT))
    assert isinstance(fact, Ignored)
    assert fact == triage(kind)
    assert fact.status == Status.IGNORED_TYPE
    assert fact.detail == reason or (fact.detail or "").startswith(reason or "nothing")


def test_an_event_of_another_instance_is_ignored() -> None:
    assert read(created(), instance="ins_other") == Ignored(Status.IGNORED_INSTANCE)
    assert read(created(), instance=created()["instance_id"]) == changed()
    assert read({**created(), "instance_id": None}, instance="ins_other") == changed()


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"id": None}, "data.id: missing"),
        ({"updated_at": "now"}, "data.updated_at: expected a whole number, found str"),
        ({"email_addresses": {}}, "data.email_addresses: expected a list, found dict"),
        ({"email_addresses": ["x"]}, r"data.email_addresses\[0\]: expected an object, found str"),
        ({"first_name": 7}, "data.first_name: expected a text, found int"),
    ],
)
def test_what_is_malformed_is_named(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MalformedEvent, match=f"^{complaint}$"):
        changed(**fields)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(clerk_user(WHO, created_at=AT))), json_values)
def test_any_json_in_any_field_gives_a_fact_or_is_malformed(field: str, value: Any) -> None:
    with suppress(MalformedEvent):
        assert isinstance(read(created(**{field: value})), Person)


@given(st.sampled_from(["user.created", "user.deleted", 7, None]), json_values, json_values)
def test_any_json_as_a_body_gives_a_fact_or_is_malformed(kind: Any, data: Any, timestamp: Any) -> None:
    with suppress(MalformedEvent):
        read({"type": kind, "data": data, "timestamp": timestamp})


# --- merging


def test_a_first_fact_makes_the_person() -> None:
    person = merged(None, changed())
    assert (person.email, person.source_updated_at, person.deleted_at) == ("ada@example.com", AT, None)


def test_a_stale_fact_and_a_repeated_one_change_nothing() -> None:
    person = changed()
    assert merged(person, changed()) == person
    assert merged(person, changed(updated_at=1, first_name="Old")) == person


def test_banned_is_what_the_latest_fact_says_and_locked_is_not_banned() -> None:
    banned, unbanned = changed(banned=True), changed(updated_at=1_777_888_900_000)
    assert (merged(changed(), banned).banned, merged(banned, unbanned).banned) == (True, False)
    assert merged(unbanned, banned) == unbanned
    assert not changed(locked=True).banned
    assert merged(banned, changed()).banned
    assert merged(changed(), banned) == merged(banned, changed())


def test_a_row_that_another_program_made_takes_the_first_fact() -> None:
    person = merged(Person("user_1", email="typed@example.com", last_login_at=LATER), changed())
    assert (person.email, person.last_login_at) == ("ada@example.com", LATER)


def test_a_deletion_leaves_nothing_of_the_person_and_is_final() -> None:
    tombstone = Person("user_1", deleted_at=LATER)
    assert merged(changed(), tombstone) == tombstone
    assert merged(tombstone, changed(updated_at=10**13)) == tombstone
    assert merged(tombstone, Person("user_1", deleted_at=AT)).deleted_at == AT


names = st.sampled_from([None, "a", "b"])
times = st.sampled_from([AT, AT + timedelta(milliseconds=1), LATER])
people = st.builds(Person, st.just("user_1"), names, names, names, st.none() | times, times, banned=st.booleans())
logins = st.builds(Person, st.just("user_1"), last_login_at=times)
organizations = st.builds(Organization, st.just("org_1"), names, times)
memberships = st.builds(
    Membership, st.just("orgmem_1"), st.just("org_1"), st.just("user_1"), st.sampled_from(Role), times, times
)
SCENARIOS = {
    "person": people | logins,
    "person, perhaps deleted": people | logins | st.builds(Person, st.just("user_1"), deleted_at=times),
    "organization": organizations,
    "organization, perhaps deleted": organizations | st.builds(Organization, st.just("org_1"), deleted_at=times),
    "membership": memberships,
    "membership, perhaps ended": memberships | st.builds(replace, memberships, deleted_at=times),
}


@pytest.mark.parametrize("facts_of_a_life", SCENARIOS.values(), ids=SCENARIOS)
@given(data=st.data(), rng=st.randoms(use_true_random=False))
def test_any_order_and_repetition_ends_in_the_same_row(
    facts_of_a_life: st.SearchStrategy[Any], data: st.DataObject, rng: random.Random
) -> None:
    facts = data.draw(st.lists(facts_of_a_life, min_size=1, max_size=6))
    again = facts + rng.choices(facts, k=3)
    rng.shuffle(again)
    assert reduce(merged, again, None) == reduce(merged, facts, None)


# --- where a person works

OWN_TENANT, ACME, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)
AT_HOME = ActiveMembership(OWN_TENANT, Role.ADMIN)
AT_ACME = ActiveMembership(ACME, Role.MEMBER)
ADA = Person("user_1", source_updated_at=AT)


@pytest.mark.parametrize(
    ("now", "in_use", "offered", "then"),
    [
        (AT_HOME, False, [], AT_HOME),
        (AT_HOME, False, [AT_ACME], AT_ACME),
        (AT_HOME, False, [AT_ACME, ActiveMembership(OTHER, Role.ADMIN)], AT_ACME),
        (AT_HOME, True, [AT_ACME], AT_HOME),
        (AT_ACME, True, [AT_ACME], AT_ACME),
        (AT_ACME, False, [ActiveMembership(ACME, Role.ADMIN)], ActiveMembership(ACME, Role.ADMIN)),
        (AT_ACME, False, [], AT_HOME),
        (ActiveMembership(OWN_TENANT, Role.MEMBER), False, [], ActiveMembership(OWN_TENANT, Role.MEMBER)),
    ],
    ids=["home", "joins", "first joined", "keeps a home in use", "stays", "promoted", "leaves", "home as before"],
)
def test_a_person_works_in_one_tenant_at_a_time(
    now: ActiveMembership, in_use: bool, offered: list[ActiveMembership], then: ActiveMembership
) -> None:
    assert active_membership(ADA, now, OWN_TENANT, own_tenant_in_use=in_use, offered=offered) == then


def test_who_is_deleted_has_no_say_anywhere() -> None:
    deleted = Person("user_1", deleted_at=AT)
    assert active_membership(
        deleted, AT_ACME, OWN_TENANT, own_tenant_in_use=False, offered=[AT_ACME]
    ) == ActiveMembership(OWN_TENANT, Role.MEMBER)
    assert active_membership(deleted, AT_ACME, None, own_tenant_in_use=False, offered=[]) == ActiveMembership(
        None, Role.MEMBER
    )


# --- tenants


def test_a_personal_account_is_named_by_mail_then_name_then_id() -> None:
    assert tenant_name(Person("user_1", email="ada@example.com", name="Ada")) == "ada@example.com"
    assert tenant_name(Person("user_1", name="Ada")) == "Ada"
    assert tenant_name(Person("user_1")) == "user_1"


WORDS = st.text("aé.\\1[", min_size=1, max_size=6)


def test_where_others_work_a_name_loses_the_address_and_nothing_else() -> None:
    ada, nameless = Person("user_1", email="ada@x.example", name="Ada Byron"), Person("user_1", name="Ada Byron")
    names = {
        "Ada@X.example's": "…'s",
        "ada%40x.example": "…",
        "Ada Byron & sons": "Ada Byron & sons",
        "b@x.example": None,
    }
    for name, then in names.items():
        assert without_person(name, ada) == (then or name)
    assert without_person("Ada Byron", nameless) == "…"
    assert without_person("user_1", Person("user_1")) == "user_1"


@given(beside=WORDS, old=WORDS, new=WORDS)
def test_a_name_follows_its_account_and_tells_of_it_until_it_is_deleted(beside: str, old: str, new: str) -> None:
    before, after = Person("user_1", email=f"{old}@x.example"), Person("user_1", email=f"{new}@y.example")
    for called in (f"{old}@x.example", f"{beside} {old}@X.EXAMPLE", f"{old}@x.example's"):
        name = renamed(called, before, after, alone=True)
        assert name == re.sub(re.escape(f"{old}@x.example"), lambda _: f"{new}@y.example", called, flags=re.IGNORECASE)
        assert identifies(name, after, deserted=False)
    assert renamed(beside, before, after, alone=True) == beside
    assert not identifies(beside, after, deserted=True)


def test_a_name_that_somebody_gave_a_tenant_of_several_people_follows_none_of_them() -> None:
    before, after = Person("user_1", name="Ada Byron"), Person("user_1", name="Ada Lovelace")
    assert renamed("Ada Byron & sons", before, after, alone=False) == "Ada Byron & sons"
    assert renamed("Ada Byron & sons", before, after, alone=True) == "Ada Lovelace & sons"
    assert renamed("Ada Byron", before, after, alone=False) == "Ada Lovelace"
    assert not identifies("Ada Byron & sons", before, deserted=False)
    assert identifies("ADA BYRON & sons", before, deserted=True)
