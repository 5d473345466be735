"""TikTok: Direct Post by FILE_UPLOAD (Content Posting API, read on 27 November 2026), and its login.

`init` gives an id and an upload address, by which nothing is posted until the last byte has arrived. So a video of
several chunks is sent but for its last chunk while it is made ready, and committed by that one.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.counts import numbers_of
from domain.learning.metrics import asked as metrics_of
from domain.learning.numbers import Measured
from domain.ports import Login, More, Publisher, Watch, no_matter
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import (
    Absent,
    Accepted,
    AccountLimits,
    AccountRevoked,
    CannotTell,
    Commit,
    Content,
    Handle,
    HandleLost,
    HeldOff,
    InInbox,
    Listing,
    PostRefused,
    Published,
    Seen,
    Sight,
    TokenExpired,
    Unfinished,
    Unknown,
    VideoFile,
)
from integrations.http.bodies import Body
from integrations.http.client import Http, Request
from integrations.platforms.answers import Answer, Calls, Watched, committed, words
from integrations.platforms.tiktok_errors import NAME, NOT_GIVEN, error_of, meaning
from integrations.platforms.tokens import Clock, grant_of

API, PAGES = "https://open.tiktokapis.com", "https://www.tiktok.com"
SCOPES = ("user.info.basic", "video.publish", "video.upload", "video.list")
SETTINGS = "TIKTOK_CLIENT_KEY and TIKTOK_CLIENT_SECRET"

WHOLE = 64_000_000
"""A video up to this size is one chunk."""
CHUNK = 10_000_000
"""The size of each chunk but the last of a larger one, which has what is left: less than twice as much."""
UPLOAD_LASTS = timedelta(hours=1)
UPLOAD_SECONDS = 240.0
"""How long the upload of one chunk may take, and a whole commit."""
SURELY_OVER = timedelta(minutes=5)
"""After its end, an upload address is certainly used by nobody any more."""
TITLE_SHOWN = 150
"""The characters of a text that the account's list of videos shows."""
PAGE, MOST_PAGES = 20, 20
PLATFORM, SOURCE = "tiktok", "tiktok video/query"
WITHHELD = (
    f"{NAME} shows numbers only to who may list an account's videos, which this account was connected without: connect "
    "it again and leave that on. Posting works all the same"
)
CLOCKS = timedelta(minutes=1)
"""How far ahead of TikTok's clock ours may be; its times are whole seconds besides."""
UPLOAD_GONE = (403, 404, 410)
LOST = frozenset({"invalid_publish_id", "token_not_authorized_for_specified_publish_id"})
IDS = re.compile(r"[\w.~-]{1,200}", re.ASCII)


def now() -> datetime:
    return datetime.now(UTC)


class TikTok(Publisher, Login):
    """`base_url` stands for all of TikTok's hosts, if it is set."""

    passwords = False
    measured_at_once = 20
    doubted_at_once = 1

    def __init__(self, http: Http, *, base_url: str = "", clock: Clock = now) -> None:
        self._api = base_url or API
        self._pages = base_url or PAGES
        self._calls = Calls(http, base_url)
        self._clock = clock

    def limits(self, credential: Credential) -> AccountLimits:
        info = self._ask(credential, "/v2/post/publish/creator_info/query/", {})
        seconds = info.get("max_video_post_duration_sec")
        options = info.get("privacy_level_options")
        settings: dict[str, Any] = {f"{name}_disabled": info.get(f"{name}_disabled") is True for name in INTERACTIONS}
        settings["privacy_options"] = [each for each in options if isinstance(each, str)] if options else []
        return AccountLimits(
            max_seconds=float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None, settings=settings
        )

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
        chunk, count = chunks_of(video.size)
        source = {"source": "FILE_UPLOAD", "video_size": video.size, "chunk_size": chunk, "total_chunk_count": count}
        if content.options.get("inbox") is True:
            # An inbox upload ignores whatever else is sent (postiz#1728).
            path, asked = "/v2/post/publish/inbox/video/init/", {"source_info": source}
        else:
            path, asked = "/v2/post/publish/video/init/", {"post_info": _post_info(content), "source_info": source}
        opened = self._ask(credential, path, asked, refusable=True)
        publish_id, upload_url = opened.get("publish_id"), opened.get("upload_url")
        if not (isinstance(publish_id, str) and IDS.fullmatch(publish_id) and isinstance(upload_url, str)):
            raise Unavailable(f"{NAME} opened an upload and does not say where")
        return Handle(
            {"publish_id": publish_id, "chunk_size": chunk}, {"upload_url": upload_url}, self._clock() + UPLOAD_LASTS
        )

    def ready(self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch) -> Handle:
        """Send all chunks but the last, from where TikTok has got to; the handle then says so."""
        chunk = _chunk_of(handle, video)
        last = _last_border(chunk, video.size)
        if last == 0:
            return handle
        sight = self.look(credential, handle, content, video)
        match sight:
            case Unfinished(start=start):
                pass
            case Absent(error=error):
                raise error or HandleLost(sight.reason)
            case CannotTell(reason=reason, lost=True):
                raise HandleLost(reason)
            case CannotTell(reason=reason):
                raise Unavailable(reason)
            case _:  # it has everything, so it was committed
                return handle
        for begin in range(min(start // chunk * chunk, last), last, chunk):
            answer = self._upload(handle, video, (begin, begin + chunk), watch, monotonic() + UPLOAD_SECONDS)
            if answer.status in UPLOAD_GONE:
                raise HandleLost(f"{NAME} does not take the rest of the upload any more")
            if answer.status != 206:
                raise Unavailable(f"{NAME} answers {answer.status} to a part of the video")
        return replace(handle, public={**handle.public, "uploaded_bytes": last})

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
        """Send the last chunk, and before it those that are missing (none, after `ready`)."""
        chunk = _chunk_of(handle, video)
        last = _last_border(chunk, video.size)
        if start >= video.size:
            return Unknown(f"{NAME} has the whole video already")
        start = start or handle.public.get("uploaded_bytes", 0)
        until, watched = monotonic() + UPLOAD_SECONDS, Watched(watch)
        sent: Commit = Accepted(f"{NAME} has the whole video")
        for begin in range(min(start // chunk * chunk, last), last + 1, chunk):
            end = video.size if begin == last else begin + chunk
            taken = (200, 201) if begin == last else (206,)
            sent = committed(
                lambda begin=begin, end=end: self._upload(handle, video, (begin, end), watched, until),  # type: ignore[misc]
                lambda answer, taken=taken: _taken(answer, taken),  # type: ignore[misc]
                lambda answer, begin=begin: _upload_refused(answer, begin),  # type: ignore[misc]
                watched=watched,
            )
            if not isinstance(sent, Accepted):
                break
        return sent

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        asked = {"publish_id": handle.public.get("publish_id")}
        try:
            found = self._ask(credential, "/v2/post/publish/status/fetch/", asked, refusable=True)
        except (TokenExpired, HeldOff):
            raise
        except PostRefused as error:
            return CannotTell(str(error), lost=error.code in LOST)
        except Unavailable as error:
            return CannotTell(str(error))
        match found.get("status"):
            case "PUBLISH_COMPLETE":
                ids = _public_ids(found)
                return Published(ids[0] if ids else None, others=tuple(ids[1:]))
            case "PROCESSING_UPLOAD":
                return self._uploading(found, handle, video)
            case "PROCESSING_DOWNLOAD":
                return Accepted(f"{NAME} processes the video")
            case "SEND_TO_USER_INBOX":
                return InInbox()
            case "FAILED":
                return _failed(found.get("fail_reason"))
        return CannotTell(f"{NAME} names a status that is not known here")

    def recent(self, credential: Credential, since: datetime) -> Listing:
        """TikTok lists public posts only, so nothing is proved by what is missing."""
        since -= CLOCKS
        posts: list[Seen] = []
        cursor: dict[str, Any] = {}
        for _ in range(MOST_PAGES):
            path = "/v2/video/list/?fields=id,title,video_description,create_time,share_url,duration"
            found = self._ask(credential, path, {"max_count": PAGE, **cursor})
            page = [seen for each in found.get("videos") or [] if (seen := _seen(each))]
            posts += [seen for seen in page if seen.published_at >= since]
            older = any(seen.published_at < since for seen in page)
            if older or not page or found.get("has_more") is not True:
                break
            cursor = {"cursor": found.get("cursor")}
        return Listing(tuple(posts), complete=False)

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        asked = {"filters": {"video_ids": [external_id]}}
        found = self._ask(credential, "/v2/video/query/?fields=id,share_url", asked)
        for each in found.get("videos") or []:
            if isinstance(each, Mapping) and each.get("id") == external_id:
                return _address(each.get("share_url"))
        return None

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: More = no_matter
    ) -> Measured:
        """Return what TikTok shows. Nothing is ever gone for certain: it answers for public posts only, so one that is
        missing may be deleted, and may as well be private, for friends, or be looked at by its moderators."""
        names = [metric.name for metric in metrics_of(PLATFORM, now.date())]
        try:
            try:
                found = self._counted(credential, external_ids, names)
            except PostRefused:
                more(len(names))
                found = self._one_by_one(credential, external_ids, names)
        except AccountRevoked as error:
            if error.code in NOT_GIVEN:
                return Measured(SOURCE, withheld=WITHHELD)
            raise
        return Measured(SOURCE, {each: numbers_of(PLATFORM, values, now.date()) for each, values in found.items()})

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        return frozenset()

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        """TikTok has no way for programs to write comments."""
        return None

    # --- login ------------------------------------------------------------------------------------------------------

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        """TikTok takes the challenge as hexadecimal digits, where everybody else takes base64."""
        asked = {
            "client_key": app.client_id,
            "scope": ",".join(SCOPES),
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": urlsafe_b64decode(challenge + "=" * (-len(challenge) % 4)).hex(),
            "code_challenge_method": "S256",
        }
        return f"{self._pages}/v2/auth/authorize/?{urlencode(asked)}"

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        asked = {
            "code": code,
            "grant_type": "authorization_code",
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        grant = self._grant(app, asked, code=True)
        credential = Credential(grant.external_id, grant.access_token)
        return replace(grant, username=self._username(credential))

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        return self._grant(app, {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}, code=False)

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        asked = {"client_key": app.client_id, "client_secret": app.client_secret, "token": grant.access_token}
        answer = self._calls.ask(Request(NAME, f"{self._api}/v2/oauth/revoke/", form=asked))
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"{NAME} answers {answer.status} to the end of its access")

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        raise Rejected(f"{NAME} registers programs on its own pages: set {SETTINGS}")

    def log_in(self, name: str, password: str, server: str) -> Grant:
        raise Rejected(f"{NAME} is connected in a browser, not with a password")

    # --- how it is asked --------------------------------------------------------------------------------------------

    def _ask(
        self, credential: Credential, path: str, asked: Mapping[str, Any], *, refusable: bool = False
    ) -> Mapping[str, Any]:
        """Return the data of an answer; only a call that is `refusable` raises PostRefused."""
        request = Request(NAME, f"{self._api}{path}", method="POST", json=asked)
        answer = self._calls.ask(request, token=credential.access_token)
        error = error_of(answer, credential.access_token)
        if isinstance(error, PostRefused) and not refusable:
            raise Unavailable(str(error))
        if error:
            raise error
        data = answer.fields.get("data")
        return data if isinstance(data, Mapping) else {}

    def _one_by_one(
        self, credential: Credential, external_ids: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Ask for each metric by itself: one that TikTok has retired fails the whole of a request.

        Raises:
            Unavailable: it takes none of them, so the metrics are not to blame.
        """
        found: dict[str, dict[str, Any]] = {}
        refused: list[PostRefused] = []
        for name in names:
            try:
                counted = self._counted(credential, external_ids, [name])
            except PostRefused as error:
                refused.append(error)
            else:
                for external_id, values in counted.items():
                    found.setdefault(external_id, {}).update(values)
        if len(refused) == len(names):
            raise Unavailable(str(refused[0]))
        return found

    def _counted(
        self, credential: Credential, external_ids: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Return what TikTok says of those that it shows, by their ids."""
        path = f"/v2/video/query/?fields={','.join(('id', *names))}"
        found = self._ask(credential, path, {"filters": {"video_ids": list(external_ids)}}, refusable=True)
        videos = found.get("videos")
        shown = [each for each in videos if isinstance(each, Mapping)] if isinstance(videos, list) else []
        counted = {_id_of(each): {name: each.get(name) for name in names} for each in shown}
        return {each: counted[each] for each in external_ids if each in counted}

    def _upload(self, handle: Handle, video: VideoFile, part: tuple[int, int], watch: Watch, until: float) -> Answer:
        begin, end = part
        request = Request(
            NAME,
            handle.secrets.get("upload_url", ""),
            headers={"Content-Range": f"bytes {begin}-{end - 1}/{video.size}"},
            method="PUT",
            body=Body(end - begin, lambda: video.read(begin, end), video.content_type),
        )
        return self._calls.ask(request, within=until - monotonic(), watch=watch)

    def _uploading(self, found: Mapping[str, Any], handle: Handle, video: VideoFile) -> Sight:
        uploaded = found.get("uploaded_bytes")
        if not isinstance(uploaded, int):
            return CannotTell(f"{NAME} does not say how much of the video it has")
        if uploaded >= video.size:
            return Accepted(f"{NAME} has the whole video")
        part = f"{NAME} has {uploaded:,} of {video.size:,} bytes"
        if handle.expires_at is not None and self._clock() > handle.expires_at + SURELY_OVER:
            return Absent(f"{part}, and its upload address has expired")
        chunk = _chunk_of(handle, video)
        return Unfinished(part, min(uploaded // chunk * chunk, _last_border(chunk, video.size)))

    def _grant(self, app: AppRegistration, asked: Mapping[str, str], *, code: bool) -> Grant:
        form = {"client_key": app.client_id, "client_secret": app.client_secret, **asked}
        answer = self._calls.ask(Request(NAME, f"{self._api}/v2/oauth/token/", form=form))
        grant = grant_of(NAME, answer, app, self._clock(), settings=SETTINGS, code=code)
        return replace(grant, external_id=answer.text("open_id"))

    def _username(self, credential: Credential) -> str:
        """The account's name; empty if it is not told, since the code that was shown can be shown only once."""
        request = Request(NAME, f"{self._api}/v2/user/info/?fields=open_id,display_name")
        try:
            answer = self._calls.ask(request, token=credential.access_token)
        except Unavailable:
            return ""
        data = answer.fields.get("data")
        user = data.get("user") if isinstance(data, Mapping) else None
        name = user.get("display_name") if isinstance(user, Mapping) else None
        return name if isinstance(name, str) else ""


INTERACTIONS = ("comment", "duet", "stitch")


def chunks_of(size: int) -> tuple[int, int]:
    """Return the size of all chunks of a video but the last, and how many there are."""
    return (size, 1) if size <= WHOLE else (CHUNK, size // CHUNK)


def _chunk_of(handle: Handle, video: VideoFile) -> int:
    chunk = handle.public.get("chunk_size")
    return chunk if isinstance(chunk, int) and chunk > 0 else chunks_of(video.size)[0]


def _last_border(chunk: int, size: int) -> int:
    """Return where the last chunk begins."""
    return max(size // chunk - 1, 0) * chunk


def _post_info(content: Content) -> dict[str, Any]:
    options = content.options
    if not options.get("privacy_level"):
        raise PostRefused("privacy_not_chosen", "nobody has chosen who may see it: choose the privacy of the post")
    info = {
        "title": content.text,
        "privacy_level": options["privacy_level"],
        **{f"disable_{name}": options.get(f"allow_{name}") is not True for name in INTERACTIONS},
        "brand_content_toggle": options.get("brand_content") is True,
        "brand_organic_toggle": options.get("brand_organic") is True,
        "is_aigc": content.ai_generated,
    }
    if content.cover_at is not None:
        info["video_cover_timestamp_ms"] = round(content.cover_at * 1000)
    return info


def _taken(answer: Answer, taken: tuple[int, ...]) -> Commit:
    if answer.status in taken:
        return Accepted(f"{NAME} has the whole video")
    return Unknown(f"{NAME} answers {answer.status} to the last part of the video")


def _upload_refused(answer: Answer, begin: int) -> ViralError | None:
    """An address that has expired, or is not known any more, may have taken the video before; and one that has taken
    parts of it, and does not want another, may have that already."""
    if answer.status == 429:
        return meaning("rate_limit_exceeded", 429)
    if begin == 0 and answer.status in (400, 411, 413, 415):
        return PostRefused(f"upload_{answer.status}", f"{NAME} answers {answer.status} to the video")
    return None


def _failed(reason: Any) -> Absent:
    code = words(reason) if isinstance(reason, str) and reason else "unknown"
    error = meaning(code)
    if isinstance(error, PostRefused | AccountRevoked):
        return Absent(str(error), error)
    if isinstance(error, HeldOff):  # whoever opens another handle hears the same, and waits
        return Absent(str(error))
    return Absent(f"{NAME} says that it failed: {code}")


def _id_of(video: Mapping[str, Any]) -> str:
    """Return a video's id as a text; empty if it is none, as what a float has rounded."""
    external_id = video.get("id")
    return str(external_id) if isinstance(external_id, int | str) else ""


def _public_ids(found: Mapping[str, Any]) -> list[str]:
    """Return the ids as texts; a number of 19 digits is not one for floating point. TikTok misspells the name."""
    ids = found.get("publicaly_available_post_id") or found.get("publicly_available_post_id") or []
    ids = ids if isinstance(ids, list) else [ids]
    return [str(each) for each in ids if isinstance(each, int | str) and re.fullmatch(r"[1-9]\d{0,24}", str(each))]


def _seen(video: Any) -> Seen | None:
    try:
        text = video.get("title") or video.get("video_description") or ""
        seconds = video.get("duration")
        return Seen(
            external_id=str(video["id"]),
            text=text,
            published_at=datetime.fromtimestamp(video["create_time"], UTC),
            permalink=_address(video.get("share_url")),
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            cut=len(text) >= TITLE_SHOWN,
        )
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, OSError):
        return None


def _address(url: Any) -> str | None:
    """Return the address of a post without what it tells of the one who asked for it."""
    if not isinstance(url, str) or not url.startswith("https://"):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"https://{parts.netloc}{parts.path}"
