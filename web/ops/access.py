"""Who may see `/ops` and `/metrics`: named tokens, OPS_TOKEN, and nobody else but programs on this machine at first.

A browser exchanges a token for a session at `/ops/login`; a program sends it as `Authorization: Bearer`. Everything
below `/ops` passes `web/ops/guard.py`, which asks here.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from domain.errors import Unavailable
from domain.ops.operators import (
    BY_SETTING,
    ON_LOOPBACK,
    SESSION_BYTES,
    SESSION_IDLE,
    SESSION_LIFE,
    Operator,
    OperatorRole,
    form_token,
    is_form_of,
    is_token,
    token_hash,
)
from web.ops.attempts import Attempts
from web.ops.threads import Crowded, NoAnswer, Threads
from web.server.clients import is_direct, is_loopback, network_of
from web.server.headers import is_https
from workers.app import App
from workers.ops.operators import (
    NOTED_EVERY,
    AskedSession,
    asked_session,
    begin_session,
    end_session,
    new_session,
    operator_by_token,
    operators_by_session,
    tokens_were_made,
)

COOKIE: Final = "viral_ops"
COOKIE_OVER_HTTPS: Final = "__Host-viral_ops"
"""Only a response of this very host over https can set a cookie of such a name."""

SESSION = re.compile(f"[0-9a-f]{{{2 * SESSION_BYTES}}}")

THREADS = 4
MOST_ASKING = 200
"""Requests that wait to be admitted; each is there for milliseconds."""

LONGEST_LOOK_UP = 15.0
"""Seconds; a Postgres that hangs on an open connection ends no look-up by itself."""
RECENT = 1000
"""Credentials that a process remembers to have admitted."""
TRUSTED_WITHOUT_POSTGRES = SESSION_LIFE.total_seconds()
"""Seconds for which somebody who was admitted may look while nobody can be looked up."""
KEPT_LIFE = 3600.0
"""Seconds of a session that could not be stored, since Postgres refuses writes."""
MOST_KEPT = 100

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers send `Origin: null` with our own forms
    "Vary": "Cookie, Authorization",
}

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True)
class SignedIn:
    """Who asks, as pages show it. `form_token` goes into every form that changes something; it is empty for whoever
    has no session."""

    operator: Operator
    form_token: str = ""
    checked: bool = True
    """False: Postgres does not answer, and this process remembers them."""

    @property
    def name(self) -> str:
        return self.operator.name

    @property
    def role(self) -> OperatorRole:
        return self.operator.role

    @property
    def has_session(self) -> bool:
        return bool(self.form_token)

    @property
    def hint(self) -> str | None:
        """What is to be said about how they came in."""
        if not self.checked:
            return "Postgres does not answer: nobody can be looked up, and you are remembered."
        if self.operator == BY_SETTING:
            return "Signed in with OPS_TOKEN, which names nobody: create named tokens with `viral ops token create`."
        if self.operator == ON_LOOPBACK:
            return (
                "No token was created yet, so every program on this machine may look, and nobody may act. The first "
                "token ends that: `viral ops token create NAME --role act`."
            )
        return None

    @property
    def may_act(self) -> bool:
        return self.why_not is None

    @property
    def why_not(self) -> str | None:
        """Why they may only look; None: they may act.

        Only sessions act: a form's proof is made of one. A program has the shell, where each action is a line.
        """
        if not self.checked:
            return "Postgres does not answer, so nobody can act until it does"
        if self.operator == ON_LOOPBACK:
            return (
                "whoever needs no token only looks. `viral ops token create NAME --role act` makes a token; sign in"
                " with it at /ops/login"
            )
        if not self.has_session:
            return (
                "a bearer token only looks here: sign in at /ops/login, or use the shell, where each action is a line"
            )
        if self.role is not OperatorRole.ACT:
            return (
                "your token may look and not act; whoever has a shell here makes one that may:"
                " `viral ops token create NAME --role act`"
            )
        return None


class Refused(Exception):
    """The request is not admitted. `status` is 401 (nobody, or a wrong token), 403, 429 (`wait` seconds) or 503."""

    def __init__(self, status: int, says: str, *, wait: int = 0) -> None:
        super().__init__(says)
        self.status = status
        self.says = says
        self.wait = wait

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 401:
            return {"WWW-Authenticate": 'Bearer realm="ops"'}
        return {"Retry-After": str(self.wait)} if self.wait else {}


@dataclass
class Seen:
    """When this process admitted a credential last, looked it up last, and wrote that down last; seconds of its own
    clock."""

    operator: Operator
    at: float
    looked_up_at: float
    noted_at: float = float("-inf")
    used_at: float = float("-inf")
    session: AskedSession | None = field(default=None, repr=False)
    """What it is looked up by, if it is a session that Postgres has."""


@dataclass(frozen=True)
class Kept:
    """A session in this process's memory, begun with the token of this hash."""

    token: str = field(repr=False)
    until: float


class OpsAccess:
    """The rules of admission; one object a process, since it counts attempts. What is not `async` blocks, and is
    called by `run`.

    While Postgres does not answer, nobody can be looked up, and no token revoked either. So whoever this process has
    admitted before may look until it answers again, and OPS_TOKEN admits as ever.

    Who was looked up is not looked up again for `fresh_for` seconds: many open pages look all the time. So long a
    session may last that was ended, or whose token was revoked, elsewhere. A look-up that takes longer than `patience`
    is given up. What is `simulated` is nobody's: programs on this machine may look at it though there are tokens."""

    def __init__(
        self,
        app: App,
        *,
        fresh_for: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = LONGEST_LOOK_UP,
        simulated: bool = False,
    ) -> None:
        self._app = app
        self._simulated = simulated
        self._fresh_for = fresh_for
        self._monotonic = monotonic
        self._attempts = Attempts(monotonic)
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._good_networks: OrderedDict[str, None] = OrderedDict()
        self._tokens_were_made = False
        self._none_made_at = float("-inf")
        self._looking = threading.Lock()
        self._failed_at = float("-inf")
        self._threads = Threads("ops-access", threads=THREADS, most=MOST_ASKING, patience=patience)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Have a thread do it: one of our own, so that others wait for nobody whom strangers keep busy.

        Raises:
            Refused: 503: too many ask at once, or nothing comes of it. And what `work` raises.
        """
        try:
            return await self._threads.run(work, *arguments)
        except Crowded:
            raise Refused(503, "too many ask at once; try again in a moment", wait=1) from None
        except NoAnswer:
            says = f"nobody can be looked up: Postgres has not answered for {self._threads.patience:g} s"
            raise Refused(503, says) from None

    async def may_look(self, request: Request) -> Response | None:
        """Return None if the request may see what operators see, else the response that says why not. For programs:
        it is plain text and leads to no page."""
        try:
            await self.admitted(request)
        except Refused as refused:
            return PlainTextResponse(f"{refused.says}\n", refused.status, {**HEADERS, **refused.headers})
        return None

    async def admitted(self, request: Request) -> SignedIn:
        """Return who asks; no thread is needed for who was looked up lately. Raises what `admit` does."""
        session = session_of(request)
        if session is not None and _bearer(request) is None and request.method in ("GET", "HEAD"):
            check_site(request, self._public_origin)
            if (seen := self._fresh(token_hash(session), use=_is_use(request))) is not None:
                return SignedIn(seen.operator, form_token(session))
        try:
            return await self.run(self.admit, request)
        except Refused as refused:
            if refused.status != 503 or (remembered := self._by_memory(request)) is None:
                raise
            return remembered

    def admit(self, request: Request) -> SignedIn:
        """Return who asks.

        Raises:
            Refused: nobody whom we know, or another site on behalf of somebody.
        """
        check_site(request, self._public_origin)
        credential = _bearer(request)
        if credential is not None:
            return SignedIn(self._by_token(credential, request))
        session = session_of(request)
        if session is not None and (admitted := self._by_session(session, request)):
            return admitted
        if self._is_open_to(request):
            return SignedIn(ON_LOOPBACK)
        raise Refused(
            401,
            "sign in at /ops/login, or send `Authorization: Bearer` with a token; `viral ops token create NAME --role"
            " look` makes one",
        )

    def sign_in(self, request: Request, token: str) -> str:
        """Return the id of a new session for the holder of this token.

        Raises:
            Refused: 401 for any wrong token; 429; 503 if Postgres does not answer.
        """
        operator = self._by_token(token, request, remembered=False)
        session = new_session()
        try:
            begin_session(self._app, operator, session)
        except Unavailable as error:
            self._keep(session, token)
            log.warning("ops.session_not_stored", reason=str(error), operator=operator.name)
        old = session_of(request)
        if old is not None:
            self.sign_out(old)
        log.info("ops.signed_in", operator=operator.name, role=str(operator.role), client=_client(request))
        return session

    def sign_out(self, session: str) -> None:
        """End a session; where Postgres refuses, it is over in the browser and in this process."""
        self._forget(token_hash(session))
        try:
            end_session(self._app, session)
        except Unavailable as error:
            log.warning("ops.session_not_ended", reason=str(error))

    def _by_token(self, text: str, request: Request, *, remembered: bool = True) -> Operator:
        """`remembered`: one that this process knows to be right takes no part in the limits."""
        key, network = token_hash(text), network_of(_client(request))
        seen = self._remembered(key)
        if remembered and seen is not None:
            try:
                operator = self._look_up(text, seen, by_setting=True)
            except Refused:
                if (trusted := self._trusted(seen)) is None:
                    raise
                return trusted
            if operator is not None:
                self._note_admission(key, operator, network)
                return operator
            self._forget(key)
        if wait := self._attempts.take(network):
            log.warning("ops.too_many_attempts", client=_client(request), seldom=True)
            raise Refused(429, f"too many wrong tokens came from here; try again in {wait} s", wait=wait)
        counted = self._attempts.take_of_all()
        # A named token has 256 random bits, and nobody guesses it. OPS_TOKEN may be weaker, so once too many guesses
        # were made in all, it is accepted only from where somebody signed in before.
        by_setting = counted or self._is_good(network)
        operator = self._look_up(text, seen, by_setting=by_setting)
        if operator is None:
            log.warning("ops.token_refused", client=_client(request), looks_like_one=is_token(text), seldom=True)
            if not by_setting:
                raise Refused(429, "too many wrong tokens were tried; only named tokens are accepted now", wait=5)
            raise Refused(401, "this token is not known, or was revoked")
        self._attempts.give_back(network, of_all=counted)
        self._note_admission(key, operator, network)
        return operator

    def _look_up(self, text: str, seen: Seen | None, *, by_setting: bool) -> Operator | None:
        note = seen is None or self._is_note_due(seen)
        try:
            return operator_by_token(self._app, text, note=note, by_setting=by_setting)
        except Unavailable as error:
            raise Refused(503, f"nobody can be looked up, only OPS_TOKEN is known now: {_why(error)}") from None

    def _by_session(self, session: str, request: Request) -> SignedIn | None:
        key = token_hash(session)
        looks, use, began = request.method in ("GET", "HEAD"), _is_use(request), time.monotonic()
        # Strangers wait for nobody, and nobody for them.
        with self._looking if self._remembered(key) else nullcontext():
            # Who waited here may have been looked up by the one before; who changes something is each time.
            if looks and (seen := self._fresh(key, use=use)) is not None:
                return SignedIn(seen.operator, form_token(session))
            seen = self._remembered(key)
            kept, asked = self._kept.get(key), None
            try:
                if seen is not None and self._failed_at > began:
                    raise Unavailable("the look-up before got no answer")
                if kept is not None and self._monotonic() < kept.until:
                    operator = operator_by_token(self._app, kept.token, note=False)
                else:
                    asked = asked_session(self._app, session)
                    operator = self._look_up_sessions(key, asked, use=use)
            except Unavailable as error:
                why, self._failed_at = _why(error), time.monotonic()
                if seen is None or (trusted := self._trusted(seen)) is None:
                    raise Refused(503, f"your session cannot be looked up: {why}") from None
                return SignedIn(trusted, form_token(session), checked=False)
            if operator is None:
                self._forget(key)
                return None
            if use:
                self._note_admission(key, operator, network_of(_client(request)), asked)
        return SignedIn(operator, form_token(session))

    def _look_up_sessions(self, key: bytes, asked: AskedSession, *, use: bool) -> Operator | None:
        """Look up a session, and with it all that have asked lately: so many open pages cost what one does."""
        now = self._monotonic()
        with self._lock:
            mine = self._seen.get(key)
            others = {
                each: seen
                for each, seen in self._seen.items()
                if each != key and seen.session is not None and now - seen.used_at < 2 * self._fresh_for
            }
            used = [seen for seen in (*others.values(), mine if use else None) if seen is not None]
            due = (use and mine is None) or any(now - seen.noted_at >= NOTED_EVERY.total_seconds() for seen in used)
            if due:
                for seen in used:
                    seen.noted_at = now
        lately = mine is not None and now - mine.at < SESSION_IDLE.total_seconds()
        together = [replace(asked, note=use and due, used_lately=lately)]
        together += [
            replace(seen.session, note=due, used_lately=now - seen.at < SESSION_IDLE.total_seconds())
            for seen in others.values()
            if seen.session is not None
        ]
        found = operators_by_session(self._app, together)
        with self._lock:
            for each, seen in others.items():
                operator = found.get(seen.session.hash) if seen.session is not None else None
                if operator is None:
                    self._seen.pop(each, None)
                else:
                    seen.operator, seen.at, seen.looked_up_at = operator, seen.used_at, now
        return found.get(asked.hash)

    def _fresh(self, key: bytes, *, use: bool) -> Seen | None:
        """Return who was looked up so lately that they need not be again."""
        with self._lock:
            seen, now = self._seen.get(key), self._monotonic()
            if seen is None or now - seen.looked_up_at >= self._fresh_for:
                return None
            seen.used_at = now if use else seen.used_at
            return seen

    def _by_memory(self, request: Request) -> SignedIn | None:
        """Return who asks by what this process remembers, while nothing comes of any look-up."""
        check_site(request, self._public_origin)
        credential, session = _bearer(request), session_of(request)
        text = session if credential is None else credential
        seen = None if text is None else self._remembered(token_hash(text))
        if seen is None or (trusted := self._trusted(seen)) is None:
            return None
        proof = form_token(text) if credential is None and text is not None else ""
        return SignedIn(trusted, proof, checked=False)

    def _is_open_to(self, request: Request) -> bool:
        """Return whether a request without any credential may look: one of a program on this machine, which no proxy
        passed on and no other site's page sent, while there is no token and nothing says that strangers reach us."""
        settings = self._app.settings
        if settings.ops_token is not None or settings.trusted_proxies or settings.stripe_livemode:
            return False
        if settings.public_url and not is_local_host(urlsplit(settings.public_url).netloc):
            return False
        peer = request.client.host if request.client else ""
        # nginx passes requests on as HTTP/1.0, and without a word for whom, unless it is set to do otherwise.
        if not is_loopback(peer) or not is_direct(request.scope["headers"]) or request.scope["http_version"] == "1.0":
            return False
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not is_local_host(hosts[0]):
            return False
        if self._simulated:
            return True
        with self._looking:
            if not self._tokens_were_made and self._monotonic() - self._none_made_at >= self._fresh_for:
                try:
                    self._tokens_were_made = tokens_were_made(self._app)
                    self._none_made_at = self._monotonic()
                except Unavailable as error:
                    why = _why(error)
                    if self._monotonic() - self._none_made_at > TRUSTED_WITHOUT_POSTGRES:
                        raise Refused(503, f"whether a token is needed cannot be looked up: {why}") from None
        return not self._tokens_were_made

    def _public_origin(self) -> str:
        return self._app.settings.public_url

    def _trusted(self, seen: Seen) -> Operator | None:
        """Return who was admitted before, for whom nothing but looking is left; None if that is too long ago."""
        if self._monotonic() - seen.at > TRUSTED_WITHOUT_POSTGRES:
            return None
        return Operator(seen.operator.name, OperatorRole.LOOK, seen.operator.token_id)

    def _keep(self, session: str, token: str) -> None:
        with self._lock:
            self._kept[token_hash(session)] = Kept(token, self._monotonic() + KEPT_LIFE)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def _forget(self, key: bytes) -> None:
        with self._lock:
            self._kept.pop(key, None)
            self._seen.pop(key, None)

    def _remembered(self, key: bytes) -> Seen | None:
        with self._lock:
            return self._seen.get(key)

    def _is_note_due(self, seen: Seen) -> bool:
        """Return whether it is time to write down a use, and have no other thread do so too."""
        with self._lock:
            now = self._monotonic()
            if now - seen.noted_at < NOTED_EVERY.total_seconds():
                return False
            seen.noted_at = now
            return True

    def _note_admission(
        self, key: bytes, operator: Operator, network: str, session: AskedSession | None = None
    ) -> None:
        with self._lock:
            now = self._monotonic()
            before = self._seen.pop(key, None)
            self._seen[key] = Seen(operator, now, now, before.noted_at if before else now, now, session)
            self._good_networks[network] = None
            self._good_networks.move_to_end(network)
            for kept in (self._seen, self._good_networks):
                while len(kept) > RECENT:
                    kept.popitem(last=False)

    def _is_good(self, network: str) -> bool:
        with self._lock:
            return network in self._good_networks


def signed_in(request: Request) -> SignedIn:
    """Return who asks, whom `Guard` has admitted."""
    found: SignedIn = request.state.signed_in
    return found


def check_may_act(request: Request) -> SignedIn:
    """Return who asks, if they may act.

    Raises:
        Refused: 403; it says what is missing.
    """
    who = signed_in(request)
    if (why_not := who.why_not) is not None:
        raise Refused(403, why_not)
    return who


def check_form(request: Request, sent: str) -> None:
    """Refuse a form that was not made for the session that sends it.

    Raises:
        Refused: 403.
    """
    session = session_of(request)
    if session is None or not is_form_of(session, sent):
        raise Refused(403, "this form was not made for your session: load the page again")


def check_site(request: Request, public_origin: Callable[[], str]) -> None:
    """Refuse what a page of another site asks for in the background; whoever follows a link there is let through.

    Raises:
        Refused: 403.
    """
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and request.headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "pages of other sites get nothing here")
    if "origin" in request.headers and not _is_own(request, public_origin()):
        raise Refused(403, _other_origin(request))


def check_own_origin(request: Request, public_origin: Callable[[], str]) -> None:
    """Refuse a request that changes something, unless the browser says that a page of our own sent it.

    Raises:
        Refused: 403.
    """
    if _bearer(request) is not None:  # no browser adds it by itself
        return
    site, origins = request.headers.get("sec-fetch-site"), request.headers.getlist("origin")
    if site is None and not origins:
        raise Refused(403, "neither Origin nor Sec-Fetch-Site was sent, so nobody knows which page sent this")
    if site not in (None, "same-origin") or (origins and not _is_own(request, public_origin())):
        raise Refused(403, _other_origin(request))


def is_local_host(host: str) -> bool:
    """Return whether a Host header names this machine, with any port: no name that somebody could have resolve to
    it."""
    name, port = host, ""
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return False
        port = port.removeprefix(":")
    elif ":" in host:
        name, _, port = host.rpartition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    return name.lower() in (("::1",) if host.startswith("[") else ("127.0.0.1", "localhost"))


def session_of(request: Request) -> str | None:
    """Return the session's id. Over https only the cookie counts that no other host and no plain http can set."""
    session = request.cookies.get(COOKIE_OVER_HTTPS)
    if session is None and not is_https(request.scope):
        session = request.cookies.get(COOKIE)
    return session if session is not None and SESSION.fullmatch(session) else None


def _bearer(request: Request) -> str | None:
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else None


def _is_use(request: Request) -> bool:
    """Return whether this keeps a session alive: a page that another site leads to is shown, and does not."""
    return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _is_own(request: Request, public_origin: str) -> bool:
    """Return whether Origin is that of the Host that was asked, or of PUBLIC_URL. The scheme is not compared: a proxy
    that ends https may not tell us of it."""
    origins, hosts = request.headers.getlist("origin"), request.headers.getlist("host")
    if len(origins) != 1 or len(hosts) != 1:
        return False
    scheme, separator, host = origins[0].lower().partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    public = urlsplit(public_origin)
    return host == hosts[0].lower() or (
        bool(public.netloc) and origins[0].lower() == f"{public.scheme}://{public.netloc}"
    )


def _other_origin(request: Request) -> str:
    return (
        "this was sent by a page of another origin. Behind a proxy, have it pass the Host header on, or set PUBLIC_URL"
        " to the address that browsers show"
    )


def _why(error: Exception) -> str:
    """The reason may name hosts, and whoever reads this is not known."""
    log.warning("ops.no_look_up", reason=str(error), seldom=True)
    return "Postgres does not answer"
