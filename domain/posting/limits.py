"""How often a platform is asked, and how many posts it takes of an account, as dated rows.

Read on 27 November 2026, unless the row says otherwise:

- TikTok: init 6, status/fetch 30, creator_info/query 20 a minute and user token (Content Posting API, rate limits);
  video/list and video/query 600 a minute (rate limits). How many posts a creator may make in 24 hours is not published:
  15 is commonly reported, and TikTok says `spam_risk_too_many_posts` at the real one.
- YouTube: videos.insert 100 a day and project, the rest 10,000 units (list 1, insert of a comment 50), and
  videos.batchGetStats 10,000 of its own (revision of 3 June 2026); days end at midnight Pacific (quota calculator). 100
  inserts a day are kept as places, and not as a rate.
- Instagram: 200 calls an hour and account (Graph API, rate limits). Posts in 24 hours: its pages name 50 and 100, so
  `content_publishing_limit` is read, and 50 counts where it says nothing.
- Bluesky: 5,000 points an hour and 35,000 a day, an account; creating costs 3 (rate limits). 25 videos a day by what
  `getUploadLimits` said; it is read.
- Mastodon: 300 requests in 5 minutes, and 30 uploads in 30, an account (rate limits).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.posting.publishing import AccountLimits
from domain.queue.rate import Draw, Rate
from domain.videos.profiles import NAMES

DAY = timedelta(hours=24)
PACIFIC = ZoneInfo("America/Los_Angeles")
READ_ON = date(2026, 11, 27)


class Act(StrEnum):
    """What a platform is asked for, as `Publisher` names it."""

    LIMITS = "limits"
    OPEN = "open"
    READY = "ready"
    COMMIT = "commit"
    LOOK = "look"
    RECENT = "recent"
    PERMALINK = "permalink"
    COMMENT = "comment"
    MEASURE = "measure"
    GONE = "gone"


SPARING = (Act.MEASURE, Act.GONE)
"""What leaves half of the rates that posts draw from."""


@dataclass(frozen=True, slots=True)
class CallRate:
    """So often the platform lets one account (or, `whole_app`, all of them) make a call. `acts` is what each act of
    ours costs, at most."""

    platform: str
    call: str
    rate: Rate
    acts: Mapping[Act, int]
    since: date = READ_ON
    whole_app: bool = False


def _a_minute(count: int) -> Rate:
    """Half of them at once, the others spread: a burst and a full minute after it stay below the limit together."""
    return _within(count, timedelta(minutes=1))


def _within(count: int, time_: timedelta) -> Rate:
    burst = max(1, count // 2)
    return Rate(time_ / max(1, count - burst), burst)


_ALL = dict.fromkeys(Act, 1)

RATES = (
    CallRate("tiktok", "init", _a_minute(6), {Act.OPEN: 1}),
    CallRate("tiktok", "status", _a_minute(30), {Act.LOOK: 1}),
    CallRate("tiktok", "creator_info", _a_minute(20), {Act.LIMITS: 1}),
    CallRate("tiktok", "video_list", _a_minute(600), {Act.RECENT: 1, Act.PERMALINK: 1}),
    CallRate("tiktok", "video_query", _a_minute(600), {Act.MEASURE: 1}),
    CallRate(
        "youtube-shorts",
        "units",
        # Uploads have a bucket of their own (`places`).
        _within(10_000, DAY),
        # LIMITS asks nothing.
        {Act.LOOK: 1, Act.RECENT: 4, Act.PERMALINK: 1, Act.COMMENT: 50, Act.GONE: 12},
        whole_app=True,
    ),
    CallRate("youtube-shorts", "statistics", _within(10_000, DAY), {Act.MEASURE: 1}, whole_app=True),
    CallRate("instagram-reels", "calls", _within(200, timedelta(hours=1)), {**_ALL, Act.GONE: 20}),
    CallRate(
        "bluesky",
        "points",
        _within(5_000, timedelta(hours=1)),
        {**_ALL, Act.COMMIT: 3, Act.COMMENT: 3, Act.RECENT: 4, Act.GONE: 10},
    ),
    CallRate("bluesky", "points_a_day", _within(35_000, DAY), {Act.COMMIT: 3, Act.COMMENT: 3}),
    CallRate("mastodon", "calls", _within(300, timedelta(minutes=5)), _ALL),
    CallRate("mastodon", "media", _within(30, timedelta(minutes=30)), {Act.OPEN: 1}),
)


class Window(StrEnum):
    ROLLING = "rolling"
    """The last 24 hours, whenever one looks."""
    PACIFIC_DAY = "pacific_day"


@dataclass(frozen=True, slots=True)
class Places:
    """So many posts a platform takes of one account (or of the `whole_app`) in 24 hours."""

    platform: str
    most: int
    window: Window = Window.ROLLING
    whole_app: bool = False
    since: date = READ_ON


PLACES = (
    Places("tiktok", 15),
    Places("youtube-shorts", 100, Window.PACIFIC_DAY, whole_app=True),
    Places("instagram-reels", 50),
    Places("bluesky", 25),
)
"""Mastodon names none."""

CALLED = {"youtube-shorts": "youtube", "instagram-reels": "instagram"}
"""The short names of platforms that have one: in names of buckets, and where an operator names one."""


OPENINGS = Rate(timedelta(milliseconds=1), burst=1000)
"""More than any platform is asked: buckets of this rate only close."""
RETURNS = Rate(timedelta(seconds=20), burst=1000)
"""More than any platform takes of an account, too; but what waited until it opens comes back one by one. A question
takes at most 15 seconds, so while a platform does not answer an account, its posts do not ask side by side."""


@dataclass(frozen=True, slots=True)
class ActDraw(Draw):
    """What an act draws from before it asks. `whole_app`: it is the bucket of all accounts."""

    whole_app: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most `most` reservations of the bucket are later than `since`. `renews_at` is when all places come back at
    once; None: each comes back 24 hours after it was taken. `why` says whose limit it is."""

    bucket: str
    most: int
    since: datetime
    renews_at: datetime | None
    why: str


def draws(platform: str, act: Act | str, account_id: UUID, *, times: int = 1) -> tuple[ActDraw, ...]:
    """Return what the act draws from, in an order that is always the same. What begins a post draws from the buckets
    that close, too. What measures, or asks whether a post is gone, leaves half of what posts draw from as well."""
    found = [
        ActDraw(
            _bucket(platform, row.call, None if row.whole_app else account_id),
            row.rate,
            row.acts[Act(act)] * times,
            row.rate.burst // 2 if act in SPARING and any(each not in SPARING for each in row.acts) else 0,
            row.whole_app,
        )
        for row in RATES
        if row.platform == platform and Act(act) in row.acts
    ]
    if act in (Act.LIMITS, Act.OPEN):
        found = [*closings(platform, account_id), *found]
    return tuple(found)


def closings(platform: str, account_id: UUID) -> tuple[ActDraw, ...]:
    """Return the draws from what is closed while the platform takes no more, or does not answer."""
    everybody = ActDraw(closed_bucket(platform, None), OPENINGS, whole_app=True)
    return everybody, ActDraw(closed_bucket(platform, account_id), RETURNS)


def closed_bucket(platform: str, account_id: UUID | None) -> str:
    """Return the bucket that is held off when the platform takes no more, or does not answer: of one account, or of
    all (None)."""
    return _bucket(platform, "closed", account_id)


def places(
    platform: str,
    account_id: UUID,
    now: datetime,
    *,
    daily_limit: int | None = None,
    limits: AccountLimits | None = None,
    limits_read_at: datetime | None = None,
    tenant_id: UUID | None = None,
    shared: bool = False,
) -> tuple[Allowance, ...]:
    """Return what a reservation of a post has to keep; one counts itself. `daily_limit` is the account's own; what the
    platform said of the account (`limits`, as it was read) makes it fewer, and more only where our row is a guess.
    While others wait too (`shared`), one tenant has half of what the platform takes of the whole installation."""
    row, name = _places_of(platform, now), NAMES[platform]
    own = _bucket(platform, "posts", account_id)
    found: list[Allowance] = []
    most: list[tuple[int, str]] = []
    if row is not None and row.whole_app:
        why = f"{name} takes {row.most} uploads a day of this installation, for all its accounts"
        found.append(_allowance(_bucket(platform, "uploads", None), row.most, why, now, row.window))
        if tenant_id is not None:
            most_of_one = max(1, row.most // 2) if shared else row.most
            why = f"{why}, and others wait too" if shared else why
            found.append(_allowance(_bucket(platform, "uploads", tenant_id), most_of_one, why, now, row.window))
    if limits is not None and limits.posts_a_day is not None:
        most.append((limits.posts_a_day, f"{name} lets this account post {limits.posts_a_day} times a day"))
    elif row is not None and not row.whole_app:
        most.append((row.most, f"{name} takes {row.most} posts of an account a day"))
    if daily_limit is not None:
        most.append((daily_limit, f"the account's own limit is {daily_limit} a day"))
    if most:
        found.append(_allowance(own, *min(most), now=now))
    if limits is not None and limits.posts_left_today is not None and limits_read_at is not None:
        left = limits.posts_left_today
        read_at = max(limits_read_at, now - DAY)
        found.append(Allowance(own, left, read_at, read_at + DAY, f"{name} has {left} left for this account today"))
    return tuple(found)


def next_place(allowance: Allowance, reserved: Sequence[datetime], now: datetime) -> datetime:
    """Return when the next place of the bucket is free, `reserved` being when its places were taken."""
    taken = sorted(moment for moment in reserved if moment > allowance.since)
    if len(taken) < allowance.most:
        return now
    if allowance.renews_at is not None:
        return max(now, allowance.renews_at)
    if allowance.most < 1:
        return now + DAY
    return max(now, taken[-allowance.most] + DAY)


def pacific_day(now: datetime) -> tuple[datetime, datetime]:
    """Return when the day that YouTube counts by began, and when the next one begins: 23 to 25 hours."""
    today = now.astimezone(PACIFIC).date()
    began = datetime.combine(today, time(), PACIFIC)
    ends = datetime.combine(today + timedelta(days=1), time(), PACIFIC)
    return began.astimezone(UTC), ends.astimezone(UTC)


def limits_row(limits: AccountLimits) -> dict[str, Any]:
    """Return the limits as JSON values, which `social_accounts.limits` keeps."""
    row = asdict(limits)
    row["settings"] = dict(limits.settings)
    return row


def limits_of(row: Mapping[str, Any]) -> AccountLimits:
    """Return the limits that `limits_row` wrote; nothing is known of those that were never read."""
    names = ("posts_left_today", "posts_a_day", "max_seconds", "max_bytes", "max_characters")
    return AccountLimits(**{name: row.get(name) for name in names}, settings=dict(row.get("settings") or {}))


def _allowance(bucket: str, most: int, why: str, now: datetime, window: Window = Window.ROLLING) -> Allowance:
    if window is Window.ROLLING:
        return Allowance(bucket, most, now - DAY, None, why)
    began, ends = pacific_day(now)
    return Allowance(bucket, most, began - timedelta(microseconds=1), ends, why)


def _places_of(platform: str, now: datetime) -> Places | None:
    """Return the newest row that has begun, else the first; None if the platform has none."""
    rows = sorted((row for row in PLACES if row.platform == platform), key=lambda row: row.since)
    begun = [row for row in rows if row.since <= now.date()]
    found = begun or rows[:1]
    return found[-1] if found else None


def _bucket(platform: str, call: str, whose: UUID | None) -> str:
    name = CALLED.get(platform, platform)
    return f"{name}:{call}" if whose is None else f"{name}:{call}:{whose}"
