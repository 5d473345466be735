"""A post is one video on one account: a row of `social_posts`, and what may become of it.

    draft ─▶ needs_approval ─▶ scheduled ─▶ claimed ─▶ submitting ─▶ submitted ─▶ processing ─▶ published ─▶ removed
      └──────────────────────────▲  │          │            │             └────────────┴──▶ in_inbox
                                    │          │            └──▶ unconfirmed
                                    └──▶ missed, cancelled   failed

Until it is claimed it is the tenant's to change. A claimed one is prepared: what a platform is asked for then can be
done again. Its handle, by which the platform knows the coming post, is kept before the one call that publishes: the
point of no return. `submitting` is committed before that call, so whoever finds a post in it looks before it acts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from domain.errors import Unavailable


class PostStatus(StrEnum):
    DRAFT = "draft"
    NEEDS_APPROVAL = "needs_approval"
    SCHEDULED = "scheduled"
    CLAIMED = "claimed"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    PROCESSING = "processing"
    PUBLISHED = "published"
    IN_INBOX = "in_inbox"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"
    MISSED = "missed"
    CANCELLED = "cancelled"
    REMOVED = "removed"
    """It was published, and its platform has it no longer. Some rows of older releases are so, where a video was on an
    account twice."""


EDITABLE = (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL, PostStatus.SCHEDULED, PostStatus.MISSED)
"""States in which a post is the tenant's to change, approve and cancel."""

UNDER_WAY = (PostStatus.CLAIMED, PostStatus.SUBMITTING, PostStatus.SUBMITTED, PostStatus.PROCESSING)
"""States of which a job takes care."""

OVER = (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED, PostStatus.REMOVED)
"""States in which the account does not have the video by this post, so that a person may make another post of it."""


@dataclass(frozen=True, slots=True)
class Post:
    """A row of `social_posts`. `handle_secrets` are sealed; `claimed_at` is the same for all that is sent for it."""

    id: UUID
    tenant_id: UUID
    video_id: UUID
    account_id: UUID
    status: PostStatus
    title: str
    caption: str
    hashtags: Sequence[str]
    options: Mapping[str, Any]
    cover_at: Decimal | None
    first_comment: str | None
    scheduled_for: datetime | None
    claimed_at: datetime | None
    handle: Mapping[str, Any] | None
    handle_secrets: bytes | None = field(repr=False)
    handle_expires_at: datetime | None
    handles: int
    submitted_at: datetime | None
    look_after: datetime | None
    external_id: str | None
    permalink: str | None
    published_at: datetime | None
    first_comment_id: str | None
    error_code: str | None
    error_message: str | None
    job_id: UUID | None
    created_at: datetime

    @property
    def restored_from(self) -> PostStatus | None:
        """What it was when the backup was taken, of one that is in doubt because the database went back."""
        return restored_from(self.error_code)

    @property
    def may_be_there(self) -> bool:
        """Whether of one under way, or in doubt, something was sent that publishes it: who finds it so looks first."""
        return self.status != PostStatus.CLAIMED or self.submitted_at is not None


RESTORED = "restored"
"""The first word of `error_code` while a post is in doubt since a restore; the second is what it was before."""


def restored_from(error_code: str | None) -> PostStatus | None:
    """Return what the post was when the backup was taken, of one that is in doubt because the database went back."""
    if error_code is None or not error_code.startswith(f"{RESTORED} "):
        return None
    return PostStatus(error_code.removeprefix(f"{RESTORED} "))


def given_back(was: PostStatus) -> PostStatus:
    """Return what a post is again that `was` this when the backup was taken, and was not published since: what was on
    its way is to be sent, and one that was in doubt before has failed."""
    if was in (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL, *OVER):
        return was
    return PostStatus.FAILED if was == PostStatus.UNCONFIRMED else PostStatus.SCHEDULED


def mark_of(post_id: UUID) -> str:
    """Return `Content.mark`: what only this post has."""
    return f"viral-{post_id.hex}"


def short_mark(mark: str) -> str:
    """Return the 30 bits of a mark that stand in the key of a Bluesky record: below the second, and the writer."""
    digest = int.from_bytes(sha256(mark.encode()).digest()[:8])
    return f"{(digest >> 10) % 1_000_000}.{digest & 1023}"


class PostingHalted(Unavailable):
    """Nothing is posted until a person has decided what became of posts while the database went back."""

    def __init__(self) -> None:
        super().__init__(
            "the database was put back to an earlier state, or looks so: nothing is posted until our people have looked"
        )


@dataclass(frozen=True, slots=True)
class NewPost:
    """A post as it is asked for. `options` are checked already; `status` is draft, needs_approval or scheduled."""

    id: UUID
    video_id: UUID
    account_id: UUID
    status: PostStatus
    scheduled_for: datetime | None
    caption: str
    group_id: UUID | None = None
    title: str = ""
    hashtags: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    cover_at: float | None = None
    first_comment: str | None = None
    prediction: Mapping[str, Any] | None = None
    request_hash: bytes | None = None
