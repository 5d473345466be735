"""Posts and videos as operators look for them and choose them, by any filters: those of all tenants, or of one.

A list is read backwards through time, `WALK` of them at most, and says how far it came; those that failed or are in
doubt by the indexes that have only such. All under row-level security: what is to reach an index is an equality or a
comparison of times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

from db.postgres.connection import AppConnection
from db.postgres.rows import rows_of
from db.posting.planning import COLUMNS as OF_A_POST
from db.posting.planning import FROM as WITH_ITS_ACCOUNT
from db.videos.videos import COLUMNS as OF_A_VIDEO
from db.videos.videos import IN_DOUBT
from domain.ops.post_filters import PostFilter, VideoFilter
from domain.text.filters import Cursor

WALK: Final = 20_000
"""Rows that one answer looks at. The next page looks at the next."""

OF_BOTH: Final = {
    "tenant_id": "tenant_id = %(tenant_id)s",
    "since": "updated_at >= %(since)s",
    "until": "updated_at < %(until)s",
}
OF_POSTS: Final = OF_BOTH | {
    "account_id": "account_id = %(account_id)s",
    "video_id": "video_id = %(video_id)s",
    "platform": "(tenant_id, account_id) IN (SELECT tenant_id, id FROM social_accounts WHERE platform = %(platform)s)",
}
OF_VIDEOS: Final = OF_BOTH | {
    "provider": "provider = %(provider)s",
    "generation_id": "generation_id = %(generation_id)s",
}
RARE: Final = ("failed", "missed", "unconfirmed")
"""Statuses of posts that few have, and that an index has apart."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page, newest first, and the place where the next one begins, if there may be one. `looked_at`: how many were
    looked at, if that ended the page; what fits beyond is on further pages."""

    rows: list[dict[str, Any]]
    further: Cursor | None
    looked_at: int | None


class PostViews:
    """Query group; system scope."""

    def __init__(self, driver: AppConnection) -> None:
        self._driver = driver

    def posts(self, wanted: PostFilter, *, limit: int) -> Found:
        """Return the newest posts that fit beyond the place `wanted.after`. `since` and `until` are moments."""
        set_of = f"status = '{wanted.status}'" if wanted.status in RARE else None
        found = self._page("social_posts", set_of, _fitting(OF_POSTS, wanted, _is(wanted.status)), wanted, limit)
        query = f"SELECT {OF_A_POST} {WITH_ITS_ACCOUNT} WHERE p.id = ANY(%(ids)s) ORDER BY p.created_at DESC, p.id DESC"
        return self._found(query, *found, limit)

    def videos(self, wanted: VideoFilter, *, limit: int) -> Found:
        """`posts`, of videos."""
        found = self._page("videos", None, _fitting(OF_VIDEOS, wanted, _is_video(wanted.status)), wanted, limit)
        query = f"SELECT {OF_A_VIDEO} FROM videos WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC"
        return self._found(query, *found, limit)

    def _page(
        self, table: str, set_of: str | None, fits: str, wanted: PostFilter | VideoFilter, limit: int
    ) -> tuple[list[UUID], Cursor | None]:
        """Return the ids of those that fit, one more than a page has, and the last that was looked at, if there may be
        others behind it."""
        # OFFSET 0: a set is read by its own index, whatever order its rows are put in.
        source = table if set_of is None else f"(SELECT * FROM {table} WHERE {set_of} OFFSET 0) AS {table}"
        values: dict[str, Any] = _values(wanted) | {"limit": limit + 1}
        rules = [] if wanted.tenant_id is None else ["tenant_id = %(tenant_id)s"]
        if wanted.after is not None:
            values |= {"at": wanted.after.at, "at_id": wanted.after.id}
            rules.append("created_at <= %(at)s AND (created_at, id) < (%(at)s, %(at_id)s)")
        [(ids, last_at, last_id)] = self._driver.execute(
            f"""
            WITH walked AS MATERIALIZED (
                SELECT id, created_at, ({fits}) IS TRUE AS fits FROM {source} WHERE {" AND ".join(rules) or "true"}
                ORDER BY created_at DESC, id DESC LIMIT {WALK}
            ), last AS (
                SELECT created_at, id FROM walked ORDER BY created_at DESC, id DESC OFFSET {WALK - 1}
            )
            SELECT ARRAY(SELECT id FROM walked WHERE fits ORDER BY created_at DESC, id DESC LIMIT %(limit)s),
                (SELECT created_at FROM last), (SELECT id FROM last)
            """.encode(),
            values,
        ).fetchall()
        return ids, None if last_id is None else Cursor(last_id, last_at)

    def _found(self, query: str, ids: list[UUID], last: Cursor | None, limit: int) -> Found:
        rows = rows_of(self._driver, query, {"ids": ids[:limit]})
        if len(ids) > limit:
            return Found(rows, Cursor(rows[-1]["id"], rows[-1]["created_at"]), None)
        return Found(rows, last, None if last is None else WALK)


def choosing_posts(wanted: PostFilter) -> tuple[str, dict[str, Any]]:
    """Return a query of the ids of all posts that fit, and its values. `since` and `until` are moments."""
    return f"SELECT id FROM social_posts WHERE {_fitting(OF_POSTS, wanted, _is(wanted.status))}", _values(wanted)


def choosing_videos(wanted: VideoFilter) -> tuple[str, dict[str, Any]]:
    """`choosing_posts`, of videos."""
    return f"SELECT id FROM videos WHERE {_fitting(OF_VIDEOS, wanted, _is_video(wanted.status))}", _values(wanted)


def _is(status: str | None) -> str:
    # Not as a value: an index that has only some statuses is one only to who says which.
    return "true" if status is None else f"status = '{status}'"


def _is_video(status: str | None) -> str:
    """Unconfirmed are also those that were cancelled, and of which a clip is in doubt."""
    return f"({_is(status)} OR {IN_DOUBT})" if status == "unconfirmed" else _is(status)


def _fitting(rules: Mapping[str, str], wanted: PostFilter | VideoFilter, status: str) -> str:
    return " AND ".join((status, *(rule for name, rule in rules.items() if getattr(wanted, name) is not None)))


def _values(wanted: PostFilter | VideoFilter) -> dict[str, Any]:
    return {each.name: getattr(wanted, each.name) for each in fields(wanted) if each.name not in ("status", "after")}
