"""Instagram Reels, by the Instagram API with Instagram login.

A container is made, for which Instagram fetches the video itself; when it is FINISHED, one `media_publish` posts it.
The container's id is the handle, and its state tells for a day what became of that call. An account has no refresh
token: its access token, good for 60 days, is refreshed by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode, urlsplit

from domain.errors import Rejected, Unavailable, ViralError
from domain.learning.counts import NOTHING
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
from integrations.http.addresses import is_public
from integrations.http.client import Http, Request, Response
from integrations.http.errors import NotSent
from integrations.platforms.graph import (
    A_MINUTE,
    NAME,
    NO_OBJECT,
    NOT_FETCHED,
    GraphError,
    container_error,
    meaning,
    meaning_if_certain,
    read_error,
    read_json,
)
from integrations.platforms.instagram_insights import SOURCE, WITHHELD, Insights, NoSuchReel, NotAllowed

VERSION = "v26.0"
GRAPH, API, PAGES = "https://graph.instagram.com", "https://api.instagram.com", "https://www.instagram.com"
SCOPES = (
    *("instagram_business_basic", "instagram_business_content_publish", "instagram_business_manage_comments"),
    "instagram_business_manage_insights",
)
PUBLISHING = "instagram_business_content_publish"
FETCHED_WITHIN = timedelta(hours=24)
"""How long the video's address is good: as long as the container that it is fetched for."""
CONTAINER_LIVES = timedelta(hours=24)
TOKEN_LIVES, TOO_YOUNG = timedelta(days=60), timedelta(hours=24)
SKEW = timedelta(minutes=2)
"""How much Instagram's clock may be behind ours."""
WRITE_SECONDS = 30.0
A_PAGE, MOST_PAGES = 50, 20


class Instagram(Publisher, Login):
    passwords = False
    measured_at_once = 1
    doubted_at_once = 50

    def __init__(
        self, http: Http, *, base_url: str = "", clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._clock = clock
        self._insights = Insights()

    # --- publishing -----------------------------------------------------------------------------------------------

    def limits(self, credential: Credential) -> AccountLimits:
        fields = {"fields": "config,quota_usage"}
        body = self._get(credential, f"{credential.external_id}/content_publishing_limit", fields)
        rows = body.get("data")
        row = _mapping(rows[0]) if isinstance(rows, list) and rows else {}
        config = row.get("config")
        used, total = row.get("quota_usage"), config.get("quota_total") if isinstance(config, Mapping) else None
        if not isinstance(used, int) or not isinstance(total, int):
            return AccountLimits()
        return AccountLimits(posts_left_today=max(0, total - used), posts_a_day=total)

    def open(self, credential: Credential, content: Content, video: VideoFile, watch: Watch) -> Handle:
        address = video.address(FETCHED_WITHIN)
        if not self._base_url and not _reachable(address):
            raise PostRefused(
                "video_not_reachable",
                f"{NAME} fetches the video itself, and from the internet it cannot be reached here: the operator of "
                "this installation sets PUBLIC_URL to an https address that leads to it, or S3_BUCKET or CDN_BASE_URL",
            )
        form = {
            "media_type": "REELS",
            "video_url": address,
            "caption": content.text,
            "share_to_feed": _flag(content.options.get("share_to_feed", True)),
            "is_ai_generated": _flag(content.ai_generated),
        }
        if content.cover_at is not None:
            form["thumb_offset"] = str(round(content.cover_at * 1000))
        request = self._request(credential, f"{credential.external_id}/media", form=form)
        response = self._http.exchange(request, within=WRITE_SECONDS)
        container, now = _id(_written(response)), self._now(response)
        return Handle(
            public={"container_id": container, "opened_at": now.isoformat()}, expires_at=now + CONTAINER_LIVES
        )

    def ready(self, credential: Credential, handle: Handle, content: Content, video: VideoFile, watch: Watch) -> Handle:
        try:
            state, status = self._state(credential, handle)
        except _Gone:
            raise HandleLost(f"{NAME} does not know the container any more") from None
        match state:
            case "FINISHED":
                return handle
            case "PUBLISHED":  # by an attempt that nobody here remembers any more
                return replace(handle, public={**handle.public, "published": True})
            case "EXPIRED":
                raise HandleLost(f"{NAME}'s container has expired")
            case "ERROR":
                error = container_error(status)
                if error.subcode in NOT_FETCHED:
                    raise HandleLost(f"{NAME}'s container came to nothing: {_reason(error)}")
                raise PostRefused(_word(error), f"{NAME} does not take the video: {_reason(error)}")
        raise NotReady(f"{NAME} works on the video", retry_after=A_MINUTE)

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
        watch(0.0)
        if handle.public.get("published"):
            return self._published(credential, handle, content)
        form = {"creation_id": str(handle.public["container_id"])}
        request = self._request(credential, f"{credential.external_id}/media_publish", form=form)
        try:
            response = self._http.exchange(request, within=WRITE_SECONDS)
        except NotSent as unsent:
            return Refused(unsent)
        except Unavailable as silence:
            return Unknown(str(silence))
        error = read_error(response)
        if error is None:
            try:
                return Published(_id(read_json(response)))
            except Unavailable as unreadable:
                return Unknown(str(unreadable))
        certain = meaning_if_certain(error)
        return Unknown(error.message) if certain is None else Refused(certain)

    def look(self, credential: Credential, handle: Handle, content: Content, video: VideoFile) -> Sight:
        try:
            state, status = self._state(credential, handle)
        except _Gone as gone:
            over = handle.expires_at is None or handle.expires_at <= gone.now
            return CannotTell(f"{NAME} does not know the container" + (" any more" if over else ""), lost=over)
        match state:
            case "PUBLISHED":
                return self._published(credential, handle, content)
            case "FINISHED":
                return Unfinished(f"{NAME} has the video and has not published it")
            case "EXPIRED":
                return Absent(f"{NAME}'s container was not published within a day")
            case "ERROR":
                error = container_error(status)
                refused = None if error.subcode in NOT_FETCHED else PostRefused(_word(error), _reason(error))
                return Absent(f"{NAME} could not publish it: {_reason(error)}", refused)
            case "IN_PROGRESS":
                return CannotTell(f"{NAME} works on the video")
        return CannotTell(f"{NAME}'s container is in a state that is not known here")

    def recent(self, credential: Credential, since: datetime) -> Listing:
        posts, complete = self._listed(credential, since)
        return Listing(tuple(posts), complete)

    def permalink(self, credential: Credential, external_id: str) -> str | None:
        found = self._get(credential, external_id, {"fields": "permalink"}).get("permalink")
        return found if isinstance(found, str) and found else None

    def measure(
        self, credential: Credential, external_ids: Sequence[str], now: datetime, more: More = no_matter
    ) -> Measured:
        """What Instagram says that there is not may only be hidden from our access: one error stands for both."""
        numbers: dict[str, Numbers] = {}
        missing: set[str] = set()
        for external_id in external_ids:

            def ask(metrics: Sequence[str], path: str = f"{external_id}/insights") -> Response:
                return self._http.exchange(self._request(credential, path, params={"metric": ",".join(metrics)}))

            try:
                # Instagram has nothing yet of some reels; a metric that it has not (yet) is missing.
                if (found := self._insights.read(credential.external_id, ask, now, more)) != NOTHING:
                    numbers[external_id] = found
            except NoSuchReel:
                missing.add(external_id)
            except NotAllowed:
                return Measured(SOURCE, numbers, missing=frozenset(missing), withheld=WITHHELD)
        return Measured(SOURCE, numbers, missing=frozenset(missing))

    def gone(self, credential: Credential, external_ids: Sequence[str]) -> frozenset[str]:
        """Only what the account's whole list of posts is without is gone."""
        unseen, pages = set(external_ids), 0
        for page in self._pages(credential, f"{credential.external_id}/media", {"fields": "id", "limit": str(A_PAGE)}):
            pages += 1
            unseen -= {_id(each) for each in page}
            if not unseen:
                break
        return frozenset(unseen) if 0 < pages < MOST_PAGES else frozenset()

    def comment(self, credential: Credential, external_id: str, text: str, key: str) -> str | None:
        fields = {"fields": "id,text,from", "limit": str(A_PAGE)}
        for page in self._pages(credential, f"{external_id}/comments", fields):
            for each in page:
                by = each.get("from")
                own = not isinstance(by, Mapping) or by.get("id") in (None, credential.external_id)
                if own and each.get("text") == text:
                    return _id(each)
        request = self._request(credential, f"{external_id}/comments", form={"message": text})
        try:
            return _id(_written(self._http.exchange(request)))
        except PostRefused:  # the owner has turned comments off, say: a later attempt changes nothing
            return None

    def _state(self, credential: Credential, handle: Handle) -> tuple[str, Any]:
        """Return the state of the container, and the text that goes with it.

        Raises:
            _Gone: there is none of this id, or not for this account.
        """
        request = self._request(credential, str(handle.public["container_id"]), params={"fields": "status_code,status"})
        response = self._http.exchange(request)
        error = read_error(response)
        if error is not None and (error.code == 24 or (error.code, error.subcode) == (100, NO_OBJECT)):
            raise _Gone(self._now(response))
        body = _read(response, error)
        return str(body.get("status_code")), body.get("status")

    def _published(self, credential: Credential, handle: Handle, content: Content) -> Published:
        """Return which post the container became: nothing but the account's list of posts tells. A list that fails, or
        has several that it may be, or does not have it yet, leaves that open."""
        # By Instagram's clock, as the times of the list are.
        opened_at = datetime.fromisoformat(str(handle.public["opened_at"])).replace(microsecond=0)
        try:
            posts, _ = self._listed(credential, opened_at)
        except ViralError:
            return Published()
        after = [each for each in posts if each.published_at >= opened_at]
        fitting = [each for each in after if " ".join(each.text.split()) == " ".join(content.text.split())]
        return Published(fitting[0].external_id, fitting[0].permalink) if len(fitting) == 1 else Published()

    def _listed(self, credential: Credential, since: datetime) -> tuple[list[Seen], bool]:
        """Return the account's posts since then, and whether these are all of them. Instagram's clock may be behind
        ours, and its times are whole seconds."""
        since = (since - SKEW).replace(microsecond=0)
        params = {
            "fields": "id,caption,permalink,timestamp",
            "since": str(int(since.timestamp())),
            "limit": str(A_PAGE),
        }
        found: list[Seen] = []
        for number, page in enumerate(self._pages(credential, f"{credential.external_id}/media", params), start=1):
            found += [_seen(each) for each in page]
            if found and found[-1].published_at < since:
                break
            if number == MOST_PAGES:
                return [each for each in found if each.published_at >= since], False
        return [each for each in found if each.published_at >= since], True

    # --- connecting -----------------------------------------------------------------------------------------------

    def authorize_url(self, app: AppRegistration, *, state: str, challenge: str, redirect_uri: str, server: str) -> str:
        # Instagram knows no PKCE: the state alone ties its answer to the person who asked.
        query = {
            "client_id": app.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": ",".join(SCOPES),
            "state": state,
        }
        return f"{self._base_url or PAGES}/oauth/authorize?{urlencode(query)}"

    def exchange(self, app: AppRegistration, *, code: str, verifier: str, redirect_uri: str, server: str) -> Grant:
        form = {
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "grant_type": "authorization_code",
            "redirect_uri": redirect_uri,
            "code": code.removesuffix("#_"),
        }
        try:
            first, _ = self._token(Request(NAME, f"{self._base_url or API}/oauth/access_token", form=form))
        except PostRefused as error:
            raise AccountRevoked(error.code, f"{NAME} does not take the code of this login: connect again") from None
        scopes = _scopes(first.get("permissions"))
        if scopes and PUBLISHING not in scopes:
            raise AccountRevoked("scope", f"{NAME} was not allowed to publish here: connect again and leave that on")
        query = {
            "grant_type": "ig_exchange_token",
            "client_secret": app.client_secret,
            "access_token": _text(first, "access_token"),
        }
        lasting, now = self._token(Request(NAME, f"{self._base_url or GRAPH}/access_token", params=query))
        token = _text(lasting, "access_token")
        who = self._get(Credential("", token), "me", {"fields": "user_id,username"})
        return Grant(
            token,
            access_expires_at=now + _lifetime(lasting),
            scopes=scopes or SCOPES,
            external_id=_id(who, "user_id"),
            username=str(who.get("username") or ""),
        )

    def refresh(self, app: AppRegistration, grant: Grant, server: str) -> Grant:
        query = {"grant_type": "ig_refresh_token", "access_token": grant.access_token}
        try:
            body, now = self._token(Request(NAME, f"{self._base_url or GRAPH}/refresh_access_token", params=query))
        except PostRefused as error:
            left = grant.access_expires_at - self._clock() if grant.access_expires_at else timedelta(0)
            if left > TOKEN_LIVES - TOO_YOUNG:
                return grant  # one of less than a day is not refreshed
            raise Unavailable(str(error)) from None
        return Grant(
            _text(body, "access_token"),
            access_expires_at=now + _lifetime(body),
            scopes=_scopes(body.get("permissions")),
        )

    def revoke(self, app: AppRegistration, grant: Grant, server: str) -> None:
        """Do nothing: only its owner can take the access away, in Instagram's settings."""

    def register(self, server: str, redirect_uri: str) -> AppRegistration:
        raise Rejected(f"{NAME} has no servers to register with")

    def log_in(self, name: str, password: str, server: str) -> Grant:
        raise Rejected(f"{NAME} takes no passwords of programs: connect the account in a browser")

    def _token(self, request: Request) -> tuple[Mapping[str, Any], datetime]:
        """Return what is given for a code or a token, and when.

        Raises:
            AccountRevoked: the token has ended.
            PostRefused: it is refused for another reason.
            Unavailable: there is no answer, or one that says nothing of it.
        """
        response = self._http.exchange(request)
        error = read_error(response)
        if error is not None:
            meant = meaning(error)
            if isinstance(meant, TokenExpired):
                raise AccountRevoked(error.word, f"{NAME}'s access has ended: connect the account again")
            raise meant
        body = _mapping(read_json(response))
        rows = body.get("data")
        return _mapping(rows[0]) if isinstance(rows, list) and rows else body, self._now(response)

    def _now(self, response: Response) -> datetime:
        """Return when it was answered, by Instagram's clock: its containers and tokens end by that one."""
        try:
            return parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
        except ValueError:
            return self._clock()

    # --- requests -------------------------------------------------------------------------------------------------

    def _request(
        self,
        credential: Credential,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Request:
        return Request(
            NAME,
            f"{self._base_url or GRAPH}/{VERSION}/{path}",
            params=params or {},
            headers={"Authorization": f"Bearer {credential.access_token}"},
            form=form,
        )

    def _get(self, credential: Credential, path: str, params: Mapping[str, str]) -> Mapping[str, Any]:
        response = self._http.exchange(self._request(credential, path, params=params))
        return _read(response, read_error(response))

    def _pages(self, credential: Credential, path: str, params: Mapping[str, str]) -> Iterator[list[Mapping[str, Any]]]:
        """Yield the pages of a list, at most `MOST_PAGES`."""
        for _ in range(MOST_PAGES):
            body = self._get(credential, path, params)
            rows, paging = body.get("data"), body.get("paging")
            if not isinstance(rows, list):
                raise _unreadable()
            yield [_mapping(each) for each in rows]
            if not isinstance(paging, Mapping) or not paging.get("next"):
                return
            params = {**params, "after": _text(_mapping(paging.get("cursors")), "after")}


class _Gone(Exception):
    """There is no such container now, by Instagram's clock."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self.now = now


def _read(response: Response, error: GraphError | None) -> Mapping[str, Any]:
    """Return what was read. A question that is refused says nothing of the post: it is asked again later."""
    meant = meaning(error) if error is not None else None
    if isinstance(meant, PostRefused):
        raise Unavailable(str(meant))
    if meant is not None:
        raise meant
    return _mapping(read_json(response))


def _written(response: Response) -> Mapping[str, Any]:
    error = read_error(response)
    if error is not None:
        raise meaning(error)
    return _mapping(read_json(response))


def _reachable(address: str) -> bool:
    """Return whether an address may lead here from the internet, as far as it shows that itself."""
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    try:
        return parts.scheme == "https" and is_public(ip_address(host))
    except ValueError:
        inside = "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))
        return parts.scheme == "https" and not inside


def _reason(error: GraphError) -> str:
    """Return why a container failed, in words."""
    return error.message.partition(": ")[2] or "it does not say why"


def _word(error: GraphError) -> str:
    return str(error.subcode or "container_error")


def _seen(media: Mapping[str, Any]) -> Seen:
    permalink, caption = media.get("permalink"), media.get("caption")
    try:
        published_at = datetime.strptime(_text(media, "timestamp"), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        raise _unreadable() from None
    return Seen(
        _id(media),
        caption if isinstance(caption, str) else "",
        published_at,
        permalink if isinstance(permalink, str) and permalink else None,
    )


def _lifetime(body: Mapping[str, Any]) -> timedelta:
    seconds = body.get("expires_in")
    return timedelta(seconds=max(0, seconds)) if isinstance(seconds, int) and seconds < 10**8 else TOKEN_LIVES


def _scopes(value: Any) -> tuple[str, ...]:
    """Return the permissions of a grant, which come as a list or as one text."""
    listed = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(each.strip() for each in listed if isinstance(each, str) and each.strip())


def _id(body: Any, name: str = "id") -> str:
    """Return an id as text, of whatever kind it came.

    Raises:
        Unavailable: there is none.
    """
    value = body.get(name) if isinstance(body, Mapping) else None
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text.isascii() or not text.isdigit() or len(text) > 40:
        raise _unreadable()
    return text


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _unreadable()
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _unreadable()
    return value


def _unreadable() -> Unavailable:
    return Unavailable(f"{NAME} answers with what cannot be read")


def _flag(value: object) -> str:
    return "true" if value else "false"
