"""Bluesky on this machine: the entryway, the account's own server, the directory and the video service at one address.

It is strict where Bluesky is lenient: unknown parameters and fields are refused, and the parts of a text that a facet
points at must be what it says.
"""

import json
import re
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, urlsplit

from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.bluesky_records import POSTS, faults
from simulators.platforms.platform import (
    ErrorResponse,
    PlatformSimulator,
    SimulatedAccount,
    SimulatedPost,
    serving,
)

ACCESS_SECONDS, REFRESH_SECONDS, GRACE_SECONDS = 2 * 3600, 60 * 86_400, 2 * 3600
"""How long tokens are good, and a refresh token that has been used."""
TID = re.compile("[234567abcdefghij][234567abcdefghijklmnopqrstuvwxyz]{12}")
VIDEO_DID = "did:web:video.bsky.app"
UPLOAD, LIMITS = "com.atproto.repo.uploadBlob", "app.bsky.video.getUploadLimits"
POSTS_AT_ONCE = 25
STATES = ("CREATED", "ENCODING", "ENCODED", "SCANNING", "SCANNED", "UPLOADING", "UPLOADED")


@dataclass
class Job:
    """A video that was uploaded. It is ready after `polls` questions; `failure` is the code of its failure."""

    id: str
    did: str
    sha256: str
    blob: dict[str, Any]
    polls: int
    failure: str | None = None
    asked: int = 0

    @property
    def state(self) -> str:
        if self.asked < self.polls:
            return f"JOB_STATE_{STATES[self.asked % len(STATES)]}"
        return "JOB_STATE_FAILED" if self.failure else "JOB_STATE_COMPLETED"


@dataclass
class BlueskySimulator(PlatformSimulator):
    """`polls` and `failure` are those of the next videos. `known_as` is how a second upload of a video is answered:
    with the job of the first, with that in a field, or with the blob at once. `names_server`: a session says where the
    account lives; else the directory does. `address_in_documents` is what is said there, if it is not our own; `active`
    and `named` are what sessions say of the account: whether it is active, and another's id."""

    calls = (
        "createSession",
        "refreshSession",
        "deleteSession",
        "getServiceAuth",
        "uploadVideo",
        "getJobStatus",
        "getUploadLimits",
        "putRecord",
        "createRecord",
        "getRecord",
        "listRecords",
        "getPosts",
        "directory",
    )

    polls: int = 1
    failure: str | None = None
    known_as: Literal["job", "field", "blob"] = "job"
    names_server: bool = True
    address_in_documents: str | None = None
    active: bool = True
    named: str | None = None
    email_confirmed: bool = True
    videos_a_day: int = 25
    jobs: dict[str, Job] = field(default_factory=dict)
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Of each account, by their keys."""
    unlisted: set[str] = field(default_factory=set)
    """Posts that are left out of answers although their records are there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._service_tokens: dict[str, tuple[str, str, str, float]] = {}
        self._issued = 0

    # --- what a test does ------------------------------------------------------------------------------------------

    def foreign_post(self, external_id: str, text: str, video: bytes = b"a video of its own") -> SimulatedPost:
        """Let the account's owner post by another way."""
        with self.lock:
            key = _tid(self.now(), len(self.posts))
            return self._appear(external_id, key, _plain_record(text, self.now()), sha256(video).hexdigest(), True)

    def remove(self, uri: str) -> None:
        """Let the owner, or Bluesky, delete a post."""
        with self.lock:
            did, _, key = uri.removeprefix("at://").partition(f"/{POSTS}/")
            del self.records[did][key]
            super().remove(uri)

    def tokens(self, external_id: str) -> tuple[str, str]:
        """Return fresh tokens of an account, as if it had logged in."""
        with self.lock:
            return self._tokens(self.accounts[external_id])

    # --- the base --------------------------------------------------------------------------------------------------

    def call_of(self, request: Request) -> str | None:
        if request.method == "GET" and request.path.startswith("/did:plc:"):
            return "directory"
        name = request.path.rpartition(".")[2]
        method = (
            "GET"
            if name in ("getServiceAuth", "getJobStatus", "getUploadLimits", "getRecord", "listRecords", "getPosts")
            else "POST"
        )
        ours = request.path in {f"/xrpc/{each}" for each in _METHODS} and request.method == method
        return name if ours else None

    def error(self, status: int, code: str, message: str = "", **headers: str) -> Reply:
        if status == 429:  # as Bluesky says it
            code, headers = (
                "RateLimitExceeded",
                {"ratelimit_reset": str(int(self.now()) + 30), "ratelimit_remaining": "0"},
            )
        if status >= 500:
            code = "InternalServerError"
        return json_reply({"error": code, "message": message}, status, **headers)

    def expired(self) -> Reply:
        return self.error(400, "ExpiredToken", "Token has expired")

    def route(self, call: str, request: Request) -> Reply:
        handler = {
            "createSession": self._create_session,
            "refreshSession": self._refresh_session,
            "deleteSession": self._delete_session,
            "getServiceAuth": self._get_service_auth,
            "uploadVideo": self._upload_video,
            "getJobStatus": self._get_job_status,
            "getUploadLimits": self._get_upload_limits,
            "putRecord": self._put_record,
            "createRecord": self._create_record,
            "getRecord": self._get_record,
            "listRecords": self._list_records,
            "getPosts": self._get_posts,
            "directory": self._did_document,
        }[call]
        return handler(request)

    # --- accounts --------------------------------------------------------------------------------------------------

    def _create_session(self, request: Request) -> Reply:
        body = self._body(request, {"identifier", "password"})
        account = next((a for a in self.accounts.values() if body["identifier"] in (a.external_id, a.username)), None)
        if account is None or account.password != body["password"]:
            raise self._refused(401, "AuthenticationRequired", "Invalid identifier or password")
        self._living(account)
        return self._session(account)

    def _refresh_session(self, request: Request) -> Reply:
        account, token = self._by_refresh_token(request)
        account.used_refresh_tokens.add(token)
        account.refresh_tokens[token] = min(account.refresh_tokens[token], self.now() + GRACE_SECONDS)
        return self._session(account)

    def _delete_session(self, request: Request) -> Reply:
        account, token = self._by_refresh_token(request)
        del account.refresh_tokens[token]
        account.access_tokens.clear()
        return Reply()

    def _by_refresh_token(self, request: Request) -> tuple[SimulatedAccount, str]:
        if request.body:
            raise self._refused(400, "InvalidRequest", "A request body was provided when none was expected")
        token = self._bearer(request)
        account = next((a for a in self.accounts.values() if token in a.refresh_tokens), None)
        if account is None:
            raise self._refused(400, "InvalidToken", "Token could not be verified")
        if account.refresh_tokens[token] <= self.now():
            raise self._refused(400, "ExpiredToken", "Token has been revoked")
        self._living(account)
        return account, token

    def _session(self, account: SimulatedAccount) -> Reply:
        access, refresh = self._tokens(account)
        session = {
            "did": self.named or account.external_id,
            "handle": account.username,
            "accessJwt": access,
            "refreshJwt": refresh,
            "email": "owner@example.com",
            "emailConfirmed": self.email_confirmed,
            "active": self.active,
        }
        return json_reply(session | ({"didDoc": self._document(account)} if self.names_server else {}))

    def _did_document(self, request: Request) -> Reply:
        account = self.accounts.get(request.path.removeprefix("/"))
        if account is None:
            return json_reply({"message": "DID not registered"}, 404)
        return json_reply(self._document(account))

    def _document(self, account: SimulatedAccount) -> dict[str, Any]:
        other = {"id": "#bsky_notif", "type": "BskyNotificationService", "serviceEndpoint": "https://example.com"}
        pds = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": self.address_in_documents}
        pds["serviceEndpoint"] = self.url if self.address_in_documents is None else self.address_in_documents
        return {"id": account.external_id, "alsoKnownAs": [f"at://{account.username}"], "service": [other, pds]}

    def _tokens(self, account: SimulatedAccount) -> tuple[str, str]:
        access = self._jwt("com.atproto.appPass", account.external_id, ACCESS_SECONDS)
        refresh = self._jwt("com.atproto.refresh", account.external_id, REFRESH_SECONDS)
        account.access_tokens[access] = self.now() + ACCESS_SECONDS
        account.refresh_tokens[refresh] = self.now() + REFRESH_SECONDS
        return access, refresh

    def _jwt(self, scope: str, subject: str, seconds: float) -> str:
        self._issued += 1
        claims = {"scope": scope, "sub": subject, "exp": int(self.now() + seconds), "jti": f"{self._issued}"}
        return ".".join(_encoded(part) for part in ({"alg": "HS256", "typ": "JWT"}, claims, {"signed": self._issued}))

    def _bearer(self, request: Request) -> str:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            raise self._refused(401, "AuthMissing", "Authentication Required")
        return token

    def _account(self, request: Request) -> SimulatedAccount:
        token = self._bearer(request)
        account = next((a for a in self.accounts.values() if token in a.access_tokens), None)
        if account is None:
            raise self._refused(400, "InvalidToken", "Token could not be verified")
        if account.access_tokens[token] <= self.now():
            raise ErrorResponse(self.expired())
        self._living(account)
        return account

    def _living(self, account: SimulatedAccount) -> None:
        if account.revoked:
            raise self._refused(401, "AccountTakedown", "Account has been taken down")

    # --- videos ----------------------------------------------------------------------------------------------------

    def _get_service_auth(self, request: Request) -> Reply:
        params = self._params(request, {"aud", "lxm", "exp"})
        account = self._account(request)
        if float(params["exp"]) - self.now() > 3600:
            raise self._refused(
                400, "BadExpiration", "cannot request a token with an expiration more than an hour away"
            )
        token = self._jwt(params["lxm"], account.external_id, 60)
        self._service_tokens[token] = (account.external_id, params["aud"], params["lxm"], float(params["exp"]))
        return json_reply({"token": token})

    def _service(self, request: Request, audience: str, method: str) -> str:
        """Return the account that a service token is of."""
        did, aud, lxm, exp = self._service_tokens.get(self._bearer(request), ("", "", "", 0.0))
        if aud != audience:
            raise self._refused(401, "BadJwtAudience", f"jwt audience does not match service did: {aud}")
        if lxm != method:
            raise self._refused(401, "BadJwtLexiconMethod", f"bad jwt lexicon method (lxm). must match: {method}")
        if exp <= self.now():
            raise self._refused(401, "JwtExpired", "jwt expired")
        return did

    def _upload_video(self, request: Request) -> Reply:
        params = self._params(request, {"did", "name"})
        server = f"did:web:{quote(urlsplit(self.url).netloc, safe='')}"
        did = self._service(request, server, UPLOAD)
        if params["did"] != did or not params["name"].endswith(".mp4"):
            raise self._refused(400, "InvalidRequest", "did or name is not that of the token's account and video")
        if request.headers.get("content-type") != "video/mp4" or not request.body:
            raise self._refused(400, "InvalidRequest", "the body is no mp4 file")
        if not self.email_confirmed:
            nothing = {"did": "", "error": "unconfirmed_email", "jobId": "", "state": ""}
            return json_reply({"jobStatus": nothing}, 401)
        digest = sha256(request.body)
        first = next((j for j in self.jobs.values() if (j.did, j.sha256) == (did, digest.hexdigest())), None)
        if first is not None and first.failure is None:
            return self._uploaded_before(first)
        blob = {"$type": "blob", "ref": {"$link": _cid(digest.digest())}, "mimeType": "video/mp4"}
        job = Job(
            f"job{len(self.jobs):016}",
            did,
            digest.hexdigest(),
            blob | {"size": len(request.body)},
            self.polls,
            self.failure,
        )
        self.jobs[job.id] = job
        return json_reply({"did": did, "jobId": job.id, "state": job.state})

    def _uploaded_before(self, job: Job) -> Reply:
        job.asked = max(job.asked, job.polls)
        shown = {"did": job.did, "error": "already_exists", "jobId": job.id, "message": "Video already processed"}
        shown["state"] = job.state
        if self.known_as == "blob":
            return json_reply(shown | {"blob": job.blob}, 409)
        return json_reply({"jobStatus": shown} if self.known_as == "field" else shown, 409)

    def _get_job_status(self, request: Request) -> Reply:
        job = self.jobs.get(self._params(request, {"jobId"})["jobId"])
        if job is None:
            raise self._refused(400, "InvalidRequest", "job not found")
        shown: dict[str, Any] = {"jobId": job.id, "did": job.did, "state": job.state}
        if job.asked < job.polls:
            job.asked += 1
            shown["progress"] = min(99, 10 * job.asked)
        elif job.failure:
            shown |= {"error": f"video processing error for job: {job.id}", "failureCode": job.failure}
            shown["message"] = "Failed to process video"
        else:
            shown |= {"blob": job.blob, "progress": 100}
        return json_reply({"jobStatus": shown})

    def _get_upload_limits(self, request: Request) -> Reply:
        self._params(request, set())
        did = self._service(request, VIDEO_DID, LIMITS)
        left = self.videos_a_day - sum(job.did == did for job in self.jobs.values())
        limits = {"canUpload": left > 0, "remainingDailyVideos": max(left, 0), "remainingDailyBytes": 10_000_000_000}
        return json_reply(limits | ({} if left > 0 else {"message": "User has exceeded daily upload videos limit"}))

    # --- records ---------------------------------------------------------------------------------------------------

    def _put_record(self, request: Request) -> Reply:
        did, key, record, digest = self._written(request)
        there = self.records.get(did, {}).get(key)
        if there is None:
            self._appear(did, key, record, digest, False)
        elif there["value"] != record:
            self.records[did][key] = self._stored(did, key, record)
            for post in self.posts:
                if post.id == there["uri"]:
                    post.text, post.sha256, post.fields = record["text"], digest, record
        stored = self.records[did][key]
        return json_reply({"uri": stored["uri"], "cid": stored["cid"], "validationStatus": "valid"})

    def _create_record(self, request: Request) -> Reply:
        did, key, record, digest = self._written(request)
        if key in self.records.get(did, {}):
            raise self._refused(500, "InternalServerError", "Internal Server Error")
        self._appear(did, key, record, digest, False)
        stored = self.records[did][key]
        return json_reply({"uri": stored["uri"], "cid": stored["cid"], "validationStatus": "valid"})

    def _get_record(self, request: Request) -> Reply:
        params = self._params(request, {"repo", "collection", "rkey"})
        stored = self.records.get(self._repo(params), {}).get(params["rkey"])
        if stored is None:
            raise self._refused(400, "RecordNotFound", "Could not locate record")
        return json_reply(stored)

    def _list_records(self, request: Request) -> Reply:
        params = self._params(request, {"repo", "collection", "limit"}, {"cursor"})
        before = params.get("cursor", "~")
        found = sorted(
            (key for key in self.records.get(self._repo(params), {}) if key < before),
            reverse=True,
        )
        page = found[: int(params["limit"])]
        body: dict[str, Any] = {"records": [self.records[params["repo"]][key] for key in page]}
        return json_reply(body | ({"cursor": page[-1]} if page else {}))

    def _get_posts(self, request: Request) -> Reply:
        """Answer as the AppView does: posts that it does not show are left out, and nobody counts views."""
        self._account(request)
        pairs = parse_qsl(request.query, keep_blank_values=True)
        if {name for name, _ in pairs} != {"uris"} or not 0 < len(pairs) <= POSTS_AT_ONCE:
            raise self._refused(400, "InvalidRequest", f"the parameters are not 1 to {POSTS_AT_ONCE} uris")
        wanted = {uri for _, uri in pairs}
        shown = [post for post in self.posts if post.id in wanted and not post.removed and post.id not in self.unlisted]
        return json_reply({"posts": [self._view(post) for post in shown]})

    def _view(self, post: SimulatedPost) -> dict[str, Any]:
        """Half of what is passed on is quoted, the rest reposted."""
        counts = self.counts(post)
        if isinstance(passed_on := counts.get("shares"), int):
            counts = {"quotes": passed_on // 2, "reposts": passed_on - passed_on // 2} | counts
        names = {
            **{"likeCount": "likes", "replyCount": "comments", "repostCount": "reposts", "quoteCount": "quotes"},
            "bookmarkCount": "saves",
        }
        stored = self.records[post.account][post.id.rpartition("/")[2]]
        return {
            "uri": post.id,
            "cid": stored["cid"],
            "author": {"did": post.account, "handle": self.accounts[post.account].username},
            "record": stored["value"],
            "indexedAt": stored["value"]["createdAt"],
            **{name: counts[kept] for name, kept in names.items() if kept in counts},
        }

    def _repo(self, params: Mapping[str, str]) -> str:
        account = self.accounts.get(params["repo"])
        if account is None or params["collection"] != POSTS:
            raise self._refused(400, "InvalidRequest", "Could not find repo")
        if account.revoked:
            raise self._refused(400, "RepoTakendown", "Repo has been taken down")
        return account.external_id

    def _written(self, request: Request) -> tuple[str, str, dict[str, Any], str]:
        body = self._body(request, {"repo", "collection", "rkey", "record"})
        account = self._account(request)
        if body["repo"] != account.external_id or body["collection"] != POSTS:
            raise self._refused(400, "InvalidRequest", "the record is not a post of this account")
        if not isinstance(body["rkey"], str) or not TID.fullmatch(body["rkey"]):
            raise self._refused(400, "InvalidRequest", "Invalid record key")
        record = body["record"]
        wrong = list(faults(record))
        if wrong:
            raise self._refused(400, "InvalidRequest", f"Invalid {POSTS} record: {'; '.join(wrong)}")
        return account.external_id, body["rkey"], record, self._video_of(account, record)

    def _video_of(self, account: SimulatedAccount, record: Mapping[str, Any]) -> str:
        """Return the digest of the record's video; "" for a record that has none."""
        for post in (record.get("reply") or {}).values():
            did, _, key = post["uri"].removeprefix("at://").partition(f"/{POSTS}/")
            if self.records.get(did, {}).get(key, {}).get("cid") != post["cid"]:
                raise self._refused(400, "InvalidRequest", "the reply is to no post that there is")
        if "embed" not in record:
            return ""
        blob = record["embed"]["video"]
        for job in self.jobs.values():
            if (job.did, job.blob) == (account.external_id, blob) and job.state == "JOB_STATE_COMPLETED":
                return job.sha256
        raise self._refused(400, "BlobNotFound", f"Could not find blob: {blob.get('ref')}")

    def _appear(self, did: str, key: str, record: dict[str, Any], digest: str, foreign: bool) -> SimulatedPost:
        stored = self._stored(did, key, record)
        self.records.setdefault(did, {})[key] = stored
        post = SimulatedPost(stored["uri"], did, record["text"], digest, self.now(), record, foreign=foreign)
        if "reply" in record:
            for each in self.posts:
                if each.id == record["reply"]["parent"]["uri"]:
                    each.comments.append(record["text"])
        else:
            self.posts.append(post)
        return post

    def _stored(self, did: str, key: str, record: dict[str, Any]) -> dict[str, Any]:
        digest = sha256(json.dumps(record, sort_keys=True).encode()).digest()
        return {"uri": f"at://{did}/{POSTS}/{key}", "cid": _cid(digest), "value": record}

    # --- requests --------------------------------------------------------------------------------------------------

    def _params(self, request: Request, wanted: Collection[str], more: Collection[str] = ()) -> dict[str, str]:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        params = dict(pairs)
        if len(pairs) != len(params) or not set(wanted) <= params.keys() <= {*wanted, *more}:
            raise self._refused(400, "InvalidRequest", f"the parameters are {sorted(params)}, not {sorted(wanted)}")
        return params

    def _body(self, request: Request, wanted: Collection[str]) -> dict[str, Any]:
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/json" or request.query or not isinstance(body, dict) or body.keys() != set(wanted):
            raise self._refused(400, "InvalidRequest", f"the body has not just {sorted(wanted)}")
        return body

    def _refused(self, status: int, code: str, message: str) -> ErrorResponse:
        return ErrorResponse(self.error(status, code, message))


_METHODS = (
    *("com.atproto.server.createSession", "com.atproto.server.refreshSession", "com.atproto.server.deleteSession"),
    *("com.atproto.server.getServiceAuth", "app.bsky.video.uploadVideo", "app.bsky.video.getJobStatus"),
    *("app.bsky.video.getUploadLimits", "com.atproto.repo.putRecord", "com.atproto.repo.createRecord"),
    *("com.atproto.repo.getRecord", "com.atproto.repo.listRecords", "app.bsky.feed.getPosts"),
)


def _plain_record(text: str, at: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
    return {"$type": POSTS, "text": text, "createdAt": moment}


def _cid(digest: bytes) -> str:
    """As IPFS writes it: version 1, raw, SHA-256."""
    return "b" + b32encode(b"\x01\x55\x12\x20" + digest).decode().lower().rstrip("=")


def _tid(at: float, n: int) -> str:
    number = int(at * 1_000_000) << 10 | n % 1024
    return "".join("234567abcdefghijklmnopqrstuvwxyz"[(number >> shift) & 31] for shift in range(60, -1, -5))


def _encoded(part: Any) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@contextmanager
def bluesky_simulator(**options: Any) -> Iterator[BlueskySimulator]:
    with serving(BlueskySimulator(**options)) as simulator:
        yield simulator
