"""API keys as values: which can be made, what they may do, and when they are over."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import KeyInvalid, NotAllowed, NotAuthenticated
from domain.identity.access import (
    KEY_BYTES,
    LONGEST_LIFE,
    MAX_KEYS,
    NOTE_USE_EVERY,
    SCOPES,
    SHOWN,
    ApiScope,
    Caller,
    Key,
    Maker,
    NewKey,
    caller_of,
    hash_of,
    maker_of,
    new_key,
    scopes_of,
    use_is_due,
)
from domain.identity.people import Role

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SECOND = timedelta(seconds=1)
STORED = Key(UUID(int=1), UUID(int=2), ("account:read",), expires_at=None, revoked_at=None, last_used_at=None)


def made(randomness: bytes = bytes(KEY_BYTES), **fields: Any) -> NewKey:
    defaults = {"name": "export", "scopes": ["account:read"], "expires_at": None, "now": NOW, "others": 0}
    return new_key(randomness, **(defaults | fields))


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_a_key_is_found_by_its_hash_and_its_prefix_hides_most_of_it(randomness: bytes) -> None:
    key = made(randomness)
    assert hash_of(key.text) == key.hash
    assert key.text.startswith(key.prefix)
    assert (len(key.prefix), len(key.text)) == (SHOWN, len("viral_") + 2 * KEY_BYTES)


@given(st.text())
def test_what_is_no_key_has_no_hash(text: str) -> None:
    assert hash_of(text) is None
    assert hash_of(made().text + text) is None or not text


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": name} for name in ("", "  ", "a\nb", "x" * 101)),
        *({"scopes": scopes} for scopes in ([], ["all"], ["account:read", ""])),
        *({"expires_at": at} for at in (NOW - SECOND, NOW, NOW + LONGEST_LIFE + SECOND)),
        {"others": MAX_KEYS},
    ],
    ids=str,
)
def test_a_key_that_makes_no_sense_is_not_made(fields: dict[str, Any]) -> None:
    with pytest.raises(KeyInvalid):
        made(**fields)


def test_a_weak_key_is_a_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        made(b"short")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "KEY_UNKNOWN"),
        (replace(STORED, revoked_at=NOW), "KEY_REVOKED"),
        (replace(STORED, expires_at=NOW), "KEY_EXPIRED"),
        (replace(STORED, expires_at=NOW - SECOND, revoked_at=NOW), "KEY_REVOKED"),
    ],
)
def test_a_key_that_is_over_lets_nobody_in(key: Key | None, code: str) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        caller_of(key, NOW)
    assert refused.value.code == code


def test_a_scope_of_another_release_allows_nothing() -> None:
    caller = caller_of(replace(STORED, scopes=("account:read", "later:write"), expires_at=NOW + SECOND), NOW)
    assert (caller.tenant_id, caller.scopes) == (STORED.tenant_id, {ApiScope.ACCOUNT_READ})


@pytest.mark.parametrize("maker_id", [None, UUID(int=7)])
def test_a_key_that_only_banned_people_answer_for_is_refused_until_they_are_not(maker_id: UUID | None) -> None:
    key = replace(STORED, maker_id=maker_id, role=maker_id and Role.ADMIN, banned=True)
    with pytest.raises(NotAllowed) as refused:
        caller_of(key, NOW)
    assert refused.value.code == "ACCOUNT_BANNED"
    assert caller_of(replace(key, banned=False), NOW).key_id == key.id


def test_a_key_may_do_what_its_maker_may_do_now() -> None:
    key = replace(STORED, scopes=("account:read", "keys:write"), maker_id=UUID(int=7))
    assert caller_of(replace(key, role=Role.ADMIN), NOW).scopes == {ApiScope.ACCOUNT_READ, ApiScope.KEYS_WRITE}
    assert caller_of(replace(key, role=Role.MEMBER), NOW).scopes == {ApiScope.ACCOUNT_READ}
    with pytest.raises(NotAuthenticated, match="has left"):
        caller_of(key, NOW)


ends = st.none() | st.integers(1, 100).map(lambda n: NOW + n * SECOND)


@given(parent_end=ends, wanted=ends)
def test_no_key_ends_later_than_the_one_that_made_it(parent_end: datetime | None, wanted: datetime | None) -> None:
    maker = Maker(parent_id=UUID(int=1), ends_at=parent_end)
    if parent_end and wanted and wanted > parent_end:
        with pytest.raises(KeyInvalid, match="not later"):
            made(expires_at=wanted, maker=maker)
    else:
        key = made(expires_at=wanted, maker=maker)
        assert key.expires_at == (wanted or parent_end)
        assert parent_end is None or (key.expires_at is not None and key.expires_at <= parent_end)


def test_who_makes_a_key_is_judged_again_when_it_is_made() -> None:
    everything = frozenset(ApiScope)
    person = Caller(STORED.tenant_id, UUID(int=7), Role.ADMIN, everything)
    assert maker_of(person, Role.ADMIN, None, NOW) == (Maker(user_id=UUID(int=7)), everything)
    assert maker_of(person, Role.MEMBER, None, NOW)[1] == scopes_of(Role.MEMBER)
    with pytest.raises(NotAllowed, match="no member"):
        maker_of(person, None, None, NOW)
    program = Caller(STORED.tenant_id, None, None, everything, key_id=STORED.id)
    parent = replace(STORED, maker_id=UUID(int=7), role=Role.ADMIN, expires_at=NOW + SECOND)
    maker, scopes = maker_of(program, None, parent, NOW)
    assert maker == Maker(UUID(int=7), STORED.id, ends_at=NOW + SECOND)
    assert scopes == {ApiScope.ACCOUNT_READ}
    for over in (None, replace(parent, revoked_at=NOW)):
        with pytest.raises(NotAuthenticated):
            maker_of(program, None, over, NOW)


def test_use_is_written_now_and_then() -> None:
    assert use_is_due(STORED, NOW)
    assert not use_is_due(replace(STORED, last_used_at=NOW), NOW + NOTE_USE_EVERY - SECOND)
    assert use_is_due(replace(STORED, last_used_at=NOW), NOW + NOTE_USE_EVERY)


def test_admins_may_all_and_members_less() -> None:
    assert scopes_of(Role.ADMIN) == set(SCOPES) == set(ApiScope)
    assert scopes_of(Role.MEMBER) < scopes_of(Role.ADMIN)
    assert not {ApiScope.BILLING_WRITE, ApiScope.KEYS_WRITE} & scopes_of(Role.MEMBER)
