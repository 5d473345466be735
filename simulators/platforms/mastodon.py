"""A Mastodon server on this machine, or another kind that speaks its API and ignores the Idempotency-Key.

It is strict where Mastodon is lenient: unknown parameters and fields are refused.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import escape
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from domain.posting.text import Unit, count
from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.platform import (
    ErrorResponse,
    PlatformSimulator,
    SimulatedAccount,
    SimulatedPost,
    serving,
)

SCOPES = frozenset(("read:accounts", "read:statuses", "write:media", "write:statuses"))
KEY_SECONDS = 3600
"""How long an Idempotency-Key is remembered."""
CODE_SECONDS = 600
EVER = float("inf")
STATUS_FIELDS = frozenset(
    ("status", "media_ids", "visibility", "language", "sensitive", "spoiler_text", "in_reply_to_id", "scheduled_at")
)
VISIBILITIES = ("public", "unlisted", "private", "direct")

Kind = Literal["mastodon", "gotosocial"]


@dataclass
class App:
    client_id: str
    client_secret: str
    redirect_uri: str
    scopes: frozenset[str]


@dataclass
class Media:
    """An upload; it is ready after `polls` questions."""

    id: str
    account: str
    sha256: str
    polls: int
    fails: bool = False
    asked: int = 0
    status_id: str | None = None

    @property
    def ready(self) -> bool:
        return self.asked >= self.polls


@dataclass
class MastodonSimulator(PlatformSimulator):
    """`kind`: GoToSocial ignores the Idempotency-Key, and shows media that are attached.

    `signed_in` is the account whose owner sits at the browser, the first one if it is None. `polls` and `fails` are
    those of the next uploads. `repeats_fail`: a repeated key is a 500 (mastodon#40399); `races`: two requests with one
    key at once both go on (#21840). `listing_lag` is after how many seconds a status is listed. `language` is that of
    what it says of posts that it does not take. `token_seconds` is how long tokens are good, which come with a refresh
    token then.
    """

    calls = (
        "register",
        "authorize",
        "token",
        "revoke",
        "verify_credentials",
        "instance",
        "upload",
        "media",
        "post",
        "statuses",
        "status",
    )

    kind: Kind = "mastodon"
    signed_in: str | None = None
    polls: int = 1
    fails: bool = False
    repeats_fail: bool = False
    races: bool = False
    listing_lag: float = 0
    language: Literal["en", "de"] = "en"
    token_seconds: float = EVER
    most_characters: int = 500
    most_bytes: int = 103_809_024
    apps: dict[str, App] = field(default_factory=dict)
    uploads: dict[str, Media] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._codes: dict[str, tuple[App, str, str, str, float]] = {}
        self._keys: dict[tuple[str, str], tuple[str, float]] = {}
        self._replies: list[SimulatedPost] = []
        self._issued = 0

    # --- what a test does ------------------------------------------------------------------------------------------

    def foreign_post(self, external_id: str, text: str, video: bytes = b"a video of its own") -> SimulatedPost:
        """Let the account's owner post by another way."""
        with self.lock:
            media = self._media(external_id, video)
            media.asked = media.polls
            post = self._appear(external_id, {"status": text, "media_ids": [media.id]})
            post.foreign = True
            return post

    def remove(self, status_id: str) -> None:
        """Let the owner, or the server, delete a post."""
        with self.lock:
            for post in self.posts + self._replies:
                post.removed = post.removed or post.id == status_id

    def forget_uploads(self) -> None:
        """Delete the uploads that no status has, as a server does after a day."""
        with self.lock:
            self.uploads = {name: media for name, media in self.uploads.items() if media.status_id}

    def tokens(self, external_id: str) -> tuple[str, str]:
        """Return fresh tokens of an account; the second is empty where they have no end."""
        with self.lock:
            return self._tokens(self.accounts[external_id])

    # --- the base --------------------------------------------------------------------------------------------------

    def call_of(self, request: Request) -> str | None:
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["api", "v1", "apps"]:
                return "register"
            case "GET", ["oauth", "authorize"]:
                return "authorize"
            case "POST", ["oauth", "token" | "revoke" as call]:
                return call
            case "GET", ["api", "v1", "accounts", "verify_credentials"]:
                return "verify_credentials"
            case "GET", ["api", "v2", "instance"]:
                return "instance"
            case "POST", ["api", "v2", "media"]:
                return "upload"
            case "GET", ["api", "v1", "media", _]:
                return "media"
            case "POST", ["api", "v1", "statuses"]:
                return "post"
            case "GET", ["api", "v1", "accounts", _, "statuses"]:
                return "statuses"
            case "GET", ["api", "v1", "statuses", _]:
                return "status"
        return None

    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        if status == 429:  # as Mastodon says it
            at = datetime.fromtimestamp(self.now(), UTC) + timedelta(seconds=30)
            headers = {"X_RateLimit_Reset": at.isoformat().replace("+00:00", "Z")}
        body = {"error": message or code}
        return json_reply(
            body | ({"error_description": message} if code.startswith("invalid_") else {}), status, **headers
        )

    def expired(self) -> Reply:
        return json_reply({"error": "The access token expired"}, 401)

    def route(self, call: str, request: Request) -> Reply:
        handler = {
            "register": self._register,
            "authorize": self._authorize,
            "token": self._token,
            "revoke": self._revoke,
            "verify_credentials": self._verify_credentials,
            "instance": self._instance,
            "upload": self._upload,
            "media": self._show_media,
            "post": self._post,
            "statuses": self._statuses,
            "status": self._status,
        }[call]
        return handler(request)

    # --- accounts --------------------------------------------------------------------------------------------------

    def _register(self, request: Request) -> Reply:
        form = self._form(request, {"client_name", "redirect_uris", "scopes"})
        scopes = frozenset(form["scopes"].split())
        if not scopes <= SCOPES:
            raise self._refused(422, "Validation failed: Scopes doesn't match configured on the server.")
        n = len(self.apps)
        app = App(f"client-{n}", f"client-secret-{n}", form["redirect_uris"], scopes)
        self.apps[app.client_id] = app
        shown = {"id": str(n), "name": form["client_name"], "redirect_uri": app.redirect_uri}
        return json_reply(shown | {"client_id": app.client_id, "client_secret": app.client_secret})

    def _authorize(self, request: Request) -> Reply:
        """The owner agrees at once."""
        params = self._params(
            request,
            {"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"},
        )
        app = self.apps.get(params["client_id"])
        if app is None or params["redirect_uri"] != app.redirect_uri or params["response_type"] != "code":
            raise self._refused(400, "Client authentication failed due to unknown client")
        if not set(params["scope"].split()) <= app.scopes or params["code_challenge_method"] != "S256":
            raise self._refused(400, "The requested scope is invalid, unknown, or malformed.")
        self._issued += 1
        code = f"code-{self._issued}"
        account = self.signed_in or next(iter(self.accounts))
        self._codes[code] = (app, account, params["code_challenge"], params["scope"], self.now() + CODE_SECONDS)
        target = f"{params['redirect_uri']}?{urlencode({'code': code, 'state': params['state']})}"
        return Reply(b"", 302, {"Location": target})

    def _token(self, request: Request) -> Reply:
        form = dict(parse_qsl(request.body.decode()))
        app = self.apps.get(form.get("client_id", ""))
        if app is None or form.get("client_secret") != app.client_secret:
            raise self._oauth_error(401, "invalid_client", "Client authentication failed due to unknown client")
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(self._form(request, {"grant_type", "refresh_token", "client_id", "client_secret"}))
        form = self._form(
            request,
            {"grant_type", "code", "redirect_uri", "code_verifier", "scope", "client_id", "client_secret"},
        )
        granted = self._codes.pop(form["code"], None)
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        wrong = (
            granted is None
            or granted[0] is not app
            or granted[2] != challenge
            or granted[4] <= self.now()
            or form["redirect_uri"] != app.redirect_uri
            or form["grant_type"] != "authorization_code"
        )
        if granted is None or wrong:
            raise self._oauth_error(400, "invalid_grant", "The provided authorization grant is invalid.")
        return self._granted(self.accounts[granted[1]], granted[3])

    def _refreshed(self, form: dict[str, str]) -> Reply:
        token = form["refresh_token"]
        account = next((a for a in self.accounts.values() if token in a.refresh_tokens), None)
        if account is None or account.revoked:
            raise self._oauth_error(400, "invalid_grant", "The provided authorization grant is invalid.")
        del account.refresh_tokens[token]
        account.used_refresh_tokens.add(token)
        return self._granted(account, " ".join(sorted(SCOPES)))

    def _granted(self, account: SimulatedAccount, scope: str) -> Reply:
        access, refresh = self._tokens(account)
        shown: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "scope": scope}
        shown["created_at"] = int(self.now())
        if refresh:
            shown |= {"refresh_token": refresh, "expires_in": int(self.token_seconds)}
        return json_reply(shown)

    def _tokens(self, account: SimulatedAccount) -> tuple[str, str]:
        self._issued += 1
        access = f"access-{self._issued}-of-{account.external_id}"
        account.access_tokens[access] = self.now() + self.token_seconds
        if self.token_seconds == EVER:
            return access, ""
        refresh = f"refresh-{self._issued}-of-{account.external_id}"
        account.refresh_tokens[refresh] = EVER
        return access, refresh

    def _revoke(self, request: Request) -> Reply:
        form = self._form(request, {"client_id", "client_secret", "token"})
        app = self.apps.get(form["client_id"])
        if app is None or form["client_secret"] != app.client_secret:
            raise self._oauth_error(403, "unauthorized_client", "You are not authorized to revoke this token")
        for account in self.accounts.values():
            account.access_tokens.pop(form["token"], None)
        return json_reply({})

    def _verify_credentials(self, request: Request) -> Reply:
        account = self._account(request)
        return json_reply({"id": account.external_id, "username": account.username, "acct": account.username})

    def _account(self, request: Request) -> SimulatedAccount:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        account = next((a for a in self.accounts.values() if token in a.access_tokens), None)
        if kind != "Bearer" or account is None:
            raise self._refused(401, "The access token is invalid")
        if account.revoked:
            raise self._refused(403, "Your login is currently disabled")
        if account.access_tokens[token] <= self.now():
            raise ErrorResponse(self.expired())
        return account

    # --- posts -----------------------------------------------------------------------------------------------------

    def _instance(self, request: Request) -> Reply:
        self._params(request, set())
        statuses = {
            "max_characters": self.most_characters,
            "max_media_attachments": 4,
            "characters_reserved_per_url": 23,
        }
        media = {"video_size_limit": self.most_bytes, "supported_mime_types": ["video/mp4"]}
        configuration = {"statuses": statuses, "media_attachments": media}
        return json_reply({"domain": "simulated", "version": "4.5.2", "configuration": configuration})

    def _upload(self, request: Request) -> Reply:
        account = self._account(request)
        name, content_type, data = self._file(request)
        if content_type != "video/mp4" or not name.endswith(".mp4") or not data:
            raise self._refused(422, "Validation failed: File content type is invalid, File is invalid")
        if len(data) > self.most_bytes:
            raise self._refused(413, "the file is too large")
        media = self._media(account.external_id, data)
        return json_reply(self._media_shown(media), 202 if not media.ready else 200)

    def _media(self, account: str, data: bytes) -> Media:
        media = Media(self._next_id(), account, sha256(data).hexdigest(), self.polls, self.fails)
        self.uploads[media.id] = media
        return media

    def _show_media(self, request: Request) -> Reply:
        account = self._account(request)
        media = self.uploads.get(request.path.rpartition("/")[2])
        hidden = media is not None and media.status_id is not None and self.kind == "mastodon"
        if media is None or media.account != account.external_id or hidden:
            raise self._refused(404, "Record not found")
        if not media.ready:
            media.asked += 1
            return json_reply(self._media_shown(media), 206)
        if media.fails:
            raise self._refused(422, "There was a problem processing the media file")
        return json_reply(self._media_shown(media))

    def _media_shown(self, media: Media) -> dict[str, Any]:
        return {"id": media.id, "type": "video", "url": f"{self.url}/media/{media.id}.mp4" if media.ready else None}

    def _post(self, request: Request) -> Reply:
        account = self._account(request)
        try:
            status = json.loads(request.body)
        except ValueError:
            status = None
        if not isinstance(status, dict) or not status.keys() <= STATUS_FIELDS or "status" not in status:
            raise self._refused(422, f"the status has not just {sorted(STATUS_FIELDS)}")
        key = (account.external_id, request.headers.get("idempotency-key", ""))
        first, until = self._keys.get(key, ("", 0.0))
        remembers = self.kind == "mastodon" and not self.races and "scheduled_at" not in status
        if remembers and key[1] and until > self.now():
            if self.repeats_fail:
                raise self._refused(500, "Internal Server Error")
            return json_reply(self._shown(next(each for each in self.posts + self._replies if each.id == first)))
        self._check(account, status)
        post = self._appear(account.external_id, status)
        self._keys[key] = (post.id, self.now() + KEY_SECONDS)
        return json_reply(self._shown(post))

    def _check(self, account: SimulatedAccount, status: dict[str, Any]) -> None:
        if status.get("visibility", "public") not in VISIBILITIES:
            raise self._refused(422, "Validation failed: Visibility is not included in the list")
        length = count(status["status"] + status.get("spoiler_text", ""), Unit.MASTODON)
        if length > self.most_characters:
            raise self._refused(422, f"Validation failed: Text character limit of {self.most_characters} exceeded")
        media = [self.uploads.get(each) for each in status.get("media_ids", [])]
        if any(m is None or m.account != account.external_id or m.status_id for m in media):
            text = "Validation failed: Media not found or already attached to another post"
            german = "Gültigkeitsprüfung ist fehlgeschlagen: Datei nicht gefunden oder schon in einem anderen Beitrag"
            raise self._refused(422, german if self.language == "de" else text)
        if not all(m.ready for m in media if m):
            raise self._refused(422, "Cannot attach files that have not finished processing. Try again in a moment!")
        if not media and not status["status"].strip():
            raise self._refused(422, "Validation failed: Text can't be blank")

    def _appear(self, account: str, status: dict[str, Any]) -> SimulatedPost:
        media = [self.uploads[each] for each in status.get("media_ids", [])]
        digest = media[0].sha256 if media else ""
        post = SimulatedPost(self._next_id(), account, status["status"], digest, self.now(), status)
        post.private = status.get("visibility") in ("private", "direct")
        for each in media:
            each.status_id = post.id
        if parent := status.get("in_reply_to_id"):
            self._replies.append(post)
            for other in self.posts:
                if other.id == parent:
                    other.comments.append(status["status"])
        else:
            self.posts.append(post)
        return post

    def _statuses(self, request: Request) -> Reply:
        params = self._params(request, {"limit", "exclude_reblogs"}, {"max_id", "only_media"})
        account = self._account(request)
        wanted = request.path.split("/")[4]
        if wanted != account.external_id:
            raise self._refused(404, "Record not found")
        before = int(params.get("max_id") or 10**30)
        mine = [p for p in self.posts + self._replies if p.account == wanted and not p.removed and int(p.id) < before]
        mine = [each for each in mine if each.published_at + self.listing_lag <= self.now()]
        if params.get("only_media") == "true":
            mine = [each for each in mine if each.sha256]
        mine.sort(key=lambda each: -int(each.id))
        return json_reply([self._shown(each) for each in mine[: min(int(params["limit"]), 40)]])

    def _status(self, request: Request) -> Reply:
        account = self._account(request)
        wanted = request.path.rpartition("/")[2]
        for post in self.posts + self._replies:
            if (post.id, post.account, post.removed) == (wanted, account.external_id, False):
                return json_reply(self._shown(post))
        raise self._refused(404, "Record not found")

    def _shown(self, post: SimulatedPost) -> dict[str, Any]:
        username = self.accounts[post.account].username
        at = datetime.fromtimestamp(post.published_at, UTC).isoformat(timespec="milliseconds")
        return {
            "id": post.id,
            "created_at": at.replace("+00:00", "Z"),
            "in_reply_to_id": post.fields.get("in_reply_to_id"),
            "visibility": post.fields.get("visibility", "public"),
            "url": f"{self.url}/@{username}/{post.id}",
            "content": _html(post.text),
            **self._counted(post),
            "media_attachments": [self._media_shown(m) for m in self.uploads.values() if m.status_id == post.id],
        }

    def _counted(self, post: SimulatedPost) -> dict[str, Any]:
        counts = self.counts(post)
        names = {"favourites_count": "likes", "replies_count": "comments", "reblogs_count": "shares"}
        return {name: counts[kept] for name, kept in names.items() if kept in counts}

    def _next_id(self) -> str:
        """Ids grow, and have more digits than a float keeps."""
        self._issued += 1
        return str(113_900_000_000_000_000 + self._issued)

    # --- requests --------------------------------------------------------------------------------------------------

    def _params(self, request: Request, wanted: Collection[str], more: Collection[str] = ()) -> dict[str, str]:
        return self._just(parse_qsl(request.query, keep_blank_values=True), wanted, more)

    def _form(self, request: Request, wanted: Collection[str]) -> dict[str, str]:
        return self._just(parse_qsl(request.body.decode(), keep_blank_values=True), wanted, ())

    def _just(self, pairs: list[tuple[str, str]], wanted: Collection[str], more: Collection[str]) -> dict[str, str]:
        params = dict(pairs)
        if len(pairs) != len(params) or not set(wanted) <= params.keys() <= {*wanted, *more}:
            raise self._refused(422, f"the parameters are {sorted(params)}, not {sorted(wanted)}")
        return params

    def _file(self, request: Request) -> tuple[str, str, bytes]:
        """Return the name, the type and the bytes of the one file of a form."""
        kind, _, boundary = request.headers.get("content-type", "").partition("; boundary=")
        parts = request.body.split(b"--" + boundary.encode())
        if kind != "multipart/form-data" or not boundary or len(parts) != 3 or parts[2] != b"--\r\n":
            raise self._refused(422, "the form has not just one file")
        head, _, data = parts[1].removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        disposition = headers.get("Content-Disposition", "")
        if not disposition.startswith('form-data; name="file"; filename="'):
            raise self._refused(422, "the form has no file")
        return disposition.split('"')[3], headers.get("Content-Type", ""), data.removesuffix(b"\r\n")

    def _refused(self, status: int, message: str) -> ErrorResponse:
        return ErrorResponse(json_reply({"error": message}, status))

    def _oauth_error(self, status: int, code: str, message: str) -> ErrorResponse:
        return ErrorResponse(json_reply({"error": code, "error_description": message}, status))


def _html(text: str) -> str:
    """As Mastodon shows a text: paragraphs, line breaks, hashtags as links."""
    words = [
        f'<a href="/tags/{escape(word[1:])}" class="mention hashtag" rel="tag">#<span>{escape(word[1:])}</span></a>'
        if word.startswith("#") and len(word) > 1
        else escape(word)
        for word in text.replace("\n", " \n ").split(" ")
    ]
    html = " ".join(words).replace(" \n ", "\n").replace("\n\n", "</p><p>").replace("\n", "<br />")
    return f"<p>{html}</p>"


@contextmanager
def mastodon_simulator(**options: Any) -> Iterator[MastodonSimulator]:
    with serving(MastodonSimulator(**options)) as simulator:
        yield simulator


@contextmanager
def gotosocial_simulator(**options: Any) -> Iterator[MastodonSimulator]:
    with mastodon_simulator(kind="gotosocial", **options) as simulator:
        yield simulator
