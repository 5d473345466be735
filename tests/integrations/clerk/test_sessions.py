"""Session tokens: which are good, when, and by which name each of the others is refused."""

import base64
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import NotAuthenticated, Unavailable
from domain.identity.access import ActiveOrganization
from integrations.clerk.sessions import (
    FRESH_FOR,
    MAX_JWKS,
    MAX_TOKEN,
    REFRESH_EVERY,
    RETRY_EVERY,
    WAITERS,
    JwksKeys,
    KeyUnusable,
    PemKeys,
    Verifier,
    fetch_jwks,
    read_jwks,
)
from integrations.http.client import Http
from simulators.clerk.sessions import TOKEN_LIFETIME, ClerkSessionSimulator
from tests.raw_server import RawServer, answering, dripping, endless
from tests.wait import until

NOW = 1_800_000_000.0
PATIENCE = 60.0
PAGE = "https://app.example.com"
CLERK = ClerkSessionSimulator()
STRICT = Verifier(PemKeys(CLERK.pem()), issuer=CLERK.issuer, parties=(PAGE, "http://localhost:3000"))


def error_code(token: str, now: float = NOW, judge: Verifier = STRICT) -> str:
    """The reason's code."""
    with pytest.raises(NotAuthenticated) as refused:
        judge.verify(token, now)
    assert str(refused.value)
    return refused.value.code


def b64(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- claims -------------------------------------------------------------------------------------------------


def test_a_good_token_is_a_session() -> None:
    session = STRICT.verify(CLERK.token(NOW), NOW)
    assert (session.id, session.user, session.organization) == ("sess_1", "user_ada", None)
    assert session.expires_at.timestamp() == NOW + TOKEN_LIFETIME


@pytest.mark.parametrize(
    "claims",
    [
        {"o": {"id": "org_1", "rol": "admin", "slg": "acme", "per": "read,manage", "fpm": "3"}, "fea": "o:billing"},
        {"v": None, "org_id": "org_1", "org_role": "org:admin", "org_slug": "acme", "org_permissions": []},
        {"o": {"id": "org_1", "rol": "admin", "slg": "acme"}, "org_id": "org_2", "org_role": "org:member"},
    ],
    ids=["version 2", "version 1", "both"],
)
def test_the_active_organization_is_read_in_both_versions(claims: dict[str, Any]) -> None:
    session = STRICT.verify(CLERK.token(NOW, **claims), NOW)
    assert session.organization == ActiveOrganization("org_1", "admin", "acme")


@pytest.mark.parametrize("late", [-TOKEN_LIFETIME, 0, 4, 4.9])
def test_clocks_may_differ_by_less_than_five_seconds_at_the_end(late: float) -> None:
    assert STRICT.verify(CLERK.token(NOW), NOW + TOKEN_LIFETIME + late).user == "user_ada"


@pytest.mark.parametrize("late", [5, 6, 3600])
def test_after_that_a_token_is_over(late: float) -> None:
    assert error_code(CLERK.token(NOW), NOW + TOKEN_LIFETIME + late) == "TOKEN_EXPIRED"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_too_early(claim: str) -> None:
    assert STRICT.verify(CLERK.token(NOW, **{claim: NOW + 5}), NOW)
    assert error_code(CLERK.token(NOW, **{claim: NOW + 6})) == "TOKEN_TOO_EARLY"


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "sid", "iss"])
def test_what_every_token_must_say(claim: str) -> None:
    assert error_code(CLERK.token(NOW, **{claim: None})) == "TOKEN_CLAIM_MISSING"


@pytest.mark.parametrize("claim", ["nbf", "azp", "sts", "jti", "v"])
def test_what_a_token_need_not_say(claim: str) -> None:
    assert STRICT.verify(CLERK.token(NOW, **{claim: None}), NOW)


@pytest.mark.parametrize(
    "claims",
    [
        *({"exp": value} for value in ("soon", True, [], 1e300, float("nan"), -1)),
        {"iat": {}},
        {"nbf": "1800000000"},
        *({"sid": value} for value in (7, "x" * 256, "a\nb")),
        {"sub": ["user_ada"]},
        {"o": "org_1"},
        {"o": {"id": 7, "rol": "admin"}},
        {"org_id": "org_1", "org_role": 1},
    ],
    ids=str,
)
def test_a_claim_of_another_kind_is_refused(claims: dict[str, Any]) -> None:
    # PyJWT would not encode some of these itself.
    claims = CLERK.claims(NOW) | claims
    assert error_code(CLERK.sign(json.dumps(claims).encode())) == "TOKEN_CLAIM_INVALID"


@pytest.mark.parametrize("claims", [{"o": {}}, {"o": {"id": "org_1"}}, {"org_id": "org_1"}], ids=str)
def test_an_organization_without_a_role_is_refused(claims: dict[str, Any]) -> None:
    assert error_code(CLERK.token(NOW, **claims)) == "TOKEN_CLAIM_MISSING"


def test_a_pending_session_is_refused() -> None:
    assert error_code(CLERK.token(NOW, sts="pending")) == "SESSION_PENDING"


def test_only_authorized_parties_may_ask() -> None:
    assert STRICT.verify(CLERK.token(NOW, azp="http://localhost:3000"), NOW)
    assert error_code(CLERK.token(NOW, azp="https://evil.example.com")) == "TOKEN_PARTY"
    assert error_code(CLERK.token(NOW, azp=[PAGE])) == "TOKEN_PARTY"
    anybody = Verifier(PemKeys(CLERK.pem()), issuer=CLERK.issuer, parties=())
    assert anybody.verify(CLERK.token(NOW, azp="https://evil.example.com"), NOW)


@pytest.mark.parametrize("issuer", ["https://other.example.com", f"{CLERK.issuer}.evil.com", "", "clerk.example.com"])
def test_another_issuer_is_refused(issuer: str) -> None:
    assert error_code(CLERK.token(NOW, iss=issuer)) == "TOKEN_ISSUER"


def test_without_a_known_issuer_any_https_origin_will_do() -> None:
    unpinned = Verifier(PemKeys(CLERK.pem()), issuer=None, parties=())
    assert unpinned.verify(CLERK.token(NOW, iss="https://other.example.com"), NOW)
    assert error_code(CLERK.token(NOW, iss="http://other.example.com"), judge=unpinned) == "TOKEN_ISSUER"


# --- signatures ---------------------------------------------------------------------------------------------


def test_algorithms_other_than_rs256_are_refused() -> None:
    claims, key_id = CLERK.claims(NOW), {"kid": "ins_first"}
    unsigned = jwt.encode(claims, None, "none", headers=key_id)
    confused = f"{b64({'alg': 'HS256', 'typ': 'JWT'} | key_id)}.{b64(claims)}"
    confused += "." + b64(
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(confused.encode(), CLERK.pem().encode())
    )
    for token in (unsigned, confused, CLERK.sign(json.dumps(claims).encode(), algorithm="RS512")):
        assert error_code(token) == "TOKEN_ALGORITHM"


def test_a_token_that_somebody_else_signed_is_refused() -> None:
    assert error_code(ClerkSessionSimulator().token(NOW)) == "TOKEN_SIGNATURE"


def test_a_changed_token_is_refused() -> None:
    header, _, signature = CLERK.token(NOW).split(".")
    forged = b64(CLERK.claims(NOW, sub="user_eve"))
    assert error_code(f"{header}.{forged}.{signature}") == "TOKEN_SIGNATURE"
    assert error_code(f"{header}.{b64(CLERK.claims(NOW))}.") == "TOKEN_SIGNATURE"


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "a.b", "a.b.c", "ü.ü.ü", "\ud800", "x" * (MAX_TOKEN + 1)),
        *(f"{b64(header)}.e30.AA" for header in ([], None, "x", b"{", b"[" * 9000)),
        f"{b64({'alg': 'RS256', 'kid': 7})}.e30.AA",
        CLERK.token(NOW, header={"crit": ["exp"], "exp": 1}),
    ],
    ids=lambda token: repr(token[:20]),
)
def test_what_is_no_token_is_malformed(token: str) -> None:
    assert error_code(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff", b"[" * 9000])
def test_signed_content_that_is_no_object_is_malformed(content: bytes) -> None:
    assert error_code(CLERK.sign(content)) == "TOKEN_MALFORMED"


@given(st.text() | st.binary().map(lambda raw: f"{b64({'alg': 'RS256', 'kid': 'ins_first'})}.{b64(raw)}.{b64(raw)}"))
def test_random_tokens_can_only_be_refused(token: str) -> None:
    assert error_code(token).startswith("TOKEN_")


# --- keys ---------------------------------------------------------------------------------------------------


def test_pem_text_survives_what_environments_do_to_it() -> None:
    pem = CLERK.pem()
    for text in (pem, pem.replace("\n", "\\n"), pem.replace("\n", " "), pem.replace("\n", ""), f" {pem}\n{pem}"):
        assert Verifier(PemKeys(text), issuer=None, parties=()).verify(CLERK.token(NOW), NOW)


def test_while_a_pem_key_is_rotated_both_are_good() -> None:
    clerk = ClerkSessionSimulator()
    before = clerk.token(NOW)
    clerk.rotate("ins_second")
    judge = Verifier(PemKeys(clerk.pem("ins_second") + clerk.pem()), issuer=None, parties=())
    assert judge.verify(before, NOW)
    assert judge.verify(clerk.token(NOW), NOW)


@pytest.mark.parametrize(
    "text",
    ["", "key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", CLERK.pem().replace("A", "B", 9)],
    ids=["empty", "not PEM", "cut off", "damaged"],
)
def test_pem_text_without_a_good_key_is_unusable(text: str) -> None:
    with pytest.raises(KeyUnusable):
        PemKeys(text)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b'{"keys": []}', b'{"keys": 7}', b'{"keys": [1]}', b"[" * 100_000),
        b'{"keys": [{"kty": "oct", "kid": "x", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "x", "n": 7, "e": "AQAB"}]}',
        json.dumps({"keys": [{**CLERK.jwks()["keys"][0], "kid": None}]}).encode(),
    ],
    ids=lambda document: repr(document[:24]),
)
def test_a_document_without_a_good_key_is_unusable(document: bytes) -> None:
    with pytest.raises(KeyUnusable):
        read_jwks(document)


def test_nonsense_beside_a_good_key_is_passed_over() -> None:
    keys = [{"kty": "oct", "kid": "ins_first", "k": "c2VjcmV0"}, 7, {"kty": "new"}, *CLERK.jwks()["keys"]]
    assert list(read_jwks(json.dumps({"keys": keys}).encode())) == ["ins_first"]


class Published:
    """A fake Clerk that publishes its keys, and a verifier that fetches them; its clock stands until it is moved."""

    def __init__(self, clerk: ClerkSessionSimulator, url: str) -> None:
        self.clerk, self.at = clerk, 0.0
        fetch = partial(fetch_jwks, Http("viral-tests", most_bytes=MAX_JWKS), url)
        self.keys = JwksKeys(fetch, monotonic=lambda: self.at, wait=PATIENCE)
        self.judge = Verifier(self.keys, issuer=clerk.issuer, parties=())

    def fetched(self, times: int) -> bool:
        """Whether so many fetches were begun, and none is under way."""
        return self.clerk.requests == times and self.keys.idle

    def good(self, token: str | None = None) -> bool:
        return self.judge.verify(token or self.clerk.token(NOW), NOW).user == "user_ada"

    def error_code(self, token: str) -> str:
        return error_code(token, judge=self.judge)


@pytest.fixture
def published() -> Iterator[Published]:
    clerk = ClerkSessionSimulator()
    with clerk.serving() as url:
        yield Published(clerk, url)


def test_the_keys_are_fetched_once_and_again_when_they_are_old(published: Published) -> None:
    assert published.clerk.requests == 0
    assert all(published.good() for _ in range(3))
    assert published.clerk.requests == 1
    published.at = FRESH_FOR
    assert published.good()
    until(lambda: published.fetched(2), "the keys to be fetched again, while they are used")


def test_a_rotated_key_is_fetched_at_once_and_the_old_one_is_over(published: Published) -> None:
    old = published.clerk.token(NOW)
    assert published.good(old)
    published.at += REFRESH_EVERY
    published.clerk.rotate("ins_second")
    assert published.good()
    assert published.clerk.requests == 2
    assert published.error_code(old) == "TOKEN_KEY_UNKNOWN"


class Held:
    """A fetch that does not end before it is let go; `begun` counts those that began."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = threading.Event()
        self.document = json.dumps(CLERK.jwks()).encode()

    def __call__(self) -> bytes:
        self.begun += 1
        assert self.go.wait(PATIENCE)
        return self.document


def outcome(judge: Verifier, token: str) -> str:
    try:
        return judge.verify(token, NOW).user
    except NotAuthenticated as error:
        return error.code
    except Unavailable as error:
        return "503" if error.retry_after else "503 without a wait"


def crowd(judge: Verifier, tokens: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(tokens)) as pool:
        return list(pool.map(partial(outcome, judge), tokens))


def strangers(count: int) -> list[str]:
    return [CLERK.token(NOW, header={"kid": f"ins_{n}"}) for n in range(count)]


def test_a_storm_of_unknown_keys_is_one_fetch_and_none_is_waited_for_again(published: Published) -> None:
    assert published.good()
    published.at += REFRESH_EVERY
    crowd(published.judge, strangers(32))
    until(lambda: published.fetched(2), "the one fetch")
    assert crowd(published.judge, strangers(32)) == ["TOKEN_KEY_UNKNOWN"] * 32
    assert published.fetched(2)
    assert published.good()


def test_a_fetch_under_way_holds_few_callers_and_nobody_whose_key_is_known() -> None:
    fetch = Held()
    keys = JwksKeys(fetch, wait=PATIENCE)
    judge = Verifier(keys, issuer=CLERK.issuer, parties=())
    with ThreadPoolExecutor(WAITERS) as few:
        waiting = [few.submit(outcome, judge, CLERK.token(NOW)) for _ in range(WAITERS)]
        until(lambda: keys.waiting == WAITERS, "the callers that wait")
        assert crowd(judge, strangers(32)) == ["503"] * 32, "answered while the fetch is held"
        assert not any(each.done() for each in waiting)
        fetch.go.set()
        assert [each.result() for each in waiting] == ["user_ada"] * WAITERS
    assert fetch.begun == 1


def test_who_waits_does_not_wait_long() -> None:
    fetch = Held()
    judge = Verifier(JwksKeys(fetch, wait=0.01), issuer=CLERK.issuer, parties=())
    assert crowd(judge, strangers(8)) == ["503"] * 8
    fetch.go.set()
    until(lambda: outcome(judge, CLERK.token(NOW)) == "user_ada", "the keys")
    assert fetch.begun == 1


def test_while_the_keys_are_fetched_again_the_last_good_ones_are_used() -> None:
    fetch = Held()
    fetch.go.set()
    at = [0.0]
    keys = JwksKeys(fetch, monotonic=lambda: at[0], wait=PATIENCE)
    judge = Verifier(keys, issuer=CLERK.issuer, parties=())
    assert outcome(judge, CLERK.token(NOW)) == "user_ada"
    fetch.go.clear()
    at[0] = FRESH_FOR
    assert crowd(judge, [CLERK.token(NOW)] * 32) == ["user_ada"] * 32
    assert not keys.idle
    fetch.go.set()
    until(lambda: keys.idle, "the end of the fetch")
    assert fetch.begun == 2


@pytest.mark.parametrize("document", [b"", b"[" * 100_000, b'{"keys": []}', b"{}", b"\xff"], ids=repr)
def test_nonsense_does_not_take_the_place_of_good_keys(document: bytes) -> None:
    held = Held()
    held.go.set()
    at = [0.0]
    keys = JwksKeys(held, monotonic=lambda: at[0], wait=PATIENCE)
    judge = Verifier(keys, issuer=CLERK.issuer, parties=())
    assert outcome(judge, CLERK.token(NOW)) == "user_ada"
    held.document = document
    at[0] = FRESH_FOR
    assert outcome(judge, CLERK.token(NOW)) == "user_ada"
    until(lambda: keys.idle, "the end of the fetch")
    assert outcome(judge, CLERK.token(NOW)) == "user_ada"
    assert outcome(judge, strangers(1)[0]) == "503"


def test_a_fetch_that_breaks_is_tried_again_later() -> None:
    at = [0.0]
    broken = [True]

    def fetch() -> bytes:
        if broken[0]:
            raise RuntimeError("a bug")
        return json.dumps(CLERK.jwks()).encode()

    judge = Verifier(JwksKeys(fetch, monotonic=lambda: at[0], wait=PATIENCE), issuer=CLERK.issuer, parties=())
    assert outcome(judge, CLERK.token(NOW)) == "503"
    broken[0] = False
    assert outcome(judge, CLERK.token(NOW)) == "503"
    at[0] += RETRY_EVERY
    assert outcome(judge, CLERK.token(NOW)) == "user_ada"


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (dripping(b"HTTP/1.1 200 OK\r\nX: y\r\n" * 99, 0.2), "did not finish its answer within"),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"{" * 65536), "answers with more than 262,144 bytes"),
        (endless(b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n", b"{" * 65536), "answers with more than"),
        (endless(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"x" * 65536), "answers 302"),
    ],
    ids=["drips", "endless", "300 MB", "redirect"],
)
def test_an_issuer_that_is_hostile_is_away(pieces: Callable[[RawServer], Iterable[bytes]], why: str) -> None:
    with answering(pieces) as server:
        http = Http("viral-tests", most_bytes=MAX_JWKS, seconds=(5, 5, 1 if "finish" in why else 20))
        with pytest.raises(Unavailable, match=why):
            fetch_jwks(http, f"{server.url}/.well-known/jwks.json?key=s3cret")
        assert server.sent < 40_000_000


def test_a_token_must_say_which_key_signed_it(published: Published) -> None:
    claims = json.dumps(published.clerk.claims(NOW)).encode()
    assert published.error_code(published.clerk.sign(claims, header={})) == "TOKEN_KEY_UNKNOWN"
    assert published.clerk.requests == 0


def test_while_clerk_is_away_known_keys_stay_good_and_unknown_ones_are_not_judged(published: Published) -> None:
    assert published.good()
    published.clerk.status = 503
    published.at = FRESH_FOR
    assert published.good()
    stranger = published.clerk.token(NOW, header={"kid": "ins_other"})
    with pytest.raises(Unavailable, match="answers 503"):
        published.judge.verify(stranger, NOW)
    assert published.clerk.requests == 2

    published.clerk.status = 200
    published.at += RETRY_EVERY
    assert published.error_code(stranger) == "TOKEN_KEY_UNKNOWN"
    assert published.clerk.requests == 3


def test_clerk_away_from_the_start_is_unavailable_not_refused() -> None:
    fetch = partial(fetch_jwks, Http("viral-tests"), "http://127.0.0.1:1/jwks")
    nobody = Verifier(JwksKeys(fetch, wait=PATIENCE), issuer=None, parties=())
    with pytest.raises(Unavailable, match="cannot be reached"):
        nobody.verify(CLERK.token(NOW), NOW)
