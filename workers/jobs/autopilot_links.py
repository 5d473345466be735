"""The links of a chain: what each stage waits for, and what it begins then. Each works in the transaction of its turn.

Raised is `Rejected` where a chain can go no further; its turn undoes the link and stops the chain with the text.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.autopilot.chains import DAILY_WITHIN, PATIENCE, Mode, Stage, hour_of
from domain.autopilot.choice import Scored, ranked, why_not
from domain.autopilot.consent import obstacle, why_gone
from domain.autopilot.explanation import Considered, Decision
from domain.autopilot.settings import clock_times
from domain.concepts.timing import day_key, zone_of
from domain.concepts.wording import counted
from domain.errors import BudgetExceeded, ClipProviderUnusable, Rejected
from domain.posting.posts import PostStatus, restored_from
from domain.posting.validation import Account
from domain.quota.quota import reserve
from domain.videos.budget import month_of
from domain.videos.plan import STORYBOARD
from domain.videos.script import ScriptUnusable
from workers.engine.job import FailedJob, reason_for_people
from workers.jobs.autopilot_turns import Turn
from workers.jobs.generation import generate_concepts
from workers.jobs.post_plans import SUGGESTED, ForAccount, Plans, PostRequest
from workers.jobs.post_requests import add as add_posts
from workers.jobs.video_requests import NewVideo, Row, concepts_in, of_concept, shown
from workers.jobs.video_requests import add as add_video

SOON = timedelta(seconds=50)
"""Before the schedule looks next: a chain goes on each minute, also one whose job began some seconds late."""
LATER = timedelta(minutes=10)
POSTS_AGAIN = timedelta(minutes=15)
PERSON_AGAIN = timedelta(hours=1)
THERE = (PostStatus.PUBLISHED, PostStatus.IN_INBOX)
ENDED = (*THERE, PostStatus.FAILED, PostStatus.UNCONFIRMED, PostStatus.MISSED, PostStatus.CANCELLED, PostStatus.REMOVED)
"""What a chain waits for no more: what is missed or unconfirmed is a person's to decide."""
WAITS = (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL)


class NothingToMake(Rejected):
    """None of the day's concepts can be made; `decision` has why not, of each."""

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


# --- concepts -------------------------------------------------------------------------------------------------------


def concepts(turn: Turn) -> None:
    """Have the day's concepts made, once for all chains of the day; then ask for the video of the best of them."""
    accounts = _accounts(turn)
    if turn.chain.job_id is None:
        _begin_concepts(turn)
        return
    job = turn.tx.jobs.get(turn.chain.job_id)
    if job is None:
        raise Rejected("the job that was to make the day's concepts is not there any more")
    if job["status"] in ("failed", "cancelled"):
        raise Rejected(f"there are no concepts for this day: {_why_it_ended(turn, job)}")
    if job["status"] != "completed":
        turn.wait(SOON, "the day's concepts are being made")
        return
    _ask_for_a_video(turn, UUID(job["result"]["generation_id"]), accounts)


def _begin_concepts(turn: Turn) -> None:
    """Take the job that makes the day's concepts: the tenant's own daily one, which is waited for, another chain's, or
    a new one that is enqueued here.

    Raises:
        QuotaExceeded: the tenant has no concepts left; the text says until when.
    """
    tx, tenant_id, chain = turn.tx, turn.tenant_id, turn.chain
    key = day_key(chain.day)
    job_id = tx.chains.job_of_key(tenant_id, generate_concepts.name, key)
    if job_id is not None:
        turn.go_on(Stage.CONCEPTS, "the day's concepts are being made", look_after=SOON, job_id=job_id)
        return
    daily = tx.chains.daily(tenant_id)
    begins = hour_of(zone_of(daily["timezone"]), chain.day, daily["daily_hour"])
    if daily["daily"] and turn.now < begins + DAILY_WITHIN:
        turn.wait(SOON, "it waits for the tenant's daily concepts")
        return
    quota = tx.quota.reset_if_due(tenant_id, tx.quota.lock(tenant_id), turn.now)
    count = min(turn.settings.concepts_a_day, quota.available(turn.now))
    if count < 1:
        reserve(quota, 1, turn.now)
    job_id = generate_concepts.with_options(unique_key=key).enqueue(tx, tenant_id=tenant_id, count=count)
    says = f"{counted(count, 'concept')} of this day are being made"
    turn.go_on(Stage.CONCEPTS, says, look_after=SOON, job_id=job_id)


def _why_it_ended(turn: Turn, job: Mapping[str, Any]) -> str:
    if job["status"] == "cancelled":
        return "their job was cancelled"
    return reason_for_people(turn.tx, FailedJob(job["id"], turn.tenant_id, {}, job["error_message"] or ""))


# --- accounts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts that may be posted to, and for each other one that has consent, or had it since the chain began,
    why it cannot be."""

    usable: list[Row]
    left_out: list[str]

    @property
    def platforms(self) -> list[str]:
        return [each["platform"] for each in self.usable]


def _accounts(turn: Turn) -> Accounts:
    """Return the accounts to post to.

    Raises:
        Rejected: there is none.
    """
    rows = turn.tx.autopilot.accounts(turn.tenant_id)
    gone = turn.tx.chains.withdrawn(turn.tenant_id, turn.chain.id)
    left_out = [f"{_name(each)}: {why_gone(each['status'])}" for each in gone]
    if not rows:
        which = f" ({'; '.join(left_out)})" if left_out else ""
        raise Rejected(f"the autopilot may post to no account: none has its consent{which}")
    usable = []
    for each in rows:
        wrong = obstacle(_judged(each), turn.now)
        if wrong is None:
            usable.append(each)
        else:
            left_out.append(f"{_name(each)}: {wrong[1]}")
    if not usable:
        raise Rejected(f"no account can be posted to: {'; '.join(left_out)}")
    return Accounts(usable, left_out)


def _judged(row: Row) -> Account:
    names = ("platform", "status", "reason", "settings")
    return Account(
        name=row["username"] or row["external_id"],
        disabled=row["disabled_at"] is not None,
        **{name: row[name] for name in names},
    )


# --- the video --------------------------------------------------------------------------------------------------------


def _ask_for_a_video(turn: Turn, generation_id: UUID, accounts: Accounts) -> None:
    """Ask for the video of the best concept that has none yet and is no other chain's.

    Raises:
        Rejected: there is no such concept; the text says which were tried.
    """
    found = ranked(concepts_in(turn.tx, turn.tenant_id, generation_id, keep=True), accounts.platforms)
    taken = turn.tx.chains.taken(turn.chain, generation_id)
    least = turn.settings.least_score
    passed_over: list[Considered] = []
    for place, each in enumerate(found):
        if each.score < least:
            why = f"it has less than the {least} asked for"
        elif each.concept_id in taken:
            why = "another chain took it"
        else:
            try:
                wanted, instead = _wanted(turn, generation_id, each)
            except ScriptUnusable as error:
                why = str(error)
            except ClipProviderUnusable as error:
                turn.wait(LATER, str(error))
                return
            else:
                if isinstance(wanted, NewVideo):
                    rest = [_passed_over(other, why_not(other, each)) for other in found[place + 1 :]]
                    decision = Decision(each.concept_id, each.title, each.score, least, [*passed_over, *rest])
                    _begin_video(turn, wanted, each, instead, decision)
                    return
                why = "it has a video already"
        passed_over.append(_passed_over(each, why))
    # Of those below the least score, the first is the best.
    tried = [f"{each.title}: {each.why}" for each in passed_over if each.score is None or each.score >= least]
    if best := next((each for each in found if each.score < least), None):
        tried.append(f"{best.title} has {best.score:g} of {least}")
    raise NothingToMake(
        f"none of {counted(len(found), 'concept')} can be made: {'; '.join(tried) or 'none has a prediction'}",
        Decision(None, None, None, least, passed_over),
    )


def _passed_over(concept: Scored, why: str) -> Considered:
    return Considered(concept.concept_id, concept.title, concept.score, why)


def _wanted(turn: Turn, generation_id: UUID, concept: Scored) -> tuple[NewVideo | Row, str | None]:
    """Return the video to be made, or the one that there is, and why it is a storyboard although clips are wanted:
    none is bought that the autopilot's budget, or the tenant's, has not the money for."""
    budget, instead = turn.settings.budget_usd, None
    how: dict[str, Any] = {"concept_id": concept.concept_id, "layout": None, "again": False}
    how |= {"keys": turn.keys, "now": turn.now}
    if turn.settings.provider != STORYBOARD:
        try:
            new = of_concept(turn.tx, turn.tenant_id, generation_id, provider=turn.settings.provider, **how)
            if not isinstance(new, NewVideo):
                return new, None
            left = budget - turn.tx.autopilot.spent(turn.tenant_id, month_of(turn.now)).total
            if new.estimated_usd <= left:
                return new, None
            why = f"it may cost ${new.estimated_usd:.2f}, and ${max(left, Decimal(0)):.2f} of the autopilot's "
            instead = f"a storyboard, which is free, and no clip: {why}${budget:.2f} are left this month"
        except BudgetExceeded as error:
            instead = f"a storyboard, which is free, and no clip: {error}"
    return of_concept(turn.tx, turn.tenant_id, generation_id, provider=STORYBOARD, **how), instead


def _begin_video(turn: Turn, new: NewVideo, concept: Scored, instead: str | None, decision: Decision) -> None:
    video = add_video(turn.tx, turn.tenant_id, new, {"autopilot": str(turn.chain.id)}, again=False)
    if video["existing"]:
        turn.wait(timedelta(0), f"{concept.title} has just got a video of its own")
        return
    if instead is not None:
        turn.note("storyboard", instead)
    values: dict[str, Any] = {"generation_id": new.generation_id, "concept_id": new.concept_id, "score": concept.score}
    values |= {"video_id": video["id"], "reserved_usd": new.estimated_usd}
    values["month"] = month_of(turn.now) if new.estimated_usd else None
    how = "drawn" if new.provider == STORYBOARD else f"made by {new.provider} for ${new.estimated_usd:.2f} at most"
    says = f"{new.title}, the best of the concepts ({concept.score:g}), is being {how}"
    details = {"decision": asdict(decision)}
    turn.go_on(Stage.VIDEO, says, look_after=SOON, job_id=video["job_id"], details=details, **values)


def video(turn: Turn) -> None:
    """Wait until the video is made, and post it."""
    if turn.chain.video_id is None:
        raise Rejected("its video is not there any more")
    made = shown(turn.tx, turn.tenant_id, turn.chain.video_id)
    match made["status"]:
        case "completed":
            _post(turn, turn.chain.video_id)
        case "pending" | "rendering":
            turn.wait(SOON, turn.chain.reason or "its video is being made")
        case "unconfirmed":
            turn.wait(LATER, f"it waits for a person: {made['error_message']}")
        case status:
            raise Rejected(f"its video {'was' if status == 'cancelled' else 'has'} {status}: {made['error_message']}")


# --- posts ------------------------------------------------------------------------------------------------------------


def _post(turn: Turn, video_id: UUID) -> None:
    """Schedule the video on each account that has consent and can be posted to, and say which were left out.

    Raises:
        Rejected: there is none.
    """
    accounts, times = _accounts(turn), clock_times(turn.settings)
    request = PostRequest(video_id, [ForAccount(each["account_id"]) for each in accounts.usable], at=SUGGESTED)
    left_out, good = list(accounts.left_out), []
    for planned, _ in Plans(turn.tx, turn.tenant_id, video_id, turn.now, times=times).of(request):
        if planned.faults:
            left_out.append(f"{planned.account} on {planned.platform}: {'; '.join(planned.faults)}")
        else:
            good.append(ForAccount(planned.account_id))
    if not good:
        raise Rejected(f"no account can be posted to: {'; '.join(left_out)}")
    how: dict[str, Any] = {"group": turn.chain.id, "approve": turn.mode is Mode.APPROVE, "times": times}
    posts = add_posts(turn.tx, turn.tenant_id, replace(request, accounts=good), turn.now, **how)
    turn.tx.work_as(turn.tenant_id)
    for each in left_out:
        turn.note("left_out", f"not posted to {each}")
    where = ", ".join(f"{_name(each)} at {each['scheduled_for']:%Y-%m-%d %H:%M} UTC" for each in posts)
    waits = any(each["status"] == PostStatus.NEEDS_APPROVAL for each in posts)
    says = f"waits for approval: {where}" if waits else f"scheduled: {where}"
    turn.go_on(Stage.POSTS, says, look_after=POSTS_AGAIN, group_id=turn.chain.id)


def posts(turn: Turn) -> None:
    """Wait until the posts are over, and say what became of them. What nobody approves in time is cancelled."""
    rows, live = _posts(turn)
    if live:
        last = max(each["scheduled_for"] or turn.now for each in rows)
        if turn.now - max(last, turn.chain.since) > PATIENCE[Stage.POSTS]:
            reason = f"nobody approved it within {PATIENCE[Stage.POSTS].days} days"
            turn.tx.autopilot.cancel_posts(turn.tenant_id, turn.chain.id, reason, turn.now, unapproved=True)
            rows, live = _posts(turn)
    if live:
        waits = all(each["status"] in (*WAITS, PostStatus.UNCONFIRMED) for each in live)
        due = min(each["scheduled_for"] or turn.now for each in live)
        again = turn.now + (PERSON_AGAIN if waits else POSTS_AGAIN)
        turn.look_again(again if waits else max(again, due + SOON), turn.chain.reason)
        return
    summary = "; ".join(_became(each) for each in rows) or "its posts are not there any more"
    good = any(each["status"] in (*THERE, PostStatus.UNCONFIRMED) for each in rows)
    turn.end(Stage.DONE if good else Stage.STOPPED, summary if good else f"nothing was posted: {summary}")


def _posts(turn: Turn) -> tuple[list[Row], list[Row]]:
    """Return the chain's posts, and those of them that are not over: one that is in doubt only since the database was
    put back may be scheduled again."""
    rows = turn.tx.chains.posts(turn.chain)
    return rows, [each for each in rows if each["status"] not in ENDED or restored_from(each["error_code"]) is not None]


def _became(post: Row) -> str:
    words = {PostStatus.IN_INBOX: "in the inbox, to be finished by a person"}
    says = words.get(post["status"], str(post["status"]))
    why = post["error_message"] if post["status"] not in THERE else None
    return f"{_name(post)}: {says}" + (f" ({why})" if why else "")


def _name(row: Row) -> str:
    return f"{row['username'] or row['account_id']} on {row['platform']}"


LINKS: Mapping[Stage, Callable[[Turn], None]] = {Stage.CONCEPTS: concepts, Stage.VIDEO: video, Stage.POSTS: posts}
