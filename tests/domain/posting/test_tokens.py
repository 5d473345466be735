"""When tokens are refreshed, and that no sequence of refreshes and connections empties one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.posting.accounts import Grant
from domain.posting.tokens import Times, due, may_refresh, merge, refresh_at, usable

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
ACCOUNTS = st.uuids()
ANN = UUID(int=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def lasting(length: timedelta | None, **values: datetime) -> Times:
    return Times(NOW, None if length is None else NOW + length, **values)


@settings(max_examples=50)
@given(ACCOUNTS, st.sampled_from([HOUR, 2 * HOUR, DAY]))
def test_a_short_token_is_refreshed_shortly_before_its_end(account_id: UUID, length: timedelta) -> None:
    at = refresh_at(lasting(length), account_id)
    assert at is not None
    assert NOW + length - timedelta(minutes=20) <= at <= NOW + length - timedelta(minutes=10)
    assert usable(lasting(length), at)
    assert not due(lasting(length), account_id, at - timedelta(seconds=1))
    assert due(lasting(length), account_id, at)


@settings(max_examples=50)
@given(ACCOUNTS, st.integers(7, 400))
def test_a_long_token_is_refreshed_at_half_of_its_time_and_not_on_its_first_day(account_id: UUID, days: int) -> None:
    at = refresh_at(lasting(timedelta(days=days)), account_id)
    assert at is not None
    assert NOW + max(DAY, timedelta(days=0.5 * days)) <= at <= NOW + max(DAY, timedelta(days=0.6 * days))


@settings(max_examples=50)
@given(ACCOUNTS, st.integers(-3600, 3600))
def test_a_token_is_never_refreshed_before_it_was_given_nor_after_its_end(account_id: UUID, seconds: int) -> None:
    times = lasting(timedelta(seconds=seconds))
    at = refresh_at(times, account_id)
    assert at is not None
    assert times.access_expires_at is not None
    assert min(NOW, times.access_expires_at) <= at <= times.access_expires_at


def test_accounts_that_were_connected_together_are_refreshed_apart() -> None:
    moments = {refresh_at(lasting(2 * HOUR), UUID(int=number * 7919)) for number in range(100)}
    assert len(moments) > 90


def test_a_token_without_an_end_is_never_refreshed_and_always_usable() -> None:
    assert refresh_at(lasting(None), ANN) is None
    assert not due(lasting(None), ANN, NOW + 900 * DAY)
    assert usable(lasting(None), NOW + 900 * DAY)


def test_a_token_that_ends_within_two_minutes_is_not_used() -> None:
    assert usable(lasting(timedelta(minutes=3)), NOW)
    assert not usable(lasting(timedelta(minutes=2)), NOW)


def test_tokens_are_not_sent_after_the_refresh_tokens_end() -> None:
    times = lasting(HOUR, refresh_expires_at=NOW + DAY)
    assert may_refresh(times, NOW)
    assert not may_refresh(times, NOW + DAY)
    assert may_refresh(lasting(HOUR), NOW + 900 * DAY)


GRANTS = st.builds(
    Grant,
    access_token=st.sampled_from(["", "a1", "a2"]),
    refresh_token=st.sampled_from(["", "", "r1", "r2"]),
    access_expires_at=st.sampled_from([None, NOW, NOW + DAY]),
    refresh_expires_at=st.sampled_from([None, NOW + 180 * DAY]),
    scopes=st.sampled_from([(), ("video.publish",)]),
    external_id=st.sampled_from(["", "7"]),
    username=st.sampled_from(["", "ann"]),
    server=st.sampled_from(["", "https://example.org"]),
)


@settings(max_examples=100)
@given(st.lists(GRANTS, min_size=1, max_size=8))
def test_no_sequence_empties_what_was_there(grants: list[Grant]) -> None:
    kept = grants[0]
    for new in grants[1:]:
        before, kept = kept, merge(kept, new)
        for name in ("access_token", "refresh_token", "scopes", "external_id", "username", "server"):
            assert getattr(kept, name) == (getattr(new, name) or getattr(before, name))
        if before.refresh_token:
            assert kept.refresh_token


@settings(max_examples=50)
@given(GRANTS, GRANTS)
def test_merging_the_same_again_changes_nothing(before: Grant, new: Grant) -> None:
    once = merge(before, new)
    assert merge(once, new) == once


def test_an_end_belongs_to_the_token_that_named_it() -> None:
    before = Grant("a1", "r1", NOW, NOW + 180 * DAY)
    assert merge(before, Grant("a2", access_expires_at=NOW + HOUR)).refresh_expires_at == NOW + 180 * DAY
    assert merge(before, Grant("a2", "r2", NOW + HOUR)).refresh_expires_at is None
    assert merge(before, Grant("a2", "r1", NOW + HOUR)).refresh_expires_at == NOW + 180 * DAY
    assert merge(before, Grant("a2")).access_expires_at is None


def test_neither_token_is_shown() -> None:
    assert "secret" not in repr(replace(Grant("secret", "secret")))


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1)])
def test_a_token_that_has_ended_when_it_came_is_due(length: timedelta) -> None:
    assert due(lasting(length), ANN, NOW)
