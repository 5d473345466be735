"""Tenants, accounts, videos and posts for tests of posting: real Postgres and Redis, and the platforms' simulators.

The clock stands unless somebody puts it forward, and the simulators' clocks go with it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from cryptography.fernet import Fernet

from db.transaction import SYSTEM
from domain.posting.accounts import Grant, SealedTokens
from domain.posting.posts import NewPost, Post, PostStatus
from integrations.http.client import Http
from integrations.platforms.bluesky import Bluesky
from integrations.platforms.instagram import Instagram
from integrations.platforms.mastodon import Mastodon
from integrations.platforms.tiktok import TikTok
from integrations.platforms.youtube import YouTube
from simulators.loopback import Loopback, Reply, Request
from simulators.platforms.bluesky import bluesky_simulator
from simulators.platforms.instagram import instagram_simulator
from simulators.platforms.mastodon import mastodon_simulator
from simulators.platforms.platform import PlatformSimulator, SimulatedPost
from simulators.platforms.tiktok import tiktok_simulator
from simulators.platforms.youtube import youtube_simulator
from tests.builders import a_tenant
from tests.drain import drain
from tests.video_stage import MP4, box
from workers.app import App, build
from workers.jobs.media import keep
from workers.jobs.posting import find_due
from workers.runtime.version import AGENT
from workers.settings import Settings

ENDED = (
    *(PostStatus.PUBLISHED, PostStatus.IN_INBOX, PostStatus.FAILED, PostStatus.UNCONFIRMED),
    *(PostStatus.MISSED, PostStatus.CANCELLED, PostStatus.REMOVED),
)
PROBE = {"container": "mp4", "seconds": 12.0, "width": 1080, "height": 1920}


@dataclass(frozen=True)
class Played:
    """A platform of the stage: how it is played and asked, its settings, and how somebody connects an account."""

    simulator: Callable[[], AbstractContextManager[Any]]
    client: Callable[..., Any]
    settings: Callable[[Any], Mapping[str, Any]]
    grant: Callable[[Any, str], Grant]
    options: Mapping[str, Any] = field(default_factory=dict)


def _instagram_grant(simulator: Any, name: str) -> Grant:
    return Grant(simulator.token_of(name), access_expires_at=_in(simulator, days=60), external_id=name, username=name)


def _grant(simulator: Any, name: str) -> Grant:
    access, refresh = simulator.tokens(name)
    return Grant(
        access, refresh, _in(simulator, hours=getattr(simulator, "access_seconds", 7200) / 3600), external_id=name
    )


def _bluesky_grant(simulator: Any, name: str) -> Grant:
    return replace(_grant(simulator, name), username=name, server=simulator.url)


def _mastodon_grant(simulator: Any, name: str) -> Grant:
    return Grant(simulator.tokens(name)[0], external_id=name, username=name, server=simulator.url)


def _in(simulator: PlatformSimulator, **time: float) -> datetime:
    return datetime.fromtimestamp(simulator.now(), UTC) + timedelta(**time)


PLATFORMS: Mapping[str, Played] = {
    "instagram-reels": Played(
        instagram_simulator,
        Instagram,
        lambda each: {
            "meta_app_id": each.client_id,
            "meta_app_secret": each.client_secret,
            "meta_base_url": each.url,
        },
        _instagram_grant,
    ),
    "tiktok": Played(
        tiktok_simulator,
        TikTok,
        lambda each: {
            "tiktok_client_key": each.client_id,
            "tiktok_client_secret": each.client_secret,
            "tiktok_base_url": each.url,
        },
        _grant,
        {"privacy_level": "PUBLIC_TO_EVERYONE"},
    ),
    "youtube-shorts": Played(
        youtube_simulator,
        YouTube,
        lambda each: {
            "google_client_id": each.client_id,
            "google_client_secret": each.client_secret,
            "google_base_url": each.url,
        },
        _grant,
        {"privacy": "public"},
    ),
    "bluesky": Played(bluesky_simulator, Bluesky, lambda each: {"bluesky_base_url": each.url}, _bluesky_grant),
    "mastodon": Played(mastodon_simulator, Mastodon, lambda each: {"mastodon_base_url": each.url}, _mastodon_grant),
}


@dataclass
class PostStage:
    """An application whose clock stands, and the platforms that it posts to, by their names."""

    app: App
    platforms: Mapping[str, Any]
    clock: list[datetime]
    _count: list[int] = field(default_factory=lambda: [0])

    # --- what there is ----------------------------------------------------------------------------------------------

    def tenant(self, **columns: Any) -> UUID:
        return a_tenant(self.app, **columns)

    def account(self, tenant_id: UUID, platform: str, name: str | None = None) -> UUID:
        """Connect a new account; return its id."""
        simulator, number = self.platforms[platform], self._next()
        external_id = name or {"bluesky": f"did:plc:{number:024d}"}.get(platform, f"{1000 + number}")
        simulator.add_account(external_id)
        grant = PLATFORMS[platform].grant(simulator, external_id)
        return self.connect(tenant_id, platform, grant)

    def connect(self, tenant_id: UUID, platform: str, grant: Grant) -> UUID:
        vault = self.app.ports.vault
        assert vault is not None
        refresh = vault.seal(grant.refresh_token) if grant.refresh_token else None
        tokens = SealedTokens(vault.seal(grant.access_token), refresh)
        with self.app.db.transaction(tenant_id) as tx:
            row = tx.social_accounts.connect(
                uuid4(), tenant_id, platform, grant=grant, tokens=tokens, now=self.clock[0]
            )
        account_id: UUID = row["id"]
        return account_id

    def video(self, tenant_id: UUID, *, bytes: int = 0, source: str = "file") -> UUID:
        """A completed video whose file is like no other's; `bytes` more make it larger."""
        video_id = uuid4()
        path = self.app.settings.viral_home / f"{video_id}.mp4"
        path.write_bytes(MP4 + box(b"free", video_id.bytes + b"\0" * bytes))
        media = keep(lambda: self.app.db.transaction(tenant_id), self.app.ports.media, tenant_id, path, extension="mp4")
        path.unlink()
        with self.app.db.transaction(tenant_id) as tx:
            tx.media.use(tenant_id, media.id, probe=PROBE | {"bytes": media.bytes})
            tx.driver.execute(
                "INSERT INTO videos (id, tenant_id, status, source, title, media_id, completed_at)"
                " VALUES (%s, %s, 'completed', %s, 'A fox', %s, now())",
                (video_id, tenant_id, source, media.id),
            )
        return video_id

    def ask(
        self,
        tenant_id: UUID,
        account_id: UUID,
        video_id: UUID | None = None,
        *,
        after: timedelta = timedelta(0),
        caption: str | None = None,
        **fields: Any,
    ) -> UUID:
        """Schedule a post of a new video; return its id. Each has a caption of its own, unless it is given."""
        post_id = uuid4()
        text = f"A fox in the snow, take {self._next()}" if caption is None else caption
        new = NewPost(
            id=post_id,
            video_id=video_id or self.video(tenant_id),
            account_id=account_id,
            status=PostStatus.SCHEDULED,
            scheduled_for=self.clock[0] + after,
            caption=text,
            **({"options": self._options(tenant_id, account_id), "title": text} | fields),
        )
        with self.app.db.transaction(tenant_id) as tx:
            assert tx.planned_posts.add(tenant_id, new)
        return post_id

    def _options(self, tenant_id: UUID, account_id: UUID) -> Mapping[str, Any]:
        with self.app.db.transaction(tenant_id) as tx:
            row = tx.social_accounts.get(tenant_id, account_id)
        assert row is not None
        return PLATFORMS[row["platform"]].options

    def show(self, post_id: UUID) -> Post:
        with self.app.db.transaction(SYSTEM) as tx:
            tenant_id = tx.planned_posts.owner(post_id)
            assert tenant_id is not None
            post = tx.posts.get(tenant_id, post_id)
        assert post is not None
        return post

    def events(self, post_id: UUID) -> list[str]:
        with self.app.db.transaction(SYSTEM) as tx:
            rows = tx.driver.execute("SELECT kind FROM post_events WHERE post_id = %s ORDER BY id", (post_id,))
            return [row[0] for row in rows]

    # --- how time goes by -------------------------------------------------------------------------------------------

    def later(self, **time: float) -> None:
        """Put all clocks forward; what was drawn from rates is there again."""
        gone = timedelta(**time)
        self.clock[0] += gone
        for each in self.platforms.values():
            each.later(gone.total_seconds())
        with self.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute(
                "UPDATE rate_buckets SET used_until = used_until - %(gone)s,"
                " promised_until = promised_until - %(gone)s, closed_until = closed_until - %(gone)s",
                {"gone": gone},
            )

    def due(self) -> None:
        """Let the schedule's minute come: claim what is due, if anything may be. It is run by the next `turn`."""
        with self.app.db.transaction(SYSTEM) as tx:
            if tx.posts.any_due(self.clock[0]):
                find_due.enqueue(tx)

    def turn(self) -> int:
        """Run what is due now, once round, as if every wait were over; return how many attempts there were."""
        with self.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute(
                "UPDATE job_queue SET scheduled_for = now() - interval '1 s', wake_at = NULL WHERE status = 'pending'"
            )
        return drain(self.app)

    def run(self, *, turns: int = 60, step: timedelta = timedelta(seconds=30)) -> None:
        """Go on, a minute's schedule and a step of time in each turn, until no job is live."""
        self.due()
        for number in range(turns):
            self.turn()
            if not self.live() and not self.waiting():
                return
            self.later(seconds=step.total_seconds())
            if number % 4 == 3:
                self.due()
        raise AssertionError(f"still live: {self.live()}")

    def waiting(self) -> bool:
        """Whether posts are due that wait for their turn on their account."""
        with self.app.db.transaction(SYSTEM) as tx:
            query = """
                SELECT EXISTS (
                    SELECT FROM social_posts p JOIN social_accounts a ON a.id = p.account_id AND a.status = 'active'
                    WHERE p.status = 'scheduled' AND p.scheduled_for <= %s
                ) AND NOT EXISTS (SELECT FROM restores WHERE ended_at IS NULL)
            """
            return bool(tx.driver.execute(query, (self.clock[0],)).fetchall()[0][0])

    def live(self) -> list[Any]:
        with self.app.db.transaction(SYSTEM) as tx:
            query = "SELECT job_type, status, error_message FROM job_queue WHERE status IN ('pending', 'running')"
            return tx.driver.execute(query).fetchall()

    # --- what people see --------------------------------------------------------------------------------------------

    def posts(self) -> list[tuple[str, SimulatedPost]]:
        """Return all posts that the platforms show and that we made, with their platforms."""
        return [(name, post) for name, each in self.platforms.items() for post in each.posts if not post.foreign]

    def assert_once(self, *, unconfirmed: int = 0) -> None:
        """Each published row is exactly one post with the right video on the right account, and no other row has any;
        but of so many unconfirmed ones nobody knows."""
        with self.app.db.transaction(SYSTEM) as tx:
            rows = tx.driver.execute(
                "SELECT a.platform, a.external_id, m.sha256, p.status, p.external_id FROM social_posts p"
                " JOIN social_accounts a ON a.id = p.account_id JOIN videos v ON v.id = p.video_id"
                " JOIN media m ON m.id = v.media_id"
            ).fetchall()
        there: dict[tuple[str, str, str], list[str]] = {}
        for platform, post in self.posts():
            there.setdefault((platform, post.account, post.sha256), []).append(post.id)
        doubts = 0
        for platform, account, digest, status, external_id in rows:
            found = there.pop((platform, account, bytes(digest).hex()), [])
            if status == PostStatus.PUBLISHED:
                assert len(found) == 1, f"a published post of {platform} is there {len(found)} times"
                assert external_id in (None, found[0]), f"{external_id} is not {found[0]}"
            elif status == PostStatus.UNCONFIRMED:
                doubts += 1
                assert len(found) <= 1
            elif status not in (PostStatus.IN_INBOX, PostStatus.REMOVED):
                assert not found, f"a post of {platform} that is {status} is there"
        assert not there, f"posts that no row stands for: {there}"
        assert doubts <= unconfirmed, f"{doubts} are unconfirmed"

    def _next(self) -> int:
        self._count[0] += 1
        return self._count[0]


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@contextmanager
def post_stage(settings: Settings, folder: Path, *platforms: str, **options: Any) -> Iterator[PostStage]:
    """These platforms, or all, with connected apps, and a media store in this folder that can be read from outside."""
    clock = [datetime.now(UTC)]
    with ExitStack() as stack:
        played: dict[str, PlatformSimulator] = {
            name: stack.enter_context(PLATFORMS[name].simulator()) for name in platforms or PLATFORMS
        }
        files: list[App] = []
        web = stack.enter_context(Loopback(lambda request: _file(files[0], request)))
        values: dict[str, Any] = {
            "media_dir": folder / "media",
            "viral_home": folder / "home",
            "cdn_base_url": web.url,
            "token_encryption_keys": Fernet.generate_key().decode(),
        }
        (folder / "home").mkdir(parents=True, exist_ok=True)
        for name, each in played.items():
            values |= PLATFORMS[name].settings(each)
        changed = Settings.model_validate(settings.model_dump() | values | options)
        build_http = partial(_closed_by, stack)
        app = on_this_clock(build(changed, name="tests", clock=lambda: clock[0]), played, clock, build_http)
        files.append(app)
        try:
            yield PostStage(app, played, clock)
        finally:
            app.close()


def _closed_by(stack: ExitStack) -> Http:
    http = Http(AGENT)
    stack.callback(http.close)
    return http


def on_this_clock(
    app: App, played: Mapping[str, Any], clock: list[datetime], http: Callable[[], Http] = lambda: Http(AGENT)
) -> App:
    """Let the platforms' clients read the stage's clock too, as they read the machine's otherwise."""
    clients = {
        name: PLATFORMS[name].client(http(), base_url=each.url, clock=lambda: clock[0]) for name, each in played.items()
    }
    logins = {name: clients[name] for name in app.ports.logins if name in clients}
    return replace(app, ports=replace(app.ports, publishers=clients, logins=logins))


def _file(app: App, request: Request) -> Reply:
    key = request.path.removeprefix("/media/")
    path = app.settings.media_dir
    assert path is not None
    size = (path / key).stat().st_size
    return Reply(b"".join(app.ports.media.read(key, 0, size)), headers={"Content-Type": "video/mp4"})
