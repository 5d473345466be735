"""The five platforms in a process of their own, with an account for each name and a log of every call:
`python -m benchmarks.outside FOLDER ACCOUNTS POLLS`.

FOLDER has `media/`, which Instagram fetches the videos from; `ready.json` (settings, and the tokens of each account)
and `calls.log` are written there; `live.json`, if it is there, lists posts that are there from the beginning, by
platform, account and id. ACCOUNTS is a JSON object: of each platform, the accounts' ids and how each behaves.
Bluesky and Mastodon have an uploaded video ready after it was asked for POLLS times.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from simulators.loopback import Loopback, Reply, Request, json_reply
from simulators.outside import PLATFORMS
from simulators.platforms.platform import PlatformSimulator, SimulatedPost

ANSWERS, SILENT, HELD_OFF = "answers", "silent", "held-off"
"""How an account's platform behaves: it answers, never does, or says 429 to all that it is asked."""
NOBODY = "-"
LIVE = "live.json"
RETIRED = "saved"
"""A metric that Instagram does not give any more where posts are there from the beginning."""


class Log:
    """Every call as a line: when, of which platform and which account, and its name."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self._lock = threading.Lock()

    def add(self, platform: str, account: str, call: str) -> None:
        with self._lock:
            self._file.write(f"{time.time():.3f} {platform} {account} {call}\n")


def main(folder: Path, accounts: dict[str, dict[str, str]], polls: int) -> None:
    log = Log(folder / "calls.log")
    played: dict[str, PlatformSimulator] = {}
    with ExitStack() as stack:
        page = stack.enter_context(Loopback(lambda request: answer(played, folder, request), protocol="HTTP/1.1"))
        settings, tokens = {"CDN_BASE_URL": page.url}, {}
        for name, platform in PLATFORMS.items():
            simulator = stack.enter_context(platform.simulator())
            if hasattr(simulator, "polls"):
                simulator.polls = polls
            simulator.server._answer = logged(name, simulator, accounts[name], log)
            for account in accounts[name]:
                simulator.add_account(account)
            played[name] = simulator
            settings |= platform.settings(simulator)
            tokens[name] = {account: granted(name, simulator, account) for account in accounts[name]}
        if (folder / LIVE).exists():
            for name, account, post_id in json.loads((folder / LIVE).read_text()):
                show(played[name], account, post_id)
            played["instagram-reels"].retired = {RETIRED: "media"}  # type: ignore[attr-defined]
        ready = {"settings": settings, "tokens": tokens, "page": page.url}
        (folder / "ready.part").write_text(json.dumps(ready))
        (folder / "ready.part").rename(folder / "ready.json")
        signal.sigwait({signal.SIGTERM})


def logged(name: str, simulator: PlatformSimulator, behaviour: dict[str, str], log: Log) -> Callable[[Request], Reply]:
    usual = simulator._reply
    owners: dict[str, str] = {}

    def reply(request: Request) -> Reply:
        # A request keeps its body, which is a video.
        simulator.server.requests.clear()
        account = owner(simulator, request, owners)
        log.add(name, account, simulator.call_of(request) or "unknown")
        match behaviour.get(account, ANSWERS):
            case "silent":
                return Reply(hang_up=True, after=3600)
            case "held-off":
                return simulator.error(429, "rate_limit_exceeded", "too many requests", Retry_After="60")
        return usual(request)

    return reply


def show(simulator: Any, account: str, post_id: str) -> None:
    """Let a post be there, that its account has made an hour ago."""
    post = SimulatedPost(post_id, account, "A fox", "", simulator.now() - 3600)
    simulator.posts.append(post)
    if hasattr(simulator, "_own"):  # Instagram's
        simulator._own.setdefault(account, {})[post_id] = post
    if hasattr(simulator, "records"):  # Bluesky's
        value = {"$type": "app.bsky.feed.post", "text": "A fox", "createdAt": "2026-11-22T10:00:00.000Z"}
        stored = {"cid": "simulated", "value": value}
        simulator.records.setdefault(account, {})[post_id.rpartition("/")[2]] = stored


def owner(simulator: Any, request: Request, owners: dict[str, str]) -> str:
    token = request.headers.get("authorization", "").partition(" ")[2] or request.params.get("access_token", "")
    if not token:
        return NOBODY
    if token not in owners:
        with simulator.lock:
            for account in simulator.accounts.values():
                owners |= dict.fromkeys(account.access_tokens, account.external_id)
            for service, (account, *_) in getattr(simulator, "_service_tokens", {}).items():
                owners[service] = account
    return owners.get(token, NOBODY)


def granted(name: str, simulator: Any, account: str) -> tuple[str, str, float]:
    """Return an access token, a refresh token or nothing, and the seconds until the first ends."""
    if name == "instagram-reels":
        return simulator.token_of(account), "", 60 * 86_400
    access, refresh = simulator.tokens(account)
    return access, "" if name == "mastodon" else refresh, getattr(simulator, "access_seconds", 7200)


def answer(played: dict[str, PlatformSimulator], folder: Path, request: Request) -> Reply:
    if request.path.startswith("/media/"):
        return Reply((folder / request.path.removeprefix("/")).read_bytes(), headers={"Content-Type": "video/mp4"})
    return json_reply(
        [
            [name, post.account, post.sha256, post.published_at]
            for name, simulator in played.items()
            for post in list(simulator.posts)
        ]
    )


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
