"""A post is one video on one account: a row of `social_posts`, and what may become of it.

    draft ─▶ needs_approval ─▶ scheduled ─▶ claimed ─▶ submitting ─▶ submitted ─▶ processing ─▶ published
      └──────────────────────────▲  │          │            │             └────────────┴──▶ in_inbox, removed
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


EDITABLE = (PostStatus.DRAFT, PostStatus.NEEDS_APPROVAL, PostStatus.SCHEDULED, PostStatus.MISSED)
"""States in which a post is the tenant's to change, approve and cancel."""

UNDER_WAY = (PostStatus.CLAIMED, PostStatus.SUBMITTING, PostStatus.SUBMITTED, PostStatus.PROCESSING)
"""States of which a job takes care."""

OVER = (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED, PostStatus.REMOVED)
"""States in which the account does not have the video by this post, so that another post of it may be made."""


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


def mark_of(post_id: UUID) -> str:
    """Return `Content.mark`: what only this post has."""
    return f"viral-{post_id.hex}"


class PostingHalted(Unavailable):
    """Nothing is posted until a person has decided what became of posts while the database went back."""

    def __init__(self) -> None:
        super().__init__(
            "the database was put back to an earlier state, or looks so: nothing is posted until our people have looked"
        )
