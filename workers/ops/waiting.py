"""Posts and videos that wait for a person, why, and the line of the shell that resolves each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from db.transaction import Tx
from domain.errors import Rejected
from domain.ops.actions import Kind, Target
from domain.posting.accounts import AccountStatus
from domain.posting.posts import PostStatus
from domain.videos.budget import month_of
from domain.videos.profiles import NAMES

MOST: Final = 200
"""Items of a kind that are shown."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that waits. `what` and `why` may have texts from outside. Of `post_id` and `video_id` at most one is
    set; `since` is None where nobody wrote it down. `command` of the shell resolves it, or begins to."""

    tenant_id: UUID
    what: str
    why: str
    since: datetime | None
    command: str
    post_id: UUID | None = None
    video_id: UUID | None = None

    @property
    def target(self) -> Target | None:
        """What an operator acts on; None where it is the tenant that has to do something."""
        if self.post_id is not None:
            return Target(Kind.POST, str(self.post_id))
        return None if self.video_id is None else Target(Kind.VIDEO, str(self.video_id))


@dataclass(frozen=True, slots=True)
class Part:
    """All that waits for one reason. `more`: there are further ones. `nothing` says what would be there. `states`: in
    which what somebody can act on is."""

    name: str
    title: str
    says: str
    items: list[Item]
    more: bool
    nothing: str
    states: tuple[str, ...] = ()


def overview(tx: Tx) -> list[Part]:
    """Return what waits, the worst first: what may be live without our knowing, money, what failed, who is asked."""
    return [_in_doubt(tx), _clips(tx), _failed(tx), _accounts(tx), _consents(tx)]


def targets(tx: Tx, part: str) -> list[Target]:
    """Return the posts and videos of one part of the overview, each once.

    Raises:
        Rejected: there is no such part.
    """
    found = next((each for each in overview(tx) if each.name == part), None)
    if found is None:
        raise Rejected(f"there is no part {part[:60]} of what waits for a person")
    named = [target for each in found.items if (target := each.target) is not None]
    return list(dict.fromkeys(named))


def _in_doubt(tx: Tx) -> Part:
    rows = tx.waiting.posts_in_doubt(MOST + 1)
    return _part(
        *("posts_in_doubt", "Posts that may be live without our knowing"),
        "They were sent, or were about to be, and nobody knows what became of it. None is sent again by itself.",
        [
            Item(
                *(row["tenant_id"], _account(row), _doubt(row), row["submitted_at"] or row["updated_at"]),
                command=f"viral posts resolve {row['id']} found|lost",
                post_id=row["id"],
            )
            for row in rows
        ],
        "Of every post that was sent it is known what became of it.",
        states=(PostStatus.UNCONFIRMED,),
    )


def _doubt(row: Mapping[str, Any]) -> str:
    if row["status"] == "submitting":
        return (
            "it was being sent when its process ended: it is looked for on the platform by itself; decide it only if "
            "that does not end"
        )
    heard = f": {row['error_message']}" if row["error_message"] else ""
    return f"the platform's answer is not known{heard}; look at the account itself, and say whether it is there"


def _clips(tx: Tx) -> Part:
    return _part(
        *("clips_in_doubt", "Paid clips of which nobody knows whether they were ordered"),
        "Their money stays reserved until somebody looks into the provider's console.",
        [
            Item(
                row["tenant_id"],
                f"a clip of {row['provider']} ({row['model']}), ${row['estimated_usd']:.2f}",
                row["error_message"] or "the answer to the order was lost",
                row["created_at"],
                command=f"viral videos resolve {row['video_id']} found|lost",
                video_id=row["video_id"],
            )
            for row in tx.waiting.clips(MOST + 1)
        ],
        "Of every order it is known whether it was taken.",
        states=("unconfirmed",),
    )


def _failed(tx: Tx) -> Part:
    return _part(
        *("posts_failed", "Posts that failed in the last seven days"),
        "They are certainly not live. None is tried again by itself.",
        [
            Item(
                row["tenant_id"],
                _account(row),
                row["error_message"] or "no reason was written down",
                row["updated_at"],
                command=f"viral posts retry {row['id']}",
                post_id=row["id"],
            )
            for row in tx.waiting.failed_posts(MOST + 1)
        ],
        "No post has failed in the last seven days.",
        states=(PostStatus.FAILED, PostStatus.MISSED),
    )


def _accounts(tx: Tx) -> Part:
    rows = tx.social_accounts.listed(None, status=AccountStatus.NEEDS_RECONNECT, limit=MOST + 1)
    return _part(
        *("accounts", "Accounts that their owners have to connect again"),
        "Nothing is posted to them until then.",
        [
            Item(
                row["tenant_id"],
                _account(row),
                row["reason"] or "the platform refuses our login",
                row["updated_at"],
                command=f"viral accounts connect {row['platform']} --tenant {row['tenant_id']}",
            )
            for row in rows
        ],
        "No account waits for its owner.",
    )


def _consents(tx: Tx) -> Part:
    now = tx.now()
    rows = [
        row for row in tx.autopilot_reports.switched_on(month_of(now), now - timedelta(days=14)) if not row["accounts"]
    ]
    return _part(
        *("consents", "Autopilots that no account consents to"),
        "They are switched on, and post nothing: an owner has to say for an account that it may be posted to.",
        [
            Item(
                row["tenant_id"],
                "the autopilot is on",
                "none of the tenant's active accounts consents",
                None,
                command=f"viral autopilot consent --tenant {row['tenant_id']} --account ID",
            )
            for row in rows[: MOST + 1]
        ],
        "Each autopilot that is on has an account that consents.",
    )


def _part(
    name: str, title: str, says: str, items: Iterable[Item], nothing: str, *, states: tuple[str, ...] = ()
) -> Part:
    found = list(items)
    return Part(name, title, says, found[:MOST], len(found) > MOST, nothing, states)


def _account(row: Mapping[str, Any]) -> str:
    return f"{NAMES.get(row['platform'], row['platform'])}, {row['username']}"
