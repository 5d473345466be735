"""TikTok on this machine: Direct Post and inbox uploads by FILE_UPLOAD, the list of videos, and its login.

An upload goes from chunk to chunk until it is whole; then it is processed, and becomes a post or fails. `misbehave`
says what goes wrong with the next uploads that are opened.
"""

import hashlib
import json
import re
from base64 import b16encode
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.oauth import OAuthSimulator
from simulators.platforms.platform import ErrorResponse, SimulatedAccount, SimulatedPost, seconds_of, serving
from simulators.video.clips import only

Trick = Literal[
    # The upload's address takes nothing any more, from the first byte on.
    "address expires",
    # It is whole, and comes to nothing.
    "fails its check",
    "fails for its text",
    "fails internally",
    "fails as revoked",
    # It becomes a post.
    "id is late",
    "id never comes",
    "several ids",
    # It becomes a post, and nobody can ask for its id any more.
    "forgotten",
    # It is not whole yet, and nobody can ask for its id any more.
    "forgotten before",
    # Its chunks are taken again once it is whole, and make a second post.
    "accepts repeats",
    # Its post waits in the owner's inbox, although a direct one was asked for.
    "goes to the inbox",
]
TRICKS: tuple[Trick, ...] = get_args(Trick)

MB = 1_000_000
HOUR, DAY = 3600.0, 86400.0
PRIVACY = ("PUBLIC_TO_EVERYONE", "MUTUAL_FOLLOW_FRIENDS", "FOLLOWER_OF_CREATOR", "SELF_ONLY")
FAILURES: dict[Trick, str] = {
    "fails its check": "picture_size_check_failed",
    "fails for its text": "spam_risk_text",
    "fails internally": "internal",
    "fails as revoked": "auth_removed",
}
POST_INFO: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "privacy_level": str,
    "disable_comment": bool,
    "disable_duet": bool,
    "disable_stitch": bool,
    "brand_content_toggle": bool,
    "brand_organic_toggle": bool,
    "is_aigc": bool,
    "video_cover_timestamp_ms": int,
}
SOURCE_INFO: dict[str, type | tuple[type, ...]] = {
    "source": str,
    "video_size": int,
    "chunk_size": int,
    "total_chunk_count": int,
}
COUNTS = {"view_count": "views", "like_count": "likes", "comment_count": "comments", "share_count": "shares"}
"""TikTok's names of what is counted of a video, and ours."""
VIDEO_FIELDS = {"id", "title", "video_description", "create_time", "share_url", "duration", *COUNTS}
SHOWN = 150
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
RATES = {"creator_info": 20, "init": 6, "inbox_init": 6, "status": 30, "list": 600, "query": 600}
"""Requests a minute and access token."""


@dataclass
class Upload:
    """A video on its way. `bytes` are those of whole chunks, `part` those of one that broke off."""

    publish_id: str
    account: str
    post_info: dict[str, Any] | None
    size: int
    chunk: int
    opened_at: float
    trick: Trick | None
    bytes: bytearray = field(default_factory=bytearray)
    part: int = 0
    whole_at: float | None = None
    fail_reason: str = ""
    posts: list[str] = field(default_factory=list)


@dataclass
class TikTokSimulator(OAuthSimulator):
    """`audited`: whether our app may post publicly. `active_users` is how many accounts a day may post by it (None:
    any), `daily_posts` how many posts a day one account may have. `keeps_rates`: its documented rates are kept.

    `processing_seconds` is how long a whole upload is processed, `moderation_seconds` after how long a trick's late id
    is told, by the simulator's clock. `address_seconds` is how long an upload address takes anything.
    `refuses_repeats`: a part that it has already is called a mistake.
    """

    calls: ClassVar[tuple[str, ...]] = (
        *("authorize", "token", "revoke", "user", "creator_info", "init", "inbox_init", "upload", "status"),
        *("list", "query"),
    )
    id_name = "client_key"
    access_seconds = 2 * HOUR
    refresh_seconds = 180 * DAY
    rotates = True
    scopes = ("user.info.basic", "video.publish", "video.upload", "video.list")

    audited: bool = True
    active_users: int | None = None
    daily_posts: int | None = None
    keeps_rates: bool = False
    refuses_repeats: bool = False
    max_seconds: int = 600
    video_seconds: int = 12
    """How long a video is said to be that does not say it itself."""
    processing_seconds: float = 0
    moderation_seconds: float = 6 * HOUR
    address_seconds: float = HOUR
    private: set[str] = field(default_factory=set)
    """Accounts that are private."""
    closed: set[str] = field(default_factory=set)
    """Interactions that no account allows: comment, duet, stitch."""
    unlisted: set[str] = field(default_factory=set)
    """Accounts that were connected without the scope `video.list`."""
    retired: set[str] = field(default_factory=set)
    """Fields of a video that TikTok has no longer."""
    uploads: dict[str, Upload] = field(default_factory=dict)
    tricks: deque[Trick | None] = field(default_factory=deque)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._asked: dict[tuple[str, str], deque[float]] = {}
        self._addresses: dict[str, Upload] = {}
        self._seconds: dict[str, int] = {}

    def misbehave(self, *tricks: Trick | None) -> None:
        """Play one of these with each of the next uploads; None plays none."""
        with self.lock:
            self.tricks.extend(tricks)

    def post_elsewhere(self, account: str, text: str, *, before: float = 0, sha256: str = "") -> SimulatedPost:
        """Post something that its owner made with TikTok's own app, `before` seconds ago."""
        with self.lock:
            post = SimulatedPost(self._id(), account, text, sha256, self.now() - before, foreign=True)
            self.posts.append(post)
            return post

    def forget(self, publish_id: str) -> None:
        """Let nobody ask for it any more."""
        with self.lock:
            self.uploads[publish_id].trick = "forgotten before"

    def call_of(self, request: Request) -> str | None:
        if request.method == "PUT" and request.path == "/video/":
            return "upload"
        return {
            ("GET", "/v2/auth/authorize/"): "authorize",
            ("POST", "/v2/oauth/token/"): "token",
            ("POST", "/v2/oauth/revoke/"): "revoke",
            ("GET", "/v2/user/info/"): "user",
            ("POST", "/v2/post/publish/creator_info/query/"): "creator_info",
            ("POST", "/v2/post/publish/video/init/"): "init",
            ("POST", "/v2/post/publish/inbox/video/init/"): "inbox_init",
            ("POST", "/v2/post/publish/status/fetch/"): "status",
            ("POST", "/v2/video/list/"): "list",
            ("POST", "/v2/video/query/"): "query",
        }.get((request.method, request.path))

    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        body = {"data": {}, "error": {"code": code, "message": message, "log_id": "simulated"}}
        return json_reply(body, status, **headers)

    def expired(self) -> Reply:
        return self.error(401, "access_token_invalid", "The access token is invalid or not found in the request.")

    def challenge_of(self, verifier: str) -> str:
        return b16encode(hashlib.sha256(verifier.encode()).digest()).decode().lower()

    def granted(self, account: SimulatedAccount, scope: str) -> dict[str, Any]:
        return {
            "open_id": account.external_id,
            "scope": ",".join(scope.replace(",", " ").split()),
            "refresh_expires_in": int(self.refresh_seconds),
        }

    def route(self, call: str, request: Request) -> Reply:
        match call:
            case "authorize":
                return self.authorize(request, set())
            case "token":
                return self.token(request)
            case "revoke":
                good = self.ended(request, {"client_key", "client_secret", "token"})
                return json_reply({}) if good else self.error(400, "invalid_request", "no such token")
            case "upload":
                return self._upload(request)
        account = self.account_of(request)
        if call in ("list", "query") and account.external_id in self.unlisted:
            return self.error(401, "scope_not_authorized", "The user did not authorize the scope video.list.")
        self._count(call, request)
        match call:
            case "user":
                self._fields(request, {"open_id", "display_name"})
                user = {"open_id": account.external_id, "display_name": account.username}
                return self._ok({"user": user})
            case "creator_info":
                self._body(request, {}, ())
                return self._creator_info(account)
            case "init" | "inbox_init":
                return self._init(account, request, direct=call == "init")
            case "status":
                return self._status(account, request)
            case "list":
                return self._list(account, request)
        return self._query(account, request)

    # --- posting ----------------------------------------------------------------------------------------------------

    def _creator_info(self, account: SimulatedAccount) -> Reply:
        self._check_caps(account, status=200)
        return self._ok(
            {
                "creator_username": account.username,
                "creator_nickname": account.username,
                "privacy_level_options": self._privacy(account),
                **{f"{name}_disabled": name in self.closed for name in ("comment", "duet", "stitch")},
                "max_video_post_duration_sec": self.max_seconds,
            }
        )

    def _init(self, account: SimulatedAccount, request: Request, *, direct: bool) -> Reply:
        parts: dict[str, type | tuple[type, ...]] = {"source_info": dict}
        if direct:
            parts["post_info"] = dict
        body = self._body(request, parts, tuple(parts))
        self._check_source(body["source_info"])
        if direct:
            self._check_post(account, body["post_info"])
        self._check_caps(account)
        number = next(self._numbers)
        kind = "v_pub_file" if direct else "v_inbox_file"
        upload = Upload(
            publish_id=f"{kind}~v2-1.{7_400_000_000_000_000_000 + number}",
            account=account.external_id,
            post_info=body.get("post_info"),
            size=body["source_info"]["video_size"],
            chunk=body["source_info"]["chunk_size"],
            opened_at=self.now(),
            trick=self.tricks.popleft() if self.tricks else None,
        )
        self.uploads[upload.publish_id] = upload
        address = f"{self.url}/video/?upload_id={number}&upload_token={self._secret('upload')}"
        self._addresses[address.partition("?")[2]] = upload
        return self._ok({"publish_id": upload.publish_id, "upload_url": address})

    def _upload(self, request: Request) -> Reply:
        upload = self._addresses.get(request.query)
        if upload is None:
            return Reply(b"", 404)
        if upload.trick == "address expires" or self.now() > upload.opened_at + self.address_seconds:
            return Reply(b"", 403)
        found = RANGE.fullmatch(request.headers.get("content-range", ""))
        if found is None or request.headers.get("content-type") not in ("video/mp4", "video/quicktime", "video/webm"):
            return Reply(b"", 400)
        begin, end, size = int(found[1]), int(found[2]) + 1, int(found[3])
        repeats = self.accepts_repeats or upload.trick == "accepts repeats"
        if upload.whole_at is not None and repeats and begin == 0:
            upload.bytes.clear()
        left = upload.size - begin
        length = left if left < 2 * upload.chunk else upload.chunk
        if self.refuses_repeats and begin < len(upload.bytes):
            return Reply(b"", 400)
        if size != upload.size or begin != len(upload.bytes) or end != begin + length:
            return Reply(b"", 416)
        if len(request.body) != length:
            return Reply(b"", 400)
        upload.bytes += request.body
        upload.part = 0
        if len(upload.bytes) < upload.size:
            return Reply(b"", 206, {"Content-Range": f"bytes 0-{len(upload.bytes) - 1}/{upload.size}"})
        upload.whole_at = self.now()
        self._end(upload)
        return Reply(b"", 201)

    def cut_off(self, call: str, request: Request) -> Reply:
        upload = self._addresses.get(request.query)
        found = RANGE.fullmatch(request.headers.get("content-range", ""))
        if call == "upload" and upload is not None and found and int(found[1]) == len(upload.bytes):
            upload.part = len(request.body)
        return Reply(hang_up=True)

    def _end(self, upload: Upload) -> None:
        """Make a post of an upload that is whole, unless it fails or waits in the inbox."""
        upload.fail_reason = FAILURES.get(upload.trick, "") if upload.trick else ""
        if upload.fail_reason == "auth_removed":
            self.revoke_account(upload.account)
        if upload.fail_reason or upload.post_info is None or upload.trick == "goes to the inbox":
            return
        text, sha256 = upload.post_info["title"], hashlib.sha256(upload.bytes).hexdigest()
        private = upload.post_info["privacy_level"] != "PUBLIC_TO_EVERYONE"
        post = SimulatedPost(
            self._id(), upload.account, text, sha256, self.now(), fields=dict(upload.post_info), private=private
        )
        upload.posts.append(post.id)
        self.posts.append(post)
        if (seconds := seconds_of(bytes(upload.bytes))) is not None:
            self._seconds[post.id] = round(seconds)

    def _status(self, account: SimulatedAccount, request: Request) -> Reply:
        publish_id = self._body(request, {"publish_id": str}, ("publish_id",))["publish_id"]
        upload = self.uploads.get(publish_id)
        forgotten = upload is not None and (
            upload.trick == "forgotten before" or (upload.trick == "forgotten" and upload.whole_at is not None)
        )
        if upload is None or forgotten:
            return self.error(400, "invalid_publish_id", "The publish_id does not exist.")
        if upload.account != account.external_id:
            code = "token_not_authorized_for_specified_publish_id"
            return self.error(403, code, "The publish_id is of another account.")
        data: dict[str, Any] = {"status": "PROCESSING_UPLOAD", "uploaded_bytes": len(upload.bytes) + upload.part}
        if upload.whole_at is None or self.now() < upload.whole_at + self.processing_seconds:
            return self._ok(data)
        if upload.fail_reason:
            return self._ok(data | {"status": "FAILED", "fail_reason": upload.fail_reason})
        if not upload.posts:
            return self._ok(data | {"status": "SEND_TO_USER_INBOX"})
        # As TikTok has it: numbers of 19 digits, under a misspelt name.
        return self._ok(data | {"status": "PUBLISH_COMPLETE", "publicaly_available_post_id": self._public_ids(upload)})

    def _public_ids(self, upload: Upload) -> list[int]:
        posts = [each for each in self.posts if each.id in upload.posts and not each.private]
        late = upload.whole_at is not None and self.now() < upload.whole_at + self.moderation_seconds
        if upload.trick == "id never comes" or (upload.trick == "id is late" and late):
            return []
        more = [7_399_000_000_000_000_001] if upload.trick == "several ids" else []
        return [*(int(each.id) for each in posts), *more]

    # --- reading ----------------------------------------------------------------------------------------------------

    def _list(self, account: SimulatedAccount, request: Request) -> Reply:
        names = self._fields(request, VIDEO_FIELDS - self.retired)
        body = self._body(request, {"max_count": int, "cursor": int}, ())
        count = body.get("max_count", 10)
        if not 1 <= count <= 20:
            return self.error(400, "invalid_params", "max_count")
        before = body.get("cursor", (self.now() + DAY) * 1000)
        posts = [each for each in self._public(account) if each.published_at * 1000 < before]
        page = posts[:count]
        cursor = int(page[-1].published_at * 1000) if page else 0
        videos = [self._shown(each, names) for each in page]
        return self._ok({"videos": videos, "cursor": cursor, "has_more": len(posts) > count})

    def _query(self, account: SimulatedAccount, request: Request) -> Reply:
        names = self._fields(request, VIDEO_FIELDS - self.retired)
        filters = self._body(request, {"filters": dict}, ("filters",))["filters"]
        ids = filters.get("video_ids")
        texts = isinstance(ids, list) and all(isinstance(each, str) for each in ids)
        if filters.keys() != {"video_ids"} or not texts or not 1 <= len(ids) <= 20:
            return self.error(400, "invalid_params", "filters")
        found = [each for each in self._public(account) if each.id in ids]
        return self._ok({"videos": [self._shown(each, names) for each in found]})

    def _public(self, account: SimulatedAccount) -> list[SimulatedPost]:
        own = [each for each in self.posts if each.account == account.external_id]
        ids = {each.id for each in own}
        uploads = [each for each in self.uploads.values() if not ids.isdisjoint(each.posts)]
        late = {id_ for each in uploads if not self._public_ids(each) for id_ in each.posts}
        mine = [each for each in own if each.id not in late]
        shown = [each for each in mine if not each.private and not each.removed]
        return sorted(shown, key=lambda post: post.published_at, reverse=True)

    def _shown(self, post: SimulatedPost, names: set[str]) -> dict[str, Any]:
        username = self.accounts[post.account].username
        video = {
            "id": post.id,
            "title": post.text[:SHOWN],
            "video_description": post.text[:SHOWN],
            "create_time": int(post.published_at),
            "share_url": f"https://www.tiktok.com/@{username}/video/{post.id}?utm_campaign=simulated",
            "duration": self._seconds.get(post.id, self.video_seconds),
        }
        counts = self.counts(post)
        video |= {name: counts[ours] for name, ours in COUNTS.items() if ours in counts}
        return {name: video[name] for name in video if name in names}

    # --- what is checked --------------------------------------------------------------------------------------------

    def _check_source(self, source: dict[str, Any]) -> None:
        faults = only(source, SOURCE_INFO, tuple(SOURCE_INFO))
        if not faults:
            size, chunk, count = source["video_size"], source["chunk_size"], source["total_chunk_count"]
            last = size - chunk * (count - 1)
            checks = {
                "source": source["source"] == "FILE_UPLOAD",
                "video_size": 0 < size <= 4000 * MB,
                "chunk_size": 0 < chunk <= 64 * MB and (chunk >= 5 * MB or chunk == size),
                "total_chunk_count": chunk > 0 and count == max(size // chunk, 1) <= 1000,
                "the last chunk": 0 < last <= 128 * MB,
                "one chunk": size >= 5 * MB or count == 1,
            }
            faults = [name for name, holds in checks.items() if not holds]
        if faults:
            raise ErrorResponse(self.error(400, "invalid_params", "; ".join(faults)))

    def _check_post(self, account: SimulatedAccount, info: dict[str, Any]) -> None:
        faults = only(info, POST_INFO, ("title", "privacy_level"))
        if not faults and len(info["title"].encode("utf-16-le")) > 2 * 2200:
            faults = ["title: too long"]
        if not faults:
            faults = [f"disable_{name}" for name in sorted(self.closed) if info.get(f"disable_{name}") is not True]
        if faults:
            raise ErrorResponse(self.error(400, "invalid_params", "; ".join(faults)))
        if not self.audited and (account.external_id not in self.private or info["privacy_level"] != "SELF_ONLY"):
            code = "unaudited_client_can_only_post_to_private_accounts"
            raise ErrorResponse(self.error(403, code, "Please review our integration guidelines."))
        if info["privacy_level"] not in self._privacy(account):
            raise ErrorResponse(self.error(403, "privacy_level_option_mismatch", "Not one of the creator's options."))

    def _check_caps(self, account: SimulatedAccount, *, status: int = 403) -> None:
        since = self.now() - DAY
        ours = [each for each in self.posts if not each.foreign and each.published_at > since]
        users = {each.account for each in ours}
        if self.active_users is not None and account.external_id not in users and len(users) >= self.active_users:
            raise ErrorResponse(self.error(status, "reached_active_user_cap", "The daily quota of users is reached."))
        mine = sum(each.account == account.external_id for each in ours)
        if self.daily_posts is not None and mine >= self.daily_posts:
            raise ErrorResponse(self.error(status, "spam_risk_too_many_posts", "The daily post cap is reached."))

    def _privacy(self, account: SimulatedAccount) -> list[str]:
        hidden = "PUBLIC_TO_EVERYONE" if account.external_id in self.private else "FOLLOWER_OF_CREATOR"
        return [each for each in PRIVACY if each != hidden]

    def _count(self, call: str, request: Request) -> None:
        most = RATES.get(call)
        if not self.keeps_rates or most is None:
            return
        asked = self._asked.setdefault((call, request.headers["authorization"]), deque())
        while asked and asked[0] <= self.now() - 60:
            asked.popleft()
        if len(asked) >= most:
            raise ErrorResponse(self.error(429, "rate_limit_exceeded", "too many requests"))
        asked.append(self.now())

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
            raise ErrorResponse(self.error(400, "invalid_params", "; ".join(faults)))
        return dict(body)

    def _fields(self, request: Request, allowed: set[str]) -> set[str]:
        names = set(request.params.get("fields", "").split(","))
        if request.params.keys() != {"fields"} or not names <= allowed:
            raise ErrorResponse(self.error(400, "invalid_params", "fields"))
        return names

    def _ok(self, data: dict[str, Any]) -> Reply:
        return json_reply({"data": data, "error": {"code": "ok", "message": "", "log_id": "simulated"}})

    def _id(self) -> str:
        """Return an id of TikTok's size, which no float holds exactly."""
        return str(7_400_000_000_000_000_000 + self.next_id() * 7 + 3)


@contextmanager
def tiktok_simulator(**options: Any) -> Iterator[TikTokSimulator]:
    with serving(TikTokSimulator(**options)) as simulator:
        yield simulator
