"""Clerk's session tokens, judged without asking Clerk: JWTs signed with RS256 that live for a minute.

The keys come from Clerk's JWKS, which is kept, or from PEM text. PyJWT checks the signature; the claims are checked
here, at a time that is passed in. Every refusal is a `NotAuthenticated` whose code names the check that failed.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from domain.access import ActiveOrganization, Session
from domain.errors import NotAuthenticated, Unavailable, ViralError

LEEWAY = 5
"""Seconds that Clerk's clock and ours may differ."""

MAX_TOKEN = 16 * 1024
MAX_ID = 255
LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
ALGORITHM = "RS256"
MIN_BITS = 2048
JWKS_PATH = "/.well-known/jwks.json"
PEM = re.compile(r"-----BEGIN (PUBLIC KEY|RSA PUBLIC KEY)-----(.+?)-----END \1-----", re.DOTALL)

FRESH_FOR = 3600.0
"""Seconds until a kept JWKS is fetched again, so that a key withdrawn by Clerk is withdrawn here."""

REFRESH_EVERY, RETRY_EVERY = 30.0, 5.0
"""Seconds after a fetch, and after one that failed, without another: tokens with invented key ids cannot make us ask
more often."""

MAX_JWKS = 256 * 1024

CLAIMS = ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
SIGNATURE_ONLY: Any = {f"verify_{claim}": False for claim in CLAIMS} | {"enforce_minimum_key_length": True}
"""PyJWT reads the system's clock itself, so the claims are not left to it."""

log = structlog.get_logger()


class KeyUnusable(ViralError):
    """Text that should be a public key is none, or a weak one."""


class Keys(Protocol):
    """Where the keys that may have signed a token come from."""

    def candidates(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        """Keys for the header's `kid`; none if there is no such key.

        Raises:
            Unavailable: it cannot be said now.
        """


class PemKeys:
    """The keys in PEM text; several, one after another, while one is rotated. PEM has no ids, so each is tried."""

    def __init__(self, text: str) -> None:
        """Line breaks may be written as `\\n`, or be missing, as they often are in environment variables.

        Raises:
            KeyUnusable: there is no RSA public key in it, or one of fewer than 2,048 bits.
        """
        self._keys = [_read_pem(*found.groups()) for found in PEM.finditer(text.replace("\\n", "\n"))]
        if not self._keys:
            raise KeyUnusable("there is no PEM public key (-----BEGIN PUBLIC KEY----- …)")

    def candidates(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        return self._keys


class JwksKeys:
    """Clerk's JWKS, fetched when first needed and kept.

    It is fetched again when it is old, or once when a token names a key that is not in it (Clerk rotated its keys);
    by one thread at a time, and with a rest after each fetch. If Clerk does not answer, known keys stay good.
    """

    def __init__(self, fetch: Callable[[], bytes], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`fetch` returns the document; it has a short timeout of its own, and may raise `Unavailable`."""
        self._fetch = fetch
        self._monotonic = monotonic
        self._fetching = threading.Lock()
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._trouble = ""

    def candidates(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        if key_id is None:
            return ()
        known = key_id in self._keys
        if not known or self._monotonic() - self._fetched_at >= FRESH_FOR:
            self._refresh(wait=not known)
        if found := self._keys.get(key_id):
            return [found]
        if self._trouble:
            raise Unavailable(f"Clerk's keys cannot be fetched: {self._trouble}")
        return ()

    def _refresh(self, *, wait: bool) -> None:
        """Fetch, unless that was tried just now. Who can do without does not `wait` for another thread's fetch."""
        if not self._fetching.acquire(blocking=wait):
            return
        try:
            now = self._monotonic()
            if now - self._tried_at < (RETRY_EVERY if self._trouble else REFRESH_EVERY):
                return
            self._tried_at = now
            self._keys, self._trouble = read_jwks(self._fetch()), ""
            self._fetched_at = now
            log.info("clerk.jwks_fetched", keys=sorted(self._keys))
        except (Unavailable, KeyUnusable) as error:
            self._trouble = str(error)
            log.warning("clerk.jwks_not_fetched", reason=self._trouble, keys_kept=len(self._keys))
        finally:
            self._fetching.release()


class Verifier:
    """Judges tokens of one Clerk instance."""

    def __init__(self, keys: Keys, *, issuer: str | None, parties: Sequence[str]) -> None:
        """`issuer`: the only `iss` that is good; None: any https origin, because the keys are the instance's own.
        `parties`: origins that may ask for tokens (`azp`); none: all of the instance's."""
        self._keys = keys
        self._issuer = issuer
        self._parties = tuple(parties)

    def verify(self, token: str, now: float) -> Session:
        """The session, if the token is good at `now` (Unix seconds).

        Raises:
            NotAuthenticated: its code says which check failed.
            Unavailable: Clerk's keys cannot be had now.
        """
        claims = self._signed(token)
        ends_at, begun_at = _time(claims, "exp"), _time(claims, "iat")
        user, session = _id(claims, "sub"), _id(claims, "sid")
        if ends_at + LEEWAY <= now:
            raise NotAuthenticated("TOKEN_EXPIRED", f"the token expired {now - ends_at:.0f} s ago")
        for name, moment in (("iat", begun_at), ("nbf", _time(claims, "nbf") if "nbf" in claims else begun_at)):
            if moment - LEEWAY > now:
                raise NotAuthenticated("TOKEN_TOO_EARLY", f"the token's {name} is {moment - now:.0f} s in the future")
        self._check_issuer(claims)
        self._check_party(claims)
        if claims.get("sts") == "pending":
            raise NotAuthenticated("SESSION_PENDING", "the session is pending: a task of sign-in is not done yet")
        return Session(session, user, datetime.fromtimestamp(ends_at, UTC), organization(claims))

    def _signed(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that one of our keys signed."""
        if len(token) > MAX_TOKEN:
            raise NotAuthenticated("TOKEN_MALFORMED", f"the token is longer than {MAX_TOKEN} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated("TOKEN_MALFORMED", "this is not a JWT") from error
        if header.get("alg") != ALGORITHM:
            raise NotAuthenticated("TOKEN_ALGORITHM", f"the token is not signed with {ALGORITHM}")
        if "crit" in header or "b64" in header:
            raise NotAuthenticated("TOKEN_MALFORMED", "the token's header demands an extension of JWS")
        candidates = self._keys.candidates(header.get("kid"))
        if not candidates:
            raise NotAuthenticated("TOKEN_KEY_UNKNOWN", "the token names a key (`kid`) that is not the instance's")
        for key in candidates:
            try:
                return jwt.decode(token, key, algorithms=[ALGORITHM], options=SIGNATURE_ONLY)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError) as error:
                raise NotAuthenticated("TOKEN_MALFORMED", "the token's content is not a JSON object") from error
        raise NotAuthenticated("TOKEN_SIGNATURE", "the token's signature is not of the instance's key")

    def _check_issuer(self, claims: Mapping[str, Any]) -> None:
        issuer = claims.get("iss")
        if not isinstance(issuer, str):
            raise NotAuthenticated("TOKEN_CLAIM_MISSING", "the token has no iss")
        if issuer.rstrip("/") != self._issuer if self._issuer else not issuer.startswith("https://"):
            raise NotAuthenticated("TOKEN_ISSUER", f"the token's iss is not {self._issuer or 'an https origin'}")

    def _check_party(self, claims: Mapping[str, Any]) -> None:
        """Tokens of native applications have no `azp`, so only one that is there is held against the list."""
        party = claims.get("azp")
        if self._parties and party is not None and party not in self._parties:
            raise NotAuthenticated("TOKEN_PARTY", "the token's azp is not one of CLERK_AUTHORIZED_PARTIES")


def organization(claims: Mapping[str, Any]) -> ActiveOrganization | None:
    """The active organization: `o.{id, rol, slg}` (version 2 of the claims), else `org_id`, `org_role`, `org_slug`.

    Roles come with `org:` in version 1 and without it in version 2.
    """
    if (found := claims.get("o")) is not None:
        if not isinstance(found, dict):
            raise NotAuthenticated("TOKEN_CLAIM_INVALID", "the token's o is not an object")
        names = ("id", "rol", "slg")
    elif claims.get("org_id") is not None:
        found, names = claims, ("org_id", "org_role", "org_slug")
    else:
        return None
    organization_id, role = (_id(found, name) for name in names[:2])
    slug = found.get(names[2])
    return ActiveOrganization(organization_id, role.removeprefix("org:"), slug if isinstance(slug, str) else None)


def read_jwks(document: bytes) -> Mapping[str, RSAPublicKey]:
    """The document's RSA keys by id; other keys, weak ones and nonsense beside them are passed over.

    Raises:
        KeyUnusable: not one key is left.
    """
    found = {}
    try:
        entries = jwt.PyJWKSet.from_json(document.decode()).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise KeyUnusable("the answer is no JWKS with a usable key") from error
    for entry in entries:
        if entry.key_id and isinstance(entry.key, RSAPublicKey) and entry.key.key_size >= MIN_BITS:
            found[entry.key_id] = entry.key
    if not found:
        raise KeyUnusable(f"the JWKS has no RSA key of {MIN_BITS} bits or more with an id")
    return found


def fetch_jwks(url: str, *, timeout: float = 3.0) -> bytes:
    """The document at `url`. Redirects are not followed: keys come from where we were told.

    Raises:
        Unavailable: anything but a 200 of reasonable size within `timeout` seconds a step.
    """
    try:
        answer = httpx.get(url, timeout=timeout, headers={"Accept": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{_place(url)} does not answer ({type(error).__name__})") from error
    if answer.status_code != httpx.codes.OK:
        raise Unavailable(f"{_place(url)} answered {answer.status_code}")
    if len(answer.content) > MAX_JWKS:
        raise Unavailable(f"{_place(url)} answered with more than {MAX_JWKS} bytes")
    return answer.content


def issuer_of(jwks_url: str) -> str | None:
    """The issuer that a JWKS belongs to: what stands before `/.well-known/jwks.json` (Clerk's frontend API, which may
    be proxied under a path), else unknown."""
    return jwks_url.removesuffix(JWKS_PATH) if jwks_url.endswith(JWKS_PATH) else None


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"


def _read_pem(kind: str, body: str) -> RSAPublicKey:
    lines = "\n".join(body.split())
    try:
        key = load_pem_public_key(f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n".encode())
    except (ValueError, TypeError) as error:
        raise KeyUnusable("a PEM block cannot be read: is it whole?") from error
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_BITS:
        raise KeyUnusable(f"a PEM block is not an RSA public key of {MIN_BITS} bits or more")
    return key


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if value is None:
        raise NotAuthenticated("TOKEN_CLAIM_MISSING", f"the token has no {name}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise NotAuthenticated("TOKEN_CLAIM_INVALID", f"the token's {name} is not a Unix time")
    return value


def _id(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None or value == "":
        raise NotAuthenticated("TOKEN_CLAIM_MISSING", f"the token has no {name}")
    if not isinstance(value, str) or len(value) > MAX_ID or not value.isprintable():
        raise NotAuthenticated("TOKEN_CLAIM_INVALID", f"the token's {name} is not an id")
    return value
