"""The filters of lists of posts and of videos, as a URL or a command line has them (`domain/text/filters.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from domain.posting.posts import PostStatus
from domain.text.filters import (
    Cursor,
    SenselessFilter,
    check_range,
    check_text,
    cursor_of,
    id_of,
    one_of,
    shortly,
    time_of,
    written,
)
from domain.videos.plan import VIDEO_STATUSES
from domain.videos.profiles import NAMES as PLATFORMS

POST_STATUSES: Final = tuple(PostStatus)

LONGEST: Final = 80
"""Characters of a filter."""

NAMES: Final = {
    "account_id": "account",
    "tenant_id": "tenant",
    "video_id": "video",
    "generation_id": "generation",
}
"""What the fields are called in URLs, where it is another name."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """All that are filled apply together. `since` and `until` are about the last change; a span of time is so long
    ago."""

    status: str | None = None
    tenant_id: UUID | None = None
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    after: Cursor | None = None

    def query(self, **changes: Any) -> dict[str, str]:
        """Return the filters as a URL has them, with `changes` of the fields; without the place, unless that is one."""
        values = {each.name: getattr(self, each.name) for each in fields(self)} | {"after": None} | changes
        return {NAMES.get(name, name): written(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PostFilter(_Filter):
    """Which posts are asked for."""

    platform: str | None = None
    account_id: UUID | None = None
    video_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class VideoFilter(_Filter):
    """Which videos are asked for. `provider`: of the clips; "storyboard" where none is bought; `generation_id`: of its
    concepts."""

    provider: str | None = None
    generation_id: UUID | None = None


def post_filter(query: Mapping[str, str]) -> PostFilter:
    """Read the filters of a URL; an empty one is none.

    Raises:
        SenselessFilter: one is unknown, too long, or cannot be.
    """
    texts = _texts(query, PostFilter, "post")
    return PostFilter(
        **_shared(texts, POST_STATUSES),
        platform=one_of("platform", texts.get("platform"), tuple(PLATFORMS)),
        account_id=id_of("account", texts.get("account")),
        video_id=id_of("video", texts.get("video")),
    )


def video_filter(query: Mapping[str, str]) -> VideoFilter:
    """`post_filter`, of videos."""
    texts = _texts(query, VideoFilter, "video")
    return VideoFilter(
        **_shared(texts, VIDEO_STATUSES),
        provider=texts.get("provider"),
        generation_id=id_of("generation", texts.get("generation")),
    )


def _texts(query: Mapping[str, str], of: type[_Filter], thing: str) -> dict[str, str]:
    names = [NAMES.get(each.name, each.name) for each in fields(of)]
    texts = {name: value.strip() for name, value in query.items() if value.strip()}
    for name, value in texts.items():
        if name not in names:
            there = ", ".join(each for each in names if each != "after")
            raise SenselessFilter(f"{shortly(name)}: there is no such filter; there are {there}")
        check_text(name, value, LONGEST, thing)
    return texts


def _shared(texts: Mapping[str, str], statuses: tuple[str, ...]) -> dict[str, Any]:
    since, until = time_of("since", texts.get("since")), time_of("until", texts.get("until"))
    check_range(since, until)
    return {
        "status": one_of("status", texts.get("status"), statuses),
        "tenant_id": id_of("tenant", texts.get("tenant")),
        "since": since,
        "until": until,
        "after": cursor_of(texts.get("after"), with_time=True),
    }
