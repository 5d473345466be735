"""Accounts of many tenants with posts to make, the platforms that they are made on, and what those saw.

The platforms are the simulators, in a process of their own and over real sockets (`benchmarks/outside.py`).
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from cryptography.fernet import Fernet
from psycopg.types.json import Jsonb

from benchmarks.outside import ANSWERS
from benchmarks.servers import BenchError, Running, ours, running, until
from domain.videos.media import object_key
from integrations.vault import FernetVault
from simulators.outside import PLATFORMS

TAKING_MANY = tuple(name for name in PLATFORMS if name != "youtube-shorts")
"""YouTube takes 100 videos a day of all accounts together, so whoever has many posts has them elsewhere."""
OPTIONS = {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}, "youtube-shorts": {"privacy": "public"}}
SERVERS = {"bluesky": "BLUESKY_BASE_URL", "mastodon": "MASTODON_BASE_URL"}
PROBE = {"container": "mp4", "seconds": 12.0, "width": 1080, "height": 1920}
FREE = 60_000
"""Bytes of a video: what a short one of a few seconds has at the least."""

POST = """
INSERT INTO social_posts (tenant_id, video_id, account_id, status, caption, title, options, scheduled_for)
VALUES (%s, %s, %s, 'scheduled', %s, 'A fox', %s, %s)
"""


@dataclass(frozen=True)
class Account:
    tenant_id: UUID
    platform: str
    number: int
    behaviour: str = ANSWERS
    status: str = "active"

    @property
    def id(self) -> UUID:
        return UUID(int=self.number + (1 << 64))

    @property
    def external_id(self) -> str:
        return f"did:plc:{self.number:024d}" if self.platform == "bluesky" else f"{100_000 + self.number}"


@dataclass(frozen=True)
class Limit:
    """So many calls of these names the platform takes in any so many seconds, of one account or (`whole_app`) of us.

    Written down here a second time, from the platforms' own pages, so that a slip in
    `domain.posting.limits` shows.
    """

    platform: str
    what: str
    most: int
    seconds: float
    costs: Mapping[str, int]
    whole_app: bool = False

    def cost(self, call: str) -> int:
        """Return how much of it one call takes; 0 if it is not counted."""
        if self.costs is _EACH:
            return int(call != A_POST)
        return self.costs.get(call, 0)


MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
_EACH: Mapping[str, int] = defaultdict(lambda: 1)
A_POST = "a post"
"""Counts what people see, and not a call: one that is begun again is one post."""
LIMITS = (
    Limit("tiktok", "init a minute", 6, MINUTE, {"init": 1}),
    Limit("tiktok", "status a minute", 30, MINUTE, {"status": 1}),
    Limit("tiktok", "creator_info a minute", 20, MINUTE, {"creator_info": 1}),
    Limit("tiktok", "posts a day", 15, DAY, {A_POST: 1}),
    Limit("tiktok", "query a minute", 600, MINUTE, {"query": 1}),
    Limit("youtube-shorts", "statistics a day", 10_000, DAY, {"statistics": 1}, whole_app=True),
    Limit("youtube-shorts", "uploads a day", 100, DAY, {"open": 1}, whole_app=True),
    Limit("youtube-shorts", "units a day", 10_000, DAY, {"channels": 1, "playlist": 1, "videos": 1}, whole_app=True),
    Limit("instagram-reels", "calls an hour", 200, HOUR, _EACH),
    Limit("instagram-reels", "posts a day", 50, DAY, {A_POST: 1}),
    Limit("bluesky", "points an hour", 5000, HOUR, {"putRecord": 3, "createRecord": 3, "getPosts": 1, "getRecord": 1}),
    Limit("bluesky", "videos a day", 25, DAY, {"uploadVideo": 1}),
    Limit("mastodon", "calls in five minutes", 300, 5 * MINUTE, _EACH),
    Limit("mastodon", "uploads in half an hour", 30, 30 * MINUTE, {"upload": 1}),
)


class Outside:
    """The platforms' process. `settings` lead ours to them."""

    def __init__(self, process: Running, folder: Path, ready: Mapping[str, Any], key: str) -> None:
        self.process = process
        self.tokens: Mapping[str, Mapping[str, tuple[str, str, float]]] = ready["tokens"]
        self.vault = FernetVault([key])
        self._folder = folder
        self._page: str = ready["page"]
        (folder / "home").mkdir()
        self.settings: dict[str, str] = {
            **ready["settings"],
            "TOKEN_ENCRYPTION_KEYS": key,
            "MEDIA_DIR": str(folder / "media"),
            "VIRAL_HOME": str(folder / "home"),
        }

    def grant(self, account: Account, now: datetime) -> tuple[bytes | None, bytes | None, datetime | None, str]:
        """Return the tokens that open the account, sealed; when the first ends; and the account's own server."""
        access, refresh, seconds = self.tokens[account.platform][account.external_id]
        ends = None if account.platform == "mastodon" else now + timedelta(seconds=seconds)
        server = self.settings.get(SERVERS.get(account.platform, ""), "")
        return self.vault.seal(access), self.vault.seal(refresh) if refresh else None, ends, server

    def calls(self) -> list[tuple[float, str, str, str]]:
        """Return what arrived: when, of which platform, of which account, and the name of the call."""
        lines = (line.split() for line in (self._folder / "calls.log").read_text().splitlines())
        return [(float(at), platform, account, call) for at, platform, account, call in lines]

    def posts(self) -> list[tuple[str, str, str, float]]:
        """Return what people see: platform, account, SHA-256 of the video in hex, and since when."""
        found = httpx.get(self._page, timeout=60).json()
        return [(name, account, digest, at) for name, account, digest, at in found]


@contextmanager
def outside(folder: Path, accounts: Sequence[Account], *, polls: int = 1) -> Iterator[Outside]:
    (folder / "media").mkdir(parents=True)
    folder.chmod(0o755)
    behaviours: dict[str, dict[str, str]] = {name: {} for name in PLATFORMS}
    for each in accounts:
        behaviours[each.platform][each.external_id] = each.behaviour
    command = [sys.executable, "-m", "benchmarks.outside", str(folder), json.dumps(behaviours), str(polls)]
    with running(command, ours(), folder) as process:

        def is_ready() -> bool:
            process.check()
            return (folder / "ready.json").exists()

        until(is_ready, "the platforms to be played", within=60)
        ready = json.loads((folder / "ready.json").read_text())
        yield Outside(process, folder, ready, Fernet.generate_key().decode())


# --- what there is ---------------------------------------------------------------------------------------------------


def accounts_of(tenants: int, accounts: int) -> list[Account]:
    """Return so many accounts of so many tenants, in turn on each of the platforms."""
    ids = [uuid4() for _ in range(tenants)]
    names = [*TAKING_MANY, *TAKING_MANY, TAKING_MANY[0], "youtube-shorts"]
    # Shifted by one each time round, so that no tenant is on one platform only.
    return [Account(ids[n % tenants], names[(n + n // tenants) % len(names)], n) for n in range(accounts)]


def connected(connection: psycopg.Connection, accounts: Sequence[Account], there: Outside | None) -> None:
    """Write down the accounts and their tenants, as if their owners had connected them now; without an outside, nothing
    opens them."""
    now = datetime.now(UTC)
    rows = []
    for each in accounts:
        access, refresh, ends, server = (None, None, None, "") if there is None else there.grant(each, now)
        if each.status != "active":
            access = refresh = None
        reason = None if each.status == "active" else "its owner took our access away"
        rows.append(
            (
                each.id,
                each.tenant_id,
                each.platform,
                each.external_id,
                each.status,
                access,
                refresh,
                ends,
                server,
                reason,
            )
        )
    with connection.cursor() as cursor:
        tenants = {(each.tenant_id,) for each in accounts}
        cursor.executemany("INSERT INTO tenants (id, name) VALUES (%s, 'bench')", sorted(tenants))
        cursor.executemany(
            "INSERT INTO social_accounts (id, tenant_id, platform, external_id, status, access_token, refresh_token,"
            " access_expires_at, server, reason, limits_read_at, refreshed_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now(), now())",
            rows,
        )


def filmed(connection: psycopg.Connection, folder: Path, tenant_id: UUID, count: int) -> list[UUID]:
    """Keep so many videos of the tenant, each with a file like no other; return their ids."""
    media, videos = [], []
    for _ in range(count):
        video_id, media_id = uuid4(), uuid4()
        content = _mp4(video_id.bytes)
        digest = sha256(content).digest()
        path = folder / "media" / object_key(tenant_id, digest, "mp4")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        media.append((media_id, tenant_id, digest, len(content), Jsonb(PROBE | {"bytes": len(content)})))
        videos.append((video_id, tenant_id, media_id))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO media (id, tenant_id, sha256, bytes, kind, extension, probe, stored_at)"
            " VALUES (%s, %s, %s, %s, 'video', 'mp4', %s, now())",
            media,
        )
        cursor.executemany(
            "INSERT INTO videos (id, tenant_id, status, source, title, media_id, completed_at)"
            " VALUES (%s, %s, 'completed', 'file', 'A fox', %s, now())",
            videos,
        )
    return [each[0] for each in videos]


def scheduled(connection: psycopg.Connection, posts: Iterable[tuple[Account, UUID, datetime]]) -> None:
    """Schedule a post for each account, video and time."""
    rows = [
        (
            *(account.tenant_id, video_id, account.id, f"A fox in the snow, take {number}"),
            *(Jsonb(OPTIONS.get(account.platform, {})), at),
        )
        for number, (account, video_id, at) in enumerate(posts)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(POST, rows)


def _mp4(unique: bytes) -> bytes:
    """Return a whole MP4, as far as its boxes tell."""

    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4) + kind + content

    return box(b"ftyp", b"isom\0\0\2\0") + box(b"moov", bytes(500)) + box(b"mdat", bytes(FREE)) + box(b"free", unique)


# --- what became of it -----------------------------------------------------------------------------------------------


def over(there: Outside) -> list[str]:
    """Return, in words, where more arrived than the platform takes in some window."""
    posts = [(at, platform, account, A_POST) for platform, account, _, at in there.posts()]
    by_platform: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for at, platform, account, call in [*there.calls(), *posts]:
        by_platform[platform].append((at, account, call))
    found = []
    for limit in LIMITS:
        arrived: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for at, account, call in sorted(by_platform[limit.platform]):
            if cost := limit.cost(call):
                arrived["all of them" if limit.whole_app else account].append((at, cost))
        for account, costs in arrived.items():
            if account != "-" and (most := most_within(costs, limit.seconds)) > limit.most:
                found.append(f"{limit.platform}, {limit.what}: {most} of {account}, not {limit.most}")
    return found


def most_within(costs: Sequence[tuple[float, int]], seconds: float) -> int:
    """Return the highest sum in any window of so many seconds."""
    most = total = first = 0
    for at, cost in costs:
        total += cost
        while costs[first][0] <= at - seconds:
            total -= costs[first][1]
            first += 1
        most = max(most, total)
    return most


def check_once(connection: psycopg.Connection, there: Outside) -> None:
    """Raises:
    BenchError: a published row is not exactly one post that people see, or they see one that no row stands for.
    """
    rows = connection.execute(
        "SELECT a.platform, a.external_id, encode(m.sha256, 'hex'), p.status = 'published' FROM social_posts p"
        " JOIN social_accounts a ON a.id = p.account_id JOIN videos v ON v.id = p.video_id"
        " JOIN media m ON m.id = v.media_id WHERE p.status <> 'scheduled'"
    ).fetchall()
    seen: dict[tuple[str, str, str], int] = defaultdict(int)
    for name, account, digest, _ in there.posts():
        seen[name, account, digest] += 1
    wrong = [key for *key, published in rows if published and seen[tuple(key)] != 1]
    wrong += [list(key) for key, count in seen.items() if count > 1]
    unknown = seen.keys() - {tuple(key) for *key, _ in rows}
    if wrong or unknown:
        raise BenchError(f"{len(wrong)} posts are not there once, {len(unknown)} belong to no row: {wrong[:3]}")
