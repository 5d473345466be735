"""What became of a post, in words: what is certain, what is not, what comes next, and what somebody can do.

Advice has a sentence for everybody and, where there is one, the shell's command for operators.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.learning.horizons import next_look
from domain.posting.accounts import AccountStatus
from domain.posting.posts import PostStatus, restored_from
from domain.posting.schedule import TURN, in_words
from domain.videos.profiles import NAMES

SENT = "submitting"
"""The kind of event of the point of no return."""


@dataclass(frozen=True, slots=True)
class Advice:
    says: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides over one post. `post` is its row with its account's `platform`, `username`, `account_status` and
    `account_reason`; `next_at` when its job goes on, `closed_until` until when the platform takes nothing of the
    account, `turn_at` when that may begin a post again, `halted` whether nothing is posted since the database went
    back."""

    now: datetime
    post: Mapping[str, Any]
    late_after: timedelta
    events: Sequence[Mapping[str, Any]] = ()
    next_at: datetime | None = None
    closed_until: datetime | None = None
    turn_at: datetime | None = None
    halted: bool = False

    @property
    def platform(self) -> str:
        return NAMES[self.post["platform"]]

    @property
    def sent(self) -> list[datetime]:
        """When it was sent, as far as it is still written down."""
        found = [event["at"] for event in self.events if event["kind"] == SENT]
        return found or [self.post["submitted_at"]] * (self.post["submitted_at"] is not None)

    @property
    def is_restored(self) -> bool:
        return restored_from(self.post["error_code"]) is not None


@dataclass(frozen=True, slots=True)
class Explanation:
    """`next` says what happens by itself and `next_at` when; None: nothing does."""

    certain: list[str] = field(default_factory=list)
    uncertain: list[str] = field(default_factory=list)
    next: str | None = None
    next_at: datetime | None = None
    advice: list[Advice] = field(default_factory=list)


def explain(facts: Facts) -> Explanation:
    """Say what became of the post."""
    says, at = _next(facts)
    return Explanation(list(_certain(facts)), list(_uncertain(facts)), says, at, list(_advice(facts)))


# --- what is certain, and what is not -------------------------------------------------------------------------------


def _certain(facts: Facts) -> Iterator[str]:
    post, name, because = facts.post, facts.platform, facts.post["error_message"]
    match post["status"]:
        case PostStatus.PUBLISHED:
            called = f" as {post['external_id']}" if post["external_id"] else ""
            yield f"{name} published it{called}: seen at {_moment(post['published_at'])}"
            if post["permalink"]:
                yield f"it is at {post['permalink']}"
            if post["first_comment_id"]:
                yield "its first comment is written"
        case PostStatus.REMOVED:
            yield f"it was on {name} and is not any more: {because or 'it was removed'}"
        case PostStatus.IN_INBOX:
            yield f"{name} has it in the inbox of the account's owner; only they can publish it"
        case PostStatus.FAILED:
            yield f"it was not published, and will not be: {because or 'nobody wrote down why'}"
        case PostStatus.SUBMITTED | PostStatus.PROCESSING:
            yield f"{name} has all that it needs for the post, and works on it"
        case PostStatus.CLAIMED:
            yield f"nothing is published: all that {name} was asked for so far only prepares the post"
            if post["handles"]:
                yield f"{name} has begun a post that it will be published by"
        case PostStatus.MISSED:
            yield f"it was not published: {because or 'it could not be begun in time'}"
        case PostStatus.CANCELLED:
            yield "it was cancelled before anything was published"
    yield from _sent(facts)


def _sent(facts: Facts) -> Iterator[str]:
    post, sent = facts.post, facts.sent
    if not sent:
        if post["status"] != PostStatus.PUBLISHED and not facts.is_restored:
            yield f"nothing that publishes it was ever sent to {facts.platform}"
        return
    times = "" if len(sent) == 1 else f", for the {_ordinal(len(sent))} time"
    yield f"the call that publishes it was begun at {_moment(sent[-1])}{times}"
    if post["status"] in (PostStatus.SCHEDULED, PostStatus.CLAIMED, PostStatus.MISSED, PostStatus.CANCELLED):
        yield "what was sent certainly became no post"
    elif len(sent) > 1 and not facts.is_restored:
        yield "what was sent before that certainly became no post"


def _uncertain(facts: Facts) -> Iterator[str]:
    post, name = facts.post, facts.platform
    match post["status"]:
        case PostStatus.SUBMITTING:
            yield f"whether {name} published it{_because(post)}"
        case PostStatus.SUBMITTED | PostStatus.PROCESSING:
            yield f"whether and when {name} publishes it"
        case PostStatus.IN_INBOX:
            yield "whether the owner has published it meanwhile"
        case PostStatus.UNCONFIRMED:
            yield f"whether {name} published it{_because(post)}"
            if found := _candidates(facts):
                yield f"which of these posts of the account is it, if any: {', '.join(found)}"
        case PostStatus.PUBLISHED:
            if not post["external_id"]:
                yield f"what {name} calls it: {name} has not said so yet"
            if post["first_comment"] and post["first_comment_id"] is None:
                yield "whether its first comment is there"


def _because(post: Mapping[str, Any]) -> str:
    return f": {post['error_message']}" if post["error_message"] else ""


def _candidates(facts: Facts) -> list[str]:
    """Return what the last look found that may be it, by the platform's ids."""
    found = [event["details"].get("candidates") for event in facts.events if event["kind"] == "unconfirmed"]
    return [str(each) for each in found[-1]] if found and isinstance(found[-1], list) else []


# --- what comes next ------------------------------------------------------------------------------------------------


def _next(facts: Facts) -> tuple[str | None, datetime | None]:
    post, name = facts.post, facts.platform
    looked_at = facts.next_at or post["look_after"]
    match post["status"]:
        case PostStatus.SCHEDULED:
            return _when_scheduled(facts)
        case PostStatus.CLAIMED:
            if facts.halted:
                return "it waits: the database was put back, and nothing is posted until our people have looked", None
            at = max(filter(None, (facts.next_at, facts.closed_until)), default=None)
            return f"it is published once it is prepared{_because(post)}", at
        case PostStatus.SUBMITTING:
            return f"{name} is asked what became of it; it is sent again only if it certainly is not there", looked_at
        case PostStatus.SUBMITTED | PostStatus.PROCESSING:
            return f"{name} is asked how far it is", looked_at
        case PostStatus.UNCONFIRMED if looked_at is not None:
            return f"{name} is asked once more whether it has it; it is not sent again", looked_at
        case PostStatus.IN_INBOX:
            return f"{name} is asked now and then, for a week, whether the owner has published it", facts.next_at
        case PostStatus.PUBLISHED if not (post["external_id"] and post["permalink"]):
            return f"{name} is asked for its id and address, for some days", facts.next_at
        case PostStatus.PUBLISHED:
            return next_look(post, facts.now)
    return None, None


def _when_scheduled(facts: Facts) -> tuple[str | None, datetime | None]:
    post, due = facts.post, facts.post["scheduled_for"]
    if due is None:
        return None, None
    late = f"; from {_moment(due + facts.late_after)} on it is missed, and asked about"
    if facts.halted:
        return f"it waits: the database was put back, and nothing is posted until our people have looked{late}", None
    if post["account_status"] != AccountStatus.ACTIVE:
        return f"it waits for its account ({_account(post)}){late}", None
    if post.get("account_disabled_at") is not None:
        return f"it waits: our people let nothing be posted to its account for now{late}", None
    if facts.closed_until is not None and facts.closed_until > due:
        why = f"{facts.platform} takes no more for now, or does not answer"
        return f"{why}: it begins after that{late}", facts.closed_until
    if facts.turn_at is not None and facts.turn_at > max(due, facts.now):
        return f"its turn comes: the posts of an account are begun {in_words(TURN)} apart{late}", facts.turn_at
    return ("it begins" if due > facts.now else "it is due, and begins within a minute or two") + late, due


def _account(post: Mapping[str, Any]) -> str:
    status = {AccountStatus.NEEDS_RECONNECT: "has to be connected again"}.get(post["account_status"], "is disconnected")
    return f"it {status}" + (f": {post['account_reason']}" if post["account_reason"] else "")


# --- what somebody can do -------------------------------------------------------------------------------------------


def _advice(facts: Facts) -> Iterator[Advice]:
    post, name = facts.post, facts.platform
    post_id, status = post["id"], post["status"]
    on_its_way = status in (PostStatus.SCHEDULED, PostStatus.CLAIMED, PostStatus.SUBMITTING, PostStatus.SUBMITTED)
    if on_its_way or (status == PostStatus.PUBLISHED and post["measure_at"] is not None):
        if post["account_status"] != AccountStatus.ACTIVE:
            command = f"viral accounts connect {post['platform']} --tenant {post['tenant_id']}"
            yield Advice(f"connect the account to {name} again", command)
        if on_its_way and facts.halted:
            yield Advice("wait until our people have looked", "viral restore status")
    match status:
        case PostStatus.DRAFT | PostStatus.NEEDS_APPROVAL:
            yield Advice("approve it, and it is scheduled", f"viral posts approve {post_id}")
        case PostStatus.FAILED:
            yield Advice("mend what it says, then try it again: this account only", f"viral posts retry {post_id}")
        case PostStatus.MISSED:
            yield Advice("give it another time", f"viral posts edit {post_id} --at TIME")
        case PostStatus.CANCELLED:
            yield Advice("if it is to be posted after all, try it again", f"viral posts retry {post_id}")
        case PostStatus.IN_INBOX:
            yield Advice(f"the account's owner publishes it in {name}")
        case PostStatus.UNCONFIRMED:
            yield Advice(f"look again whether {name} has it", f"viral posts reconcile {post_id}")
            yield Advice(
                f"look at the account on {name}; if it is there, say which it is",
                f"viral posts resolve {post_id} found ITS_ID",
            )
            yield Advice(
                "if it is certainly not there, say so; then it may be tried again",
                f"viral posts resolve {post_id} lost",
            )


def _moment(at: datetime | None) -> str:
    return "some time" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
