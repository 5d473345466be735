"""Bluesky: an account's records lie on a server of its own (its PDS), and a video gets there by the video service.

The key of a post's record is made of the post, so it is known before anything is sent. Putting the same record under
the same key again changes nothing, and whether it is there can be asked at any time, by anybody.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.counts import NOTHING, numbers_of
from domain.learning.numbers import Measured
from domain.ports import Login, More, Publisher, Watch, no_matter
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import (
    AccountLimits,
    AccountRevoked,
    CannotTell,
    Commit,
    Content,
    Handle,
    HandleLost,
    HeldOff,
    Listing,
    NotReady,
    PostRefused,
    Published,
    Refused,
    Seen,
    Sight,
    TokenExpired,
    Unfinished,
    Unknown,
    VideoFile,
)
from integrations.http.bodies import Body
from integrations.http.client import Http, Request, parse_json, retry_after
from integrations.platforms.answers import (
    COMMIT_SECONDS,
    Answer,
    Calls,
    committed,
    seconds_until,
    upload_seconds,
    words,
)
from integrations.platforms.bluesky_records import (
    POSTS,
    key_of_mark,
    permalink_of,
    record_key,
    record_of,
    seen_in,
    time_of,
    uri_of,
)

ENTRYWAY = "https://bsky.social"
VIDEO = "https://video.bsky.app"
VIDEO_DID = "did:web:video.bsky.app"
DIRECTORY = "https://plc.directory"

MOST_BYTES = 300_000_000
MOST_SECONDS = 180.0
MOST_CHARACTERS = 300
PAGE = 100
MOST_PAGES = 20
LATER = timedelta(seconds=5)
"""When a video job is asked about again."""
SERVICE_TOKEN = timedelta(minutes=30)

REVOKED = {
    "InvalidToken": "Bluesky does not know our access to the account any more: connect it again",
    "AuthMissing": "Bluesky asks for access that we do not have: connect the account again",
    "AuthenticationRequired": "Bluesky knows no account of this name and app password; app passwords are made in its "
    "settings, under privacy and security",
    "AuthFactorTokenRequired": "Bluesky asks for a code by e-mail, which it does for the account's own password: make "
    "an app password in its settings and use that",
    "AccountTakedown": "Bluesky has taken the account down",
    "AccountSuspended": "Bluesky has suspended the account",
    "AccountDeactivated": "the account is deactivated: its owner can activate it at Bluesky",
    "RepoTakendown": "Bluesky has taken the account down",
    "RepoSuspended": "Bluesky has suspended the account",
    "RepoDeactivated": "the account is deactivated: its owner can activate it at Bluesky",
}
"""What only an account's owner can mend, by Bluesky's name of the error."""
EXPIRED = "ExpiredToken"
DID_PLC = re.compile(r"did:plc:[a-z0-9]{1,64}")
DID_WEB = re.compile(r"did:web:([a-zA-Z0-9.-]{1,253})")
BAD_VIDEO = frozenset(("validation_failure", "encoding_failure", "pds_upload_unsupported_blob_size"))
"""Why a video job failed, where another upload of the same video fails again."""


class Bluesky(Publisher, Login):
    """`base_url` stands for all of Bluesky's hosts, and for the servers of accounts that are there."""

    passwords = True
    measured_at_once = 25
    doubted_at_once = 10

    def __init__(
        self, http: Http, *, base_url: str = "", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._entryway = base_url or ENTRYWAY
        self._video = base_url or VIDEO
        self._directory = base_url or DIRECTORY
        self._calls = Calls(http, base_url)
        self._clock = clock

    # --- publishing ------------------------------------------------------------------------------------------------

    def limits(self, credential: Credential) -> AccountLimits:
        token = self._service_token(credential, VIDEO_DID, "app.bsky.video.getUploadLimits")
        answer = self._get(self._video, "app.bsky.video.getUploadLimits", {}, token)
        if not answer.ok:
            raise self._video_error(answer, token)
        left, size = answer.fields.get("remainingDailyVideos"), answer.fields.get("remainingDailyBytes")
        can = answer.fields.get("canUpload") is not False
        says = words(answer.text("message") or answer.text("error"), token)
        return AccountLimits(
            posts_left_today=(left if isinstance(left, int) else None) if can else 0,
            max_seconds=MOST_SECONDS,
            max_bytes=min(size, MOST_BYTES) if isinstance(size, int) else MOST_BYTES,
            max_characters=MOST_CHARACTERS,
            settings={"upload_message": says} if says else {},
        )

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
        return Handle({"rkey": record_key(content)})

    def ready(self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch) -> Handle:
        if "blob" in handle.public:
            return handle
        job: Mapping[str, Any] = {}
        if "job_id" not in handle.public:
            job = self._upload(credential, handle, content, video, watch)
            handle = replace(handle, public={**handle.public, "job_id": job["jobId"]})
        if _blob(job) is None:
            job = self._job_status(handle)
        if blob := _blob(job):
            return replace(handle, public={**handle.public, "blob": blob})
        if job.get("state") == "JOB_STATE_FAILED":
            raise _failed(job)
        done = job.get("progress")
        raise NotReady(
            f"Bluesky works on the video{f' ({done} %)' if isinstance(done, int) else ''}",
            retry_after=LATER,
            handle=handle,
        )

    def commit(
        self,
        credential: Credential,
        handle: Handle,
        content: Content,
        video: VideoFile,
        *,
        start: int,
        watch: Watch,
    ) -> Commit:
        if "blob" not in handle.public:  # what made it ready was not kept: another handle has the same key
            return Refused(HandleLost("the video is not at Bluesky yet"))
        key = _key_of(handle, content)
        embed = {"$type": "app.bsky.embed.video", "video": handle.public["blob"]}
        if video.width > 0 and video.height > 0:
            embed["aspectRatio"] = {"width": video.width, "height": video.height}
        record = record_of(content.text, content.created_at) | {"embed": embed}
        if langs := content.options.get("langs"):
            record["langs"] = list(langs)
        if labels := content.options.get("labels"):
            values = [{"val": label} for label in labels]
            record["labels"] = {"$type": "com.atproto.label.defs#selfLabels", "values": values}
        watch(0.0)

        def published(answer: Answer) -> Commit:
            uri = uri_of(credential, key)
            if answer.text("uri") != uri:
                return Unknown("Bluesky says that it was done, and not what became of it")
            return Published(uri, permalink_of(uri))

        return committed(
            lambda: self._put(credential, key, record), published, lambda answer: self._error(answer, credential)
        )

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        """Records are public: neither an expired token nor one that was taken away hides whether the post is there."""
        key = _key_of(handle, content)
        try:
            answer = self._stored(credential, key)
        except Unavailable as error:
            return CannotTell(str(error))
        if answer.ok and answer.text("uri"):
            uri = uri_of(credential, key)
            return Published(uri, permalink_of(uri))
        if answer.status in (400, 404) and answer.text("error") == "RecordNotFound":
            return Unfinished("there is no record of this key")
        return self._cannot_tell(answer, credential)

    def recent(self, credential: Credential, since: datetime) -> Listing:
        """Records come by their keys, which have the time that they were made for, so older ones end the list."""
        seen: list[Seen] = []
        params = {"repo": credential.external_id, "collection": POSTS, "limit": str(PAGE)}
        for _ in range(MOST_PAGES):
            answer = self._get(credential.server, "com.atproto.repo.listRecords", params, "")
            if not answer.ok:
                raise self._error(answer, credential)
            records = answer.fields.get("records")
            found = [seen_in(each) for each in records] if isinstance(records, list) else []
            seen += [each for each in found if each is not None and each.published_at >= since]
            reached = time_of(found[-1].external_id.rpartition("/")[2]) if found and found[-1] else None
            if not found or not answer.text("cursor") or (reached is not None and reached < since):
                return Listing(tuple(seen), complete=True)
            params["cursor"] = answer.text("cursor")
        return Listing(tuple(seen), complete=False)

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        return permalink_of(external_id)

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: More = no_matter
    ) -> Measured:
        """What the answer is without may also be hidden, or not indexed yet."""
        query = urlencode([("uris", uri) for uri in external_ids])
        answer = self._get(credential.server, f"app.bsky.feed.getPosts?{query}", {}, credential.access_token)
        if not answer.ok:
            error = self._error(answer, credential)
            raise Unavailable(str(error)) if isinstance(error, PostRefused | HandleLost) else error
        posts = answer.fields.get("posts")
        if not isinstance(posts, list):
            raise Unavailable("Bluesky answers with posts that cannot be read")
        views = {str(each.get("uri")): each for each in posts if isinstance(each, Mapping)}
        found = {uri: numbers_of("bluesky", views[uri], now.date()) for uri in external_ids if uri in views}
        return Measured(
            "bluesky getPosts",
            {uri: numbers for uri, numbers in found.items() if numbers != NOTHING},
            missing=frozenset(uri for uri in external_ids if uri not in views),
        )

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        """Only what the account's own records are without, too, is gone."""
        gone: set[str] = set()
        for uri in external_ids:
            answer = self._stored(credential, uri.rpartition("/")[2])
            if answer.status in (400, 404) and answer.text("error") == "RecordNotFound":
                gone.add(uri)
            elif not answer.ok:
                error = self._error(answer, credential)
                raise Unavailable(str(error)) if isinstance(error, PostRefused | HandleLost) else error
        return frozenset(gone)

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        """The reply's own key is made of `key` and of the post's, so an equal one is put in its place."""
        parent = external_id.rpartition("/")[2]
        answer = self._stored(credential, parent)
        if not answer.ok:
            raise self._error(answer, credential)
        ref = {"uri": external_id, "cid": answer.text("cid")}
        at = (time_of(parent) or datetime.fromtimestamp(0, UTC)).replace(microsecond=0) + timedelta(seconds=1)
        rkey = key_of_mark(at, f"{external_id} {key}")
        record = record_of(text, at) | {"reply": {"root": ref, "parent": ref}}
        answer = self._put(credential, rkey, record)
        if not answer.ok:
            raise self._error(answer, credential)
        return uri_of(credential, rkey)

    # --- accounts --------------------------------------------------------------------------------------------------

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        raise Rejected(_BY_PASSWORD)

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        raise Rejected(_BY_PASSWORD)

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        raise Rejected(_BY_PASSWORD)

    def log_in(self, name: str, password: str, server: str) -> Grant:
        home = server.rstrip("/") or self._entryway
        body = {"identifier": name.strip().removeprefix("@"), "password": password}
        answer = self._post(home, "com.atproto.server.createSession", body, "")
        if answer.status in (400, 404) and answer.text("error") not in REVOKED:
            says = words(answer.text("message"), password)
            raise AccountRevoked("refused", f"{urlsplit(home).hostname} takes no such login: {says or answer.status}")
        if not answer.ok:
            raise self._login_error(answer, password)
        found = _grant(answer)
        _refuse_inactive(answer, password)
        return replace(found, server=self._server(answer.fields.get("didDoc"), found.external_id, home))

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        if not grant.refresh_token:
            raise AccountRevoked("no_refresh_token", "Bluesky gave no way to renew its access: connect it again")
        server = server or self._entryway
        answer = self._post(server, "com.atproto.server.refreshSession", None, grant.refresh_token)
        if answer.text("error") == EXPIRED:
            raise AccountRevoked(EXPIRED, "our access to the Bluesky account has ended: connect it again")
        if not answer.ok:
            raise self._login_error(answer, grant.refresh_token, grant.access_token)
        # The old tokens have ended with this answer: whatever else it says is seen when the new ones are used.
        return replace(_grant(answer), server=_pds(answer.fields.get("didDoc")) or server)

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        """Close the session. Its owner can delete the app password besides."""
        if not grant.refresh_token:
            return
        answer = self._post(server or self._entryway, "com.atproto.server.deleteSession", None, grant.refresh_token)
        if not answer.ok and answer.text("error") not in (EXPIRED, "InvalidToken"):
            raise self._login_error(answer, grant.refresh_token, grant.access_token)

    def _server(self, document: Any, did: str, home: str) -> str:
        """Return where the account really lives. The entryway's session says it, and else the account's own document.
        A server of somebody's own can name any account: it has to be where that one lives, by its document."""
        if home == self._entryway and (found := _pds(document)) is not None:
            return found
        found = _pds(self._document(did))
        if found is None:
            raise Unavailable("the account's document does not say where it lives")
        if home not in (self._entryway, found):
            raise AccountRevoked("other_server", f"the account lives at {urlsplit(found).hostname}: log in there")
        return found

    def _document(self, did: str) -> Any:
        """Return the document of an account: from the directory, or from the domain that its id names."""
        if DID_PLC.fullmatch(did):
            address = f"{self._directory}/{did}"
        elif found := DID_WEB.fullmatch(did):
            address = f"https://{found[1]}/.well-known/did.json"
        else:
            raise AccountRevoked("unknown_did", "Bluesky names an account of a kind that is not known here")
        answer = self._calls.ask(Request("Bluesky", address))
        if answer.status in (404, 410):
            raise AccountRevoked("no_such_did", "the server names an account that there is not")
        if not answer.ok or not isinstance(answer.value, Mapping) or answer.value.get("id") != did:
            raise Unavailable(f"the account's document cannot be read: the answer is {answer.status}")
        return answer.value

    # --- requests --------------------------------------------------------------------------------------------------

    def _upload(
        self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch
    ) -> Mapping[str, Any]:
        """Send the video, and return its job; that of the earlier upload, if Bluesky has the same video already."""
        audience = f"did:web:{quote(urlsplit(credential.server).netloc, safe='')}"
        token = self._service_token(credential, audience, "com.atproto.repo.uploadBlob")
        body = Body(video.size, lambda: video.read(0, video.size), video.content_type)
        request = Request(
            "Bluesky",
            f"{self._video}/xrpc/app.bsky.video.uploadVideo",
            params={"did": credential.external_id, "name": f"{_key_of(handle, content)}.mp4"},
            body=body,
        )
        answer = self._calls.ask(request, token=token, within=upload_seconds(video.size), watch=watch)
        job = _job(answer)
        if job.get("jobId") and (answer.ok or job.get("error") == "already_exists"):
            return job
        error = answer.text("error") or str(job.get("error") or "")
        if error == "unconfirmed_email":
            raise PostRefused(error, "Bluesky takes videos once the account's e-mail address is confirmed: do it there")
        if answer.ok and not error:
            raise Unavailable("Bluesky says that it has the video, and not what becomes of it")
        raise self._video_error(
            replace(answer, value={"message": job.get("message"), **answer.fields, "error": error}), token
        )

    def _job_status(self, handle: Handle) -> Mapping[str, Any]:
        answer = self._get(self._video, "app.bsky.video.getJobStatus", {"jobId": handle.public["job_id"]}, "")
        job = _job(answer)
        if answer.ok or _blob(job):
            return job
        if answer.status in (400, 404) and answer.text("error") != EXPIRED:
            raise HandleLost("Bluesky knows the upload of the video no longer")
        raise self._video_error(answer)

    def _service_token(self, credential: Credential, audience: str, method: str) -> str:
        """Return a token by which another service may do this one thing for the account."""
        until = int((self._clock() + SERVICE_TOKEN).timestamp())
        params = {"aud": audience, "lxm": method, "exp": str(until)}
        answer = self._get(credential.server, "com.atproto.server.getServiceAuth", params, credential.access_token)
        if not answer.ok:
            raise self._error(answer, credential)
        if not answer.text("token"):
            raise Unavailable("Bluesky answers without the token that was asked for")
        return answer.text("token")

    def _put(self, credential: Credential, key: str, record: Mapping[str, Any]) -> Answer:
        body = {"repo": credential.external_id, "collection": POSTS, "rkey": key, "record": record}
        return self._post(
            credential.server, "com.atproto.repo.putRecord", body, credential.access_token, within=COMMIT_SECONDS
        )

    def _stored(self, credential: Credential, key: str) -> Answer:
        params = {"repo": credential.external_id, "collection": POSTS, "rkey": key}
        return self._get(credential.server, "com.atproto.repo.getRecord", params, "")

    def _get(self, server: str, method: str, params: Mapping[str, str], token: str) -> Answer:
        return self._calls.ask(Request("Bluesky", f"{server}/xrpc/{method}", params=params), token=token)

    def _post(self, server: str, method: str, body: Any, token: str, **how: Any) -> Answer:
        request = Request("Bluesky", f"{server}/xrpc/{method}", json=body, method="POST")
        return self._calls.ask(request, token=token, **how)

    def _error(self, answer: Answer, *secrets: Credential | str) -> ViralError:
        """Return what an answer of failure means. One without Bluesky's words is of something in between, and says
        nothing."""
        hidden = [each.access_token if isinstance(each, Credential) else each for each in secrets]
        code, message = words(answer.text("error"), *hidden), words(answer.text("message"), *hidden)
        if code == EXPIRED:
            return TokenExpired("the access to the Bluesky account has expired")
        if code in REVOKED:
            return AccountRevoked(code, REVOKED[code])
        if answer.status == 429:
            wait = self._wait(answer)
            return HeldOff(code or "RateLimitExceeded", "Bluesky asks us to wait", retry_after=wait)
        if answer.status in (401, 403) and code:
            return AccountRevoked(code, f"Bluesky refuses our access: {message or code}")
        if answer.status == 413 or (400 <= answer.status < 500 and code):
            if "could not find blob" in message.lower() or code == "BlobNotFound":
                return HandleLost("Bluesky has the uploaded video no longer")
            failure = f"Bluesky refuses the post: {message or code or 'it is too large'}"
            return PostRefused(code or str(answer.status), failure)
        return Unavailable(f"Bluesky answers {answer.status}")

    def _video_error(self, answer: Answer, *secrets: str) -> ViralError:
        """The video service does not know our access to the account, so it cannot say that it has ended."""
        error = self._error(answer, *secrets)
        if isinstance(error, AccountRevoked):
            return Unavailable("Bluesky's video service does not take what the account's server signed for it")
        return error

    def _login_error(self, answer: Answer, *secrets: str) -> ViralError:
        """Only an error that is known to say so means that access has ended."""
        error = self._error(answer, *secrets)
        return Unavailable(f"Bluesky answers {answer.status}") if isinstance(error, PostRefused | HandleLost) else error

    def _wait(self, answer: Answer) -> timedelta | None:
        reset = answer.headers.get("ratelimit-reset", "")
        if reset.isascii() and reset.isdigit():
            return seconds_until(float(reset[:12]), self._clock().timestamp())
        return retry_after(answer.headers.get("retry-after"))

    def _cannot_tell(self, answer: Answer, credential: Credential) -> CannotTell:
        """It was asked without our access, so only what is said of the account counts."""
        error = self._error(answer, credential)
        gone = isinstance(error, AccountRevoked) and error.code.startswith(("Account", "Repo"))
        if gone or isinstance(error, TokenExpired | HeldOff):
            raise error
        return CannotTell(str(error))


_BY_PASSWORD = "Bluesky accounts are connected with an app password"  # noqa: S105 - a sentence


def _grant(answer: Answer) -> Grant:
    access, refresh, did = answer.text("accessJwt"), answer.text("refreshJwt"), answer.text("did")
    if not (access and refresh and did.startswith("did:")):
        raise Unavailable("Bluesky answers with a session that cannot be read")
    return Grant(access, refresh, _expiry(access), _expiry(refresh), external_id=did, username=answer.text("handle"))


def _refuse_inactive(answer: Answer, *secrets: str) -> None:
    if answer.fields.get("active") is False:
        status = words(answer.text("status") or "inactive", *secrets)
        raise AccountRevoked(status, f"Bluesky says that the account is {status}")


def _key_of(handle: Handle, content: Content) -> str:
    kept = handle.public.get("rkey")
    return kept if isinstance(kept, str) else record_key(content)


def _job(answer: Answer) -> Mapping[str, Any]:
    """Return the job of an answer, which has it in a field or is it itself."""
    inner = answer.fields.get("jobStatus")
    return inner if isinstance(inner, Mapping) else answer.fields


def _blob(job: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return by what a record names the video, once the job has it."""
    blob = job.get("blob")
    try:
        link, kind, size = blob["ref"]["$link"], blob["mimeType"], blob["size"]  # type: ignore[index]
    except (TypeError, LookupError):
        return None
    if not (isinstance(link, str) and isinstance(kind, str) and isinstance(size, int)):
        return None
    return {"$type": "blob", "ref": {"$link": link}, "mimeType": kind, "size": size}


def _failed(job: Mapping[str, Any]) -> PostRefused | HandleLost:
    code = words(str(job.get("failureCode") or ""))
    says = words(str(job.get("message") or job.get("error") or "it does not say why"))
    if code in BAD_VIDEO:
        return PostRefused(code, f"Bluesky cannot use the video: {says}")
    return HandleLost(f"Bluesky could not process the video: {says}")


def _pds(document: Any) -> str | None:
    """Return the account's server as its document names it."""
    services = document.get("service") if isinstance(document, Mapping) else None
    for each in services if isinstance(services, list) else []:
        if isinstance(each, Mapping) and str(each.get("id", "")).endswith("#atproto_pds"):
            address = each.get("serviceEndpoint")
            try:
                parts = urlsplit(address if isinstance(address, str) else "")
            except ValueError:
                continue
            if parts.scheme in ("http", "https") and parts.netloc:
                return f"{parts.scheme}://{parts.netloc}"
    return None


def _expiry(token: str) -> datetime | None:
    """Return when a token ends, as it says itself; None if it does not."""
    try:
        claims = parse_json(urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
