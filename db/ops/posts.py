"""Posts and videos as operators choose them, by any filters: those of all tenants, or of one."""

from collections.abc import Mapping
from typing import Any, Final

from db.videos.videos import IN_DOUBT
from domain.ops.post_filters import PostFilter, VideoFilter

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
OF_VIDEOS: Final = OF_BOTH | {"provider": "provider = %(provider)s"}


def choosing_posts(wanted: PostFilter) -> tuple[str, dict[str, Any]]:
    """Return a query of the ids of all posts that fit, and its values. `since` and `until` are moments."""
    return _choosing("social_posts", OF_POSTS, wanted, _is(wanted.status))


def choosing_videos(wanted: VideoFilter) -> tuple[str, dict[str, Any]]:
    """`choosing_posts`, of videos: unconfirmed are, as they are listed, also those that were cancelled, and of which a
    clip is in doubt."""
    status = _is(wanted.status)
    if wanted.status == "unconfirmed":
        status = f"({status} OR {IN_DOUBT})"
    return _choosing("videos", OF_VIDEOS, wanted, status)


def _is(status: str | None) -> str:
    # Not as a value: an index that has only some states is one only to who says which.
    return "true" if status is None else f"status = '{status}'"


def _choosing(
    table: str, rules: Mapping[str, str], wanted: PostFilter | VideoFilter, status: str
) -> tuple[str, dict[str, Any]]:
    values = {name: value for name in rules if (value := getattr(wanted, name)) is not None}
    return f"SELECT id FROM {table} WHERE {' AND '.join((status, *(rules[name] for name in values)))}", values
