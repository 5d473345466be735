"""A post is one video on one account: a row of `social_posts`, and what may become of it.

    draft ─▶ needs_approval ─▶ scheduled ─▶ claimed ─▶ submitting ─▶ submitted ─▶ processing ─▶ published
      └──────────────────────────▲  │          │            │             └────────────┴──▶ in_inbox, removed
                                    │          │            └──▶ unconfirmed
                                    └──▶ missed, cancelled   failed

Until it is claimed it is the tenant's to change. A claimed one is prepared: what a platform is asked for then can be
done again. Its handle, by which the platform knows the coming post, is kept before the one call that publishes: the
point of no return. `submitting` is committed before that call, so whoever finds a post in it looks before it acts.
"""

from enum import StrEnum


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
