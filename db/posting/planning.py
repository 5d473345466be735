"""Posts while they are the tenant's to change: asked for, edited, approved, cancelled, and listed.

    draft, needs_approval, scheduled, missed  ──change, approve──▶ draft, needs_approval, scheduled
                                              ──cancel──▶ cancelled
    failed, cancelled, missed                 ──again──▶ scheduled

What happens from the claim on is in `db/posting/posts.py`. Every change is a compare-and-set on the status, so a claim
and an edit that race have one winner.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from domain.posting.posts import EDITABLE, OVER, NewPost, PostStatus
from domain.text.storable import to_json

_EDITABLE = ", ".join(f"'{status}'" for status in EDITABLE)
_OVER = ", ".join(f"'{status}'" for status in OVER)
LATE_AFTER = timedelta(hours=2)
"""Where a tenant has no policy of its own; the column's default says the same."""

COLUMNS = """p.id, p.tenant_id, p.video_id, p.account_id, p.group_id, p.status, p.title, p.caption, p.hashtags,
    p.options, p.cover_at, p.first_comment, p.scheduled_for, p.handle, p.handle_expires_at, p.handles, p.look_after,
    p.external_id, p.permalink, p.first_comment_id, p.prediction, p.error_code, p.error_message, p.job_id, p.claimed_at,
    p.approved_at, p.submitted_at, p.published_at, p.measure_at, p.measure_note, p.created_at, p.updated_at,
    p.attempt_group, a.platform, a.username, a.status AS account_status, a.reason AS account_reason,
    a.disabled_at AS account_disabled_at,
    v.title AS video_title"""

FROM = """FROM social_posts p
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id"""

GET = f"SELECT {COLUMNS} {FROM} WHERE p.tenant_id = %s AND p.id = %s"

OWNER = "SELECT tenant_id FROM social_posts WHERE id = %s"

ADD = f"""
INSERT INTO social_posts (id, tenant_id, video_id, account_id, group_id, status, title, caption, hashtags, options,
    cover_at, first_comment, scheduled_for, prediction, request_hash, attempt_group)
SELECT %(id)s, %(tenant_id)s, %(video_id)s, %(account_id)s, %(group_id)s, %(status)s, %(title)s, %(caption)s,
    %(hashtags)s::text[], %(options)s, %(cover_at)s, %(first_comment)s, %(scheduled_for)s, %(prediction)s,
    %(request_hash)s, coalesce(max(attempt_group), 0) + 1
FROM social_posts WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s AND account_id = %(account_id)s
ON CONFLICT (tenant_id, video_id, account_id) WHERE status NOT IN ({_OVER}) DO NOTHING
RETURNING id
"""

# The same file may be the video of several rows.
OF_THE_FILE = f"""
SELECT p.id, p.status, p.account_id FROM social_posts p
JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id
WHERE p.tenant_id = %(tenant_id)s AND p.account_id = ANY(%(accounts)s::uuid[]) AND p.status NOT IN ({_OVER})
    AND p.id IS DISTINCT FROM %(but)s
    AND (p.video_id = %(video_id)s OR v.media_id IN (
        SELECT media_id FROM videos WHERE tenant_id = %(tenant_id)s AND id = %(video_id)s))
"""

CHANGE = f"""
UPDATE social_posts SET {{assignments}}, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ({_EDITABLE})
RETURNING id
"""
CHANGEABLE = {
    "title": "%(title)s",
    "caption": "%(caption)s",
    "hashtags": "%(hashtags)s::text[]",
    "options": "%(options)s",
    "cover_at": "%(cover_at)s",
    "first_comment": "%(first_comment)s",
    "scheduled_for": "%(scheduled_for)s",
    "status": "%(status)s",
    "approved_at": "%(approved_at)s",
}

CANCEL = f"""
UPDATE social_posts SET status = 'cancelled', updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ({_EDITABLE})
RETURNING id
"""

# Its last handle became no post, or it never had one: that is why it is over.
AGAIN = """
UPDATE social_posts SET status = %(status)s, scheduled_for = %(scheduled_for)s,
    approved_at = CASE WHEN %(status)s = 'scheduled' THEN coalesce(approved_at, now()) END,
    handle = NULL, handle_secrets = NULL, handle_expires_at = NULL, submitted_at = NULL, look_after = NULL,
    error_code = NULL, error_message = NULL, claimed_at = NULL, job_id = NULL, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ('failed', 'cancelled', 'missed')
RETURNING id
"""

POLICY = "SELECT late_after, needs_approval FROM posting_policies WHERE tenant_id = %s"

SET_POLICY = """
INSERT INTO posting_policies (tenant_id, late_after, needs_approval)
VALUES (%(tenant_id)s, coalesce(%(late_after)s, interval '2 hours'), coalesce(%(needs_approval)s, false))
ON CONFLICT (tenant_id) DO UPDATE SET
    late_after = coalesce(%(late_after)s, posting_policies.late_after),
    needs_approval = coalesce(%(needs_approval)s, posting_policies.needs_approval)
RETURNING late_after, needs_approval
"""

# The index by tenant and time serves it: only the tenant's own posts of a day are read.
OF_GROUP = f"""
SELECT {COLUMNS}, p.request_hash {FROM}
WHERE p.tenant_id = %s AND p.created_at > now() - interval '24 hours' AND p.group_id = %s
"""

EVENTS = "SELECT at, kind, message, details FROM post_events WHERE tenant_id = %s AND post_id = %s ORDER BY id"

TAKEN = f"""
SELECT account_id, coalesce(submitted_at, scheduled_for) FROM social_posts
WHERE tenant_id = %(tenant_id)s AND account_id = ANY(%(accounts)s::uuid[]) AND status NOT IN ({_OVER})
    AND coalesce(submitted_at, scheduled_for) BETWEEN %(since)s AND %(until)s
ORDER BY 2
"""


class PostingPolicy(NamedTuple):
    """How a tenant wants its posts: after how long one that could not be begun is missed, and whether a person has to
    approve each."""

    late_after: timedelta = LATE_AFTER
    needs_approval: bool = False


class PlannedPosts:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def add(self, tenant_id: UUID, post: NewPost) -> bool:
        """Add a post; False if the account has, or will have, the video by another one."""
        values = {name: getattr(post, name) for name in NewPost.__slots__} | {
            "tenant_id": tenant_id,
            "hashtags": list(post.hashtags),
            "options": to_json(post.options),
            "prediction": None if post.prediction is None else to_json(post.prediction),
        }
        return self._driver.execute(ADD, values).fetchone() is not None

    def get(self, tenant_id: UUID, post_id: UUID) -> dict[str, Any] | None:
        """Return one post, with its account's platform and name; no secrets."""
        return row_of(self._driver, GET, (tenant_id, post_id))

    def lock(self, tenant_id: UUID, post_id: UUID) -> dict[str, Any] | None:
        """`get`, and nobody else changes it before the transaction ends."""
        return row_of(self._driver, f"{GET} FOR NO KEY UPDATE OF p", (tenant_id, post_id))

    def owner(self, post_id: UUID) -> UUID | None:
        """Return the tenant of a post in scope."""
        row = self._driver.execute(OWNER, (post_id,)).fetchone()
        return None if row is None else row[0]

    def of_group(self, tenant_id: UUID, group_id: UUID) -> list[dict[str, Any]]:
        """Return the posts that were asked for together in the last 24 hours."""
        return rows_of(self._driver, OF_GROUP, (tenant_id, group_id))

    def of_file(
        self, tenant_id: UUID, video_id: UUID, accounts: Sequence[UUID], *, but: UUID | None = None
    ) -> list[dict[str, Any]]:
        """Return the posts, but for one, by which these accounts have or will have the same file."""
        values = {"tenant_id": tenant_id, "video_id": video_id, "accounts": list(accounts), "but": but}
        return rows_of(self._driver, OF_THE_FILE, values)

    def change(self, tenant_id: UUID, post_id: UUID, changes: Mapping[str, Any]) -> bool:
        """Change what is the tenant's to change; False if it is not any more.

        Raises:
            UniqueViolation: a missed one would be scheduled again, and the account has the video by another one.
        """
        values = dict(changes)
        if "options" in values:
            values["options"] = to_json(values["options"])
        if "hashtags" in values:
            values["hashtags"] = list(values["hashtags"])
        assignments = ", ".join(f"{name} = {CHANGEABLE[name]}" for name in changes)
        query = CHANGE.format(assignments=assignments)
        return self._driver.execute(query, values | {"tenant_id": tenant_id, "id": post_id}).fetchone() is not None

    def cancel(self, tenant_id: UUID, post_id: UUID) -> bool:
        """Cancel a post; False if it is not the tenant's to cancel any more."""
        return self._driver.execute(CANCEL, {"tenant_id": tenant_id, "id": post_id}).fetchone() is not None

    def again(
        self,
        tenant_id: UUID,
        post_id: UUID,
        scheduled_for: datetime,
        status: PostStatus = PostStatus.SCHEDULED,
    ) -> bool:
        """Schedule a post once more that became none, which approves it, or let it wait for approval; False if it is in
        another state.

        Raises:
            UniqueViolation: the account has the video by another post.
        """
        values = {"tenant_id": tenant_id, "id": post_id, "scheduled_for": scheduled_for, "status": status}
        return self._driver.execute(AGAIN, values).fetchone() is not None

    def listed(
        self,
        tenant_id: UUID | None,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None = None,
        status: str | None = None,
        account_id: UUID | None = None,
        video_id: UUID | None = None,
        platform: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return posts in scope, newest first: those of one tenant, or of all."""
        created_at, last = after or (None, None)
        conditions = {
            "p.tenant_id = %(tenant_id)s": tenant_id,
            "p.status = %(status)s": status,
            "p.account_id = %(account_id)s": account_id,
            "p.video_id = %(video_id)s": video_id,
            "a.platform = %(platform)s": platform,
            "(p.created_at, p.id) < (%(created_at)s, %(last)s)": after,
        }
        where = " AND ".join(condition for condition, value in conditions.items() if value is not None) or "true"
        values: dict[str, Any] = {"tenant_id": tenant_id, "status": status, "account_id": account_id, "limit": limit}
        values |= {"video_id": video_id, "platform": platform, "created_at": created_at, "last": last}
        query = f"SELECT {COLUMNS} {FROM} WHERE {where} ORDER BY p.created_at DESC, p.id DESC LIMIT %(limit)s"
        return rows_of(self._driver, query, values)

    def calendar(
        self, tenant_id: UUID, since: datetime, until: datetime, *, account_id: UUID | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Return the posts that are scheduled from `since` to before `until`, by their time."""
        account = "AND p.account_id = %(account_id)s" if account_id else ""
        query = f"""SELECT {COLUMNS} {FROM} WHERE p.tenant_id = %(tenant_id)s AND p.scheduled_for >= %(since)s
            AND p.scheduled_for < %(until)s {account} ORDER BY p.scheduled_for, p.id LIMIT %(limit)s"""
        values = {"tenant_id": tenant_id, "since": since, "until": until, "account_id": account_id, "limit": limit}
        return rows_of(self._driver, query, values)

    def taken(
        self, tenant_id: UUID, accounts: Sequence[UUID], since: datetime, until: datetime
    ) -> dict[UUID, list[datetime]]:
        """Return when each account posts already between two moments."""
        values = {"tenant_id": tenant_id, "accounts": list(accounts), "since": since, "until": until}
        found: dict[UUID, list[datetime]] = {}
        for account_id, at in self._driver.execute(TAKEN, values):
            found.setdefault(account_id, []).append(at)
        return found

    def turn_at(self, tenant_id: UUID, account_id: UUID, turn: timedelta) -> datetime | None:
        """Return when the account may begin a post again; None if it has begun none."""
        query = "SELECT max(claimed_at) FROM social_posts WHERE tenant_id = %s AND account_id = %s"
        [(last,)] = self._driver.execute(query, (tenant_id, account_id)).fetchall()
        return None if last is None else last + turn

    def events(self, tenant_id: UUID, post_id: UUID) -> list[dict[str, Any]]:
        """Return what happened to a post, oldest first."""
        return rows_of(self._driver, EVENTS, (tenant_id, post_id))

    def policy(self, tenant_id: UUID) -> PostingPolicy:
        row = self._driver.execute(POLICY, (tenant_id,)).fetchone()
        return PostingPolicy() if row is None else PostingPolicy(*row)

    def set_policy(
        self, tenant_id: UUID, *, late_after: timedelta | None = None, needs_approval: bool | None = None
    ) -> PostingPolicy:
        """Change what is given, and return how it is then."""
        values = {"tenant_id": tenant_id, "late_after": late_after, "needs_approval": needs_approval}
        return PostingPolicy(*self._driver.execute(SET_POLICY, values).fetchall()[0])
