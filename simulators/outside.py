"""The world outside, played on this machine by one process: the platforms that videos are posted to, and on demand the
providers of clips, language models, Stripe and Clerk. Nobody sees what is posted here, nothing is charged, and all of
it is forgotten when the process ends.

Each platform has two accounts beforehand, ada and grace. A login in a browser is agreed to at once by whoever is signed
in, which is ada until the page of it all, or a POST to its `/sign-in`, says otherwise.
"""

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from domain.errors import ViralError
from integrations.studio.ffmpeg import find, named, run
from simulators.clerk.api import ClerkApiSimulator
from simulators.llm import KEY, llm_simulator
from simulators.loopback import Loopback, Reply, Request, json_reply
from simulators.platforms.bluesky import bluesky_simulator
from simulators.platforms.instagram import instagram_simulator
from simulators.platforms.mastodon import mastodon_simulator
from simulators.platforms.platform import PlatformSimulator, SimulatedPost
from simulators.platforms.tiktok import tiktok_simulator
from simulators.platforms.youtube import youtube_simulator
from simulators.stripe.api import StripeSimulator
from simulators.trends import trends_simulator
from simulators.video.clips import ClipSimulator
from simulators.video.google import google_simulator
from simulators.video.luma import luma_simulator
from simulators.video.runway import runway_simulator

LABEL = "Simulated: nobody sees what is posted here, and all of it is forgotten at the end."
EACH = 0.2
"""Seconds between two looks at what has arrived."""

Event = dict[str, Any]
Settings = dict[str, str]


@dataclass(frozen=True)
class Platform:
    """`accounts` are ids and names of those that exist beforehand; `settings` lead our clients here."""

    simulator: Callable[[], AbstractContextManager[Any]]
    accounts: tuple[tuple[str, str], ...]
    settings: Callable[[Any], Settings]


PLATFORMS: Mapping[str, Platform] = {
    "tiktok": Platform(
        tiktok_simulator,
        (("simulated-ada", "ada"), ("simulated-grace", "grace")),
        lambda each: {
            "TIKTOK_BASE_URL": each.url,
            "TIKTOK_CLIENT_KEY": each.client_id,
            "TIKTOK_CLIENT_SECRET": each.client_secret,
        },
    ),
    "youtube-shorts": Platform(
        youtube_simulator,
        (("UCsimulated00000000000ada", "ada"), ("UCsimulated000000000grace", "grace")),
        lambda each: {
            "GOOGLE_BASE_URL": each.url,
            "GOOGLE_CLIENT_ID": each.client_id,
            "GOOGLE_CLIENT_SECRET": each.client_secret,
        },
    ),
    "instagram-reels": Platform(
        instagram_simulator,
        (("17841400000000001", "ada"), ("17841400000000002", "grace")),
        lambda each: {
            "META_BASE_URL": each.url,
            "META_APP_ID": each.client_id,
            "META_APP_SECRET": each.client_secret,
        },
    ),
    "bluesky": Platform(
        bluesky_simulator,
        (
            ("did:plc:simulated22222222222ada", "ada.simulated.example"),
            ("did:plc:simulated222222222grace", "grace.simulated.example"),
        ),
        lambda each: {"BLUESKY_BASE_URL": each.url},
    ),
    "mastodon": Platform(
        mastodon_simulator,
        (("109000000000000001", "ada"), ("109000000000000002", "grace")),
        lambda each: {"MASTODON_BASE_URL": each.url},
    ),
}


@dataclass
class Outside:
    """`settings` are the environment of those who shall meet this outside; `page` shows in a browser what was posted.
    `absent` says why something is not played."""

    platforms: dict[str, PlatformSimulator] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    page: str = ""
    absent: list[str] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)
    """Titles of the notices that people got, oldest first."""
    servers: dict[str, Loopback] = field(default_factory=dict)
    """All that is served, by name."""

    def accounts(self) -> dict[str, list[dict[str, str]]]:
        """Return the accounts of each platform; what is logged in to with a password says which."""
        return {
            name: [
                {"id": each.external_id, "name": each.username, "signed_in": "yes" if _signs(it, each) else ""}
                | ({"password": each.password} if name == "bluesky" else {})
                for each in it.accounts.values()
            ]
            for name, it in self.platforms.items()
        }

    def posts(self) -> list[Event]:
        """Return what people would see, oldest first."""
        found = [_post(name, it, post) for name, it in self.platforms.items() for post in list(it.posts)]
        return sorted(found, key=lambda each: (each["published_at"], each["id"]))

    def sign_in(self, platform: str, account: str) -> bool:
        """Let the owner of this account sit at the browser from now on; False if there is no such."""
        it = self.platforms.get(platform)
        found = [each for each in it.accounts.values() if account in (each.external_id, each.username)] if it else []
        if it is None or not found:
            return False
        setattr(it, _signed_in(it), found[0].external_id)
        return True


@contextmanager
def outside(
    say: Callable[[Event], object] = lambda event: None,
    *,
    everything: bool = False,
    trends: bool = False,
    models: bool = False,
    people: bool = False,
    seed: int | None = None,
) -> Iterator[Outside]:
    """Play the platforms, with `trends` the sources of trends and with `models` language models too, with `people`
    those who are notified of what hurts, and with `everything` all of the product's own suppliers.
    `say` gets, from a thread of its own, each request and each post as they come. From `seed` follow the ids of posts
    on TikTok, YouTube and Instagram, and so how their numbers grow."""
    found = Outside()
    with ExitStack() as stack:
        for name, platform in PLATFORMS.items():
            simulator = stack.enter_context(platform.simulator())
            simulator.seed = seed
            for external_id, username in platform.accounts:
                simulator.add_account(external_id, username)
            found.platforms[name] = simulator
            found.servers[name] = simulator.server
            found.settings |= platform.settings(simulator)
        if trends:
            _play_trends(found, stack)
        if models or everything:
            _play_models(found, stack)
        if everything:
            _play_clips(found, stack)
            _play_books(found, stack)
        if people:
            _play_people(found, stack)
        page = stack.enter_context(Loopback(lambda request: _page(found, request), protocol="HTTP/1.1"))
        found.page = page.url
        stack.enter_context(_watched(found, [*found.servers.values(), page], say))
        yield found


def _play_clips(found: Outside, stack: ExitStack) -> None:
    try:
        media = a_clip()
    except ViralError as error:
        found.absent.append(f"the providers of clips: {error}")
        return
    makers: tuple[tuple[Any, str, str], ...] = (
        (runway_simulator, "RUNWAYML_BASE_URL", "RUNWAYML_API_SECRET"),
        (google_simulator, "GEMINI_BASE_URL", "GEMINI_API_KEY"),
        (luma_simulator, "LUMA_AGENTS_BASE_URL", "LUMA_AGENTS_API_KEY"),
    )
    for name, (make, base, key) in zip(("runway", "google", "luma"), makers, strict=True):
        simulator: ClipSimulator = stack.enter_context(make(media))
        found.servers[name] = simulator.server
        found.settings |= {base: simulator.url, key: simulator.key}


def _play_models(found: Outside, stack: ExitStack) -> None:
    """Google's are asked where its clips are."""
    simulator = stack.enter_context(llm_simulator())
    found.servers["language models"] = simulator.server
    for name in ("anthropic", "openai"):
        found.settings |= {f"{name.upper()}_BASE_URL": simulator.url(name), f"{name.upper()}_API_KEY": KEY}


def _play_trends(found: Outside, stack: ExitStack) -> None:
    server = found.servers["trends"] = stack.enter_context(trends_simulator())
    bases = ("GOOGLE_TRENDS", "WIKIMEDIA", "HACKER_NEWS", "REDDIT", "REDDIT_API", "YOUTUBE", "GNEWS")
    found.settings |= {f"{each}_BASE_URL": server.url for each in bases}
    found.settings |= {"YOUTUBE_API_KEY": "simulated", "GNEWS_API_KEY": "simulated"}


def _play_books(found: Outside, stack: ExitStack) -> None:
    stripe, clerk = StripeSimulator(datetime.now(UTC)), ClerkApiSimulator()
    found.servers["stripe"] = stack.enter_context(stripe.server())
    found.servers["clerk"] = stack.enter_context(clerk.serving())
    found.settings |= {
        **{"STRIPE_API_BASE": found.servers["stripe"].url, "STRIPE_SECRET_KEY": stripe.key},
        **{"CLERK_API_BASE": found.servers["clerk"].url, "CLERK_SECRET_KEY": clerk.key},
    }


def _play_people(found: Outside, stack: ExitStack) -> None:
    def read(request: Request) -> Reply:
        found.notified.append(json.loads(request.body)["title"])
        return Reply()

    server = found.servers["people"] = stack.enter_context(Loopback(read))
    found.settings["NOTIFY_URLS"] = server.url.replace("http", "json", 1)


def a_clip() -> bytes:
    """Return a short upright video of a test picture, for all that simulated providers make.

    Raises:
        StudioUnavailable: there is no ffmpeg here.
    """
    with tempfile.TemporaryDirectory(prefix="viral-simulators-") as folder:
        target = Path(folder) / "clip.mp4"
        picture = ["-f", "lavfi", "-i", "testsrc=size=360x640:rate=10:duration=5"]
        sound = ["-f", "lavfi", "-i", "sine=frequency=330:duration=5"]
        coded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        run(find("ffmpeg"), [*picture, *sound, *coded, named(target)], watch=lambda: None)
        return target.read_bytes()


@contextmanager
def _watched(found: Outside, servers: list[Loopback], say: Callable[[Event], object]) -> Iterator[None]:
    """Tell `say` what comes, and keep no requests: their bodies are whole videos."""
    over = threading.Event()
    calls, posts = dict.fromkeys(found.platforms, 0), dict.fromkeys(found.platforms, 0)

    def look() -> None:
        for name, server in found.servers.items():
            if name not in found.platforms:
                for request in list(server.requests):
                    say({"event": "request", "of": name, "call": f"{request.method} {request.path}"})
        for server in servers:
            del server.requests[: len(server.requests)]
        for name, it in found.platforms.items():
            for call in it.received[calls[name] :]:
                calls[name] += 1
                say({"event": "request", "of": name, "call": call})
            for post in it.posts[posts[name] :]:
                posts[name] += 1
                say({"event": "post", "of": name} | _post(name, it, post))

    def watch() -> None:
        while not over.wait(EACH):
            look()
        look()

    thread = threading.Thread(target=watch, name="simulators", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _page(found: Outside, request: Request) -> Reply:
    match request.method, request.path:
        case "GET", "/":
            return Reply(_html(found).encode(), 200, {"Content-Type": "text/html; charset=utf-8"})
        case "GET", "/posts":
            return json_reply({"simulated": True, "posts": found.posts()})
        case "GET", "/accounts":
            return json_reply({"simulated": True, "accounts": found.accounts()})
        case "POST", "/sign-in":
            form = dict(parse_qsl(request.body.decode(errors="replace")))
            if found.sign_in(form.get("platform", ""), form.get("account", "")):
                return Reply(b"", 303, {"Location": "/"})
            return json_reply({"error": "there is no such account"}, 404)
    return json_reply({"error": "there are /, /posts, /accounts, and POST /sign-in"}, 404)


def _html(found: Outside) -> str:
    accounts = "".join(
        f'<form method="post" action="/sign-in"><input type="hidden" name="platform" value="{escape(name)}">'
        f'<button name="account" value="{escape(each["id"])}">sign in as {escape(each["name"])}</button> {escape(name)}'
        f" {'(signed in)' if each['signed_in'] else ''}</form>"
        for name, listed in found.accounts().items()
        for each in listed
    )
    posts = "".join(
        f"<li>{escape(each['published_at'])} {escape(each['platform'])} {escape(each['account'])}:"
        f" {escape(each['text'])} <small>{escape(each['sha256'][:16])}</small></li>"
        for each in found.posts()
    )
    passwords = [
        f"<p>App password of {escape(each['name'])} on {escape(name)}: <code>{escape(each['password'])}</code></p>"
        for name, listed in found.accounts().items()
        for each in listed
        if each.get("password")
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulated platforms</title>'
        "<style>body{font:16px/1.5 sans-serif;margin:2em auto;max-width:50em;padding:0 1em}form{margin:.4em 0}</style>"
        f"<h1>Simulated platforms</h1><p>{LABEL}</p><h2>Accounts</h2>{accounts}{''.join(passwords)}"
        f"<h2>Posts</h2>{f'<ol>{posts}</ol>' if posts else '<p>There is none yet.</p>'}"
    )


def _post(name: str, it: PlatformSimulator, post: SimulatedPost) -> Event:
    account = it.accounts.get(post.account)
    return {
        "platform": name,
        "account": account.username if account else post.account,
        "id": post.id,
        "text": post.text,
        "sha256": post.sha256,
        "published_at": datetime.fromtimestamp(post.published_at, UTC).isoformat(timespec="seconds"),
        "private": post.private,
        "removed": post.removed,
        "comments": list(post.comments),
    }


def _signed_in(it: PlatformSimulator) -> str:
    return "signed_in" if hasattr(it, "signed_in") else "chosen"


def _signs(it: PlatformSimulator, account: Any) -> bool:
    chosen = getattr(it, _signed_in(it), None) or next(iter(it.accounts), "")
    return bool(chosen == account.external_id)
