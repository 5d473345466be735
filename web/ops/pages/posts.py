"""Posts and videos that wait for a person, and the story of one."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import UnknownPost, UnknownVideo
from domain.ops.actions import Action
from web.ops.histories import bulk_actions_for
from web.ops.page import Look, NothingThere, Page
from workers.ops import videos
from workers.ops.post_stories import explain
from workers.ops.waiting import Part, overview

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
    return [] if kind is None else bulk_actions_for(kind)


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
