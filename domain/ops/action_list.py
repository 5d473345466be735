"""Every action that an operator has, by its name: what it is called, takes and warns of. The page's forms, the shell's
help and the audit are made of this list; who performs each is in `workers/ops/actions.py`."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from domain.errors import Rejected
from domain.learning.learner import MODELS, YARDSTICK
from domain.learning.outcomes import LEARNED
from domain.learning.scoring import SCORED
from domain.ops.actions import Action, Argument, Kind, Values
from domain.posting.posts import EDITABLE, PostStatus

HIGHEST_PRIORITY: Final = 100
MOST_RUNNING: Final = 1_000_000
VERDICTS: Final = ("found", "lost")
OPEN: Final = ("open",)
"""A tenant that is not deleted."""


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time; write 2026-12-01T09:00Z") from None


def _dollars(text: str) -> Decimal:
    if not re.fullmatch(r"\$?[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise ValueError(f"{text[:40]!r} is no amount; write 1.20")
    amount = Decimal(text.removeprefix("$"))
    if amount > 100_000:
        raise ValueError(f"{text[:40]!r} is no amount between 0 and 100,000")
    return amount


PRIORITY: Final = Argument(
    "priority", "Priority", _whole, hint="0 runs first; 5 is usual", least=0, most=HIGHEST_PRIORITY
)
VERDICT: Final = Argument("verdict", "Verdict", choices=VERDICTS, of_many=("lost",))
AT: Final = Argument("at", "When", _moment, required=False, option="--at", hint="empty: as soon as possible")
PLATFORM: Final = Argument(
    "platform", "Platform", required=False, choices=SCORED, open=True, option="--platform", hint="empty: all of them"
)
CONCEPTS: Final = Argument("count", "Concepts", _whole, least=1, most=1_000_000)
HORIZON: Final = Argument(
    "horizon", "Age", required=False, choices=tuple(LEARNED), open=True, option="--horizon", hint="empty: both"
)


def _granted_before(before: Values, after: Values) -> Values | None:
    """What was granted is taken again, and the other way round."""
    count = abs(int(after.get("granted", 0)) - int(before.get("granted", 0)))
    return {"count": count} if count else None


def _limits_before(before: Values, after: Values) -> Values | None:
    """Limits are set one by one and lifted together: none may have been added to one that stays."""
    limits = {"running": "max_running", "per_tenant": "max_running_per_tenant"}
    kept = {name: before[column] for name, column in limits.items() if before.get(column) is not None}
    added = any(before.get(column) is None and after.get(column) is not None for column in limits.values())
    if not kept:
        return {"none": "yes"}
    return None if added else kept


ALL: Final = (
    Action(
        "job.retry",
        Kind.JOB,
        "jobs retry",
        "Retry",
        "Make a failed or cancelled job due now, with one more attempt.",
        bulk=True,
        states=("failed", "cancelled"),
    ),
    Action(
        "job.cancel",
        Kind.JOB,
        "jobs cancel",
        "Cancel",
        "Take a pending job off its queue, ask a running one to stop, or give up one that failed.",
        warns="What a job has done outside stays done.",
        bulk=True,
        states=("pending", "running", "failed", "waiting", "scheduled", "backoff"),
    ),
    Action(
        "job.run_now",
        Kind.JOB,
        "jobs run-now",
        "Run now",
        "Make a pending job due now: one that is scheduled for later, or waits for its next attempt.",
        bulk=True,
        states=("pending", "waiting", "scheduled", "backoff"),
    ),
    Action(
        "job.prioritize",
        Kind.JOB,
        "jobs prioritize",
        "Change priority",
        "Change when a pending job is dispatched among those of its queue.",
        arguments=(PRIORITY,),
        bulk=True,
        states=("pending", "waiting", "scheduled", "backoff"),
    ),
    Action(
        "queue.pause",
        Kind.QUEUE,
        "queues pause",
        "Pause",
        "Let no further job of a queue, or of one tenant in it, begin. What runs goes on.",
        warns="What waits grows late until somebody resumes it.",
        undo="queue.resume",
        states=("goes on",),
    ),
    Action(
        "queue.resume",
        Kind.QUEUE,
        "queues resume",
        "Resume",
        "Let the jobs of a paused queue begin again.",
        undo="queue.pause",
        states=("paused",),
    ),
    Action(
        "queue.limit",
        Kind.QUEUE,
        "queues limit",
        "Limit",
        "Bound how many jobs of a queue, or of one tenant in it, run at once.",
        arguments=(
            Argument(
                "running",
                "At once",
                _whole,
                required=False,
                option="--running",
                hint="empty: as it is",
                least=1,
                most=MOST_RUNNING,
            ),
            Argument(
                "per_tenant",
                "Of each tenant",
                _whole,
                required=False,
                option="--per-tenant",
                hint="empty: as it is",
                least=1,
                most=MOST_RUNNING,
                whole=True,
            ),
            Argument("none", "Lift the limits", required=False, option="--none", choices=("yes",), flag=True),
        ),
        undo="queue.limit",
        undo_arguments=_limits_before,
    ),
    Action(
        "event.replay",
        Kind.EVENT,
        "events replay",
        "Apply again",
        "Apply a stored event again; an applied one changes nothing.",
        bulk=True,
    ),
    Action(
        "post.resolve",
        Kind.POST,
        "posts resolve",
        "Decide",
        "Decide about a post of which nobody could tell whether it was published.",
        arguments=(
            VERDICT,
            Argument(
                *("external_id", "The platform's id or address of it"),
                required=False,
                hint="found: where there is one",
                own=True,
            ),
        ),
        warns="Look at the account itself first.",
        bulk=True,
        states=(PostStatus.UNCONFIRMED,),
    ),
    Action(
        "post.reconcile",
        Kind.POST,
        "posts reconcile",
        "Ask again",
        "Ask the platform again whether it has an unconfirmed post. Nothing is sent again.",
        bulk=True,
        states=(PostStatus.UNCONFIRMED,),
    ),
    Action(
        "post.approve",
        Kind.POST,
        "posts approve",
        "Approve",
        "Schedule a draft, or a post that waits for approval.",
        bulk=True,
        states=(PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL),
    ),
    Action(
        "post.cancel",
        Kind.POST,
        "posts cancel",
        "Cancel",
        "Cancel a post that is not on its way yet.",
        bulk=True,
        states=EDITABLE,
    ),
    Action(
        "post.retry",
        Kind.POST,
        "posts retry",
        "Try again",
        "Schedule a post again that certainly did not appear.",
        warns="An account takes so many posts a day: of many, those that cannot begin in time are missed again.",
        arguments=(AT,),
        bulk=True,
        states=(PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED),
    ),
    Action(
        "video.resolve",
        Kind.VIDEO,
        "videos resolve",
        "Decide",
        "Decide about an order of which nobody could tell whether the provider has it.",
        arguments=(
            VERDICT,
            Argument(
                "job",
                "The provider's id of it",
                required=False,
                option="--job",
                hint="found: unless it is shown already",
                own=True,
            ),
            Argument(
                *("charged", "What was charged", _dollars),
                required=False,
                option="--charged",
                hint="lost: US dollars",
                own=True,
            ),
        ),
        warns="Look into the provider's console first.",
        bulk=True,
        states=("unconfirmed",),
    ),
    Action(
        "video.cancel",
        Kind.VIDEO,
        "videos cancel",
        "Cancel",
        "Stop a video that waits or is being made, and give back what was reserved.",
        warns="What a provider has begun may be charged.",
        bulk=True,
        states=("pending", "rendering"),
    ),
    Action(
        "model.promote",
        Kind.TENANT,
        "reflexion promote",
        "Promote a model",
        "Have a model score for a tenant, whatever figures say.",
        arguments=(
            Argument("model", "Model", choices=tuple(each for each in MODELS if each != YARDSTICK), open=True),
            PLATFORM,
            HORIZON,
        ),
        id_option="--tenant",
        states=OPEN,
    ),
    Action(
        "model.rollback",
        Kind.TENANT,
        "reflexion rollback",
        "Roll back a model",
        "Let the model score again that did before.",
        arguments=(PLATFORM, HORIZON),
        id_option="--tenant",
        states=OPEN,
    ),
    Action(
        "quota.reset",
        Kind.TENANT,
        "quota reset",
        "Reset quota",
        "Start the running period's count anew. The next reset stays where it is.",
        warns="The tenant can use the whole quota again.",
        states=OPEN,
    ),
    Action(
        "quota.grant",
        Kind.TENANT,
        "quota grant",
        "Grant concepts",
        "Give the tenant more concepts, for what is left of the running period.",
        arguments=(CONCEPTS,),
        undo="quota.take",
        undo_arguments=_granted_before,
        needs_reason=True,
        states=OPEN,
    ),
    Action(
        "quota.take",
        Kind.TENANT,
        "quota take",
        "Take concepts",
        "Take concepts that are left, for what is left of the running period. What is used or held stays.",
        arguments=(CONCEPTS,),
        undo="quota.grant",
        undo_arguments=_granted_before,
        needs_reason=True,
        states=OPEN,
    ),
    Action(
        "tenant.delete",
        Kind.TENANT,
        "tenants delete",
        "Delete the tenant",
        "Let nobody in any more, disconnect its accounts at their platforms, and have a job delete its rows and files.",
        warns="It cannot be undone: export it first (viral tenants export). It is refused while a subscription runs.",
        arguments=(Argument("name", "Type the tenant's name, or its id", hint="as it is shown above", typed=True),),
        needs_reason=True,
        states=OPEN,
    ),
    Action(
        "provider.enable",
        Kind.PROVIDER,
        "providers enable",
        "Enable",
        "Let a provider be asked again, and forget its failures.",
        undo="provider.disable",
        states=("disabled",),
    ),
    Action(
        "provider.disable",
        Kind.PROVIDER,
        "providers disable",
        "Disable",
        "Order nothing of a provider any more. What it is making already goes on.",
        undo="provider.enable",
        states=("enabled",),
    ),
    Action(
        "account.enable",
        Kind.ACCOUNT,
        "accounts enable",
        "Enable",
        "Let posts to a disabled account begin again.",
        undo="account.disable",
        states=("disabled",),
    ),
    Action(
        "account.disable",
        Kind.ACCOUNT,
        "accounts disable",
        "Disable",
        "Begin no post to an account any more. Its tokens stay, and what is on its way goes on.",
        warns="Posts that wait are missed when they are late.",
        undo="account.enable",
        states=("enabled",),
    ),
    Action(
        "account.disconnect",
        Kind.ACCOUNT,
        "accounts disconnect",
        "Disconnect",
        "Delete an account's tokens, and cancel what waits for it.",
        warns="Only its owner can connect it again.",
        states=("enabled", "disabled"),
    ),
    Action(
        "account.reconcile",
        Kind.ACCOUNT,
        "posts reconcile",
        "Ask again",
        "Ask the platform again about all unconfirmed posts of an account. Nothing is sent again.",
        id_option="--account",
    ),
)

ACTIONS: Final[Mapping[str, Action]] = {each.name: each for each in ALL}


def action(name: str) -> Action:
    """Return the action of this name.

    Raises:
        Rejected: there is none; the text says which there are.
    """
    found = ACTIONS.get(name)
    if found is None:
        raise Rejected(f"there is no action {name[:40]!r}; there are {', '.join(ACTIONS)}")
    return found
