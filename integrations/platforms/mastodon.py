"""Mastodon, and what speaks its API: many servers, each with its own registration of us, its own limits and tokens.

A video is uploaded first, and its id belongs to one status for ever: whether one of the account's own statuses has it
tells what became of a post. The Idempotency-Key is sent besides; some servers ignore it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.counts import NOTHING, numbers_of
from domain.learning.numbers import Measured, Numbers
from domain.ports import Login, More, Publisher, Watch, no_matter
from domain.posting.accounts import AppRegistration, Credential, Grant
from domain.posting.publishing import (
    Absent,
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
from integrations.http.bodies import Body, FormFile, multipart
from integrations.http.client import Http, Request, retry_after
from integrations.platforms.answers import (
    COMMIT_SECONDS,
    Answer,
    Calls,
    committed,
    seconds_until,
    upload_seconds,
    words,
)
from integrations.platforms.tokens import ends_at

CLIENT = "Viral Dashboard"
SCOPES = ("read:accounts", "read:statuses", "write:media", "write:statuses")
PAGE = 40
MOST_PAGES = 25
COMMENTED_WITHIN = timedelta(days=2)
SKEW = timedelta(minutes=10)
"""How far a server's clock may be from ours."""
LATER = timedelta(seconds=5)
"""When an upload is asked about again."""
KEPT = timedelta(hours=23)
"""So long a server keeps an upload that is in no status (Mastodon: a day)."""
UNPROCESSED = ("not finished processing", "still being processed", "not been processed")


class Mastodon(Publisher, Login):
    """`base_url` is the one server that may be private, and have http; all others come from outside."""

    passwords = False
    measured_at_once = 1
    doubted_at_once = 1

    def __init__(
        self, http: Http, *, base_url: str = "", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._calls = Calls(http, base_url)
        self._clock = clock

    # --- publishing ------------------------------------------------------------------------------------------------

    def limits(self, credential: Credential) -> AccountLimits:
        answer = self._get(credential, "/api/v2/instance")
        if not answer.ok:
            error = self._error(answer, credential)
            if answer.status == 404 or isinstance(error, PostRefused):  # an older server, or another kind
                return AccountLimits()
            raise error
        rules = _inner(answer.fields, "configuration")
        characters = _inner(rules, "statuses").get("max_characters")
        size = _inner(rules, "media_attachments").get("video_size_limit")
        return AccountLimits(
            max_characters=characters if isinstance(characters, int) else None,
            max_bytes=size if isinstance(size, int) else None,
        )

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
        """Upload the video. One that is never attached to a status is shown to nobody, and deleted after a day."""
        body = Body(video.size, lambda: video.read(0, video.size), video.content_type)
        form = multipart({}, FormFile("file", "video.mp4", body))
        request = Request(_name(credential), f"{credential.server}/api/v2/media", body=form)
        answer = self._calls.ask(request, token=credential.access_token, within=upload_seconds(video.size), watch=watch)
        if not answer.ok:
            raise self._error(answer, credential)
        if not (media_id := _id(answer.fields)):
            raise Unavailable(f"{_name(credential)} says that it has the video, and not what it calls it")
        return Handle({"media_id": media_id, "opened_at": self._clock().isoformat()})

    def ready(self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch) -> Handle:
        answer = self._media(credential, handle)
        if answer.status == 206:
            raise NotReady(f"{_name(credential)} works on the video", retry_after=LATER)
        if answer.ok:
            return handle
        if answer.status == 404:
            raise HandleLost(f"{_name(credential)} has the uploaded video no longer")
        if answer.status == 422:
            says = words(answer.text("error"), credential.access_token)
            raise PostRefused("processing_failed", f"{_name(credential)} cannot use the video: {says}")
        raise self._error(answer, credential)

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
        media_id = handle.public.get("media_id")
        if not isinstance(media_id, str):
            return Refused(HandleLost("the upload's id is not known here"))
        status: dict[str, Any] = {"status": content.text, "media_ids": [media_id]}
        chosen = {"visibility", "language", "sensitive", "spoiler_text"} & content.options.keys()
        status |= {name: content.options[name] for name in sorted(chosen) if content.options[name] not in ("", None)}
        watch(0.0)

        def published(answer: Answer) -> Commit:
            if not (status_id := _id(answer.fields)) or media_id not in _media_ids(answer.fields):
                return Unknown(f"{_name(credential)} says that it was done, and not with which video")
            return Published(status_id, _address(answer.fields))

        return committed(
            lambda: self._post_status(credential, status, f"{content.post_id} {media_id}"),
            published,
            lambda answer: self._not_published(answer, credential, handle, content, video),
        )

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        media_id = handle.public.get("media_id")
        if not isinstance(media_id, str):
            return CannotTell("the upload's id is not known here", lost=True)
        try:
            for status in self._own(credential, content.created_at - SKEW):
                if status is None:
                    return CannotTell("the account has more posts since then than can be looked through", lost=True)
                if media_id in _media_ids(status):
                    return Published(_id(status), _address(status))
            upload = self._media(credential, handle)
        except (TokenExpired, HeldOff):
            raise
        except (Unavailable, PostRefused) as error:
            return CannotTell(str(error))
        if upload.status in (200, 206):
            return Unfinished("the upload is there, and in no post")
        if upload.status == 404 and upload.text("error"):
            if self._clock() < _opened_at(handle) + KEPT:  # one that is in a status is not shown as an upload either
                return CannotTell(
                    "the upload is not shown any more, as if a post had it, and no post is listed with it"
                )
            return Absent("the upload is gone, and in no post")
        failure = self._error(upload, credential)
        if isinstance(failure, TokenExpired | AccountRevoked | HeldOff):
            raise failure
        return CannotTell(str(failure)) if isinstance(failure, Unavailable) else Absent(str(failure), failure)

    def recent(self, credential: Credential, since: datetime) -> Listing:
        seen: list[Seen] = []
        for status in self._own(credential, since):
            if status is None:
                return Listing(tuple(seen), complete=False)
            at = _created_at(status)
            if at >= since:
                text = _plain(str(status.get("content") or ""))
                seen.append(Seen(_id(status), text, at, _address(status)))
        return Listing(tuple(seen), complete=True)

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        answer = self._get(credential, f"/api/v1/statuses/{quote(external_id, safe='')}")
        if answer.status == 404:
            return None
        if not answer.ok:
            raise self._error(answer, credential)
        return _address(answer.fields)

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: More = no_matter
    ) -> Measured:
        """Only what the server itself says that it has not is gone; a 404 without its words is of something between."""
        numbers: dict[str, Numbers] = {}
        gone: set[str] = set()
        for external_id in external_ids:
            answer = self._get(credential, f"/api/v1/statuses/{quote(external_id, safe='')}")
            if answer.status == 404 and answer.text("error"):
                gone.add(external_id)
            elif not answer.ok:
                error = self._error(answer, credential)
                raise Unavailable(str(error)) if isinstance(error, PostRefused) else error
            found = numbers_of("mastodon", answer.fields, now.date())
            if answer.ok and _id(answer.fields) == external_id and found != NOTHING:
                numbers[external_id] = found
        return Measured("mastodon statuses", numbers, frozenset(gone))

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        """`measure` says so itself."""
        return frozenset()

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        """Some servers ignore the key, so an equal reply of ours is looked for first. It is seen by those who see the
        post."""
        for status in self._own(credential, self._clock() - COMMENTED_WITHIN, replies=True):
            if status is None:
                break
            if str(status.get("in_reply_to_id")) == external_id and _plain(str(status.get("content") or "")) == text:
                return _id(status)
        post = self._get(credential, f"/api/v1/statuses/{quote(external_id, safe='')}")
        if not post.ok:
            raise self._error(post, credential)
        status = {"status": text, "in_reply_to_id": external_id, "visibility": post.text("visibility") or "public"}
        answer = self._post_status(credential, status, key)
        if not answer.ok:
            raise self._error(answer, credential)
        if not (status_id := _id(answer.fields)):
            raise Unavailable(f"{_name(credential)} says that it was done, and not what became of it")
        return status_id

    # --- accounts --------------------------------------------------------------------------------------------------

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        form = {"client_name": CLIENT, "redirect_uris": redirect_uri, "scopes": " ".join(SCOPES)}
        answer = self._calls.ask(Request(_host(server), f"{_origin(server)}/api/v1/apps", form=form))
        client_id, secret = answer.text("client_id"), answer.text("client_secret")
        if not answer.ok or not (client_id and secret):
            if answer.status == 429 or answer.status >= 500:
                raise self._login_error(answer)
            raise Rejected(f"{_host(server)} answers as no Mastodon server does: check its name")
        return AppRegistration(client_id, secret)

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        """A server without PKCE ignores the challenge."""
        asked = {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(SCOPES),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{_origin(server)}/oauth/authorize?{urlencode(asked)}"

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        grant = self._token(app, server, asked | {"code_verifier": verifier, "scope": " ".join(SCOPES)}, code, verifier)
        credential = Credential("", grant.access_token, _origin(server))
        answer = self._get(credential, "/api/v1/accounts/verify_credentials")
        if not answer.ok:
            raise self._error(answer, credential)
        if not (own_id := _id(answer.fields)):
            raise Unavailable(f"{_name(credential)} does not say whose account it is")
        return _of(grant, own_id, answer.text("username"), credential)

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        """Mastodon's tokens have no end; those of some servers that speak its API do."""
        if not grant.refresh_token:
            raise AccountRevoked(
                "no_refresh_token", f"{_host(server)} ended our access to the account: connect it again"
            )
        asked = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
        return self._token(app, server, asked, grant.refresh_token)

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        form = {"client_id": app.client_id, "client_secret": app.client_secret, "token": grant.access_token}
        answer = self._calls.ask(Request(_host(server), f"{_origin(server)}/oauth/revoke", form=form))
        if not answer.ok and answer.status not in (401, 403):
            raise self._login_error(answer, app.client_secret, grant.access_token)

    def log_in(self, name: str, password: str, server: str) -> Grant:
        raise Rejected("Mastodon accounts are connected in a browser")

    def _token(self, app: AppRegistration, server: str, asked: Mapping[str, str], *secrets: str) -> Grant:
        form = {**asked, "client_id": app.client_id, "client_secret": app.client_secret}
        answer = self._calls.ask(Request(_host(server), f"{_origin(server)}/oauth/token", form=form))
        if answer.text("error") in ("invalid_grant", "invalid_token", "access_denied"):
            raise AccountRevoked(
                answer.text("error"), f"{_host(server)} does not give access (any more): connect again"
            )
        if answer.text("error") in ("invalid_client", "unauthorized_client"):
            raise AccountRevoked(
                answer.text("error"), f"{_host(server)} knows this installation no longer: connect again"
            )
        if not answer.ok:
            raise self._login_error(answer, app.client_secret, *secrets)
        if not answer.text("access_token"):
            raise Unavailable(f"{_host(server)} answers without a token")
        return Grant(
            answer.text("access_token"),
            answer.text("refresh_token"),
            ends_at(answer, self._clock(), "expires_in"),
            scopes=tuple(answer.text("scope").split()),
        )

    # --- requests --------------------------------------------------------------------------------------------------

    def _post_status(self, credential: Credential, status: Mapping[str, Any], key: str) -> Answer:
        headers = {"Idempotency-Key": sha256(key.encode()).hexdigest()}
        request = Request(_name(credential), f"{credential.server}/api/v1/statuses", json=status, headers=headers)
        return self._calls.ask(request, token=credential.access_token, within=COMMIT_SECONDS)

    def _media(self, credential: Credential, handle: Handle) -> Answer:
        return self._get(credential, f"/api/v1/media/{quote(handle.public['media_id'], safe='')}")

    def _own(
        self, credential: Credential, since: datetime, *, replies: bool = False
    ) -> Iterator[Mapping[str, Any] | None]:
        """Yield the account's own statuses until one is older than `since`; None at the end if there are more."""
        own_id = credential.external_id.partition("@")[0]
        params = {"limit": str(PAGE), "exclude_reblogs": "true"} | ({} if replies else {"only_media": "true"})
        for _ in range(MOST_PAGES):
            answer = self._get(credential, f"/api/v1/accounts/{quote(own_id, safe='')}/statuses", params)
            if not answer.ok:
                raise self._error(answer, credential)
            if not isinstance(answer.value, list):
                raise Unavailable(f"{_name(credential)} answers with a list that cannot be read")
            if not answer.value:
                return
            for status in answer.value:
                if not isinstance(status, Mapping) or not _id(status):
                    raise Unavailable(f"{_name(credential)} answers with a post that cannot be read")
                yield status
            if min(_created_at(status) for status in answer.value) < since:
                return
            params["max_id"] = _id(answer.value[-1])
        yield None

    def _get(self, credential: Credential, path: str, params: Mapping[str, str] | None = None) -> Answer:
        request = Request(_name(credential), f"{credential.server}{path}", params=params or {})
        return self._calls.ask(request, token=credential.access_token)

    def _not_published(
        self, answer: Answer, credential: Credential, handle: Handle, content: Content, video: VideoFile
    ) -> ViralError | None:
        """Return why it is refused; None unless the upload is certainly in no post. A server says that one has it
        already in its owner's language, with the status that it has for all that it does not take: so it is looked."""
        if answer.status in (400, 404, 422):
            try:
                if not isinstance(self.look(credential, handle, content, video), Unfinished):
                    return None
                processed = self._media(credential, handle).status != 206
            except ViralError:
                return None
            if not processed or any(each in answer.text("error").lower() for each in UNPROCESSED):
                return NotReady(f"{_name(credential)} works on the video", retry_after=LATER)
        return self._error(answer, credential)

    def _error(self, answer: Answer, *secrets: Credential | str) -> ViralError:
        """Return what an answer of failure means. One without the server's words is of something in between (a proxy, a
        page that asks for a human), and says nothing."""
        hidden = [each.access_token if isinstance(each, Credential) else each for each in secrets]
        where = next((_name(each) for each in secrets if isinstance(each, Credential)), "the Mastodon server")
        says = words(answer.text("error_description") or answer.text("error"), *hidden)
        if answer.status == 401 and "expired" in says.lower():
            return TokenExpired(f"the access to the account at {where} has expired")
        if answer.status in (401, 403) and says:
            return AccountRevoked(str(answer.status), f"{where} refuses our access: {says}")
        if answer.status == 429:
            return HeldOff("429", f"{where} asks us to wait", retry_after=self._wait(answer))
        if answer.status == 413 or (400 <= answer.status < 500 and says):
            return PostRefused(str(answer.status), f"{where} refuses the post: {says or 'it is too large'}")
        return Unavailable(f"{where} answers {answer.status}")

    def _login_error(self, answer: Answer, *secrets: str) -> ViralError:
        """Only an error that is known to say so means that access has ended."""
        error = self._error(answer, *secrets)
        unclear = isinstance(error, PostRefused | AccountRevoked)
        return Unavailable(f"the Mastodon server answers {answer.status}: {error}") if unclear else error

    def _wait(self, answer: Answer) -> timedelta | None:
        try:
            reset = datetime.fromisoformat(answer.headers.get("x-ratelimit-reset", ""))
        except ValueError:
            return retry_after(answer.headers.get("retry-after"))
        reset = reset if reset.tzinfo else reset.replace(tzinfo=UTC)
        return seconds_until(reset.timestamp(), self._clock().timestamp())


def _of(grant: Grant, own_id: str, username: str, credential: Credential) -> Grant:
    host = _name(credential)
    return Grant(
        grant.access_token,
        grant.refresh_token,
        grant.access_expires_at,
        scopes=grant.scopes,
        external_id=f"{own_id}@{host}",
        username=f"{username}@{host}",
        server=credential.server,
    )


def _origin(server: str) -> str:
    """Return the address of a server that somebody may have named without one."""
    return (server if "://" in server else f"https://{server}").rstrip("/")


def _host(server: str) -> str:
    return urlsplit(_origin(server)).netloc


def _name(credential: Credential) -> str:
    return _host(credential.server)


def _inner(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, Mapping) else {}


def _id(fields: Mapping[str, Any]) -> str:
    """Return an id as text; some servers have numbers."""
    value = fields.get("id")
    return str(value) if isinstance(value, str | int) and value is not True else ""


def _opened_at(handle: Handle) -> datetime:
    """Return when it was uploaded; just now, for all that is known, if the handle does not say."""
    try:
        return datetime.fromisoformat(handle.public["opened_at"])
    except (LookupError, TypeError, ValueError):
        return datetime.max.replace(tzinfo=UTC) - KEPT


def _media_ids(status: Mapping[str, Any]) -> list[str]:
    media = status.get("media_attachments")
    return [_id(each) for each in media if isinstance(each, Mapping)] if isinstance(media, list) else []


def _address(status: Mapping[str, Any]) -> str | None:
    value = status.get("url") or status.get("uri")
    return value if isinstance(value, str) else None


def _created_at(status: Mapping[str, Any]) -> datetime:
    """Return when it was posted; where that cannot be read, a time that ends no list."""
    try:
        at = datetime.fromisoformat(str(status.get("created_at")))
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


class _Text(HTMLParser):
    """The text that a status' HTML shows."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.pieces.append("\n")
        elif tag == "p" and self.pieces:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def _plain(html: str) -> str:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return "".join(parser.pieces)
