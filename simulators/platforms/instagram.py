"""Instagram on this machine: the API with Instagram login, under one address that stands for its three hosts.

It fetches the video of a container itself, so a post that appears has the hash of what really came. `misbehave` says
which numbers of Meta's the next requests of a call are answered with; `spoil` what the next container comes to.
"""

import hashlib
import itertools
import json
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.platform import (
    ErrorResponse,
    PlatformSimulator,
    SimulatedAccount,
    SimulatedPost,
    serving,
)

VERSION = "v26.0"
HOUR, DAY = 3600.0, 86400.0
SHORT, LONG = HOUR, 60 * DAY
INSIGHTS = "instagram_business_manage_insights"
SCOPES = (
    *("instagram_business_basic", "instagram_business_content_publish", "instagram_business_manage_comments"),
    INSIGHTS,
)
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CONTAINER_FIELDS = {"media_type", "video_url", "caption", "share_to_feed", "thumb_offset", "is_ai_generated"}
LONGEST_CAPTION, MOST_HASHTAGS, MOST_MENTIONS = 2200, 30, 20
FETCH_SECONDS = 10
METRICS = {
    **{"views": "views", "likes": "likes", "comments": "comments", "shares": "shares", "saved": "saves"},
    "reach": "reach",
}
"""What a reel is measured by, and what that has grown like."""
NO_LONGER: Mapping[str, str] = {
    "listed": "(#100) metric[{place}] must be one of the following values: {left}",
    "version": "Starting from version v26.0 and above, the {metric} metric is no longer supported for the queried "
    "media. Please refer to the documentation for a list of supported metrics, such as the {other} metric",
    "media": "(#100) The Media Insights API does not support the {metric} metric for this media product type.",
    "type": "(#100) The metric {metric} is not supported for this media type",
    "wordless": "(#100) Invalid parameter",
}
"""How Instagram says that one metric of a request is not to be had; the last one tells nothing."""
SHOWN = ("id", "caption", "permalink", "timestamp", "media_type", "media_product_type", "is_ai_generated")


@dataclass
class Container:
    """A video on its way to a post. `error` is the subcode it came to nothing with, 0 if there is none."""

    id: str
    account: str
    fields: dict[str, str]
    sha256: str
    made_at: float
    error: int = 0
    published_at: float | None = None
    forgotten: bool = False


@dataclass
class Misbehaviour:
    """The next request of a call gets this error; if `acted`, after what it asks for was done."""

    call: str
    code: int
    subcode: int
    status: int
    acted: bool


@dataclass
class InstagramSimulator(PlatformSimulator):
    """`processing_seconds` is how long a container is IN_PROGRESS, `listing_lag` after how long a post is listed, both
    by the simulator's clock. `accepts_repeats`: publishing a container again makes another post. `scopes` are what the
    owner allows on the next login, `chosen` the account they are signed in to (else the first). `retired` are metrics
    that are answered with an error, worded as `NO_LONGER` has it; those in `empty` are left out of the answer."""

    calls: ClassVar[tuple[str, ...]] = (
        *("authorize", "token", "long-lived", "refresh", "me", "limits", "create", "status", "publish"),
        *("list", "permalink", "comments", "comment", "insights"),
    )

    client_id: str = "simulated-meta-app"
    client_secret: str = "simulated-meta-secret"  # noqa: S105 - it opens nothing
    processing_seconds: float = 0
    listing_lag: float = 0
    quota: int = 50
    accepts_repeats: bool = False
    page: int = 100
    scopes: tuple[str, ...] = SCOPES
    chosen: str = ""
    retired: dict[str, str] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)
    containers: dict[str, Container] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers = itertools.count(1)
        self._codes: dict[str, tuple[str, str, float]] = {}
        self._misbehaviours: deque[Misbehaviour] = deque()
        self._spoiled: deque[int] = deque()
        self._comments: dict[str, list[tuple[str, str, str]]] = {}
        self._own: dict[str, dict[str, SimulatedPost]] = {}
        self._permissions: dict[str, tuple[str, ...]] = {}

    def misbehave(
        self, call: str, code: int, subcode: int = 0, *, status: int = 400, acted: bool = False, times: int = 1
    ) -> None:
        with self.lock:
            self._misbehaviours.extend([Misbehaviour(call, code, subcode, status, acted)] * times)

    def spoil(self, subcode: int, *, times: int = 1) -> None:
        """Let the next containers come to nothing with this subcode."""
        with self.lock:
            self._spoiled.extend([subcode] * times)

    def token_of(self, account: str) -> str:
        """Return a fresh long-lived access token, as if its owner had connected the account with `scopes`."""
        with self.lock:
            return self._token(self.accounts[account], LONG)

    def foreign_post(
        self, external_id: str, text: str, video: bytes = b"a video of its own", *, before: float = 0
    ) -> SimulatedPost:
        """Post something that its owner made with Instagram's own app, `before` seconds ago."""
        with self.lock:
            sha256, at = hashlib.sha256(video).hexdigest(), self.now() - before
            post = SimulatedPost(self._id(), external_id, text, sha256, at, foreign=True)
            self._appear(post)
            return post

    def call_of(self, request: Request) -> str | None:
        named = {
            ("GET", "/oauth/authorize"): "authorize",
            ("POST", "/oauth/access_token"): "token",
            ("GET", "/access_token"): "long-lived",
            ("GET", "/refresh_access_token"): "refresh",
        }
        if (request.method, request.path) in named:
            return named[request.method, request.path]
        version, *parts = request.path.removeprefix("/").split("/")
        if version != VERSION:
            return None
        match request.method, parts:
            case "GET", ["me"]:
                return "me"
            case "GET", [name]:
                return "status" if name in self.containers else "permalink"
            case "GET", [_, "content_publishing_limit"]:
                return "limits"
            case "GET", [_, "media"]:
                return "list"
            case "POST", [_, "media"]:
                return "create"
            case "POST", [_, "media_publish"]:
                return "publish"
            case "GET", [_, "comments"]:
                return "comments"
            case "POST", [_, "comments"]:
                return "comment"
            case "GET", [_, "insights"]:
                return "insights"
        return None

    def route(self, call: str, request: Request) -> Reply:
        planned = next((each for each in self._misbehaviours if each.call == call), None)
        if planned is not None:
            self._misbehaviours.remove(planned)
            if planned.acted:
                self._answer(call, request)
            return self._graph_error(planned.code, planned.subcode, "made to fail", planned.status)
        return self._answer(call, request)

    def _acted(self, call: str, request: Request) -> Reply:
        reply = super()._acted(call, request)
        date = format_datetime(datetime.fromtimestamp(self.now(), UTC), usegmt=True)
        return replace(reply, headers={**reply.headers, "Date": date})

    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        number = {"rate_limit_exceeded": 613, "not_found": 2500}.get(code, 2)
        reply = self._graph_error(number, 0, message, status)
        return Reply(reply.body, status, {**reply.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def expired(self) -> Reply:
        return self._graph_error(190, 463, "Error validating access token: Session has expired", 401)

    # --- what the calls do ----------------------------------------------------------------------------------------

    def _answer(self, call: str, request: Request) -> Reply:
        logins = {
            "authorize": self._authorize,
            "token": self._code_token,
            "long-lived": self._long_lived,
            "refresh": self._refreshed,
        }
        if call in logins:
            return logins[call](request)
        account = self._account(request)
        node = request.path.split("/")[2]
        objects = {"status": self._container_state, "permalink": self._media, "comments": self._comments_of}
        objects["insights"] = self._insights
        if call == "me":
            self._params(request, {"fields"})
            return json_reply({"user_id": account.external_id, "username": account.username, "id": "1"})
        if call in objects:
            return objects[call](account, node, request)
        if call == "comment":
            return self._comment(account, node, request)
        if node != account.external_id:
            raise self._refused(100, 33, "Unsupported request. Object does not exist, or no permission")
        edges = {"limits": self._limits, "create": self._create, "publish": self._publish, "list": self._listed}
        return edges[call](account, request)

    def _limits(self, account: SimulatedAccount, request: Request) -> Reply:
        self._params(request, {"fields"})
        config = {"quota_total": self.quota, "quota_duration": int(DAY)}
        return json_reply({"data": [{"quota_usage": self._used(account), "config": config}]})

    def _media(self, account: SimulatedAccount, node: str, request: Request) -> Reply:
        self._params(request, {"fields"})
        return json_reply(self._shown(self._own_post(account, node), self._fields(request, SHOWN)))

    def _create(self, account: SimulatedAccount, request: Request) -> Reply:
        form = self._form(request, CONTAINER_FIELDS, required={"media_type", "video_url"})
        caption = form.get("caption", "")
        words = caption.split()
        if form["media_type"] != "REELS":
            raise self._refused(100, 2207023, "Unknown media type")
        if (
            len(caption) > LONGEST_CAPTION
            or sum(word.startswith("#") for word in words) > MOST_HASHTAGS
            or sum(word.startswith("@") for word in words) > MOST_MENTIONS
        ):
            raise self._refused(36004, 2207010, "The caption was too long")
        if not form.get("thumb_offset", "0").isdigit():
            raise self._refused(1, 2207057, "Thumbnail offset must be a number of milliseconds")
        for flag in ("share_to_feed", "is_ai_generated"):
            if form.get(flag, "true") not in ("true", "false"):
                raise self._refused(100, 0, f"Param {flag} must be a boolean")
        if urlsplit(form["video_url"]).scheme not in ("http", "https"):
            raise self._refused(9004, 2207052, "Only http or https is fetched")
        sha256 = fetched(form["video_url"])
        error = self._spoiled.popleft() if self._spoiled else 0
        container = Container(
            self._id(), account.external_id, form, sha256 or "", self.now(), error or (0 if sha256 else 2207052)
        )
        self.containers[container.id] = container
        return json_reply({"id": container.id})

    def _container_state(self, account: SimulatedAccount, node: str, request: Request) -> Reply:
        self._params(request, {"fields"})
        fields = self._fields(request, ("id", "status", "status_code"))
        container = self._container(account, node)
        state = self._state(container)
        status = f"{state}: Media upload has failed with error code {container.error}" if container.error else state
        shown = {"id": container.id, "status": status, "status_code": state}
        return json_reply({name: shown[name] for name in {"id", *fields}})

    def _publish(self, account: SimulatedAccount, request: Request) -> Reply:
        form = self._form(request, {"creation_id"}, required={"creation_id"})
        container = self._container(account, form["creation_id"])
        match self._state(container):
            case "IN_PROGRESS":
                raise self._refused(9007, 2207027, "The media is not ready for publishing, please wait for a moment")
            case "EXPIRED":
                raise self._refused(24, 2207008, "The media builder does not exist or has expired")
            case "ERROR":
                raise self._refused(-1, container.error or 2207053, "unknown upload error")
            case "PUBLISHED" if not self.accepts_repeats:
                raise self._refused(100, 0, "The container has been published already")
        if self._used(account) >= self.quota:
            raise self._refused(9, 2207042, "You reached maximum number of posts")
        container.published_at = self.now()
        caption = container.fields.get("caption", "")
        post = SimulatedPost(
            self._id(), account.external_id, caption, container.sha256, self.now(), fields=dict(container.fields)
        )
        self._appear(post)
        return json_reply({"id": post.id})

    def _listed(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"fields", "since", "until", "limit", "after"})
        fields = self._fields(request, SHOWN)
        own = self._own.get(account.external_id, {}).values()
        shown = [
            post
            for post in sorted(own, key=lambda post: (post.published_at, int(post.id)), reverse=True)
            if not post.removed
            and int(params.get("since", "0")) <= post.published_at <= float(params.get("until", "inf"))
            and post.published_at + self.listing_lag <= self.now()
        ]
        return self._page([self._shown(post, fields) for post in shown], params, request)

    def _comment(self, account: SimulatedAccount, node: str, request: Request) -> Reply:
        post = self._own_post(account, node)
        message = self._form(request, {"message"}, required={"message"})["message"]
        number = self._id()
        self._comments.setdefault(node, []).append((number, message, account.external_id))
        post.comments.append(message)
        return json_reply({"id": number})

    def _insights(self, account: SimulatedAccount, node: str, request: Request) -> Reply:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if INSIGHTS not in self._permissions[sent]:
            raise self._refused(10, 0, "(#10) Application does not have permission for this action", 403)
        wanted = self._params(request, {"metric"}).get("metric", "").split(",")
        post = self._own_post(account, node)
        for place, metric in enumerate(wanted):
            if metric not in METRICS or metric in self.retired:
                left = sorted(METRICS.keys() - self.retired.keys())
                how = NO_LONGER[self.retired.get(metric, "listed")]
                other = next((each for each in wanted if each != metric), "")
                text = how.format(place=place, metric=metric, left=", ".join(left), other=other)
                raise self._refused(100, 0, text)
        counts = {"reach": self.grown(post).views * 4 // 5} | self.counts(post)
        rows = [
            {
                **{"name": metric, "period": "lifetime", "values": [{"value": counts[METRICS[metric]]}]},
                "id": f"{node}/insights/{metric}/lifetime",
            }
            for metric in wanted
            if METRICS[metric] in counts and metric not in self.empty
        ]
        return json_reply({"data": rows})

    def _comments_of(self, account: SimulatedAccount, node: str, request: Request) -> Reply:
        comments = self._comments.get(self._own_post(account, node).id, [])
        params = self._params(request, {"fields", "limit", "after"})
        self._fields(request, ("id", "text", "from", "timestamp", "username"))
        rows = [{"id": each, "text": text, "from": {"id": by}} for each, text, by in reversed(comments)]
        return self._page(rows, params, request)

    def comment_of_another(self, post: SimulatedPost, text: str) -> None:
        with self.lock:
            self._comments.setdefault(post.id, []).append((self._id(), text, "1784140000000000"))
            post.comments.append(text)

    def _page(self, rows: list[dict[str, Any]], params: Mapping[str, str], request: Request) -> Reply:
        begin, limit = int(params.get("after", "0")), min(int(params.get("limit", "25")), self.page)
        body: dict[str, Any] = {"data": rows[begin : begin + limit]}
        if rows:
            cursors = {"before": str(begin), "after": str(begin + limit)}
            body["paging"] = {"cursors": cursors}
            if begin + limit < len(rows):
                body["paging"]["next"] = f"{self.url}{request.path}?{urlencode({**params, 'after': cursors['after']})}"
        return json_reply(body)

    # --- logging in -----------------------------------------------------------------------------------------------

    def _authorize(self, request: Request) -> Reply:
        """Redirect straight back with a code, as after its owner pressed "Allow"."""
        allowed = {"client_id", "redirect_uri", "response_type", "scope", "state", "as"}
        params = self._params(request, allowed)
        wanted = params.get("as") or self.chosen
        account = next((a for a in self.accounts.values() if not wanted or wanted in (a.username, a.external_id)), None)
        if params.get("client_id") != self.client_id or params.get("response_type") != "code" or account is None:
            raise ErrorResponse(Reply(b"<h1>Simulated Instagram: this login cannot be begun</h1>", 400))
        code = self._secret("code")
        self._codes[code] = (account.external_id, params["redirect_uri"], self.now() + HOUR)
        back = f"{params['redirect_uri']}?{urlencode({'code': code, 'state': params.get('state', '')})}#_"
        return Reply(b"", 302, {"Location": back})

    def _code_token(self, request: Request) -> Reply:
        names = {"client_id", "client_secret", "grant_type", "redirect_uri", "code"}
        form = self._form(request, names, required=names)
        account, redirect_uri, until = self._codes.pop(form["code"], ("", "", 0.0))
        right = (form["client_id"], form["client_secret"]) == (self.client_id, self.client_secret)
        if not account or until < self.now() or redirect_uri != form["redirect_uri"] or not right:
            body = {"error_type": "OAuthException", "code": 400, "error_message": "Invalid authorization code"}
            return json_reply(body, 400)
        token = self._token(self.accounts[account], SHORT)
        self.accounts[account].revoked = False
        row = {"access_token": token, "user_id": account, "permissions": ",".join(self.scopes)}
        return json_reply({"data": [row]})

    def _long_lived(self, request: Request) -> Reply:
        params = self._params(request, {"grant_type", "client_secret", "access_token"})
        if params.get("grant_type") != "ig_exchange_token" or params.get("client_secret") != self.client_secret:
            raise self._refused(101, 0, "Error validating client secret")
        account = self._account(request, params.get("access_token", ""))
        token = self._token(account, LONG, self._permissions[params["access_token"]])
        return json_reply({"access_token": token, "token_type": "bearer", "expires_in": int(LONG)})

    def _refreshed(self, request: Request) -> Reply:
        params = self._params(request, {"grant_type", "access_token"})
        if params.get("grant_type") != "ig_refresh_token":
            raise self._refused(100, 0, "grant_type must be ig_refresh_token")
        old = params.get("access_token", "")
        account = self._account(request, old)
        if account.access_tokens[old] - LONG + DAY > self.now():
            raise self._refused(100, 0, "The token must be at least 24 hours old")
        allowed = self._permissions[old]
        body = {"access_token": self._token(account, LONG, allowed), "token_type": "bearer", "expires_in": int(LONG)}
        return json_reply({**body, "permissions": ",".join(allowed)})

    # --- helpers --------------------------------------------------------------------------------------------------

    def _account(self, request: Request, token: str | None = None) -> SimulatedAccount:
        """Return the account that the token opens."""
        sent = request.headers.get("authorization", "").removeprefix("Bearer ") if token is None else token
        for account in self.accounts.values():
            if sent in account.access_tokens:
                if account.revoked:
                    raise self._refused(190, 458, "The user has not authorized application", 401)
                if account.access_tokens[sent] <= self.now():
                    raise ErrorResponse(self.expired())
                return account
        raise self._refused(190, 0, "Invalid OAuth access token - Cannot parse access token", 401)

    def _own_post(self, account: SimulatedAccount, node: str) -> SimulatedPost:
        post = self._own.get(account.external_id, {}).get(node)
        if post is None or post.removed:
            raise self._refused(100, 33, "Unsupported request. Object does not exist, or no permission")
        return post

    def _container(self, account: SimulatedAccount, node: str) -> Container:
        container = self.containers.get(node)
        if container is None or container.account != account.external_id or container.forgotten:
            raise self._refused(100, 33, "Unsupported request. Object does not exist, or no permission")
        return container

    def _state(self, container: Container) -> str:
        if container.published_at is not None:
            return "PUBLISHED"
        if self.now() >= container.made_at + DAY:
            return "EXPIRED"
        if self.now() < container.made_at + self.processing_seconds:
            return "IN_PROGRESS"
        return "ERROR" if container.error else "FINISHED"

    def _used(self, account: SimulatedAccount) -> int:
        own = self._own.get(account.external_id, {}).values()
        return sum(not post.foreign and post.published_at > self.now() - DAY for post in own)

    def _appear(self, post: SimulatedPost) -> None:
        self.posts.append(post)
        self._own.setdefault(post.account, {})[post.id] = post

    def _shown(self, post: SimulatedPost, fields: tuple[str, ...]) -> dict[str, Any]:
        shown = {
            "id": post.id,
            "caption": post.text,
            "permalink": f"https://www.instagram.com/reel/{post.id}/",
            "timestamp": datetime.fromtimestamp(int(post.published_at), UTC).strftime("%Y-%m-%dT%H:%M:%S+0000"),
            "media_type": "VIDEO",
            "media_product_type": "REELS",
            "is_ai_generated": post.fields.get("is_ai_generated") == "true",
        }
        return {name: shown[name] for name in {"id", *fields} if shown[name] != ""}

    def _fields(self, request: Request, allowed: tuple[str, ...]) -> tuple[str, ...]:
        wanted = tuple(request.params.get("fields", "id").split(","))
        if unknown := set(wanted) - set(allowed):
            raise self._refused(100, 0, f"Tried accessing nonexisting field ({min(unknown)})")
        return wanted

    def _params(self, request: Request, allowed: set[str]) -> dict[str, str]:
        return self._checked(dict(parse_qsl(request.query, keep_blank_values=True)), allowed, set())

    def _form(self, request: Request, allowed: set[str], *, required: set[str]) -> dict[str, str]:
        if request.headers.get("content-type") == "application/json":
            sent = json.loads(request.body)
        else:
            sent = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        return self._checked({name: str(value) for name, value in sent.items()}, allowed, required)

    def _checked(self, sent: dict[str, str], allowed: set[str], required: set[str]) -> dict[str, str]:
        for name in sorted(sent.keys() - allowed):
            raise self._refused(100, 0, f"Unexpected parameter {name}")
        for name in sorted(required - sent.keys()):
            raise self._refused(100, 0, f"The parameter {name} is required")
        return sent

    def _token(self, account: SimulatedAccount, seconds: float, permissions: tuple[str, ...] | None = None) -> str:
        """Return a token with these permissions; None: those that the owner allows now."""
        token = self._secret("IGAA")
        self._permissions[token] = self.scopes if permissions is None else permissions
        account.access_tokens[token] = self.now() + seconds
        return token

    def _secret(self, kind: str) -> str:
        number = next(self._numbers)
        return f"{kind}{hashlib.sha256(f'{self.url}/{kind}/{number}'.encode()).hexdigest()}"

    def _id(self) -> str:
        """Return an id of the size that Instagram's have: no float holds it exactly."""
        return str(17_900_000_000_000_000 + self.next_id() * 7 + 1)

    def _refused(self, code: int, subcode: int, message: str, status: int = 400) -> ErrorResponse:
        return ErrorResponse(self._graph_error(code, subcode, message, status))

    def _graph_error(self, code: int, subcode: int, message: str, status: int) -> Reply:
        error: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "simulated"}
        if subcode:
            error |= {"error_subcode": subcode, "is_transient": False, "error_user_msg": message}
        return json_reply({"error": error}, status)


def fetched(url: str) -> str | None:
    """Fetch a video as Instagram does, and return its SHA-256 in hex; None if it cannot be had."""
    digest = hashlib.sha256()
    size = 0
    try:
        with HTTP.open(url, timeout=FETCH_SECONDS) as response:
            while piece := response.read(1 << 16):
                digest.update(piece)
                size += len(piece)
            declared = response.headers.get("content-length")
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return digest.hexdigest() if size and declared in (None, str(size)) else None


@contextmanager
def instagram_simulator(**options: Any) -> Iterator[InstagramSimulator]:
    with serving(InstagramSimulator(**options)) as simulator:
        yield simulator
