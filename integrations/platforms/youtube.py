"""YouTube: our own resumable uploads (Data API v3, read on 27 November 2026), and Google's login.

A session is opened by us and kept before a byte is sent, since Google's own client opens it and sends the first bytes
in one call. The video is there once the last byte has arrived; the session says so for as long as it lives, and
afterwards the tag that carries the post's mark.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.counts import numbers_of
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
    HeldOff,
    Listing,
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
from integrations.http.client import Http, Request
from integrations.platforms.answers import Answer, Calls, Watched, committed
from integrations.platforms.tokens import Clock, grant_of
from integrations.platforms.youtube_errors import NAME, NOT_GIVEN, error_of, rejection_of

API = "https://youtube.googleapis.com"
TOKENS = "https://oauth2.googleapis.com"
PAGES = "https://accounts.google.com"
HOSTS = ".googleapis.com"
"""Where a session may be: it is shown the access token."""
SCOPES = (
    "https://www.googleapis.com/auth/youtube.upload",
    "https://www.googleapis.com/auth/youtube.force-ssl",
)
"""To upload; and to read the channel's own list of videos, and write comments."""
SETTINGS = "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET"

MARK = "vd-"
"""Before a post's mark, in the tag that carries it."""
MOST_TAGS = 500
"""Characters of all tags together, with the quotes of those with a space and the commas between."""
UPLOAD_SECONDS = 240.0
STATE_WITHIN = timedelta(hours=12)
"""How long after its session was opened a video's state is waited for."""
CLOCKS = timedelta(minutes=1)
"""How far ahead of Google's clock ours may be; its times are whole seconds besides."""
PAGE, MOST_PAGES = 50, 20
ROUNDED = 2
"""How many seconds less a video may have at YouTube, whose durations are whole seconds."""
DURATION = re.compile(r"PT(?:(\d{1,3})H)?(?:(\d{1,3})M)?(?:(\d{1,3})S)?", re.ASCII)
RESUME = 308
RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,15})", re.ASCII)
OTHER_BYTES = frozenset({"http_400", "http_416", "badContent", "badRequest", "invalidContentRange"})
"""What a session may say of bytes that it does not want."""
IDS = re.compile(r"[\w-]{1,64}", re.ASCII)
COUNT = re.compile(r"\d{1,19}", re.ASCII)
PLATFORM, SOURCE = "youtube-shorts", "youtube videos.batchGetStats"
WITHHELD = (
    f"{NAME} shows our access no videos of this account, since it was connected for uploads only: connect it again and "
    "tick everything. Posting works all the same"
)


def now() -> datetime:
    return datetime.now(UTC)


class YouTube(Publisher, Login):
    """`base_url` stands for all of Google's hosts, if it is set."""

    passwords = False
    measured_at_once = 50
    doubted_at_once = 10

    def __init__(self, http: Http, *, base_url: str = "", clock: Clock = now) -> None:
        self._base_url = base_url
        self._api = base_url or API
        self._tokens = base_url or TOKENS
        self._pages = base_url or PAGES
        self._calls = Calls(http, base_url)
        self._clock = clock

    def limits(self, credential: Credential) -> AccountLimits:
        """YouTube tells no program what a channel may still upload."""
        return AccountLimits()

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
        options = content.options
        if not options.get("privacy"):
            raise PostRefused("privacy_not_chosen", "nobody has chosen who may see it: choose the privacy of the post")
        asked = {
            "uploadType": "resumable",
            "part": "snippet,status",
            "notifySubscribers": "true" if options.get("notify_subscribers", True) is True else "false",
        }
        resource = {
            "snippet": {
                "title": content.title,
                "description": content.text,
                "tags": _tags(content),
                "categoryId": str(options.get("category") or "22"),
            },
            "status": {
                "privacyStatus": options["privacy"],
                "selfDeclaredMadeForKids": options.get("made_for_kids") is True,
                "containsSyntheticMedia": content.ai_generated,
            },
        }
        request = Request(
            NAME,
            f"{self._api}/resumable/upload/youtube/v3/videos?{urlencode(asked)}",
            method="POST",
            headers={"X-Upload-Content-Length": str(video.size), "X-Upload-Content-Type": video.content_type},
            json=resource,
        )
        answer = self._checked(self._calls.ask(request, token=credential.access_token), credential)
        session = answer.headers.get("location", "")
        if not self._may_hold_a_session(session):
            raise Unavailable(f"{NAME} opened an upload, and not at an address of its own")
        return Handle({"size": video.size, "opened_at": self._clock().isoformat()}, {"session": session})

    def ready(self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch) -> Handle:
        return handle

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
        if start >= video.size:
            return Unknown(f"{NAME} has the whole video already")
        body = Body(video.size - start, lambda: video.read(start, video.size), video.content_type)
        request = self._of_session(handle, f"bytes {start}-{video.size - 1}/{video.size}", body=body)
        watched = Watched(watch)
        return committed(
            lambda: self._calls.ask(request, token=credential.access_token, within=UPLOAD_SECONDS, watch=watched),
            _inserted,
            lambda answer: self._refused(answer, credential),
            watched=watched,
        )

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        request = self._of_session(handle, f"bytes */{video.size}", content=b"")
        try:
            answer = self._calls.ask(request, token=credential.access_token)
        except Unavailable as error:
            return CannotTell(str(error))
        if answer.status == RESUME:
            received = RECEIVED.fullmatch(answer.headers.get("range", ""))
            start = int(received[1]) + 1 if received else 0
            if start >= video.size:
                return Accepted(f"{NAME} has the whole video")
            return Unfinished(f"{NAME} has {start:,} of {video.size:,} bytes", start)
        if answer.status in (404, 410):
            return CannotTell(f"{NAME} knows the upload no longer", lost=True)
        refused = self._error(answer, credential)
        if isinstance(refused, TokenExpired | AccountRevoked | HeldOff):
            raise refused
        external_id = _id_of(answer)
        if refused or not external_id:
            return CannotTell(str(refused or f"{NAME} says that the video is there, and not which it is"))
        return self._state_of(credential, external_id, handle, video)

    def recent(self, credential: Credential, since: datetime) -> Listing:
        since -= CLOCKS
        posts: list[Seen] = []
        uploads = self._uploads(credential)
        complete, token = True, ""
        for _ in range(MOST_PAGES if uploads else 0):
            page = self._read(credential, "playlistItems", part="contentDetails", playlistId=uploads, pageToken=token)
            ids = [each["contentDetails"]["videoId"] for each in _items(page, "contentDetails", "videoId")]
            found = self._read(credential, "videos", part="snippet,status", id=",".join(ids)) if ids else {}
            read = {each.external_id: each for item in _items(found, "snippet", "publishedAt") if (each := _seen(item))}
            posts += [each for each in read.values() if each.published_at >= since]
            older = next(
                (place for place, each in enumerate(ids) if each in read and read[each].published_at < since), None
            )
            # A video that is listed and cannot be read (yet) may be any.
            complete = complete and all(each in read for each in ids[:older])
            token = _text(page, "nextPageToken")
            if not token or older is not None:
                break
        else:
            complete = not uploads
        return Listing(tuple(sorted(posts, key=lambda post: post.published_at, reverse=True)), complete)

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        return _address(external_id)

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: More = no_matter
    ) -> Measured:
        """Return what YouTube shows. What an owner hides (likes), or has switched off (comments), is not among it, and
        how often a video was shared never is."""
        try:
            found = self._read(credential, "videos:batchGetStats", part="id,statistics", id=",".join(external_ids))
        except AccountRevoked as error:
            if error.code in NOT_GIVEN:
                return Measured(SOURCE, withheld=WITHHELD)
            raise
        items = found.get("items")
        shown = [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []
        there = {each["id"]: each.get("statistics") for each in shown if each.get("id") in external_ids}
        numbers = {
            external_id: numbers_of(PLATFORM, {name: _count(value) for name, value in values.items()}, now.date())
            for external_id, values in there.items()
            if isinstance(values, Mapping)
        }
        return Measured(SOURCE, numbers, missing=frozenset(each for each in external_ids if each not in there))

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these the channel has no longer. That its statistics leave one out proves nothing, since such
        a batch may be answered in part; nor that it cannot be read, which happens to new ones. So it is gone if YouTube
        shows it not even to its owner, who is shown private ones too, and does not list it among the channel's uploads
        either; or if it says that it has deleted or rejected it."""
        try:
            found = self._read(credential, "videos", part="status", id=",".join(external_ids))
        except AccountRevoked as error:
            if error.code in NOT_GIVEN:
                return frozenset()
            raise
        if not isinstance(found.get("items"), list):
            return frozenset()
        states = {_text(each, "id"): each["status"] for each in _items(found, "status", "uploadStatus")}
        gone = {each for each, status in states.items() if rejection_of(status) or status["uploadStatus"] == "deleted"}
        unseen = [each for each in external_ids if each not in states]
        uploads = self._uploads(credential) if unseen else ""
        for external_id in unseen if uploads else ():
            listed = self._read(
                credential, "playlistItems", part="contentDetails", playlistId=uploads, videoId=external_id
            )
            if listed.get("items") == []:
                gone.add(external_id)
        return frozenset(gone) & frozenset(external_ids)

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        """Write it, unless the channel has written the same already: YouTube knows no key."""
        for mine in self._comments(credential, external_id):
            if mine["snippet"]["topLevelComment"]["snippet"].get("textOriginal") == text:
                return _text(mine, "id")
        resource = {"snippet": {"videoId": external_id, "topLevelComment": {"snippet": {"textOriginal": text}}}}
        request = Request(NAME, f"{self._api}/youtube/v3/commentThreads?part=snippet", method="POST", json=resource)
        answer = self._checked(self._calls.ask(request, token=credential.access_token), credential)
        return answer.text("id") or None

    # --- login ------------------------------------------------------------------------------------------------------

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        """Without `prompt=consent` Google gives a refresh token the first time only."""
        asked = {
            "client_id": app.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "access_type": "offline",
            "prompt": "consent",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._pages}/o/oauth2/v2/auth?{urlencode(asked)}"

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        asked = {
            "code": code,
            "grant_type": "authorization_code",
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        grant = self._grant(app, asked, code=True)
        found = self._read(Credential("", grant.access_token), "channels", part="snippet", mine="true")
        channel = next(iter(_items(found, "snippet", "title")), None)
        if channel is None:
            raise AccountRevoked("no_channel", f"the account has no {NAME} channel: make one, then connect it again")
        return replace(grant, external_id=_text(channel, "id"), username=_text(channel["snippet"], "title"))

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        return self._grant(app, {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}, code=False)

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        """End the whole grant; a token that has ended already is no error."""
        form = {"token": grant.refresh_token or grant.access_token}
        answer = self._calls.ask(Request(NAME, f"{self._tokens}/revoke", form=form))
        if answer.status == 429 or answer.status >= 500:
            raise Unavailable(f"{NAME} answers {answer.status} to the end of its access")

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        raise Rejected(f"{NAME} registers programs on its own pages: set {SETTINGS}")

    def log_in(self, name: str, password: str, server: str) -> Grant:
        raise Rejected(f"{NAME} is connected in a browser, not with a password")

    # --- how it is asked --------------------------------------------------------------------------------------------

    def _of_session(
        self, handle: Handle, content_range: str, *, body: Body | None = None, content: bytes | None = None
    ) -> Request:
        session = handle.secrets.get("session", "")
        url = session if self._may_hold_a_session(session) else ""
        return Request(NAME, url, method="PUT", headers={"Content-Range": content_range}, body=body, content=content)

    def _may_hold_a_session(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            if self._base_url:
                home = urlsplit(self._base_url)
                return (parts.scheme, parts.netloc) == (home.scheme, home.netloc)
            return parts.scheme == "https" and (parts.hostname or "").endswith(HOSTS)
        except ValueError:
            return False

    def _state_of(self, credential: Credential, external_id: str, handle: Handle, video: VideoFile) -> Sight:
        """Say what YouTube makes of a video that it has. If that cannot be read for long, or goes on for long, it
        changes nothing about its being there (postiz#1562); but one that it shows nobody, nobody can call published."""
        there = Published(external_id, _address(external_id))
        patient = self._clock() < _opened_at(handle) + STATE_WITHIN
        try:
            found = self._read(credential, "videos", part="status,contentDetails", id=external_id)
        except TokenExpired:
            raise
        except Unavailable as error:
            if patient and isinstance(error, HeldOff):
                raise
            return Accepted(f"{NAME} has the video: {error}") if patient else there
        except AccountRevoked:
            return there
        status: Mapping[str, Any] = next((each["status"] for each in _items(found, "status", "uploadStatus")), {})
        if not status:
            return CannotTell(f"{NAME} has taken the video {external_id}, and shows none of that id")
        rejected = rejection_of(status)
        if rejected:
            return Absent(str(rejected), rejected)
        if patient and status.get("uploadStatus") == "uploaded":
            return Accepted(f"{NAME} processes the video")
        seconds = next((_seconds(each["contentDetails"]) for each in _items(found, "contentDetails", "duration")), None)
        if seconds is not None and seconds < video.seconds - ROUNDED:
            return CannotTell(
                f"{NAME} shows {external_id}, and {seconds} s of its {video.seconds:g} s: if the end is missing there, "
                "delete it and say that it is lost"
            )
        return there

    def _refused(self, answer: Answer, credential: Credential) -> ViralError | None:
        """A session that is not known (any more) may have brought the video before, and one that does not take these
        bytes may have them."""
        refused = self._error(answer, credential)
        unclear = answer.status in (404, 410) or (isinstance(refused, PostRefused) and refused.code in OTHER_BYTES)
        return None if unclear else refused

    def _uploads(self, credential: Credential) -> str:
        """Return the id of the list of all that the channel has uploaded; empty if it has none."""
        found = self._read(credential, "channels", part="contentDetails", mine="true")
        for channel in _items(found, "contentDetails", "relatedPlaylists"):
            return _text(channel["contentDetails"]["relatedPlaylists"], "uploads")
        return ""

    def _comments(self, credential: Credential, video_id: str) -> Iterator[Mapping[str, Any]]:
        """Yield the channel's own comments among the newest of a video."""
        asked = {"part": "snippet", "videoId": video_id, "order": "time", "maxResults": "100"}
        for each in _items(self._read(credential, "commentThreads", **asked), "snippet", "topLevelComment"):
            comment = each["snippet"]["topLevelComment"].get("snippet")
            author = comment.get("authorChannelId") if isinstance(comment, Mapping) else None
            if isinstance(author, Mapping) and author.get("value") == credential.external_id:
                yield each

    def _read(self, credential: Credential, what: str, **params: str) -> Mapping[str, Any]:
        """Raises:
        TokenExpired, AccountRevoked, HeldOff, Unavailable: as a reader may.
        """
        params = {name: value for name, value in params.items() if value}
        if what == "playlistItems":
            params["maxResults"] = str(PAGE)
        request = Request(NAME, f"{self._api}/youtube/v3/{what}?{urlencode(params, quote_via=quote)}")
        try:
            return self._checked(self._calls.ask(request, token=credential.access_token), credential).fields
        except PostRefused as error:
            raise Unavailable(str(error)) from None

    def _checked(self, answer: Answer, credential: Credential) -> Answer:
        error = self._error(answer, credential)
        if error:
            raise error
        return answer

    def _error(self, answer: Answer, credential: Credential) -> ViralError | None:
        return error_of(answer, self._clock(), credential.access_token)

    def _grant(self, app: AppRegistration, asked: Mapping[str, str], *, code: bool) -> Grant:
        form = {"client_id": app.client_id, "client_secret": app.client_secret, **asked}
        answer = self._calls.ask(Request(NAME, f"{self._tokens}/token", form=form))
        return grant_of(NAME, answer, app, self._clock(), settings=SETTINGS, code=code)


def _opened_at(handle: Handle) -> datetime:
    """Return when the session was opened; long ago, if the handle does not say."""
    try:
        return datetime.fromisoformat(handle.public["opened_at"])
    except (LookupError, TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)


def _tags(content: Content) -> list[str]:
    """Return the post's mark and as many of its hashtags as there is room for."""
    tags = [f"{MARK}{content.mark}"]
    left = MOST_TAGS - len(tags[0])
    for hashtag in content.hashtags:
        tag = hashtag.lstrip("#")
        left -= len(tag) + 1 + (2 if " " in tag else 0)
        if left < 0:
            break
        tags.append(tag)
    return tags


def _inserted(answer: Answer) -> Commit:
    external_id = _id_of(answer)
    if not external_id:
        return Unknown(f"{NAME} answers {answer.status} and names no video")
    status = answer.fields.get("status")
    rejected = rejection_of(status) if isinstance(status, Mapping) else None
    if rejected:
        return Refused(rejected)
    if isinstance(status, Mapping) and status.get("uploadStatus") == "uploaded":
        return Accepted(f"{NAME} processes the video")
    return Published(external_id, _address(external_id))


def _id_of(answer: Answer) -> str | None:
    external_id = answer.text("id")
    return external_id if IDS.fullmatch(external_id) else None


def _is_over(status: Mapping[str, Any]) -> bool:
    return rejection_of(status) is not None or status["uploadStatus"] == "deleted"


def _count(value: Any) -> Any:
    """Return the number that a text of digits stands for: YouTube writes its counts as texts."""
    return int(value) if isinstance(value, str) and COUNT.fullmatch(value) else value


def _address(external_id: str) -> str:
    return f"https://www.youtube.com/shorts/{external_id}"


def _seen(video: Mapping[str, Any]) -> Seen | None:
    snippet = video["snippet"]
    tags = snippet.get("tags")
    marks = [tag for tag in tags if isinstance(tag, str) and tag.startswith(MARK)] if isinstance(tags, list) else []
    try:
        published_at = datetime.fromisoformat(snippet["publishedAt"])
    except (ValueError, TypeError):
        return None
    external_id = _text(video, "id")
    return Seen(
        external_id=external_id,
        text=_text(snippet, "description"),
        published_at=published_at,
        permalink=_address(external_id),
        mark=marks[0].removeprefix(MARK) if marks else None,
    )


def _items(found: Mapping[str, Any], part: str, name: str) -> list[Mapping[str, Any]]:
    """Return those of a list that have this field in this part."""
    items = found.get("items")
    good = [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []
    return [each for each in good if isinstance(each.get(part), Mapping) and name in each[part]]


def _seconds(details: Mapping[str, Any]) -> int | None:
    """Return how long a video is there; None if that is not said (of one that is still processed: P0D)."""
    found = DURATION.fullmatch(_text(details, "duration"))
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (int(each or 0) for each in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
