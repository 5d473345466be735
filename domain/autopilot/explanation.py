"""Where a chain of the autopilot stands and why, in words: what was decided, what it cost, where its posts are, what is
certain and what is not, what comes next, and what a person can do.

Advice has a sentence for everybody and, where there is one, the shell's command for operators.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.autopilot.chains import PATIENCE, Mode, Stage
from domain.concepts.wording import counted
from domain.posting.accounts import AccountStatus
from domain.posting.explanation import Advice
from domain.posting.posts import UNDER_WAY, PostStatus
from domain.videos.plan import STORYBOARD
from domain.videos.profiles import NAMES

ENDED = (Stage.DONE, Stage.STOPPED)
APPEARED = (PostStatus.PUBLISHED, PostStatus.IN_INBOX)
WAITS = (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL)
TO_LOOK_AT = (PostStatus.FAILED, PostStatus.MISSED, PostStatus.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class Considered:
    """A concept that the chain did not take. `score` is the least of its predictions for the accounts' platforms."""

    concept_id: str | None
    title: str | None
    score: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Which concept was taken (None: none was good enough), and the others. `least_score` was asked for then."""

    concept_id: str | None
    title: str | None
    score: float | None
    least_score: int | None
    passed_over: Sequence[Considered] = ()


@dataclass(frozen=True, slots=True)
class ChainPost:
    """A post of the chain's video, and in words where it is."""

    id: UUID
    account_id: UUID
    platform: str
    username: str | None
    status: str
    says: str
    scheduled_for: datetime | None
    permalink: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides over one chain. `mode` is the tenant's of now (the chain has its own), `video` the row of its video
    if it has one, `posts` those of its video with their account's `platform`, `username`, `account_status`, and why one
    was `held` back or cancelled. `left_out` are accounts that had consent since it began and get no post, in words with
    why. `concepts` is the state of the job that makes the day's concepts, `unusable` why the tenant's provider can make
    no video now, and `policy_asks` whether the tenant's posting policy has every post wait for a person."""

    now: datetime
    chain: Mapping[str, Any]
    mode: Mode
    decision: Decision | None = None
    video: Mapping[str, Any] | None = None
    posts: Sequence[Mapping[str, Any]] = ()
    left_out: Sequence[str] = ()
    concepts: str | None = None
    unusable: str | None = None
    policy_asks: bool = False

    @property
    def waits_for_provider(self) -> bool:
        """Whether its concepts are there, and nobody can make a video of one."""
        return self.stage is Stage.CONCEPTS and self.concepts == "completed" and self.unusable is not None

    @property
    def stage(self) -> Stage:
        return Stage(self.chain["stage"])

    @property
    def asks_first(self) -> bool:
        """Whether each post waits until a person approves it: so it was when it began, or is so since."""
        return self.policy_asks or Mode.APPROVE in (self.mode, self.chain["mode"])

    def of(self, *statuses: str) -> list[Mapping[str, Any]]:
        return [post for post in self.posts if post["status"] in statuses]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`next` says what happens by itself and `next_at` when; None: nothing does. `left_out` says which accounts get no
    post, and why."""

    stands: str
    why: str | None
    decision: Decision | None
    cost: str
    posts: list[ChainPost] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    certain: list[str] = field(default_factory=list)
    uncertain: list[str] = field(default_factory=list)
    next: str | None = None
    next_at: datetime | None = None
    advice: list[Advice] = field(default_factory=list)


def decision_of(events: Sequence[Mapping[str, Any]]) -> Decision | None:
    """Return what was decided last, as the events' details have it; None while nothing was."""
    found = [each["details"]["decision"] for each in events if "decision" in (each["details"] or {})]
    if not found:
        return None
    last = found[-1]
    passed_over = [Considered(**each) for each in last["passed_over"]]
    return Decision(last["concept_id"], last["title"], last["score"], last["least_score"], passed_over)


def explain(facts: Facts) -> Explanation:
    """Say where the chain stands, and why."""
    says, at = _next(facts)
    if says is not None and at is not None and at <= facts.now:
        says, at = f"{says}; that is due now", None
    return Explanation(
        stands=_stands(facts),
        why=_why(facts),
        decision=facts.decision,
        cost=_cost(facts),
        posts=[_post(each) for each in facts.posts],
        left_out=list(facts.left_out),
        certain=list(_certain(facts)),
        uncertain=list(_uncertain(facts)),
        next=says,
        next_at=at,
        advice=list(_advice(facts)),
    )


# --- where it stands ------------------------------------------------------------------------------------------------


def _stands(facts: Facts) -> str:
    match facts.stage:
        case Stage.CONCEPTS if facts.waits_for_provider:
            return "the day's concepts are made; it waits for somebody who can make a video of the best"
        case Stage.CONCEPTS if facts.concepts == "completed":
            return "the day's concepts are made, and the best of them is chosen"
        case Stage.CONCEPTS if facts.chain["job_id"] is None:
            return "its day has begun, and its concepts are not asked for yet"
        case Stage.CONCEPTS if facts.concepts in ("failed", "cancelled"):
            return f"the day's concepts were not made: their job is {facts.concepts}"
        case Stage.CONCEPTS:
            return "it waits for the day's concepts, which are being made"
        case Stage.VIDEO:
            return _at_its_video(facts)
        case Stage.POSTS:
            return _at_its_posts(facts)
        case Stage.DONE:
            appeared = len(facts.of(*APPEARED))
            return f"it is done: {counted(appeared, 'post')} of {len(facts.posts)} appeared"
    since = f"; {counted(appeared, 'post')} of it appeared" if (appeared := len(facts.of(*APPEARED))) else ""
    return f"it stopped{_while(facts)}, and does nothing more{since}"


def _why(facts: Facts) -> str | None:
    """Return why it stands there, by what is true now: what its last look wrote down may have changed since."""
    video = facts.video or {"status": None}
    written: str | None = facts.chain["reason"]
    if facts.posts:
        return "; ".join(f"{_account(post)}: {_because(post)}" for post in facts.posts)
    if facts.waits_for_provider:
        return facts.unusable
    match facts.stage:
        case Stage.CONCEPTS if facts.concepts == "completed":
            return None
        case Stage.VIDEO if video["status"] not in (None, "pending", "rendering"):
            written = video["error_message"]
    return written


def _because(post: Mapping[str, Any]) -> str:
    """Return where a post is in a few words, and what brought it there."""
    says = _called(post["status"])
    if post["status"] in (PostStatus.SCHEDULED, *WAITS):
        says += f", for {_moment(post['scheduled_for'])}"
    because = post["held"] or (None if post["status"] in APPEARED else post["error_message"])
    return f"{says} ({because})" if because else says


def _at_its_video(facts: Facts) -> str:
    video = facts.video
    if video is None:
        return "its concept is chosen, and its video is asked for"
    match video["status"]:
        case "pending":
            return "its video waits to be made"
        case "rendering":
            percent = f", {video['percent']} %" if video.get("percent") is not None else ""
            return f"its video is being made ({video['stage']}{percent})"
        case "completed":
            return "its video is made, and its posts are to be planned"
        case "unconfirmed":
            return "its video is in doubt: nobody can tell whether a clip of it was ordered"
    return f"its video is {video['status']}"


def _at_its_posts(facts: Facts) -> str:
    found = Counter(post["status"] for post in facts.posts)
    if not found:
        return "its video is made, and its posts are planned"
    if len(facts.posts) == 1:
        return f"its video is made, and its post is {_called(facts.posts[0]['status'])}"
    words = [f"{count} {'are' if count > 1 else 'is'} {_called(status)}" for status, count in sorted(found.items())]
    return f"its video is made; of {counted(len(facts.posts), 'post')} {_listed(words)}"


def _called(status: str) -> str:
    return {
        PostStatus.NEEDS_APPROVAL: "waiting for approval",
        PostStatus.IN_INBOX: "in the owner's inbox",
    }.get(PostStatus(status), status)


def _while(facts: Facts) -> str:
    if facts.posts:
        return " after its posts were planned"
    if facts.chain["video_id"] is not None:
        return " at its video"
    return " before it had a video" if facts.chain["concept_id"] else " before it had a concept"


# --- what it cost ---------------------------------------------------------------------------------------------------


def _cost(facts: Facts) -> str:
    spent, reserved = facts.chain["spent_usd"], facts.chain["reserved_usd"]
    if not spent and not reserved:
        drawn = facts.video is not None and facts.video["provider"] == STORYBOARD
        return "nothing: its video is drawn here" if drawn else "nothing so far" if _goes_on(facts) else "nothing"
    rest = f"{_usd(reserved)} more {'are' if spent else 'is'} reserved for what was ordered"
    if not spent:
        return f"nothing so far; {_usd(reserved)} reserved for its video"
    return f"{_usd(spent)}; {rest}" if reserved else _usd(spent)


def _usd(amount: Decimal) -> str:
    cents = amount.quantize(Decimal("0.01"))
    return f"${cents:,}" if cents == amount else f"${amount.normalize():f}"


# --- what is certain, and what is not -------------------------------------------------------------------------------


def _certain(facts: Facts) -> Iterator[str]:
    if not any(post["submitted_at"] or post["status"] in (*APPEARED, PostStatus.UNCONFIRMED) for post in facts.posts):
        yield "nothing of it was posted" if not _goes_on(facts) else "nothing of it is posted yet"
    for post in facts.of(*APPEARED):
        yield f"{_account(post)} has it" + (f": {post['permalink']}" if post["permalink"] else "")
    for post in facts.of(PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED):
        yield f"{_account(post)} does not have it by this chain"
    if facts.stage is Stage.STOPPED and not facts.chain["reserved_usd"]:
        yield "it spends nothing more"


def _uncertain(facts: Facts) -> Iterator[str]:
    if facts.video is not None and facts.video["status"] == "unconfirmed":
        yield "whether the provider took the order of its clip"
    if facts.chain["reserved_usd"] and not _goes_on(facts):
        yield f"how much of the {_usd(facts.chain['reserved_usd'])} that is reserved will be charged"
    for post in facts.of(PostStatus.SUBMITTING, PostStatus.UNCONFIRMED):
        yield f"whether {_account(post)} has it"
    for post in facts.of(PostStatus.SUBMITTED, PostStatus.PROCESSING):
        yield f"whether and when {_account(post)} has it"


# --- what comes next ------------------------------------------------------------------------------------------------


def _next(facts: Facts) -> tuple[str | None, datetime | None]:
    look_at = facts.chain["look_after"]
    if not _goes_on(facts) and facts.chain["reserved_usd"]:
        return "what its video cost is settled, once its provider or a person has said it", look_at
    if _goes_on(facts) and facts.mode is Mode.OFF and facts.stage is not Stage.POSTS:
        return "it stops: the autopilot was switched off meanwhile", look_at
    match facts.stage:
        case Stage.CONCEPTS if facts.waits_for_provider:
            until = facts.chain["since"] + PATIENCE[Stage.CONCEPTS]
            return f"it looks again every few minutes, and stops if nobody can make it by {_moment(until)}", None
        case Stage.CONCEPTS:
            return "the best of the concepts is taken, and a video of it is asked for, if one is good enough", look_at
        case Stage.VIDEO:
            made = facts.video is not None and facts.video["status"] == "completed"
            says = "it is scheduled on the accounts that consent"
            if facts.asks_first:
                says = "its posts are prepared, and wait for a person to approve them"
            return says if made else f"once its video is made, {says}", look_at
        case Stage.POSTS:
            return _next_of_posts(facts)
        case Stage.DONE if facts.of(*APPEARED):
            return "the platforms are asked for its numbers, until 7 days after each post", None
    return None, None


def _next_of_posts(facts: Facts) -> tuple[str | None, datetime | None]:
    if scheduled := sorted(facts.of(PostStatus.SCHEDULED), key=lambda post: post["scheduled_for"] or facts.now):
        at = scheduled[0]["scheduled_for"]
        first = [post for post in scheduled if post["scheduled_for"] == at]
        return f"it is posted to {_listed([_account(post) for post in first])}", at
    if under_way := facts.of(*UNDER_WAY):
        return f"it is found out what became of it on {_listed([_account(post) for post in under_way])}", None
    if facts.of(*WAITS):
        return (
            f"it waits until a person approves it; {PATIENCE[Stage.POSTS].days} days after its time it is cancelled",
            None,
        )
    return "it is looked at again, and ends once it is known what became of each post", facts.chain["look_after"]


# --- what somebody can do -------------------------------------------------------------------------------------------


def _advice(facts: Facts) -> Iterator[Advice]:
    chain, tenant = facts.chain, f"--tenant {facts.chain['tenant_id']}"
    if waiting := facts.of(*WAITS):
        ids = " ".join(str(post["id"]) for post in waiting)
        yield Advice("approve its posts, and they are scheduled", f"viral posts approve {ids}")
    for post in facts.of(*TO_LOOK_AT):
        says = f"the post to {_account(post)} is {post['status']}: see what it says"
        yield Advice(says, f"viral posts explain {post['id']}")
    for post in facts.of(PostStatus.SCHEDULED):
        if post["account_status"] != AccountStatus.ACTIVE:
            command = f"viral accounts connect {post['platform']} {tenant}"
            yield Advice(f"{_account(post)} has to be connected again before its time", command)
    if facts.video is not None and facts.video["status"] in ("failed", "unconfirmed", "cancelled"):
        yield Advice("see what became of its video", f"viral videos show {chain['video_id']}")
    if facts.unusable is not None and facts.video is None and facts.stage in (Stage.CONCEPTS, Stage.STOPPED):
        says = "choose the storyboard, which is drawn here for nothing, or another provider"
        yield Advice(says, f"viral autopilot set {tenant} --provider {STORYBOARD}")
        yield Advice("whoever runs this installation can say when the provider can be asked", "viral providers list")
    if facts.stage is not Stage.STOPPED or facts.video is not None:
        return
    if facts.decision is not None and facts.decision.concept_id is None:
        best = max((each.score for each in facts.decision.passed_over if each.score is not None), default=None)
        if best is not None and facts.decision.least_score is not None and best < facts.decision.least_score:
            says = f"the best concept had {best:g}: ask for less than {facts.decision.least_score}, if that is enough"
            yield Advice(says, f"viral autopilot set {tenant} --least-score {int(best)}")
    elif chain["job_id"] is not None and facts.unusable is None:
        yield Advice("see what its last job says", f"viral jobs explain {chain['job_id']}")
    yield Advice("see what the autopilot needs", f"viral autopilot show {tenant}")


# --- words ----------------------------------------------------------------------------------------------------------


def _post(post: Mapping[str, Any]) -> ChainPost:
    return ChainPost(
        id=post["id"],
        account_id=post["account_id"],
        platform=post["platform"],
        username=post["username"],
        status=post["status"],
        says=_says(post),
        scheduled_for=post["scheduled_for"],
        permalink=post["permalink"],
    )


def _says(post: Mapping[str, Any]) -> str:
    because = f": {post['error_message']}" if post["error_message"] else ""
    match post["status"]:
        case PostStatus.SCHEDULED:
            return f"it is posted at {_moment(post['scheduled_for'])}{because}"
        case PostStatus.DRAFT | PostStatus.NEEDS_APPROVAL:
            held = f" ({post['held']})" if post["held"] else ""
            return f"it waits for a person's approval, for {_moment(post['scheduled_for'])}{held}"
        case PostStatus.PUBLISHED:
            there = f": {post['permalink']}" if post["permalink"] else ""
            return f"published at {_moment(post['published_at'])}{there}"
        case PostStatus.IN_INBOX:
            return "in the inbox of the account's owner, who publishes it"
        case PostStatus.CLAIMED | PostStatus.SUBMITTED | PostStatus.PROCESSING:
            return f"it is on its way{because}"
        case PostStatus.SUBMITTING:
            return f"it is being sent{because}"
    return f"{post['status']}: {post['held']}" if post["held"] else f"{post['status']}{because}"


def _account(post: Mapping[str, Any]) -> str:
    return f"{post['username'] or post['account_id']} ({NAMES[post['platform']]})"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _moment(at: datetime | None) -> str:
    return "some time" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _goes_on(facts: Facts) -> bool:
    return facts.stage not in ENDED
