"""What each platform is asked of a post, as dated rows: a metric that a platform retires is not asked for any longer,
and what a number counts is kept with it, since platforms change that.

Read on 27 November 2026:

- TikTok: fields of the video object (`video/query`).
- YouTube: `statistics` of `videos.batchGetStats`. What a view of a Short is has changed twice: on 31 March 2025
  (revision history of the Data API, 26 March 2025: each start or replay, before that some seconds), and on 24 August
  2026 (revision history of the Analytics API, 27 August 2026: the same for all formats, autoplay and previews in a list
  included). Nothing is said of likes that the owner hides, and of comments that are off. Shares are only in the
  Analytics API, two to three days late.
- Instagram: insights of a media object. `plays` and `impressions` have ended on 21 April 2025 for all versions; one
  that has ended, in a list of several, fails the whole request. Interactions on ads are not counted.
- Bluesky: `getPosts`; it counts no views. A repost and a quote are both shares, and kept apart besides.
- Mastodon: the status; it counts no views. Counts are as far as the account's own instance has heard of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

ALWAYS = date(2020, 1, 1)
"""Before any post of ours."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a platform calls `name`, asked for from `since` until before `until`. It is kept as `kept`: one of
    the columns `views`, `likes`, `comments`, `shares` (two of one column are added), or a name in `Numbers.details`."""

    platform: str
    name: str
    kept: str
    since: date = ALWAYS
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What `views` of a platform counts, from `since` on; `name` stands in the rows, `words` in reports."""

    platform: str
    name: str
    words: str
    since: date = ALWAYS


METRICS = (
    Metric("tiktok", "view_count", "views"),
    Metric("tiktok", "like_count", "likes"),
    Metric("tiktok", "comment_count", "comments"),
    Metric("tiktok", "share_count", "shares"),
    Metric("youtube-shorts", "viewCount", "views"),
    Metric("youtube-shorts", "likeCount", "likes"),
    Metric("youtube-shorts", "commentCount", "comments"),
    Metric("instagram-reels", "plays", "views", until=date(2025, 4, 21)),
    Metric("instagram-reels", "views", "views", since=date(2025, 4, 21)),
    Metric("instagram-reels", "likes", "likes"),
    Metric("instagram-reels", "comments", "comments"),
    Metric("instagram-reels", "shares", "shares"),
    Metric("instagram-reels", "reach", "reach"),
    Metric("instagram-reels", "saved", "saves"),
    Metric("bluesky", "likeCount", "likes"),
    Metric("bluesky", "replyCount", "comments"),
    Metric("bluesky", "repostCount", "shares"),
    Metric("bluesky", "quoteCount", "shares"),
    Metric("bluesky", "repostCount", "reposts"),
    Metric("bluesky", "quoteCount", "quotes"),
    Metric("bluesky", "bookmarkCount", "saves"),
    Metric("mastodon", "favourites_count", "likes"),
    Metric("mastodon", "replies_count", "comments"),
    Metric("mastodon", "reblogs_count", "shares"),
)

DEFINITIONS = (
    Definition("tiktok", "tiktok-views", "times that the video was viewed, as TikTok's view_count counts them"),
    Definition("youtube-shorts", "youtube-seconds", "plays of a Short that lasted some seconds"),
    Definition(
        "youtube-shorts", "youtube-starts", "starts and replays of a Short, however short", since=date(2025, 3, 31)
    ),
    Definition(
        "youtube-shorts",
        "youtube-starts-all",
        "starts of playback of any kind, autoplay and previews in a list included",
        since=date(2026, 8, 24),
    ),
    Definition("instagram-reels", "instagram-plays", "plays, without replays within one session"),
    Definition(
        "instagram-reels",
        "instagram-views",
        "times that the reel was played or shown, replays included and ads not",
        since=date(2025, 4, 21),
    ),
)
"""Platforms that are not here count no views."""

WORDS: Mapping[str, str] = {each.name: each.words for each in DEFINITIONS}


def asked(platform: str, on: date) -> tuple[Metric, ...]:
    """Return what the platform is asked for on that day."""
    return tuple(
        each
        for each in METRICS
        if each.platform == platform and each.since <= on and (each.until is None or on < each.until)
    )


def definition_of(platform: str, on: date) -> str:
    """Return the name of what `views` counts on that day; "" where the platform counts no views."""
    begun = [each for each in DEFINITIONS if each.platform == platform and each.since <= on]
    return max(begun, key=lambda each: each.since).name if begun else ""
