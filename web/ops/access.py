"""Who may see `/ops` and `/metrics`: named tokens, OPS_TOKEN, and nobody else but programs on this machine at first.

A browser exchanges a token for a session at `/ops/login`; a program sends it as `Authorization: Bearer`. Everything
below `/ops` passes `web/ops/guard.py`, which asks here.
"""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from domain.errors import Unavailable
from domain.ops.operators import ON_LOOPBACK, Operator, form_token, is_token, token_hash
from web.ops.attempts import Attempts
from web.ops.origins import HEADERS, check_site, is_local_host, is_use
from web.ops.remembered import TRUSTED_WITHOUT_POSTGRES, Remembered, Seen
from web.ops.signed_in import Refused, SignedIn, bearer, session_of
from web.ops.threads import Crowded, NoAnswer, Threads
from web.server.clients import is_direct, is_loopback, network_of
from workers.app import App
from workers.ops.operators import (
    AskedSession,
    asked_session,
    begin_session,
    end_session,
    new_session,
    operator_by_token,
    operators_by_session,
    tokens_were_made,
)

THREADS = 4
MOST_ASKING = 200
"""Requests that wait to be admitted; each is there for milliseconds."""

LONGEST_LOOK_UP = 15.0
"""Seconds; a Postgres that hangs on an open connection ends no look-up by itself."""
T = TypeVar("T")

log = structlog.get_logger()


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
        self._remembered = Remembered(monotonic, fresh_for=fresh_for)
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
        if session is not None and bearer(request) is None and request.method in ("GET", "HEAD"):
            check_site(request, self._public_origin)
            if (seen := self._remembered.fresh(token_hash(session), use=is_use(request))) is not None:
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
        credential = bearer(request)
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
            self._remembered.keep(session, token)
            log.warning("ops.session_not_stored", reason=str(error), operator=operator.name)
        old = session_of(request)
        if old is not None:
            self.sign_out(old)
        log.info("ops.signed_in", operator=operator.name, role=str(operator.role), client=_client(request))
        return session

    def sign_out(self, session: str) -> None:
        """End a session; where Postgres refuses, it is over in the browser and in this process."""
        self._remembered.forget(token_hash(session))
        try:
            end_session(self._app, session)
        except Unavailable as error:
            log.warning("ops.session_not_ended", reason=str(error))

    def _by_token(self, text: str, request: Request, *, remembered: bool = True) -> Operator:
        """`remembered`: one that this process knows to be right takes no part in the limits."""
        key, network = token_hash(text), network_of(_client(request))
        seen = self._remembered.get(key)
        if remembered and seen is not None:
            try:
                operator = self._look_up(text, seen, by_setting=True)
            except Refused:
                if (trusted := self._remembered.trusted(seen)) is None:
                    raise
                return trusted
            if operator is not None:
                self._remembered.admit(key, operator, network)
                return operator
            self._remembered.forget(key)
        if wait := self._attempts.take(network):
            log.warning("ops.too_many_attempts", client=_client(request), seldom=True)
            raise Refused(429, f"too many wrong tokens came from here; try again in {wait} s", wait=wait)
        counted = self._attempts.take_of_all()
        # A named token has 256 random bits, and nobody guesses it. OPS_TOKEN may be weaker, so once too many guesses
        # were made in all, it is accepted only from where somebody signed in before.
        by_setting = counted or self._remembered.is_good(network)
        operator = self._look_up(text, seen, by_setting=by_setting)
        if operator is None:
            log.warning("ops.token_refused", client=_client(request), looks_like_one=is_token(text), seldom=True)
            if not by_setting:
                raise Refused(429, "too many wrong tokens were tried; only named tokens are accepted now", wait=5)
            raise Refused(401, "this token is not known, or was revoked")
        self._attempts.give_back(network, of_all=counted)
        self._remembered.admit(key, operator, network)
        return operator

    def _look_up(self, text: str, seen: Seen | None, *, by_setting: bool) -> Operator | None:
        note = seen is None or self._remembered.is_note_due(seen)
        try:
            return operator_by_token(self._app, text, note=note, by_setting=by_setting)
        except Unavailable as error:
            raise Refused(503, f"nobody can be looked up, only OPS_TOKEN is known now: {_why(error)}") from None

    def _by_session(self, session: str, request: Request) -> SignedIn | None:
        key = token_hash(session)
        looks, use, began = request.method in ("GET", "HEAD"), is_use(request), time.monotonic()
        # Strangers wait for nobody, and nobody for them.
        with self._looking if self._remembered.get(key) else nullcontext():
            # Who waited here may have been looked up by the one before; who changes something is each time.
            if looks and (seen := self._remembered.fresh(key, use=use)) is not None:
                return SignedIn(seen.operator, form_token(session))
            seen = self._remembered.get(key)
            kept, asked = self._remembered.kept(key), None
            try:
                if seen is not None and self._failed_at > began:
                    raise Unavailable("the look-up before got no answer")
                if kept is not None:
                    operator = operator_by_token(self._app, kept.token, note=False)
                else:
                    asked = asked_session(self._app, session)
                    operator = self._look_up_sessions(key, asked, use=use)
            except Unavailable as error:
                why, self._failed_at = _why(error), time.monotonic()
                if seen is None or (trusted := self._remembered.trusted(seen)) is None:
                    raise Refused(503, f"your session cannot be looked up: {why}") from None
                return SignedIn(trusted, form_token(session), checked=False)
            if operator is None:
                self._remembered.forget(key)
                return None
            if use:
                self._remembered.admit(key, operator, network_of(_client(request)), asked)
        return SignedIn(operator, form_token(session))

    def _look_up_sessions(self, key: bytes, asked: AskedSession, *, use: bool) -> Operator | None:
        together = self._remembered.to_look_up(key, asked, use=use)
        found = operators_by_session(self._app, [*together.values()])
        self._remembered.looked_up({each: found.get(other.hash) for each, other in together.items() if each != key})
        return found.get(asked.hash)

    def _by_memory(self, request: Request) -> SignedIn | None:
        """Return who asks by what this process remembers, while nothing comes of any look-up."""
        check_site(request, self._public_origin)
        credential, session = bearer(request), session_of(request)
        text = session if credential is None else credential
        seen = None if text is None else self._remembered.get(token_hash(text))
        if seen is None or (trusted := self._remembered.trusted(seen)) is None:
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


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _why(error: Exception) -> str:
    """The reason may name hosts, and whoever reads this is not known."""
    log.warning("ops.no_look_up", reason=str(error), seldom=True)
    return "Postgres does not answer"
