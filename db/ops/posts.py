"""Posts and videos as operators look for them and choose them, by any filters: those of all tenants, or of one.

A list is read backwards through time, `WALK` of them at most, and says how far it came; those that failed or are in
doubt by the indexes that have only such. All under row-level security: what is to reach an index is an equality or a
comparison of times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

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
# A policy is expected to leave few rows, so that to read all of them and sort them would seem the shorter way.
ALONG_INDEXES: Final = """
SELECT set_config('enable_seqscan', %(read)s, true), set_config('enable_sort', %(read)s, true),
    set_config('max_parallel_workers_per_gather', %(workers)s, true)
"""

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
        query = f"SELECT {OF_A_POST} {WITH_ITS_ACCOUNT} WHERE p.id = ANY(%(ids)s) ORDER BY p.created_at DESC, p.id DESC"
        return self._page(post_page(wanted), query, wanted, limit)

    def videos(self, wanted: VideoFilter, *, limit: int) -> Found:
        """`posts`, of videos."""
        query = f"SELECT {OF_A_VIDEO} FROM videos WHERE id = ANY(%(ids)s) ORDER BY created_at DESC, id DESC"
        return self._page(video_page(wanted), query, wanted, limit)

    def _page(self, looked: str, rows_by_id: str, wanted: PostFilter | VideoFilter, limit: int) -> Found:
        values = page_values(wanted, limit)
        self._driver.execute(ALONG_INDEXES, {"read": "off", "workers": "0"})
        [(ids, last_at, last_id)] = self._driver.execute(looked.encode(), values).fetchall()
        self._driver.execute(ALONG_INDEXES, {"read": "on", "workers": "2"})
        rows = rows_of(self._driver, rows_by_id, {"ids": ids[:limit]})
        if len(ids) > limit:
            return Found(rows, Cursor(rows[-1]["id"], rows[-1]["created_at"]), None)
        return Found(rows, *((None, None) if last_id is None else (Cursor(last_id, last_at), WALK)))


def post_page(wanted: PostFilter) -> str:
    """Write the query of one walk through posts: the `ids` of those that fit, one more than a page has, and the time
    and the id of the last that was looked at, if the walk went as far as it may."""
    # OFFSET 0: a set is read by its own index, whatever order its rows are put in.
    few = f"(SELECT * FROM social_posts WHERE status = '{wanted.status}' OFFSET 0) AS social_posts"
    source = few if wanted.status in RARE else "social_posts"
    return _page(source, _fitting(OF_POSTS, wanted, _is(wanted.status)), wanted)


def video_page(wanted: VideoFilter) -> str:
    """`post_page`, of videos."""
    return _page("videos", _fitting(OF_VIDEOS, wanted, _is_video(wanted.status)), wanted)


def page_values(wanted: PostFilter | VideoFilter, limit: int) -> dict[str, Any]:
    """Return the values of the query of a page of so many rows."""
    place = {} if wanted.after is None else {"at": wanted.after.at, "at_id": wanted.after.id}
    return _values(wanted) | place | {"limit": limit + 1}


def _page(source: str, fits: str, wanted: PostFilter | VideoFilter) -> str:
    rules = {
        "tenant_id = %(tenant_id)s": wanted.tenant_id,
        "created_at <= %(at)s AND (created_at, id) < (%(at)s, %(at_id)s)": wanted.after,
    }
    walked = " AND ".join(rule for rule, value in rules.items() if value is not None) or "true"
    return f"""
WITH walked AS MATERIALIZED (
    SELECT id, created_at, ({fits}) IS TRUE AS fits FROM {source} WHERE {walked}
    ORDER BY created_at DESC, id DESC LIMIT {WALK}
), last AS (
    SELECT created_at, id FROM walked ORDER BY created_at DESC, id DESC OFFSET {WALK - 1}
)
SELECT ARRAY(SELECT id FROM walked WHERE fits ORDER BY created_at DESC, id DESC LIMIT %(limit)s),
    (SELECT created_at FROM last), (SELECT id FROM last)
"""


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
