"""Clerk's session tokens are verified without asking Clerk: JWTs signed with RS256 that live for a minute.

The keys come from Clerk's JWKS, which is kept, or from PEM text. PyJWT checks the signature; the claims are checked
here, at a time that is passed in. Every token that fails raises `NotAuthenticated`, whose code names the failed check.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from domain.errors import NotAuthenticated, Unavailable, ViralError
from domain.identity.access import ActiveOrganization, Session
from integrations.http.client import Http, Request, parse_json

LEEWAY = 5
"""The seconds that Clerk's clock and ours may differ."""

MAX_TOKEN = 16 * 1024
MAX_ID = 255
LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
ALGORITHM = "RS256"
MIN_BITS = 2048
PEM = re.compile(r"-----BEGIN (PUBLIC KEY|RSA PUBLIC KEY)-----(.+?)-----END \1-----", re.DOTALL)

FRESH_FOR = 3600.0
"""The seconds until a kept JWKS is fetched again, so that a key withdrawn by Clerk is withdrawn here."""

REFRESH_EVERY, RETRY_EVERY = 30.0, 5.0
"""The seconds between two fetches, and after one that failed: tokens with invented key ids cannot make us ask more
often. So a key that Clerk rotates to is used here after 35 s at most: a rest, and a fetch."""

SOON = timedelta(seconds=1)

FETCH_SECONDS = (2.0, 3.0, 5.0)
"""The seconds to connect, between two pieces, and in all (`integrations.http.client.Http`)."""

MAX_JWKS = 256 * 1024

WAITERS, WAIT = 4, 1.0
"""So many callers wait for a fetch that is under way, and for so many seconds at most; all others are answered at once.
The API has 40 threads: whoever sends invented key ids while Clerk drips its answer holds a tenth of them for a second.
"""

CLAIMS = ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
SIGNATURE_ONLY: Any = {f"verify_{claim}": False for claim in CLAIMS} | {"enforce_minimum_key_length": True}
"""PyJWT reads the system's clock itself, so the claims are not left to it."""

log = structlog.get_logger()


class KeyUnusable(ViralError):
    """A text that should be a public key is none, or a weak one."""


class Keys(Protocol):
    """A source of the keys that may have signed a token."""

    def candidates(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        """Return the keys for the header's `kid`; none if there is no such key.

        Raises:
            Unavailable: the keys cannot be had now.
        """

    def prepare(self) -> None:
        """Begin to get the keys, without waiting for them."""


class PemKeys:
    """Keys in PEM text; several, one after another, while one is rotated. PEM has no ids, so each is tried."""

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

    def prepare(self) -> None:
        """They are here."""


class JwksKeys:
    """Clerk's JWKS, fetched when first needed and kept.

    It is fetched again when it is old, or when a token names a key that is not in it (Clerk rotated its keys): by one
    thread of its own, and with a rest after each fetch, during which unknown keys are refused without asking. If Clerk
    does not answer, or answers nonsense, the last good keys stay good.
    """

    def __init__(
        self,
        fetch: Callable[[], bytes],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wait: float = WAIT,
    ) -> None:
        """`fetch` returns the document; it has a deadline of its own, and may raise `Unavailable`."""
        self._wait_seconds = wait
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.waiting = 0
        """The number of callers that wait for the fetch under way."""
        self._under_way: threading.Event | None = None
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._trouble = ""

    def candidates(self, key_id: str | None) -> Sequence[RSAPublicKey]:
        if key_id is None:
            return ()
        if found := self._keys.get(key_id):
            if self._monotonic() - self._fetched_at >= FRESH_FOR:
                self._refresh()
            return [found]
        under_way = self._refresh()
        if under_way is not None and not self._wait(under_way):
            raise Unavailable("Clerk's keys are being fetched", retry_after=SOON)
        if found := self._keys.get(key_id):
            return [found]
        if self._trouble:
            raise Unavailable(
                f"Clerk's keys cannot be fetched: {self._trouble}", retry_after=timedelta(seconds=RETRY_EVERY)
            )
        return ()

    def prepare(self) -> None:
        self._refresh()

    def _refresh(self) -> threading.Event | None:
        """Have the document fetched, unless it was just now, and return an event that is set when the fetch ends."""
        with self._lock:
            if self._under_way is not None:
                return self._under_way
            now = self._monotonic()
            if now - self._tried_at < (RETRY_EVERY if self._trouble else REFRESH_EVERY):
                return None
            self._tried_at = now
            self._under_way = threading.Event()
            threading.Thread(target=self._replace, args=(self._under_way,), name="jwks", daemon=True).start()
            return self._under_way

    @property
    def idle(self) -> bool:
        """Whether no fetch is under way."""
        return self._under_way is None

    def _wait(self, under_way: threading.Event) -> bool:
        """Return whether the fetch has ended; a few callers wait for its end, for a while."""
        with self._lock:
            if self.waiting >= WAITERS:
                return under_way.is_set()
            self.waiting += 1
        try:
            return under_way.wait(self._wait_seconds)
        finally:
            with self._lock:
                self.waiting -= 1

    def _replace(self, done: threading.Event) -> None:
        try:
            keys, trouble = read_jwks(self._fetch()), ""
        except (Unavailable, KeyUnusable) as error:
            keys, trouble = self._keys, str(error)
            log.warning("clerk.jwks_not_fetched", reason=trouble, keys_kept=len(keys))
        except Exception as error:
            keys, trouble = self._keys, type(error).__name__
            log.exception("clerk.jwks_not_fetched", keys_kept=len(keys))
        else:
            log.info("clerk.jwks_fetched", keys=sorted(keys))
        with self._lock:
            self._keys, self._trouble, self._under_way = keys, trouble, None
            # The rest begins with the end of a fetch, so that slow answers do not follow one another.
            self._tried_at = self._monotonic()
            if not trouble:
                self._fetched_at = self._tried_at
        done.set()


class Verifier:
    """A verifier of the tokens of one Clerk instance."""

    def __init__(self, keys: Keys, *, issuer: str | None, parties: Sequence[str]) -> None:
        """`issuer`: the only `iss` that is good; None: any https origin, because the keys are the instance's own.
        `parties`: origins that may ask for tokens (`azp`); none: all of the instance's."""
        self._keys = keys
        self._issuer = issuer
        self._parties = tuple(parties)

    def prepare(self) -> None:
        """Have the keys fetched, in the background, before the first token comes."""
        self._keys.prepare()

    def verify(self, token: str, now: float) -> Session:
        """Return the session, if the token is good at `now` (Unix seconds).

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
        """Return the claims of a token that one of our keys signed."""
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
    """Return the active organization: `o.{id, rol, slg}` (version 2 of the claims), else `org_id` and its siblings.

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
    """Return the document's RSA keys by id, without other keys, weak ones and nonsense.

    Raises:
        KeyUnusable: not one key is left.
    """
    found = {}
    try:
        entries = jwt.PyJWKSet.from_dict(parse_json(document)).keys
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise KeyUnusable("the answer is no JWKS with a usable key") from error
    for entry in entries:
        if entry.key_id and isinstance(entry.key, RSAPublicKey) and entry.key.key_size >= MIN_BITS:
            found[entry.key_id] = entry.key
    if not found:
        raise KeyUnusable(f"the JWKS has no RSA key of {MIN_BITS} bits or more with an id")
    return found


def fetch_jwks(http: Http, url: str) -> bytes:
    """Return the document at `url`. Redirects are not followed: keys come only from the configured address.

    Raises:
        Unavailable: there is no response of status 200 and reasonable size within the time that `http` has.
    """
    answer = http.exchange(Request(_place(url), url, headers={"Accept": "application/json"}))
    if answer.status != 200:
        raise Unavailable(f"{_place(url)} answers {answer.status}")
    return answer.body


def _place(url: str) -> str:
    """Return where keys come from, for errors: without the parameters, which may be a credential."""
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
