"""Session tokens: which are good, when, and by which name each of the others is refused."""

import base64
import json
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.access import ActiveOrganization
from domain.errors import NotAuthenticated, Unavailable
from integrations.clerk_sessions import (
    FRESH_FOR,
    MAX_TOKEN,
    REFRESH_EVERY,
    RETRY_EVERY,
    JwksKeys,
    KeyUnusable,
    PemKeys,
    Verifier,
    fetch_jwks,
    issuer_of,
    read_jwks,
)
from integrations.fakes.clerk_sessions import LIFE, FakeClerk

NOW = 1_800_000_000.0
PAGE = "https://app.example.com"
CLERK = FakeClerk()
STRICT = Verifier(PemKeys(CLERK.pem()), issuer=CLERK.issuer, parties=(PAGE, "http://localhost:3000"))


def refusal(token: str, now: float = NOW, judge: Verifier = STRICT) -> str:
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
    assert session.expires_at.timestamp() == NOW + LIFE


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


@pytest.mark.parametrize("late", [-LIFE, 0, 4, 4.9])
def test_clocks_may_differ_by_less_than_five_seconds_at_the_end(late: float) -> None:
    assert STRICT.verify(CLERK.token(NOW), NOW + LIFE + late).user == "user_ada"


@pytest.mark.parametrize("late", [5, 6, 3600])
def test_after_that_a_token_is_over(late: float) -> None:
    assert refusal(CLERK.token(NOW), NOW + LIFE + late) == "TOKEN_EXPIRED"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_too_early(claim: str) -> None:
    assert STRICT.verify(CLERK.token(NOW, **{claim: NOW + 5}), NOW)
    assert refusal(CLERK.token(NOW, **{claim: NOW + 6})) == "TOKEN_TOO_EARLY"


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "sid", "iss"])
def test_what_every_token_must_say(claim: str) -> None:
    assert refusal(CLERK.token(NOW, **{claim: None})) == "TOKEN_CLAIM_MISSING"


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
    assert refusal(CLERK.sign(json.dumps(claims).encode())) == "TOKEN_CLAIM_INVALID"


@pytest.mark.parametrize("claims", [{"o": {}}, {"o": {"id": "org_1"}}, {"org_id": "org_1"}], ids=str)
def test_an_organization_without_a_role_is_refused(claims: dict[str, Any]) -> None:
    assert refusal(CLERK.token(NOW, **claims)) == "TOKEN_CLAIM_MISSING"


def test_a_pending_session_is_refused() -> None:
    assert refusal(CLERK.token(NOW, sts="pending")) == "SESSION_PENDING"


def test_only_authorized_parties_may_ask() -> None:
    assert STRICT.verify(CLERK.token(NOW, azp="http://localhost:3000"), NOW)
    assert refusal(CLERK.token(NOW, azp="https://evil.example.com")) == "TOKEN_PARTY"
    assert refusal(CLERK.token(NOW, azp=[PAGE])) == "TOKEN_PARTY"
    anybody = Verifier(PemKeys(CLERK.pem()), issuer=CLERK.issuer, parties=())
    assert anybody.verify(CLERK.token(NOW, azp="https://evil.example.com"), NOW)


@pytest.mark.parametrize("issuer", ["https://other.example.com", f"{CLERK.issuer}.evil.com", "", "clerk.example.com"])
def test_another_issuer_is_refused(issuer: str) -> None:
    assert refusal(CLERK.token(NOW, iss=issuer)) == "TOKEN_ISSUER"


def test_without_a_known_issuer_any_https_origin_will_do() -> None:
    unpinned = Verifier(PemKeys(CLERK.pem()), issuer=None, parties=())
    assert unpinned.verify(CLERK.token(NOW, iss="https://other.example.com"), NOW)
    assert refusal(CLERK.token(NOW, iss="http://other.example.com"), judge=unpinned) == "TOKEN_ISSUER"


def test_the_issuer_follows_from_where_the_keys_are_published() -> None:
    assert issuer_of("https://clerk.example.com/.well-known/jwks.json") == "https://clerk.example.com"
    assert issuer_of("https://example.com/__clerk/.well-known/jwks.json") == "https://example.com/__clerk"
    assert issuer_of("https://api.clerk.com/v1/jwks") is None
    assert issuer_of("") is None


# --- signatures ---------------------------------------------------------------------------------------------


def test_algorithms_other_than_rs256_are_refused() -> None:
    claims, key_id = CLERK.claims(NOW), {"kid": "ins_first"}
    unsigned = jwt.encode(claims, None, "none", headers=key_id)
    confused = f"{b64({'alg': 'HS256', 'typ': 'JWT'} | key_id)}.{b64(claims)}"
    confused += "." + b64(
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(confused.encode(), CLERK.pem().encode())
    )
    for token in (unsigned, confused, CLERK.sign(json.dumps(claims).encode(), algorithm="RS512")):
        assert refusal(token) == "TOKEN_ALGORITHM"


def test_a_token_that_somebody_else_signed_is_refused() -> None:
    assert refusal(FakeClerk().token(NOW)) == "TOKEN_SIGNATURE"


def test_a_changed_token_is_refused() -> None:
    header, _, signature = CLERK.token(NOW).split(".")
    forged = b64(CLERK.claims(NOW, sub="user_eve"))
    assert refusal(f"{header}.{forged}.{signature}") == "TOKEN_SIGNATURE"
    assert refusal(f"{header}.{b64(CLERK.claims(NOW))}.") == "TOKEN_SIGNATURE"


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
    assert refusal(token) == "TOKEN_MALFORMED"


@pytest.mark.parametrize("content", [b"[]", b"null", b"{", b"\xff", b"[" * 9000])
def test_signed_content_that_is_no_object_is_malformed(content: bytes) -> None:
    assert refusal(CLERK.sign(content)) == "TOKEN_MALFORMED"


@given(st.text() | st.binary().map(lambda raw: f"{b64({'alg': 'RS256', 'kid': 'ins_first'})}.{b64(raw)}.{b64(raw)}"))
def test_random_tokens_can_only_be_refused(token: str) -> None:
    assert refusal(token).startswith("TOKEN_")


# --- keys ---------------------------------------------------------------------------------------------------


def test_pem_text_survives_what_environments_do_to_it() -> None:
    pem = CLERK.pem()
    for text in (pem, pem.replace("\n", "\\n"), pem.replace("\n", " "), pem.replace("\n", ""), f" {pem}\n{pem}"):
        assert Verifier(PemKeys(text), issuer=None, parties=()).verify(CLERK.token(NOW), NOW)


def test_while_a_pem_key_is_rotated_both_are_good() -> None:
    clerk = FakeClerk()
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

    def __init__(self, clerk: FakeClerk, url: str) -> None:
        self.clerk, self.at = clerk, 0.0
        self.judge = Verifier(
            JwksKeys(partial(fetch_jwks, url), monotonic=lambda: self.at), issuer=clerk.issuer, parties=()
        )

    def good(self, token: str | None = None) -> bool:
        return self.judge.verify(token or self.clerk.token(NOW), NOW).user == "user_ada"

    def refusal(self, token: str) -> str:
        return refusal(token, judge=self.judge)


@pytest.fixture
def published() -> Iterator[Published]:
    clerk = FakeClerk()
    with clerk.serving() as url:
        yield Published(clerk, url)


def test_the_keys_are_fetched_once_and_again_when_they_are_old(published: Published) -> None:
    assert published.clerk.asked == 0
    assert all(published.good() for _ in range(3))
    assert published.clerk.asked == 1
    published.at = FRESH_FOR
    assert published.good()
    assert published.clerk.asked == 2


def test_a_rotated_key_is_fetched_at_once_and_the_old_one_is_over(published: Published) -> None:
    old = published.clerk.token(NOW)
    assert published.good(old)
    published.at += REFRESH_EVERY
    published.clerk.rotate("ins_second")
    assert published.good()
    assert published.clerk.asked == 2
    assert published.refusal(old) == "TOKEN_KEY_UNKNOWN"


def test_a_storm_of_unknown_keys_is_one_fetch(published: Published) -> None:
    assert published.good()
    published.at += REFRESH_EVERY
    codes: list[str] = []

    def ask(number: int) -> None:
        codes.append(published.refusal(published.clerk.token(NOW, header={"kid": f"ins_{number}"})))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["TOKEN_KEY_UNKNOWN"] * 32
    assert published.clerk.asked == 2
    assert published.good()


def test_who_comes_during_the_first_fetch_waits_for_it() -> None:
    said: list[str] = []

    def come() -> None:
        try:
            said.append(judge.verify(CLERK.token(NOW), NOW).user)
        except NotAuthenticated as error:
            said.append(error.code)

    others = [threading.Thread(target=come) for _ in range(4)]

    def fetch() -> bytes:
        for other in others:
            other.start()
        others[0].join(0.1)  # long enough for a refusal, had they not waited
        return json.dumps(CLERK.jwks()).encode()

    judge = Verifier(JwksKeys(fetch), issuer=CLERK.issuer, parties=())
    come()
    for other in others:
        other.join()
    assert said == ["user_ada"] * 5


def test_a_token_must_say_which_key_signed_it(published: Published) -> None:
    claims = json.dumps(published.clerk.claims(NOW)).encode()
    assert published.refusal(published.clerk.sign(claims, header={})) == "TOKEN_KEY_UNKNOWN"
    assert published.clerk.asked == 0


def test_while_clerk_is_away_known_keys_stay_good_and_unknown_ones_are_not_judged(published: Published) -> None:
    assert published.good()
    published.clerk.status = 503
    published.at = FRESH_FOR
    assert published.good()
    stranger = published.clerk.token(NOW, header={"kid": "ins_other"})
    with pytest.raises(Unavailable, match="answered 503"):
        published.judge.verify(stranger, NOW)
    assert published.clerk.asked == 2

    published.clerk.status = 200
    published.at += RETRY_EVERY
    assert published.refusal(stranger) == "TOKEN_KEY_UNKNOWN"
    assert published.clerk.asked == 3


def test_clerk_away_from_the_start_is_unavailable_not_refused() -> None:
    nobody = Verifier(JwksKeys(partial(fetch_jwks, "http://127.0.0.1:1/jwks")), issuer=None, parties=())
    with pytest.raises(Unavailable, match="does not answer"):
        nobody.verify(CLERK.token(NOW), NOW)
