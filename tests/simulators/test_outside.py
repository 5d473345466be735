"""The simulated outside as the settings lead to it: accounts are connected, videos posted, and a page shows them."""

import http.client
import json
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import pytest

from domain.posting.accounts import Credential, Grant
from domain.posting.publishing import Content, Published, VideoFile
from integrations.channels import open_channels
from integrations.http.client import Http
from integrations.llm.models import LanguageModels
from integrations.llm.providers import Access
from simulators.loopback import Loopback, Reply
from simulators.outside import PLATFORMS, Event, Outside, a_clip, outside
from tests.language_models import CRITIQUE, MODELS
from tests.wait import until
from workers.adapters import platforms
from workers.app import App
from workers.ops.notices import try_channels
from workers.settings import load

MEDIA = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40
CALLBACK = "http://127.0.0.1:8000/oauth/callback"
VERIFIER = "v" * 64


@dataclass
class Played:
    outside: Outside
    events: list[Event] = field(default_factory=list)

    def connected(self, platform: str) -> Grant:
        """Connect the account of whoever is signed in, as the web server and a browser do."""
        settings = load(self.outside.settings)
        login = platforms.logins(settings)[platform]
        if login.passwords:
            [ada, _] = self.outside.accounts()[platform]
            return login.log_in(ada["name"], ada["password"], "")
        server = settings.mastodon_base_url if platform == "mastodon" else ""
        app = login.register(server, CALLBACK) if server else platforms.login_apps(settings)[platform]
        challenge = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
        url = login.authorize_url(app, state="s", challenge=challenge, redirect_uri=CALLBACK, server=server)
        query = parse_qs(urlsplit(redirected(url)).query)
        assert query["state"] == ["s"]
        [code] = query["code"]
        return login.exchange(app, code=code, verifier=VERIFIER, redirect_uri=CALLBACK, server=server)


def redirected(url: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    assert response.status == 302, response.read()
    connection.close()
    return response.headers["Location"]


def read(url: str, **form: str) -> tuple[int, str]:
    data = urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(url, data, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def played() -> Iterator[Played]:
    events: list[Event] = []
    with outside(events.append) as found:
        yield Played(found, events)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_account_of_each_platform_is_connected_by_the_settings_alone(played: Played, platform: str) -> None:
    grant = played.connected(platform)
    (external_id, name), _ = PLATFORMS[platform].accounts
    assert (grant.external_id.partition("@")[0], grant.username.partition("@")[0]) == (external_id, name)


def test_who_is_signed_in_is_chosen_on_the_page(played: Played) -> None:
    page = played.outside.page
    for platform in [name for name in PLATFORMS if name != "bluesky"]:
        assert read(f"{page}/sign-in", platform=platform, account="grace")[0] == 200
        assert played.connected(platform).username.startswith("grace")
    assert read(f"{page}/sign-in", platform="tiktok", account="mallory")[0] == 404
    assert "Simulated" in read(page)[1]
    accounts = json.loads(read(f"{page}/accounts")[1])["accounts"]
    assert [each["signed_in"] for each in accounts["tiktok"]] == ["", "yes"]


def test_what_is_posted_is_said_at_once_and_shown_on_the_page(played: Played) -> None:
    posted(played.outside, "<b>A fox</b>")
    until(lambda: any(each["event"] == "post" for each in played.events), "the post to be said")
    calls = [each["call"] for each in played.events if each["event"] == "request" and each["of"] == "instagram-reels"]
    assert [call for call in calls if call in ("create", "status", "publish")] == ["create", "status", "publish"]
    body = json.loads(read(f"{played.outside.page}/posts")[1])
    [post] = body["posts"]
    assert body["simulated"] is True
    assert (post["platform"], post["account"], post["text"]) == ("instagram-reels", "ada", "<b>A fox</b>")
    assert post["sha256"] == sha256(MEDIA).hexdigest()
    assert "&lt;b&gt;A fox" in read(played.outside.page)[1]


def test_no_body_of_a_request_is_kept(played: Played) -> None:
    """They are whole videos, and this may run for days."""
    posted(played.outside, "A fox")
    servers = played.outside.servers.values()
    until(lambda: not any(server.requests for server in servers), "the requests to be forgotten")


def test_all_that_is_played_has_settings_that_can_be_used() -> None:
    with outside(everything=True) as found:
        settings = load(found.settings)
        assert found.absent == []
    assert settings.runwayml_api_secret is not None
    assert settings.stripe_api_base
    assert settings.clerk_api_base
    assert settings.openai_base_url.endswith("/v1")
    assert len(found.servers) == len(PLATFORMS) + 6
    assert a_clip()[4:8] == b"ftyp"


def test_people_are_notified_by_the_settings_alone(app: App) -> None:
    with outside(people=True) as found:
        settings = load(found.settings)
        channels = open_channels(settings.reveal(settings.notify_urls), "", Http("viral-tests"))
        assert [error for _, error in try_channels(app, channels)] == [None]
        assert found.notified == ["A test: nothing hurts"]


def test_the_language_models_that_are_played_answer_by_the_settings() -> None:
    with outside(everything=True) as found:
        settings = found.settings
        models = LanguageModels(
            {
                name: Access(settings[f"{prefix}_API_KEY"], settings[f"{prefix}_BASE_URL"])
                for name, prefix in {"anthropic": "ANTHROPIC", "openai": "OPENAI", "google": "GEMINI"}.items()
            }
        )
        critics = [models.criticise(model, CRITIQUE).critic for model in MODELS.values()]
    assert critics == [model.generator for model in MODELS.values()]


def posted(found: Outside, text: str) -> None:
    """Post a video to the Instagram account of ada."""
    client: Any = platforms.publishers(load(found.settings))["instagram-reels"]
    external_id, _ = PLATFORMS["instagram-reels"].accounts[0]
    simulator: Any = found.platforms["instagram-reels"]
    credential = Credential(external_id, simulator.token_of(external_id))
    content = Content(UUID(int=1), text, datetime.now(UTC), "mark")
    with Loopback(lambda request: Reply(MEDIA)) as files:

        def address(lifetime: timedelta) -> str:
            return f"{files.url}/a.mp4"

        digest = sha256(MEDIA).digest()
        video = VideoFile(digest, len(MEDIA), 8.0, 720, 1280, "video/mp4", lambda start, end: iter(()), address)
        handle = client.open(credential, content, video, lambda fraction: None)
        client.ready(credential, handle, content, video, lambda fraction: None)
        done = client.commit(credential, handle, content, video, start=0, watch=lambda fraction: None)
    assert isinstance(done, Published)
