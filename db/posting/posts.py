"""Every change of a post from its claim on, each written once. Before the claim it is its tenant's
(`db/posting/planning.py`).

    scheduled ──claim──▶ claimed ──begin_submission──▶ submitting ──accepted──▶ submitted ──accepted──▶ processing
        ▲                 │  ▲                           └──────────────┬───────────┴───────────────────────┘
        │                 │  │                                          ├──published──▶ published
        │                 │  │                                          ├──in_inbox───▶ in_inbox
        │                 │  │                                          ├──doubt──────▶ unconfirmed
        └────not_there────┴──┴──────▶ missed, failed ◀────not_there─────┘

`unconfirmed` leaves for any other of them once somebody knows; `published` only for `removed`, for ever, when the
platform has said twice that it has it no longer (docs/decisions/0039). Whoever holds that a post is not there says so
by `not_there`, which has the rule for all of them. Every change is a compare-and-set on the status: of two that race
exactly one wins, and the other sees no row. What a submission is, and why it is committed before the call, is in
docs/decisions/0036.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from db.autopilot.permission import check_permission
from db.postgres.errors import UniqueViolation
from db.postgres.rows import row_of
from db.posting.outgoing import EVENT_OF, add_deliveries
from db.posting.restores import GATE_SHARED
from domain.learning.horizons import first_look
from domain.posting.posts import RESTORED, Post, PostingHalted, PostStatus, given_back
from domain.posting.publishing import Handle
from domain.text.storable import to_json

S = PostStatus

SENT = (S.SUBMITTING, S.SUBMITTED, S.PROCESSING)
UNDER_WAY = (S.CLAIMED, *SENT)
OPEN = (*UNDER_WAY, S.UNCONFIRMED)

_UNSENT = (S.SCHEDULED, S.CLAIMED)
"""States in which a row without a submission was never sent."""
_NOT_THERE: Mapping[PostStatus, Collection[PostStatus]] = {
    S.CLAIMED: UNDER_WAY,
    S.SCHEDULED: OPEN,
    S.MISSED: (S.SCHEDULED, *OPEN),
    S.FAILED: OPEN,
    S.CANCELLED: OPEN,
    S.NEEDS_APPROVAL: OPEN,
}
IS_RESTORED = f"coalesce(p.status = 'unconfirmed' AND starts_with(p.error_code, '{RESTORED} '), false)"

NAMES = tuple(Post.__dataclass_fields__)
COLUMNS = ", ".join(NAMES)

GET = f"SELECT {COLUMNS} FROM social_posts WHERE tenant_id = %s AND id = %s"

LATE_AFTER = "coalesce(y.late_after, interval '2 hours')"

# The first post of each account whose turn it is; one tenant's accounts between those of the others. The turns are
# computed once: statistics may not know of a crowd that has come due, and then they would be for each post of it; more
# than are taken, since some may be locked.
CLAIM = f"""
WITH waiting AS (
    SELECT DISTINCT ON (p.tenant_id, p.account_id) p.id, p.tenant_id, p.scheduled_for
    FROM social_posts p
    JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id AND a.status = 'active'
        AND a.disabled_at IS NULL
    LEFT JOIN posting_policies y ON y.tenant_id = p.tenant_id
    WHERE p.status = 'scheduled' AND p.scheduled_for <= %(now)s AND p.scheduled_for + {LATE_AFTER} >= %(now)s
        AND NOT EXISTS (
            SELECT FROM social_posts q
            WHERE q.tenant_id = p.tenant_id AND q.account_id = p.account_id AND q.claimed_at > %(last_turn)s
        )
    ORDER BY p.tenant_id, p.account_id, p.scheduled_for, p.id
), turns AS MATERIALIZED (
    SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY scheduled_for, id) AS turn FROM waiting
    ORDER BY turn, scheduled_for, id LIMIT 4 * %(limit)s
), chosen AS (
    SELECT p.id, t.turn FROM social_posts p JOIN turns t ON t.id = p.id
    WHERE p.status = 'scheduled' AND p.scheduled_for <= %(now)s
    ORDER BY t.turn, p.scheduled_for, p.id LIMIT %(limit)s
    FOR NO KEY UPDATE OF p SKIP LOCKED
)
UPDATE social_posts p SET status = 'claimed', claimed_at = %(now)s, look_after = %(look_after)s, handles = 0,
    handle = NULL, handle_secrets = NULL, handle_expires_at = NULL, submitted_at = NULL, error_code = NULL,
    error_message = NULL, updated_at = now()
FROM chosen c WHERE p.id = c.id AND p.status = 'scheduled'
RETURNING c.turn, p.scheduled_for, p.id, p.tenant_id
"""

LATE = f"""
SELECT p.id, p.tenant_id, p.scheduled_for, {LATE_AFTER},
    CASE WHEN a.status = 'active' AND a.disabled_at IS NOT NULL THEN 'disabled' ELSE a.status END, a.reason,
    p.error_message
FROM social_posts p
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
LEFT JOIN posting_policies y ON y.tenant_id = p.tenant_id
WHERE {{which}}
ORDER BY p.scheduled_for, p.id LIMIT %(limit)s
FOR NO KEY UPDATE OF p SKIP LOCKED
"""
WAITS_LATE = f"p.status = 'scheduled' AND p.scheduled_for <= %(now)s AND p.scheduled_for + {LATE_AFTER} < %(now)s"
# What waits for a place, a rate or a platform, whatever its job is doing; `look_after` is for the index.
CLAIMED_LATE = f"""
p.status = 'claimed' AND p.look_after IS NOT NULL AND p.submitted_at IS NULL
    AND p.scheduled_for + {LATE_AFTER} + CASE WHEN p.handle IS NULL THEN interval '0' ELSE %(begun)s END < %(now)s
"""

LEFT_ALONE = f"""
UPDATE social_posts SET look_after = %(again)s, updated_at = now()
WHERE id IN (
    SELECT p.id FROM social_posts p LEFT JOIN job_queue j ON j.id = p.job_id AND j.status IN ('pending', 'running')
    WHERE p.look_after < %(now)s AND p.status IN ({", ".join(f"'{each}'" for each in OPEN)}) AND j.id IS NULL
    ORDER BY p.look_after LIMIT %(limit)s FOR NO KEY UPDATE OF p SKIP LOCKED
)
RETURNING tenant_id, id, status
"""

# Whether `late`, `claim` or `left_alone` may find anything: cheaper than they are, and true once too often.
ANY_DUE = f"""
SELECT EXISTS (SELECT FROM social_posts WHERE status = 'scheduled' AND scheduled_for <= %(now)s)
    OR EXISTS (SELECT FROM social_posts p WHERE p.status = 'claimed' AND p.look_after IS NOT NULL)
    OR EXISTS (
        SELECT FROM social_posts p
        WHERE p.look_after < %(now)s AND p.status IN ({", ".join(f"'{each}'" for each in OPEN)})
    )
"""

TAKE = f"""
UPDATE social_posts SET job_id = %(job_id)s, look_after = %(look_after)s, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = ANY(%(states)s)
RETURNING {COLUMNS}
"""

CHANGE = """
WITH before AS (
    SELECT id, status FROM social_posts
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = ANY(%(states)s) {further} FOR NO KEY UPDATE
)
UPDATE social_posts p SET {assignments}, updated_at = now()
FROM before WHERE p.id = before.id AND p.tenant_id = %(tenant_id)s
RETURNING before.status
"""

ACCEPTED = f"""
WITH before AS (
    SELECT id, status FROM social_posts
    WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ({", ".join(f"'{each}'" for each in OPEN)})
    FOR NO KEY UPDATE
)
UPDATE social_posts p SET
    status = CASE WHEN {IS_RESTORED} THEN p.status WHEN p.status IN ('claimed', 'submitting') THEN 'submitted'
        ELSE 'processing' END,
    submitted_at = coalesce(p.submitted_at, p.claimed_at, now()), look_after = %(look_after)s,
    error_code = CASE WHEN {IS_RESTORED} THEN p.error_code END,
    error_message = CASE WHEN {IS_RESTORED} THEN p.error_message END, updated_at = now()
FROM before WHERE p.id = before.id AND p.tenant_id = %(tenant_id)s
RETURNING before.status
"""

HALTED = "SELECT 1 FROM restores WHERE ended_at IS NULL"

SUBMISSION = "INSERT INTO post_submissions (id, tenant_id, post_id, created_at) VALUES (%s, %s, %s, %s)"

TWIN = """
SELECT 1 AS found FROM social_posts p
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
JOIN social_accounts oa ON oa.platform = a.platform AND oa.external_id = a.external_id
JOIN social_posts o ON o.tenant_id = oa.tenant_id AND o.account_id = oa.id AND o.id <> p.id
WHERE p.tenant_id = %(tenant_id)s AND p.id = %(id)s AND o.external_id IS NULL
    AND o.caption = p.caption AND o.hashtags = p.hashtags AND o.title = p.title
    AND o.status NOT IN ('draft', 'needs_approval', 'scheduled', 'failed', 'missed', 'cancelled') LIMIT 1
"""

# An account may be connected by several tenants: a post on it is one row's of all of theirs.
LOCK_BOUND = "SELECT pg_advisory_xact_lock(hashtextextended('posts:' || %s, 0))"
BOUND = """
SELECT o.id FROM social_posts p
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
JOIN social_accounts oa ON oa.platform = a.platform AND oa.external_id = a.external_id
JOIN social_posts o ON o.tenant_id = oa.tenant_id AND o.account_id = oa.id AND o.id <> p.id
WHERE p.tenant_id = %(tenant_id)s AND p.id = %(id)s AND o.external_id = %(external_id)s LIMIT 1
"""

BOUND_OF_ACCOUNT = """
SELECT o.external_id FROM social_accounts a
JOIN social_accounts oa ON oa.platform = a.platform AND oa.external_id = a.external_id
JOIN social_posts o ON o.tenant_id = oa.tenant_id AND o.account_id = oa.id
WHERE a.tenant_id = %s AND a.id = %s AND o.external_id IS NOT NULL AND o.external_id = ANY(%s)
"""

# All that publishing reads beside the row itself.
MATERIAL = """
SELECT a.platform, a.external_id AS account_external_id, a.status AS account_status, a.reason AS account_reason,
    a.settings, a.daily_limit, v.status AS video_status, v.source, m.sha256, m.bytes, m.extension, m.probe, m.stored_at,
    coalesce(y.late_after, interval '2 hours') AS late_after,
    (SELECT min(created_at) FROM post_submissions s WHERE s.tenant_id = p.tenant_id AND s.post_id = p.id
        AND s.created_at >= p.claimed_at) AS first_sent_at,
    (SELECT max(at) FROM post_events e WHERE e.tenant_id = p.tenant_id AND e.post_id = p.id AND e.kind = 'opened')
        AS opened_at
FROM social_posts p
JOIN social_accounts a ON a.tenant_id = p.tenant_id AND a.id = p.account_id
JOIN videos v ON v.tenant_id = p.tenant_id AND v.id = p.video_id
LEFT JOIN media m ON m.tenant_id = v.tenant_id AND m.id = v.media_id
LEFT JOIN posting_policies y ON y.tenant_id = p.tenant_id
WHERE p.tenant_id = %s AND p.id = %s
"""

NOTE = """
INSERT INTO post_events (tenant_id, post_id, kind, message, details, job_id, at)
VALUES (%s, %s, %s, %s, %s, %s, coalesce(%s, now()))
"""

IN_DOUBT = """
SELECT tenant_id, id FROM social_posts
WHERE status = 'unconfirmed' AND (%(tenant_id)s::uuid IS NULL OR tenant_id = %(tenant_id)s)
    AND (%(account_id)s::uuid IS NULL OR account_id = %(account_id)s)
ORDER BY id
"""

UNFINISHED = """
SELECT id FROM social_posts
WHERE tenant_id = %s AND account_id = %s AND status IN ('published', 'in_inbox')
    AND updated_at > now() - interval '7 days'
    AND (status = 'in_inbox' OR external_id IS NULL OR permalink IS NULL
        OR first_comment <> '' AND first_comment_id IS NULL)
ORDER BY id
"""

BACKDATE = """
UPDATE social_posts SET published_at = published_at - %(by)s, submitted_at = submitted_at - %(by)s,
    claimed_at = claimed_at - %(by)s, scheduled_for = scheduled_for - %(by)s, measure_at = measure_at - %(by)s
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'published'
"""

PRUNE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {moment} < %s LIMIT %s))
"""
PRUNED = {"post_submissions": "created_at", "post_events": "at"}


class Posts:
    """Query group. What changes a status returns the one before, or None if it was another than it can change."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def get(self, tenant_id: UUID, post_id: UUID) -> Post | None:
        with self._driver.cursor(row_factory=class_row(Post)) as cursor:
            return cursor.execute(GET.encode(), (tenant_id, post_id)).fetchone()

    # --- what is due; system scope ------------------------------------------------------------------------------

    def claim(self, *, now: datetime, last_turn: datetime, look_after: datetime, limit: int) -> list[tuple[UUID, UUID]]:
        """scheduled → claimed: the first post that is due of each account that has begun none since `last_turn`, if it
        is not late and can be posted to; as tenants and ids, in fair order, and none that somebody else has locked."""
        values = {"now": now, "last_turn": last_turn, "look_after": look_after, "limit": limit}
        claimed = sorted(self._driver.execute(CLAIM.encode(), values))
        return [(tenant_id, post_id) for _, _, post_id, tenant_id in claimed]

    def any_due(self, now: datetime) -> bool:
        """Whether any post may be due, late or left alone."""
        row = self._driver.execute(ANY_DUE.encode(), {"now": now}).fetchone()
        return row is not None and bool(row[0])

    def late(self, *, now: datetime, begun: timedelta, limit: int) -> list[tuple[Any, ...]]:
        """Lock posts that are too late to be begun and were never sent; those that have a handle may be so much later.
        Their ids, tenants, times, the lateness that their tenant allows, their account's status (`disabled` if it is
        active otherwise) and reason, and why they wait."""
        values = {"now": now, "begun": begun, "limit": limit}
        waiting = self._driver.execute(LATE.format(which=WAITS_LATE).encode(), values).fetchall()
        values["limit"] = limit - len(waiting)
        return waiting + self._driver.execute(LATE.format(which=CLAIMED_LATE).encode(), values).fetchall()

    def left_alone(self, *, now: datetime, again: datetime, limit: int) -> list[tuple[UUID, UUID, PostStatus]]:
        """Return posts that nobody has looked after, although it is time, and that have no live job. They are returned
        once more after `again`."""
        values = {"now": now, "again": again, "limit": limit}
        return [(row[0], row[1], S(row[2])) for row in self._driver.execute(LEFT_ALONE.encode(), values)]

    def in_doubt(self, tenant_id: UUID | None = None, account_id: UUID | None = None) -> list[tuple[UUID, UUID]]:
        """Return the unconfirmed posts in scope, as tenants and ids."""
        values = {"tenant_id": tenant_id, "account_id": account_id}
        return [(row[0], row[1]) for row in self._driver.execute(IN_DOUBT, values)]

    def unfinished(self, tenant_id: UUID, account_id: UUID) -> list[UUID]:
        """Return the account's posts that wait in its inbox, or whose id, address or first comment is not there yet,
        of the last days."""
        return [row[0] for row in self._driver.execute(UNFINISHED, (tenant_id, account_id))]

    # --- before the point of no return --------------------------------------------------------------------------

    def take(
        self,
        tenant_id: UUID,
        post_id: UUID,
        job_id: UUID,
        *,
        look_after: datetime | None,
        states: Collection[PostStatus] = UNDER_WAY,
    ) -> Post | None:
        """Say which job takes care of the post now, and return it; None if it is in no state that needs care."""
        values = {"tenant_id": tenant_id, "id": post_id, "job_id": job_id, "look_after": look_after}
        with self._driver.cursor(row_factory=class_row(Post)) as cursor:
            return cursor.execute(TAKE.encode(), values | {"states": list(states)}).fetchone()

    def keep_handle(self, tenant_id: UUID, post_id: UUID, handle: Handle, secrets: bytes | None, *, new: bool) -> bool:
        """Keep by what the platform knows the coming post. `secrets` are sealed; `new`: it is another handle."""
        changes: dict[str, Any] = {"handle": to_json(dict(handle.public)), "handle_secrets": secrets}
        changes |= {"handle_expires_at": handle.expires_at}
        return self._change(tenant_id, post_id, OPEN, changes, count_handle=new) is not None

    # --- the point of no return ---------------------------------------------------------------------------------

    def begin_submission(
        self, tenant_id: UUID, post_id: UUID, *, id: UUID, now: datetime, look_after: datetime
    ) -> str | None:
        """claimed, submitting, … → submitting: what follows the commit of this may publish the post. System scope.

        Raises:
            PostingHalted: a restore is open.
            Withheld: the autopilot made it, and may not send it any more.
        """
        self._driver.execute(GATE_SHARED)
        if self._driver.execute(HALTED).fetchone() is not None:
            raise PostingHalted
        check_permission(self._driver, tenant_id, post_id)
        changes = {"status": S.SUBMITTING, "submitted_at": now, "look_after": look_after}
        before = self._change(tenant_id, post_id, UNDER_WAY, changes | {"error_code": None, "error_message": None})
        if before is not None:
            self._driver.execute(SUBMISSION, (id, tenant_id, post_id, now))
        return before

    def not_listed(self, tenant_id: UUID, post_id: UUID) -> bool:
        """Note that the account's list lacks what was sent, as long as nothing more is sent; True if it is noted
        already."""
        post = self.get(tenant_id, post_id)
        if post is None or post.error_code == "not_listed":
            return post is not None
        self._change(tenant_id, post_id, UNDER_WAY, {"error_code": "not_listed"})
        return False

    # --- what became of it --------------------------------------------------------------------------------------

    def not_there(
        self,
        post: Post,
        to: PostStatus,
        *,
        certain: bool,
        code: str | None = None,
        message: str | None = None,
        keep_handle: bool = False,
    ) -> str | None:
        """Go on with a post that certainly is not there. The only way back before the point of no return, and the only
        way to an end at which the post may be made anew.

            to          from                              handle             then
            ─────────────────────────────────────────────────────────────────────────────────────────────────────
            claimed     claimed, sent                     kept, or another   it is tried again
            scheduled   claimed, sent, in doubt           gone               it waits, and is the tenant's to change
            missed      scheduled, claimed, sent, …       gone               a person is asked for another time
            failed      claimed, sent, in doubt           kept               a person may try it again
            cancelled,  claimed, sent, in doubt           gone               nobody allows it any more, or it was so
            needs_approval                                                   before a restore
            any other   in doubt                          gone               as it was before a restore

        `certain` false: it was never sent, which the row says itself: `scheduled` or `claimed`, and nothing submitted.
        `certain` true: a look or an answer says it of all that was sent for `post`, as the caller has read it; nothing
        is changed if another submission is on the row. With its handle a post keeps the time of its submission, so
        whoever goes on with it looks once more. None: it is not so (any more), and the post stays as it is.
        """
        states = [each for each in _NOT_THERE.get(to, (S.UNCONFIRMED,)) if certain or each in _UNSENT]
        changes: dict[str, Any] = {} if keep_handle else dict(_WITHOUT_HANDLE)
        changes |= {"status": to, "error_code": code, "error_message": message}
        if to != S.CLAIMED:
            changes |= {"look_after": None}
        if to not in (S.CLAIMED, S.FAILED):
            changes |= {"claimed_at": None, "job_id": None}
        submitted_at = post.submitted_at if certain else None
        return self._change(post.tenant_id, post.id, states, changes, of={"submitted": submitted_at})

    def accepted(self, tenant_id: UUID, post_id: UUID, *, look_after: datetime) -> str | None:
        """claimed, submitting → submitted; that, or unconfirmed, → processing: the platform has all it needs. One that
        is in doubt since a restore stays so: it was not this database that sent it."""
        values = {"tenant_id": tenant_id, "id": post_id, "look_after": look_after}
        row = self._driver.execute(ACCEPTED.encode(), values).fetchone()
        return None if row is None else str(row[0])

    def published(
        self,
        tenant_id: UUID,
        post_id: UUID,
        *,
        external_id: str | None,
        permalink: str | None,
        now: datetime,
        at: datetime | None = None,
    ) -> str | None:
        """Any open state, in_inbox → published. Without `external_id` it is not known yet: see `name`. `at` is when it
        was published, if the platform says so; from then on its numbers are collected, at each horizon's age.

        Raises:
            UniqueViolation: another post has this id; ask `bound_by` before.
        """
        published_at = now if at is None else min(at, now)
        changes: dict[str, Any] = {"status": S.PUBLISHED, "published_at": published_at, "look_after": None}
        changes |= {"external_id": external_id, "permalink": permalink, "error_code": None, "error_message": None}
        changes |= {"measure_at": first_look(published_at), "measure_note": None, "gone_at": None}
        return self._change(tenant_id, post_id, (*OPEN, S.IN_INBOX), changes)

    def contradict(self, tenant_id: UUID, post_id: UUID, *, message: str, now: datetime) -> str | None:
        """Any in which it counts as not there → unconfirmed: the platform says that it is, and is asked again. None
        also if the account has the video by another post by now."""
        changes = {"status": S.UNCONFIRMED, "look_after": now, "error_code": "unknown", "error_message": message}
        with suppress(UniqueViolation), self._driver.transaction():
            return self._change(
                tenant_id, post_id, (S.SCHEDULED, S.NEEDS_APPROVAL, S.FAILED, S.MISSED, S.CANCELLED), changes
            )
        return None

    def name(self, tenant_id: UUID, post_id: UUID, external_id: str) -> bool:
        """Say as what the platform knows a published post, once; False if that is said."""
        row = self._driver.execute(
            "UPDATE social_posts SET external_id = %(external_id)s, updated_at = now()"
            " WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'published' AND external_id IS NULL"
            " RETURNING id",
            {"tenant_id": tenant_id, "id": post_id, "external_id": external_id},
        ).fetchone()
        return row is not None

    def decorate(self, tenant_id: UUID, post_id: UUID, **found: str) -> None:
        """Keep what follows a publication: `permalink`, `first_comment_id`."""
        self._change(tenant_id, post_id, (S.PUBLISHED,), found)

    def removed(self, tenant_id: UUID, post_id: UUID, *, message: str) -> str | None:
        """published → removed: the platform has it no longer. It keeps its id there, so nobody takes the post for
        another one; nobody makes it again by itself, but a person may."""
        changes: dict[str, Any] = {"status": S.REMOVED, "error_code": "removed", "error_message": message}
        return self._change(tenant_id, post_id, (S.PUBLISHED,), changes | {"measure_at": None, "measure_note": None})

    def in_inbox(self, tenant_id: UUID, post_id: UUID) -> str | None:
        """Any open state → in_inbox: only the account's owner can publish it."""
        changes = {"status": S.IN_INBOX, "look_after": None, "error_code": None, "error_message": None}
        return self._change(tenant_id, post_id, OPEN, changes)

    def fail(self, tenant_id: UUID, post_id: UUID, *, code: str, message: str) -> str | None:
        """unconfirmed → failed: a person says that it is not there."""
        post = self.get(tenant_id, post_id)
        if post is None or post.status != S.UNCONFIRMED:
            return None
        return self.not_there(post, S.FAILED, certain=True, code=code, message=message, keep_handle=True)

    def doubt(
        self, tenant_id: UUID, post_id: UUID, *, code: str, message: str, look_after: datetime | None
    ) -> str | None:
        """Any open state → unconfirmed: nobody can tell. With `look_after` it is looked for again. The code of one that
        is in doubt since a restore stays."""
        changes = {"status": S.UNCONFIRMED, "look_after": look_after, "error_code": code, "error_message": message}
        return self._change(tenant_id, post_id, OPEN, changes)

    def acquit(self, tenant_id: UUID, post_id: UUID, *, message: str) -> str | None:
        """unconfirmed → what it was before a restore, or scheduled: it is certainly not there."""
        post = self.get(tenant_id, post_id)
        if post is None or post.status != S.UNCONFIRMED:
            return None
        status = given_back(post.restored_from or S.SCHEDULED)
        return self.not_there(post, status, certain=True, code=_CODES.get(status), message=message)

    def look_after(
        self,
        tenant_id: UUID,
        post_id: UUID,
        at: datetime | None,
        *,
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        """Say when somebody has to look next at an open post, and why it waits."""
        changes: dict[str, Any] = {"look_after": at}
        changed = {"error_code": code, "error_message": message}
        changes |= {name: value for name, value in changed.items() if value is not None}
        self._change(tenant_id, post_id, OPEN, changes)

    # --- reading and writing beside -----------------------------------------------------------------------------

    def bound_by(self, tenant_id: UUID, post_id: UUID, external_id: str) -> UUID | None:
        """Return the other post of the same account, whosever, that has this id at the platform; until the transaction
        ends nobody else gets it. System scope."""
        self._driver.execute(LOCK_BOUND, (external_id,))
        values = {"tenant_id": tenant_id, "id": post_id, "external_id": external_id}
        row = self._driver.execute(BOUND, values).fetchone()
        return None if row is None else row[0]

    def has_twin(self, tenant_id: UUID, post_id: UUID) -> bool:
        """Whether the account may have another post of ours with the same words, of which no id is known yet.
        System scope."""
        return row_of(self._driver, TWIN, {"tenant_id": tenant_id, "id": post_id}) is not None

    def bound(self, tenant_id: UUID, account_id: UUID, external_ids: Collection[str]) -> set[str]:
        """Return those of the ids that posts of this account have, whosever. System scope."""
        rows = self._driver.execute(BOUND_OF_ACCOUNT, (tenant_id, account_id, list(external_ids)))
        return {row[0] for row in rows}

    def material(self, tenant_id: UUID, post_id: UUID) -> dict[str, Any] | None:
        """Return what publishing reads of a post's account, video, file and tenant."""
        return row_of(self._driver, MATERIAL, (tenant_id, post_id))

    def note(
        self,
        tenant_id: UUID,
        post_id: UUID,
        kind: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        job_id: UUID | None = None,
        at: datetime | None = None,
    ) -> None:
        """Write down what happened to a post, for people; no secret is in it."""
        self._driver.execute(NOTE, (tenant_id, post_id, kind, message, to_json(details or {}), job_id, at))

    def backdate(self, tenant_id: UUID, post_id: UUID, by: timedelta) -> bool:
        """Make a published post older, as if all of it had happened so much earlier; False if it is not published. For
        simulated posts (`workers/ops/backdating.py`)."""
        values = {"tenant_id": tenant_id, "id": post_id, "by": by}
        return self._driver.execute(BACKDATE, values).rowcount == 1

    def prune(self, table: str, before: datetime, limit: int) -> int:
        """Delete old rows of one of the tables of `PRUNED`; return how many there were. System scope."""
        query = PRUNE.format(table=table, moment=PRUNED[table])
        return self._driver.execute(query.encode(), (before, limit)).rowcount

    def _change(
        self,
        tenant_id: UUID,
        post_id: UUID,
        states: Collection[PostStatus],
        changes: Mapping[str, Any],
        *,
        count_handle: bool = False,
        of: Mapping[str, datetime | None] | None = None,
    ) -> str | None:
        assignments = ", ".join(f"{name} = %({name})s" for name in changes)
        if count_handle:
            assignments += ", handles = p.handles + 1"
        further = "" if of is None else "AND submitted_at IS NOT DISTINCT FROM %(submitted)s"
        values = {"tenant_id": tenant_id, "id": post_id, "states": list(states), **(of or {}), **changes}
        query = CHANGE.format(assignments=assignments, further=further)
        row = self._driver.execute(query.encode(), values).fetchone()
        if row is not None and (status := changes.get("status")) in EVENT_OF and row[0] != status:
            add_deliveries(self._driver, tenant_id, post_id, status)
        return None if row is None else str(row[0])


_CODES = {S.FAILED: "absent", S.MISSED: "late"}

_WITHOUT_HANDLE: dict[str, Any] = {
    **{"handle": None, "handle_secrets": None, "handle_expires_at": None},
    "submitted_at": None,
}
