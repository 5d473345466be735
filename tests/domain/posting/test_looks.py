"""When a platform is asked again: often at first, ever more rarely, and not for ever."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.posting.looks import (
    IN_DOUBT,
    IN_INBOX,
    PREPARING,
    SETTLES,
    WATCHING,
    WITHOUT_ID,
    Looks,
    may_commit_again,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("looks", "most"),
    [
        pytest.param(PREPARING, 500, id="preparing"),
        pytest.param(WATCHING, 600, id="watching"),
        pytest.param(IN_DOUBT, 120, id="in-doubt"),
        pytest.param(WITHOUT_ID, 150, id="without-id"),
        pytest.param(IN_INBOX, 120, id="in-inbox"),
    ],
)
def test_waits_grow_until_they_end(looks: Looks, most: int) -> None:
    since, waits = timedelta(0), list[timedelta]()
    while (wait := looks.after(since)) is not None:
        waits.append(wait)
        since += wait
    assert waits[0] == looks.shortest
    assert waits == sorted(waits)
    assert max(waits) <= looks.longest
    assert len(waits) < most
    assert looks.until <= since < looks.until + looks.longest
    assert looks.after(since + timedelta(days=1)) is None


def test_a_look_before_the_beginning_is_a_first_one() -> None:
    assert WATCHING.after(timedelta(seconds=-5)) == WATCHING.shortest


def test_tiktoks_id_is_asked_for_until_the_third_day() -> None:
    assert WITHOUT_ID.after(timedelta(hours=71)) is not None
    assert WITHOUT_ID.after(timedelta(hours=72)) is None


def test_doubt_is_a_persons_after_a_day() -> None:
    assert IN_DOUBT.after(timedelta(hours=24)) is None


def test_a_handle_is_committed_again_only_after_the_attempt_before_has_ended() -> None:
    begun = NOW - SETTLES + timedelta(seconds=1)
    assert not may_commit_again(begun, NOW, answered=False)
    assert may_commit_again(begun, NOW, answered=True)
    assert may_commit_again(NOW - SETTLES, NOW, answered=False)
