"""Posts and videos that wait for a person, and the story of one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import UnknownPost, UnknownVideo
from domain.ops.actions import Action, Kind
from domain.ops.post_filters import POST_STATUSES, PostFilter, VideoFilter, post_filter, video_filter
from domain.text.filters import SenselessFilter
from domain.text.shell import command, options_of
from domain.videos.plan import VIDEO_STATUSES
from domain.videos.profiles import NAMES as PLATFORMS
from web.ops.histories import bulk_actions_for
from web.ops.page import Look, NothingThere, Page, WrongFilter
from workers.ops import videos
from workers.ops.post_lists import Listed, post_list, video_list
from workers.ops.post_stories import explain
from workers.ops.waiting import Part, overview

F = TypeVar("F", PostFilter, VideoFilter)

POST_FIELDS: Final = ("status", "platform", "account", "tenant", "video", "since", "until")
VIDEO_FIELDS: Final = ("status", "provider", "generation", "tenant", "since", "until")
OF_A_POST = (
    *("status", "platform", "username", "title", "caption", "scheduled_for", "submitted_at", "published_at"),
    *("permalink", "external_id", "error_message"),
)
OF_A_VIDEO = (
    *("title", "status", "provider", "layout", "estimated_usd", "final_usd", "error_message", "created_at"),
    *("completed_at",),
)
OF_A_SUBMISSION = (
    *("scene", "state", "provider", "model", "provider_job_id", "estimated_usd", "final_usd", "error_message"),
    "created_at",
)


def view(look: Look) -> Mapping[str, Any]:
    with look.app.db.transaction(SYSTEM) as tx:
        found = overview(tx)
    return {"parts_of": found, "acts": {part.name: _actions_on(part) for part in found}}


def _actions_on(part: Part) -> list[Action]:
    kind = next((each.target.kind for each in part.items if each.target is not None), None)
    return [] if kind is None else bulk_actions_for(kind, part.states)


def view_posts(look: Look) -> Mapping[str, Any]:
    """Raises:
    WrongFilter: it cannot be.
    """
    wanted = _read(post_filter, look)
    shown = _listed("/ops/posts/all", POST_FIELDS, Kind.POST, wanted, post_list(look.app, wanted))
    return shown | {"statuses": POST_STATUSES, "platforms": list(PLATFORMS)}


def view_videos(look: Look) -> Mapping[str, Any]:
    """Raises:
    WrongFilter: it cannot be.
    """
    wanted = _read(video_filter, look)
    shown = _listed("/ops/posts/videos", VIDEO_FIELDS, Kind.VIDEO, wanted, video_list(look.app, wanted))
    return shown | {"statuses": VIDEO_STATUSES}


def _read(read: Callable[[Mapping[str, str]], F], look: Look) -> F:
    try:
        return read(look.query)
    except SenselessFilter as error:
        raise WrongFilter(str(error)) from error


def _listed(path: str, names: Sequence[str], kind: Kind, wanted: F, found: Listed[F]) -> dict[str, Any]:
    further, acts = found.further, bulk_actions_for(kind)
    return {
        "list": found,
        "query": dict.fromkeys(names, "") | wanted.query(),
        "chosen": wanted.query(),
        "acts": acts,
        "acts_on_all": [each for each in acts if wanted.status in each.states],
        "older": None if further is None else f"{path}?{urlencode(further.query(after=further.after))}",
        "shell": command(["viral", f"{kind}s", "list", *options_of(wanted.query(after=wanted.after))]),
    }


def view_post(look: Look) -> Mapping[str, Any]:
    """Raises:
    NothingThere: there is no such post.
    """
    try:
        found = explain(look.app, None, _id(look, "post"))
    except UnknownPost as error:
        raise NothingThere(str(error)) from error
    return {"found": found, "facts": _chosen(found.post, OF_A_POST)}


def view_video(look: Look) -> Mapping[str, Any]:
    """Raises:
    NothingThere: there is no such video.
    """
    try:
        video = videos.show(look.app, None, _id(look, "video"))
    except UnknownVideo as error:
        raise NothingThere(str(error)) from error
    submissions = [_chosen(row, OF_A_SUBMISSION) for row in video.get("submissions", ())]
    return {"video": video, "facts": _chosen(video, OF_A_VIDEO), "submissions": submissions}


def _id(look: Look, what: str) -> UUID:
    text = look.path["id"]
    try:
        return UUID(text)
    except ValueError:
        raise NothingThere(f"there is no {what} {text[:100]}: an id has 32 hexadecimal digits") from None


def _chosen(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names if row.get(name) not in (None, "")}


POSTS = Page("/posts", "Posts and videos", "posts.html", view)
ALL_POSTS = Page("/posts/all", "All posts", "all_posts.html", view_posts, in_menu=False)
ALL_VIDEOS = Page("/posts/videos", "All videos", "all_videos.html", view_videos, in_menu=False)
POST = Page(
    "/posts/{id}",
    "Post",
    "post.html",
    view_post,
    in_menu=False,
    about=lambda shown: f"post:{shown['found'].post['id']}",
    states=lambda shown: (shown["found"].post["status"],),
)
VIDEO = Page(
    "/videos/{id}",
    "Video",
    "video.html",
    view_video,
    in_menu=False,
    about=lambda shown: f"video:{shown['video']['id']}",
    states=lambda shown: {shown["video"]["status"], *(each["state"] for each in shown["submissions"])},
)
