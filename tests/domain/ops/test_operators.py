from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import OperatorTokenInvalid
from domain.ops.operators import (
    HOME,
    TOKEN_BYTES,
    OperatorRole,
    form_token,
    is_form_of,
    is_same,
    is_token,
    new_token,
    place_after,
    session_hash,
    token_hash,
)

BYTES = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)
PAGES = ("/ops", "/ops/jobs", "/ops/jobs/0192-abc?status=failed&tenant=%C3%A9", "/ops/failures/a:b?q=a%2Fb#"[:-1])
NASTY = ("/ops", "/", "//", "\\", "evil.example", "..", ".", "%2e%2e", "%252e", "%2F", "%5c", "%00", "?", "#", "@", ":")
UNSEEN = ("\t", "\r\n", "\0", "\u2028", " ", "https:", "javascript:", "jobs", "é", "%0d%0aSet-Cookie:a=b", "login")
PIECES = st.sampled_from(NASTY + UNSEEN)


@given(BYTES)
def test_a_token_has_its_form_and_no_changed_one_has_it(randomness: bytes) -> None:
    text = new_token(randomness, name="ada", role="act").text
    assert is_token(text)
    assert not is_token(text[:-1])
    assert not is_token(text + "0")
    assert not is_token(text.replace(text[20], "0" if text[20] != "0" else "1", 1))


@pytest.mark.parametrize(
    "name", ["", "Ada", "a b", "a\n", "a\u200b", "аda", "-a", "loopback", "ops_token", "a" * 65, "a/b"]
)
def test_a_name_is_one_that_everybody_can_read(name: str) -> None:
    with pytest.raises(OperatorTokenInvalid):
        new_token(bytes(TOKEN_BYTES), name=name, role="look")


def test_a_role_is_one_of_two() -> None:
    with pytest.raises(OperatorTokenInvalid, match="look, act"):
        new_token(bytes(TOKEN_BYTES), name="ada", role="admin")
    assert OperatorRole.ACT.includes(OperatorRole.LOOK)
    assert not OperatorRole.LOOK.includes(OperatorRole.ACT)


@given(st.text())
def test_nothing_is_ops_token_where_none_is_set(text: str) -> None:
    assert not is_same(text, None)
    assert not is_same(text, "")
    assert is_same(text, text) == bool(text)


@given(st.text(), st.text(min_size=1), st.text(min_size=1))
def test_a_session_of_ops_token_is_none_of_another(session: str, one: str, other: str) -> None:
    hashes = {session_hash(session, one), session_hash(session, other), session_hash(session), token_hash("x")}
    assert (session_hash(session, one) == session_hash(session, other)) == (one == other)
    assert session_hash(session) not in hashes - {session_hash(session)}


@given(st.text(), st.text(), st.text())
def test_a_form_is_of_one_session(session: str, other: str, sent: str) -> None:
    assert is_form_of(session, form_token(session))
    assert is_form_of(session, form_token(other)) == (session == other)
    assert not is_form_of(session, sent)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_come_back_to(page: str) -> None:
    assert place_after(page) == page


@given(
    st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(lambda pieces: "/ops/" + "".join(pieces)))
)
@example("//evil.example")
@example("/\\evil.example")
@example("/ops/../evil")
@example("/ops/%2e%2e/evil")
@example("/ops/%252e%252e/evil")
@example("/ops/.%2e/api/keys")
@example("/ops//evil.example")
@example("/ops\\..\\evil")
@example("https://evil.example/ops")
@example("/ops\r\nLocation: https://evil.example")
@example("/ops/jobs\n")
@example("/opsevil")
@example("/ops/login?next=/ops/login")
@example("/ops/logout")
@example("/ops/%00")
@example("")
def test_no_sign_in_leads_anywhere_but_below_ops(wanted: str) -> None:
    place = place_after(wanted)
    assert place in (wanted, HOME)
    assert place.isascii()
    assert place.isprintable()
    reached = urlsplit(urljoin("https://ours.example/ops/login", place))
    assert (reached.scheme, reached.netloc) == ("https", "ours.example")
    path = unquote(unquote(reached.path))
    assert path == "/ops" or path.startswith("/ops/")
    assert ".." not in path.split("/")
    assert "\\" not in path
    assert path.split("/")[2:3] not in (["login"], ["logout"])


def test_a_place_without_end_is_none() -> None:
    assert place_after("/ops/" + "a" * 5000) == HOME
    assert place_after(None) == HOME
