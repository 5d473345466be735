"""Who asks for a page of `/ops`, by which credential, and what they may do."""

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from domain.ops.operators import BY_SETTING, ON_LOOPBACK, SESSION_BYTES, Operator, OperatorRole, is_form_of
from web.server.headers import is_https

COOKIE: Final = "viral_ops"
COOKIE_OVER_HTTPS: Final = "__Host-viral_ops"
"""Only a response of this very host over https can set a cookie of such a name."""

SESSION = re.compile(f"[0-9a-f]{{{2 * SESSION_BYTES}}}")


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


def session_of(request: Request) -> str | None:
    """Return the session's id. Over https only the cookie counts that no other host and no plain http can set."""
    session = request.cookies.get(COOKIE_OVER_HTTPS)
    if session is None and not is_https(request.scope):
        session = request.cookies.get(COOKIE)
    return session if session is not None and SESSION.fullmatch(session) else None


def bearer(request: Request) -> str | None:
    """Return the credential of an `Authorization: Bearer`."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else None


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
