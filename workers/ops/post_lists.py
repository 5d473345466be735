"""Lists of posts and of videos by filter, as the operator's page and the shell show them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from db.ops.posts import Found
from db.transaction import SYSTEM, Tx
from domain.ops.post_filters import PostFilter, VideoFilter
from domain.text.filters import moment_of
from workers.app import App

PAGE = 50

F = TypeVar("F", PostFilter, VideoFilter)


@dataclass(frozen=True)
class Listed(Generic[F]):
    """A page at one moment, newest first. `further` is the filter of the next page; None: all that fits has been shown.
    `looked_at`: how many were looked at, if the page ended for that and not because it was full."""

    at: datetime
    rows: list[dict[str, Any]]
    further: F | None
    looked_at: int | None


def post_list(app: App, wanted: PostFilter, *, limit: int = PAGE) -> Listed[PostFilter]:
    """Return the posts that fit, from the place `wanted.after` on."""
    return _listed(app, wanted, lambda tx, asked: tx.post_views.posts(asked, limit=limit))


def video_list(app: App, wanted: VideoFilter, *, limit: int = PAGE) -> Listed[VideoFilter]:
    """Return the videos that fit, from the place `wanted.after` on."""
    return _listed(app, wanted, lambda tx, asked: tx.post_views.videos(asked, limit=limit))


def _listed(app: App, wanted: F, look: Callable[[Tx, F], Found]) -> Listed[F]:
    with app.db.transaction(SYSTEM) as tx:
        now = app.now(tx)
        asked = replace(wanted, since=moment_of(wanted.since, now), until=moment_of(wanted.until, now))
        found = look(tx, asked)
    further = None if found.further is None else replace(wanted, after=found.further)
    return Listed(now, found.rows, further, found.looked_at)
