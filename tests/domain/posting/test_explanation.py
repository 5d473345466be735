"""Words for what became of a post: nothing is both certain and not, and tenants read no command."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.posting.explanation import Explanation, Facts, explain
from domain.posting.posts import PostStatus

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SENT = {"at": NOW, "kind": "submitting", "message": "it is being sent", "details": {}}


def found(
    status: str, *events: dict[str, Any], halted: bool = False, closed: timedelta | None = None, **columns: Any
) -> Explanation:
    post = {
        **{"id": "p1", "tenant_id": "t1", "status": status, "platform": "tiktok", "username": "ada"},
        **{"account_status": "active", "account_reason": None, "scheduled_for": NOW + HOUR, "submitted_at": None},
        **{"published_at": None, "external_id": None, "permalink": None, "look_after": None, "handles": 0},
        **{"measure_at": None},
        **{"error_code": None, "error_message": None, "first_comment": None, "first_comment_id": None},
    }
    return explain(Facts(NOW, post | columns, 2 * HOUR, events, halted=halted, closed_until=closed and NOW + closed))


@pytest.mark.parametrize("status", list(PostStatus))
def test_each_state_has_words(status: str) -> None:
    says = found(status)
    assert says.certain or says.uncertain
    assert not set(says.certain) & set(says.uncertain)
    assert says.next or says.advice or status in ("published", "removed")
    for sentence in (*says.certain, *says.uncertain, says.next or "", *(each.says for each in says.advice)):
        assert "viral " not in sentence
        assert "`" not in sentence
        assert "None" not in sentence


@pytest.mark.parametrize("status", ["submitting", "unconfirmed"])
def test_of_what_was_sent_it_is_not_known_whether_it_was_published(status: str) -> None:
    says = found(status, SENT, error_message="no answer came")
    assert says.certain == ["the call that publishes it was begun at 2026-11-27 12:00:00 UTC"]
    assert says.uncertain == ["whether TikTok published it: no answer came"]


def test_what_was_never_sent_is_said_so() -> None:
    assert "nothing that publishes it was ever sent to TikTok" in found("scheduled").certain
    assert "nothing that publishes it was ever sent to TikTok" in found("failed", error_message="too long").certain


def test_of_a_restored_database_nobody_says_that_nothing_was_sent() -> None:
    says = found("unconfirmed", error_code="restored scheduled")
    assert says.certain == []
    assert says.uncertain == ["whether TikTok published it"]


@pytest.mark.parametrize(
    ("changes", "says", "advice"),
    [
        pytest.param({}, "it begins; from 2026-11-27 15:00:00 UTC on it is missed", None, id="in time"),
        pytest.param({"scheduled_for": NOW}, "it is due, and begins within a minute or two", None, id="due"),
        pytest.param(
            {"account_status": "needs_reconnect", "account_reason": "access was taken away"},
            "it waits for its account (it has to be connected again: access was taken away)",
            "viral accounts connect tiktok --tenant t1",
            id="account",
        ),
        pytest.param(
            {"halted": True}, "nothing is posted until our people have looked", "viral restore status", id="restore"
        ),
        pytest.param(
            {"closed": 2 * HOUR},
            "TikTok takes no more for now, or does not answer: it begins after",
            None,
            id="held off",
        ),
    ],
)
def test_a_scheduled_post_says_what_it_waits_for(changes: dict[str, Any], says: str, advice: str | None) -> None:
    explained = found("scheduled", **changes)
    assert explained.next is not None
    assert says in explained.next
    assert [each.command for each in explained.advice] == ([advice] if advice else [])


@pytest.mark.parametrize(
    ("changes", "says", "at"),
    [
        pytest.param({"measure_at": NOW + HOUR}, "its numbers are collected", NOW + HOUR, id="later"),
        pytest.param({"measure_at": NOW}, "its numbers are collected within a minute or two", None, id="due"),
        pytest.param({"measure_at": None}, None, None, id="over"),
        pytest.param(
            {"measure_at": NOW, "account_status": "disconnected"},
            "no numbers come while this is so: its account was disconnected",
            None,
            id="account",
        ),
    ],
)
def test_of_a_published_post_numbers_come_next(changes: dict[str, Any], says: str | None, at: datetime | None) -> None:
    explained = found("published", external_id="71", permalink="https://x.example/71", **changes)
    assert (explained.next, explained.next_at) == (says, at)
    assert [each.command for each in explained.advice] == (
        ["viral accounts connect tiktok --tenant t1"] if "account_status" in changes else []
    )


def test_posts_that_may_be_it_are_named() -> None:
    doubt = {"at": NOW, "kind": "unconfirmed", "message": "two fit", "details": {"candidates": ["71", "72"]}}
    assert (
        found("unconfirmed", SENT, doubt).uncertain[-1] == "which of these posts of the account is it, if any: 71, 72"
    )


def test_sent_again_says_that_what_came_before_became_none() -> None:
    says = found("submitted", SENT, SENT | {"at": NOW + HOUR})
    assert says.certain[-2:] == [
        "the call that publishes it was begun at 2026-11-27 13:00:00 UTC, for the second time",
        "what was sent before that certainly became no post",
    ]
