"""YouTube on this machine: resumable uploads, a channel's videos and comments, and Google's login.

A session takes bytes until it has all; then there is a video, which is processed, and may be rejected. `misbehave` says
what goes wrong with the next sessions that are opened.
"""

import hashlib
import json
import re
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, get_args

from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.oauth import OAuthSimulator
from simulators.platforms.platform import ErrorResponse, SimulatedAccount, SimulatedPost, serving
from simulators.video.clips import only

Trick = Literal[
    # The session is gone, from the first byte on.
    "expires at once",
    # There is a video, and the session is gone.
    "forgotten",
    # The session is gone after the first bytes, before there is a video.
    "forgotten before",
    # There is a video, which YouTube then does not show.
    "rejected as duplicate",
    "rejected for copyright",
    "fails in processing",
    # The whole file is taken again once there is a video, and makes a second one.
    "accepts repeats",
    # A part is taken, and less of it kept.
    "keeps half of a part",
]
TRICKS: tuple[Trick, ...] = get_args(Trick)

HOUR, DAY = 3600.0, 86400.0
SNIPPET: dict[str, type | tuple[type, ...]] = {"title": str, "description": str, "tags": list, "categoryId": str}
STATUS: dict[str, type | tuple[type, ...]] = {
    "privacyStatus": str,
    "selfDeclaredMadeForKids": bool,
    "containsSyntheticMedia": bool,
}
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
LOOK = re.compile(r"bytes \*/(\d+)")
ENDS: dict[Trick, tuple[str, str]] = {
    "rejected as duplicate": ("rejected", "duplicate"),
    "rejected for copyright": ("rejected", "copyright"),
    "fails in processing": ("failed", "codec"),
}
MOST_TAGS = 500
MOST_STATISTICS = 50
COUNTS = {"viewCount": "views", "likeCount": "likes", "commentCount": "comments"}
"""YouTube's names of what is counted of a video, and ours."""


@dataclass
class Session:
    """An upload on its way to a video."""

    number: int
    account: str
    resource: dict[str, Any]
    notify: bool
    size: int
    opened_at: float
    trick: Trick | None
    bytes: bytearray = field(default_factory=bytearray)
    video_id: str | None = None


@dataclass
class YouTubeSimulator(OAuthSimulator):
    """`uploads_a_day` is the project's quota, `channel_uploads` what one channel may upload a day, `statistics_a_day`
    how often the project may ask for numbers (None: any).

    `processing_seconds` is how long a video is processed, `listing_lag` after how long it is in the channel's list,
    `reading_lag` after how long it can be read by its id, and `session_seconds` how long a session lives, all by the
    simulator's clock. `page` is the length of a page of lists.
    """

    calls: ClassVar[tuple[str, ...]] = (
        *("authorize", "token", "revoke", "channels", "open", "upload", "look", "playlist", "videos"),
        *("comments", "comment", "statistics"),
    )
    access_seconds = HOUR
    refresh_seconds = 180 * DAY
    rotates = False
    scopes = ("https://www.googleapis.com/auth/youtube.upload", "https://www.googleapis.com/auth/youtube.force-ssl")

    uploads_a_day: int | None = None
    channel_uploads: int | None = None
    statistics_a_day: int | None = None
    processing_seconds: float = 0
    listing_lag: float = 0
    reading_lag: float = 0
    session_seconds: float = 7 * DAY
    page: int = 50
    sessions: dict[str, Session] = field(default_factory=dict)
    """By the query of their addresses."""
    tricks: deque[Trick | None] = field(default_factory=deque)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rejected: dict[str, tuple[SimulatedPost, str, str]] = {}
        """Videos that nobody is shown, with their state and the reason, by their id."""
        self.seconds: int | None = None
        """How long each video is said to be."""
        self.unreadable: set[str] = set()
        """Videos that are listed, and cannot be read."""
        self.left_out: set[str] = set()
        """Videos that a batch of statistics is answered without: it is not atomic."""
        self.upload_only: set[str] = set()
        """Accounts that were connected without the scope to read videos."""
        self._statistics_asked: deque[float] = deque()
        self._comments: dict[str, list[tuple[str, str, str]]] = {}

    def misbehave(self, *tricks: Trick | None) -> None:
        """Play one of these with each of the next sessions; None plays none."""
        with self.lock:
            self.tricks.extend(tricks)

    def post_elsewhere(
        self, account: str, text: str, *, before: float = 0, sha256: str = "", tags: tuple[str, ...] = ()
    ) -> SimulatedPost:
        """Post something that its owner made in YouTube's own app, `before` seconds ago."""
        with self.lock:
            fields = {"snippet": {"title": "a Short", "description": text, "tags": list(tags)}}
            post = SimulatedPost(self._id(), account, text, sha256, self.now() - before, fields=fields, foreign=True)
            self.posts.append(post)
            return post

    def comment_of_another(self, post: SimulatedPost, text: str) -> None:
        with self.lock:
            self._commented(post, text, "UC-somebody-else")

    def call_of(self, request: Request) -> str | None:
        upload = "/resumable/upload/youtube/v3/videos"
        if (request.method, request.path) == ("PUT", upload):
            return "look" if request.headers.get("content-range", "").startswith("bytes *") else "upload"
        return {
            ("GET", "/o/oauth2/v2/auth"): "authorize",
            ("POST", "/token"): "token",
            ("POST", "/revoke"): "revoke",
            ("GET", "/youtube/v3/channels"): "channels",
            ("POST", upload): "open",
            ("GET", "/youtube/v3/playlistItems"): "playlist",
            ("GET", "/youtube/v3/videos"): "videos",
            ("GET", "/youtube/v3/videos:batchGetStats"): "statistics",
            ("GET", "/youtube/v3/commentThreads"): "comments",
            ("POST", "/youtube/v3/commentThreads"): "comment",
        }.get((request.method, request.path))

    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        reason = {"rate_limit_exceeded": "rateLimitExceeded", "internal_error": "backendError"}.get(code, code)
        errors = [{"message": message, "domain": "youtube", "reason": reason}]
        return json_reply({"error": {"code": status, "message": message, "errors": errors}}, status, **headers)

    def expired(self) -> Reply:
        return self.error(401, "authError", "Invalid Credentials")

    def challenge_of(self, verifier: str) -> str:
        return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()

    def granted(self, account: SimulatedAccount, scope: str) -> dict[str, Any]:
        return {"scope": scope}

    def route(self, call: str, request: Request) -> Reply:
        match call:
            case "authorize":
                return self.authorize(request, {"access_type", "prompt"})
            case "token":
                return self.token(request)
            case "revoke":
                good = self.ended(request, {"token"})
                return json_reply({}) if good else json_reply({"error": "invalid_token"}, 400)
        account = self.account_of(request)
        if account.external_id in self.upload_only and call not in ("open", "upload", "look"):
            raise self._refused(403, "insufficientPermissions")
        calls = {
            "channels": self._channels,
            "open": self._open,
            "upload": self._upload,
            "look": self._look,
            "playlist": self._playlist,
            "videos": self._videos,
            "statistics": self._statistics,
            "comments": self._threads,
            "comment": self._comment,
        }
        return calls[call](account, request)

    # --- uploads ----------------------------------------------------------------------------------------------------

    def _open(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"uploadType", "part", "notifySubscribers"})
        if (params.get("uploadType"), params.get("part")) != ("resumable", "snippet,status"):
            raise self._refused(400, "unexpectedPart")
        resource = self._resource(request)
        self._check_caps(account)
        size = request.headers.get("x-upload-content-length", "")
        if (
            not size.isdigit()
            or int(size) == 0
            or not request.headers.get("x-upload-content-type", "").startswith("video/")
        ):
            raise self._refused(400, "mediaBodyRequired")
        number = next(self._numbers)
        session = Session(
            number=number,
            account=account.external_id,
            resource=resource,
            notify=params.get("notifySubscribers", "true") == "true",
            size=int(size),
            opened_at=self.now(),
            trick=self.tricks.popleft() if self.tricks else None,
        )
        query = f"uploadType=resumable&upload_id={self._secret('session')}"
        self.sessions[query] = session
        return Reply(b"", 200, {"Location": f"{self.url}/resumable/upload/youtube/v3/videos?{query}"})

    def _upload(self, account: SimulatedAccount, request: Request) -> Reply:
        session = self._session(account, request)
        found = RANGE.fullmatch(request.headers.get("content-range", ""))
        if found is None:
            raise self._refused(400, "invalidContentRange")
        begin, end, size = int(found[1]), int(found[2]) + 1, int(found[3])
        repeats = self.accepts_repeats or session.trick == "accepts repeats"
        if session.video_id is not None and repeats and begin == 0:
            session.video_id = None
            session.bytes.clear()
        if session.video_id is not None:
            return self._inserted(session)
        if size != session.size or end - begin != len(request.body) or end > size:
            raise self._refused(400, "invalidContentRange")
        if begin != len(session.bytes):
            return self._incomplete(session)
        session.bytes += self._kept(session, request.body)
        if session.trick == "forgotten before":
            raise self._refused(404, "notFound")
        if len(session.bytes) < session.size:
            return self._incomplete(session)
        self._end(session)
        return self._inserted(session)

    def cut_off(self, call: str, request: Request) -> Reply:
        """What has arrived is kept."""
        session = self.sessions.get(request.query)
        found = RANGE.fullmatch(request.headers.get("content-range", ""))
        if call == "upload" and session is not None and found and int(found[1]) == len(session.bytes):
            session.bytes += self._kept(session, request.body)
        return Reply(hang_up=True)

    def _kept(self, session: Session, body: bytes) -> bytes:
        if session.trick == "keeps half of a part" and len(session.bytes) + len(body) < session.size:
            return body[: len(body) // 2]
        return body

    def _look(self, account: SimulatedAccount, request: Request) -> Reply:
        session = self._session(account, request)
        found = LOOK.fullmatch(request.headers.get("content-range", ""))
        if found is None or int(found[1]) != session.size or request.body:
            raise self._refused(400, "invalidContentRange")
        if session.video_id is None:
            return self._incomplete(session)
        return self._inserted(session)

    def _incomplete(self, session: Session) -> Reply:
        return Reply(b"", 308, {"Range": f"bytes=0-{len(session.bytes) - 1}"} if session.bytes else {})

    def _end(self, session: Session) -> None:
        """Make a video of a session that has all."""
        snippet, status = session.resource["snippet"], session.resource["status"]
        end = ENDS.get(session.trick) if session.trick else None
        post = SimulatedPost(
            self._id(),
            session.account,
            snippet["description"],
            hashlib.sha256(session.bytes).hexdigest(),
            self.now(),
            fields={**session.resource, "notify": session.notify},
            private=status["privacyStatus"] == "private",
        )
        session.video_id = post.id
        if end is None:
            self.posts.append(post)
        else:
            self.rejected[post.id] = (post, *end)

    def _session(self, account: SimulatedAccount, request: Request) -> Session:
        session = self.sessions.get(request.query)
        if session is None or session.account != account.external_id:
            raise self._refused(404, "notFound")
        forgotten = session.trick == "forgotten" and session.video_id is not None
        begun = session.trick == "forgotten before" and session.bytes
        ended = self.now() > session.opened_at + self.session_seconds
        if forgotten or begun or ended or session.trick == "expires at once":
            raise self._refused(404, "notFound")
        return session

    # --- reading ----------------------------------------------------------------------------------------------------

    def _channels(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"part", "mine"})
        parts = {
            "snippet": {"title": account.username},
            "contentDetails": {"relatedPlaylists": {"uploads": f"UU{account.external_id}", "likes": ""}},
        }
        if params.get("mine") != "true" or params.get("part") not in parts:
            raise self._refused(400, "missingRequiredParameter")
        item = {"id": account.external_id, params["part"]: parts[params["part"]]}
        return json_reply({"items": [item], "pageInfo": {"totalResults": 1}})

    def _playlist(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"part", "playlistId", "maxResults", "pageToken", "videoId"})
        if params.get("part") != "contentDetails" or params.get("playlistId") != f"UU{account.external_id}":
            raise self._refused(404, "playlistNotFound")
        begin, count = int(params.get("pageToken", "0")), min(int(params.get("maxResults", "5")), self.page)
        mine = [each for each in self.posts if each.account == account.external_id and not each.removed]
        mine = [each for each in mine if each.published_at + self.listing_lag <= self.now()]
        mine.sort(key=lambda post: post.published_at, reverse=True)
        mine = [each for each in mine if params.get("videoId", each.id) == each.id]
        items = [{"id": f"item-{post.id}", "contentDetails": {"videoId": post.id}} for post in mine]
        body: dict[str, Any] = {"items": items[begin : begin + count]}
        if begin + count < len(items):
            body["nextPageToken"] = str(begin + count)
        return json_reply(body)

    def _videos(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"part", "id"})
        ids, parts = params.get("id", "").split(","), set(params.get("part", "").split(","))
        if not parts <= {"snippet", "status", "contentDetails"} or len(ids) > 50:
            raise self._refused(400, "invalidFilters")
        there = [*self.posts, *(post for post, _, _ in self.rejected.values())]
        there = [each for each in there if each.published_at + self.reading_lag <= self.now()]
        ids = [each for each in ids if each not in self.unreadable]
        found = [post for post in there if post.id in ids and post.account == account.external_id and not post.removed]
        return json_reply({"items": [self._video(post, parts, *self._state(post)) for post in found]})

    def _statistics(self, account: SimulatedAccount, request: Request) -> Reply:
        """Only of what a video's owner may see; of one that is rejected, none."""
        params = self._params(request, {"part", "id"})
        ids, parts = params.get("id", "").split(","), set(params.get("part", "").split(","))
        if not parts <= {"id", "snippet", "statistics", "contentDetails"} or len(ids) > MOST_STATISTICS:
            raise self._refused(400, "invalidFilters")
        self._count_statistics()
        shown = [each for each in self.posts if each.published_at + self.reading_lag <= self.now()]
        shown = [each for each in shown if each.account == account.external_id or not each.private]
        hidden = self.unreadable | self.left_out
        found = [each for each in shown if each.id in ids and each.id not in hidden and not each.removed]
        items = [self._numbers_of(post, parts) for post in found]
        return json_reply({"kind": "youtube#batchGetStatsResponse", "etag": "simulated", "items": items})

    def _numbers_of(self, post: SimulatedPost, parts: set[str]) -> dict[str, Any]:
        """Return them as texts, as YouTube does; nobody is shown how often a video was shared or saved."""
        counts = {name: str(count) if isinstance(count, int) else count for name, count in self.counts(post).items()}
        item: dict[str, Any] = {"kind": "youtube#videoStats", "etag": "simulated"}
        if "id" in parts:
            item["id"] = post.id
        if "statistics" in parts:
            item["statistics"] = {name: counts[ours] for name, ours in COUNTS.items() if ours in counts}
        return item

    def _count_statistics(self) -> None:
        while self._statistics_asked and self._statistics_asked[0] <= self.now() - DAY:
            self._statistics_asked.popleft()
        if self.statistics_a_day is not None and len(self._statistics_asked) >= self.statistics_a_day:
            raise self._refused(403, "quotaExceeded")
        self._statistics_asked.append(self.now())

    def _inserted(self, session: Session) -> Reply:
        return json_reply(self._video(self._post(session.video_id), {"snippet", "status"}, "uploaded"))

    def _state(self, post: SimulatedPost) -> tuple[str, str]:
        """Return a video's state and what is wrong with it."""
        if not post.foreign and self.now() < post.published_at + self.processing_seconds:
            return "uploaded", ""
        return self.rejected[post.id][1:] if post.id in self.rejected else ("processed", "")

    def _video(self, post: SimulatedPost, parts: set[str], state: str, reason: str = "") -> dict[str, Any]:
        at = datetime.fromtimestamp(int(post.published_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        snippet = {**post.fields["snippet"], "publishedAt": at, "channelId": post.account}
        status = {**post.fields.get("status", {}), "uploadStatus": state}
        if reason:
            status["rejectionReason" if state == "rejected" else "failureReason"] = reason
        details = {"duration": "P0D" if self.seconds is None else f"PT{self.seconds // 60}M{self.seconds % 60}S"}
        shown = {"snippet": snippet, "status": status, "contentDetails": details}
        return {"id": post.id, "kind": "youtube#video", **{name: shown[name] for name in shown if name in parts}}

    def _threads(self, account: SimulatedAccount, request: Request) -> Reply:
        params = self._params(request, {"part", "videoId", "order", "maxResults"})
        if params.get("part") != "snippet":
            raise self._refused(400, "unexpectedPart")
        comments = self._comments.get(self._shown_post(params.get("videoId", "")).id, [])
        items = [self._thread(*each, params["videoId"]) for each in reversed(comments)]
        return json_reply({"items": items[: int(params.get("maxResults", "20"))]})

    def _comment(self, account: SimulatedAccount, request: Request) -> Reply:
        self._params(request, {"part"})
        snippet = self._body(request, {"snippet": dict}, ("snippet",))["snippet"]
        faults = only(snippet, {"videoId": str, "topLevelComment": dict}, ("videoId", "topLevelComment"))
        text = snippet.get("topLevelComment", {}).get("snippet", {})
        if faults or text.keys() != {"textOriginal"} or not 0 < len(text["textOriginal"]) <= 10_000:
            raise self._refused(400, "processingFailure")
        post = self._shown_post(snippet["videoId"])
        return json_reply(self._thread(*self._commented(post, text["textOriginal"], account.external_id), post.id))

    def _commented(self, post: SimulatedPost, text: str, author: str) -> tuple[str, str, str]:
        comment = (f"comment-{next(self._numbers)}", text, author)
        self._comments.setdefault(post.id, []).append(comment)
        post.comments.append(text)
        return comment

    def _thread(self, comment_id: str, text: str, author: str, video_id: str) -> dict[str, Any]:
        comment = {"textOriginal": text, "textDisplay": text, "authorChannelId": {"value": author}}
        return {
            "id": comment_id,
            "snippet": {"videoId": video_id, "topLevelComment": {"id": comment_id, "snippet": comment}},
        }

    # --- what is checked --------------------------------------------------------------------------------------------

    def _resource(self, request: Request) -> dict[str, Any]:
        resource = self._body(request, {"snippet": dict, "status": dict}, ("snippet", "status"))
        snippet, status = resource["snippet"], resource["status"]
        faults = only(snippet, SNIPPET, ("title", "description"))
        faults += only(status, STATUS, ("privacyStatus", "selfDeclaredMadeForKids"))
        if faults:
            raise ErrorResponse(self.error(400, "badRequest", "; ".join(faults)))
        tags = snippet.get("tags", [])
        checks = {
            "invalidTitle": 0 < len(snippet["title"]) <= 100 and not set("<>") & set(snippet["title"]),
            "invalidDescription": len(snippet["description"].encode()) <= 5000
            and not set("<>") & set(snippet["description"]),
            "invalidTags": all(isinstance(tag, str) for tag in tags)
            and sum(len(tag) + 2 * (" " in tag) for tag in tags) + len(tags) - 1 <= MOST_TAGS,
            "invalidCategoryId": snippet.get("categoryId", "22").isdigit(),
            "invalidPrivacyStatus": status["privacyStatus"] in ("public", "unlisted", "private"),
        }
        for reason, holds in checks.items():
            if not holds:
                raise self._refused(400, reason)
        return resource

    def _check_caps(self, account: SimulatedAccount) -> None:
        since = self.now() - DAY
        ours = [each for each in self.posts if not each.foreign and each.published_at > since]
        if self.uploads_a_day is not None and len(ours) >= self.uploads_a_day:
            raise self._refused(403, "quotaExceeded")
        mine = sum(each.account == account.external_id for each in ours)
        if self.channel_uploads is not None and mine >= self.channel_uploads:
            raise self._refused(400, "uploadLimitExceeded")

    def _post(self, video_id: str | None) -> SimulatedPost:
        shown = next((each for each in self.posts if each.id == video_id), None)
        return shown or self.rejected[video_id or ""][0]

    def _shown_post(self, video_id: str) -> SimulatedPost:
        for post in self.posts:
            if post.id == video_id and not post.removed:
                return post
        raise self._refused(404, "videoNotFound")

    def _params(self, request: Request, allowed: set[str]) -> dict[str, str]:
        if not request.params.keys() <= allowed:
            raise self._refused(400, "unexpectedParameter")
        return request.params

    def _body(
        self, request: Request, allowed: dict[str, type | tuple[type, ...]], required: tuple[str, ...]
    ) -> dict[str, Any]:
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        faults = only(body, allowed, required)
        if not request.headers.get("content-type", "").startswith("application/json"):
            faults.append("content-type")
        if faults:
            raise ErrorResponse(self.error(400, "badRequest", "; ".join(faults)))
        return dict(body)

    def _refused(self, status: int, reason: str) -> ErrorResponse:
        return ErrorResponse(self.error(status, reason, f"The request is refused: {reason}."))

    def _id(self) -> str:
        """Return an id of 11 characters, as YouTube's have."""
        channel = self.url if self.seed is None else self.seed
        return urlsafe_b64encode(hashlib.sha256(f"{channel}/{self.next_id()}".encode()).digest()).decode()[:11]


@contextmanager
def youtube_simulator(**options: Any) -> Iterator[YouTubeSimulator]:
    with serving(YouTubeSimulator(**options)) as simulator:
        yield simulator
