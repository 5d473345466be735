"""Logins in a browser, as the simulated TikTok and Google share them: the page that asks redirects straight back with a
code, and a code or a refresh token is exchanged for tokens by a form.
"""

import hashlib
import itertools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

from simulators.loopback import Reply, Request, json_reply
from simulators.platforms.platform import ErrorResponse, PlatformSimulator, SimulatedAccount

CODE_SECONDS = 600.0


@dataclass(frozen=True)
class Code:
    account: str
    redirect_uri: str
    challenge: str
    scope: str
    until: float


@dataclass
class OAuthSimulator(PlatformSimulator):
    """`chosen` is the account whose owner presses "Allow" on the next login (else the first). `rotates`: a refresh
    token ends with its first use. `accepts_repeats`: what was published is published again, if it is sent again."""

    id_name: ClassVar[str] = "client_id"
    access_seconds: ClassVar[float]
    refresh_seconds: ClassVar[float]
    rotates: ClassVar[bool]
    scopes: ClassVar[tuple[str, ...]]

    client_id: str = "simulated-app"
    client_secret: str = "simulated-app-secret"  # noqa: S105 - it opens nothing
    chosen: str = ""
    accepts_repeats: bool = False
    codes: dict[str, Code] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._numbers = itertools.count(1)

    @abstractmethod
    def challenge_of(self, verifier: str) -> str:
        """Return the challenge of a verifier, as this platform writes it."""

    @abstractmethod
    def granted(self, account: SimulatedAccount, scope: str) -> dict[str, Any]:
        """Return what the token endpoint says beside the tokens."""

    def tokens(self, external_id: str) -> tuple[str, str]:
        """Return fresh access and refresh tokens, as if the owner had connected the account."""
        with self.lock:
            account = self.accounts[external_id]
            access, refresh = self._secret("act"), self._secret("rft")
            account.access_tokens[access] = self.now() + self.access_seconds
            account.refresh_tokens[refresh] = self.now() + self.refresh_seconds
            return access, refresh

    def token_of(self, external_id: str) -> str:
        return self.tokens(external_id)[0]

    def revoke_account(self, external_id: str) -> None:
        """Let its owner take our access away."""
        with self.lock:
            account = self.accounts[external_id]
            account.revoked = True
            account.access_tokens.clear()
            account.refresh_tokens.clear()

    def account_of(self, request: Request) -> SimulatedAccount:
        """Return the account that the request's token opens."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        for account in self.accounts.values():
            if not account.revoked and account.access_tokens.get(token, 0) > self.now():
                return account
        raise ErrorResponse(self.expired())

    def authorize(self, request: Request, more: set[str]) -> Reply:
        """Redirect straight back with a code, as after the owner pressed "Allow"."""
        params = dict(parse_qsl(request.query, keep_blank_values=True))
        needed = {self.id_name, "redirect_uri", "response_type", "scope", "state", "code_challenge"}
        needed |= {"code_challenge_method", *more}
        account = next((each for each in self.accounts.values() if self.chosen in ("", each.external_id)), None)
        good = (
            account is not None
            and params.keys() == needed
            and params[self.id_name] == self.client_id
            and (params["response_type"], params["code_challenge_method"]) == ("code", "S256")
            and len(params["code_challenge"]) == len(self.challenge_of(""))
            and set(params["scope"].replace(",", " ").split()) <= set(self.scopes)
        )
        if not good or account is None:
            return Reply(b"<h1>This simulated login cannot be begun</h1>", 400, {"Content-Type": "text/html"})
        code = self._secret("code")
        until = self.now() + CODE_SECONDS
        self.codes[code] = Code(
            account.external_id, params["redirect_uri"], params["code_challenge"], params["scope"], until
        )
        back = urlencode({"code": code, "state": params["state"], "scope": params["scope"]})
        return Reply(b"", 302, {"Location": f"{params['redirect_uri']}?{back}"})

    def token(self, request: Request) -> Reply:
        """Exchange a code or a refresh token."""
        form = self._form(request)
        if (form.get(self.id_name), form.get("client_secret")) != (self.client_id, self.client_secret):
            return refused("invalid_client", "Client key or secret is incorrect.", 401)
        client = {self.id_name, "client_secret", "grant_type"}
        match form.get("grant_type"):
            case "authorization_code" if form.keys() == client | {"code", "redirect_uri", "code_verifier"}:
                return self._code_token(form)
            case "refresh_token" if form.keys() == client | {"refresh_token"}:
                return self._refreshed(form["refresh_token"])
        return refused("invalid_request", "The request parameters are malformed.")

    def ended(self, request: Request, names: set[str]) -> bool:
        """End the tokens of whoever the token in the form is of; False if the form is wrong."""
        form = self._form(request)
        if form.keys() != names or form.get(self.id_name, self.client_id) != self.client_id:
            return False
        for account in self.accounts.values():
            if form["token"] in account.access_tokens or form["token"] in account.refresh_tokens:
                account.access_tokens.clear()
                account.refresh_tokens.clear()
                return True
        return False

    def _code_token(self, form: Mapping[str, str]) -> Reply:
        code = self.codes.pop(form["code"], None)
        if code is None or code.until < self.now() or code.redirect_uri != form["redirect_uri"]:
            return refused("invalid_grant", "Authorization code is expired.")
        if self.challenge_of(form["code_verifier"]) != code.challenge:
            return refused("invalid_grant", "Code verifier or code challenge is invalid.")
        account = self.accounts[code.account]
        account.revoked = False
        access, refresh = self.tokens(account.external_id)
        return self._token_reply(account, access, refresh, code.scope)

    def _refreshed(self, old: str) -> Reply:
        for account in self.accounts.values():
            if not account.revoked and account.refresh_tokens.get(old, 0) > self.now():
                access, refresh = self.tokens(account.external_id)
                if self.rotates:
                    del account.refresh_tokens[old]
                    account.used_refresh_tokens.add(old)
                else:
                    del account.refresh_tokens[refresh]
                    refresh = ""
                return self._token_reply(account, access, refresh, " ".join(self.scopes))
        return refused("invalid_grant", "Refresh token is invalid or expired.")

    def _token_reply(self, account: SimulatedAccount, access: str, refresh: str, scope: str) -> Reply:
        body = {"access_token": access, "expires_in": int(self.access_seconds), "token_type": "Bearer"}
        if refresh:
            body["refresh_token"] = refresh
        return json_reply(body | self.granted(account, scope))

    def _form(self, request: Request) -> dict[str, str]:
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return {}
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True))

    def _secret(self, kind: str) -> str:
        number = next(self._numbers)
        return f"{kind}.{hashlib.sha256(f'{self.url}/{kind}/{number}'.encode()).hexdigest()}"


def refused(error: str, description: str, status: int = 400) -> Reply:
    return json_reply({"error": error, "error_description": description, "log_id": "simulated"}, status)
