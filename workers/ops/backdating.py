"""Makes a simulated post older, so that nobody has to wait until it is: the database's clock decides when a post is
measured, and it runs at its own speed."""

from datetime import timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit
from uuid import UUID

from domain.errors import Conflict, Rejected, UnknownPost
from domain.posting.schedule import in_words
from domain.videos.profiles import NAMES
from workers.app import App
from workers.settings import Settings

SETTINGS = {
    "tiktok": "tiktok_base_url",
    "youtube-shorts": "google_base_url",
    "instagram-reels": "meta_base_url",
    "bluesky": "bluesky_base_url",
    "mastodon": "mastodon_base_url",
}


def backdate(app: App, tenant_id: UUID, post_id: UUID, by: timedelta) -> None:
    """Make a published post on a simulated platform older. Its simulator has to make it older, too (`backdate`).

    Raises:
        UnknownPost: there is none of this id.
        Rejected: the platform is not simulated on this machine, or the post would be younger.
        Conflict: the post is not published.
    """
    if by < timedelta(0):
        raise Rejected("a post can be made older, not younger")
    with app.db.transaction(tenant_id) as tx:
        row = tx.planned_posts.get(tenant_id, post_id)
        if row is None:
            raise UnknownPost(f"there is no post {post_id}")
        if not is_simulated(app.settings, row["platform"]):
            raise Rejected(f"{NAMES[row['platform']]} is not simulated here: its posts are as old as they are")
        if not tx.posts.backdate(tenant_id, post_id, by):
            raise Conflict("POST_NOT_PUBLISHED", f"the post is {row['status']}: only a published one can be made older")
        tx.posts.note(tenant_id, post_id, "backdated", f"made {in_words(by)} older, since it is simulated")


def is_simulated(settings: Settings, platform: str) -> bool:
    """Return whether the settings lead to a simulator of the platform on this machine."""
    host = urlsplit(getattr(settings, SETTINGS[platform])).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
