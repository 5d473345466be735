"""Texts of errors keep what kind of thing was wrong, and no value."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text.redaction import LONGEST, LONGEST_LOGGED, without_addresses, without_secrets, without_values

REDACTED = {
    "invalid literal for int() with base 10: 'ada@x.org'": "invalid literal for int() with base 10: '…'",
    "Key (email)=(ada@x.org) already exists": "Key (email)=(…) already exists",
    "Ada's shop isn't 'there'": "Ada's shop isn't '…'",
    "GET https://img.example.com/ada.png?x=1 failed": "GET https://img.example.com/… failed",
    "http://ada:secret@db/x": "http://db/…",
    "of +49 170 1234567 at 192.0.2.7, or 2001:db8::17:4": "of … at …, or …",
    "it was cut: 'Ada Lovela": "it was cut: '…",
    r"'Ada \'the first\' Lovelace' and \"Ada\" at 12:34:56": "'…\" at 12:34:56",
    "'Ada' is not a valid Role": "'…' is not a valid Role",
    "3 of 10 rows; the rest waits": "3 of 10 rows; the rest waits",
}


@pytest.mark.parametrize("text", REDACTED)
def test_values_are_masked_and_the_rest_is_left(text: str) -> None:
    assert without_values(text) == REDACTED[text]


@given(
    before=st.text("abc ='\"\n", max_size=20),
    value=st.text("abcdefgh Ä漢\\\n'\"", max_size=50),
    quote=st.sampled_from("'\""),
)
def test_no_quoted_value_is_left_whatever_it_is(before: str, value: str, quote: str) -> None:
    redacted = without_values(f"{before} {quote}MARKED{value!r}MARKED{quote}")
    assert "MARKED" not in redacted


def test_texts_of_ours_lose_their_addresses_only() -> None:
    redacted = without_addresses("unknown price 'price_1' of ada@example.org; see https://example.com/docs")
    assert redacted == "unknown price 'price_1' of …; see https://example.com/docs"


@pytest.mark.parametrize("piece", ["token=", "sk_", "Bearer ", "://a"])
def test_no_secret_takes_long(piece: str) -> None:
    began = time.process_time()
    assert len(without_secrets(piece * 1_000_000)) < LONGEST_LOGGED + 100
    assert time.process_time() - began < 5


@pytest.mark.parametrize("piece", ["a", "@", "a@", "'", "\\", ":", "1:", "+1 ", "a.b://", "1.", "\0", "&key="])
def test_no_text_takes_long(piece: str) -> None:
    began = time.process_time()
    assert len(without_values(piece * 1_000_000)) < LONGEST + 100
    assert time.process_time() - began < 5


SECRETS = {
    "it was sent Authorization: Bearer ab12cd and answered 401": "it was sent Authorization: … and answered 401",
    "redis://:hush@cache:6379 refuses": "redis://cache:6379 refuses",
    "GET /v1/things?code=abcdef1&x=1": "GET /v1/things?code=…&x=1",
    "client_secret=abcdefgh12345&grant": "client_secret=…&grant",
    '{"access_token": "abcdefabcdef1"}': '{"access_token": "…"}',
    "viral_0123456789abcdef0123456789abcdef is unknown": "… is unknown",
    "token: invalid_grant": "token: invalid_grant",
    "skateboarding_tricks_2024 by viral-dashboard-workers/0.1.0": (
        "skateboarding_tricks_2024 by viral-dashboard-workers/0.1.0"
    ),
}


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_masked_by_form_name_or_place(text: str) -> None:
    assert without_secrets(text) == SECRETS[text]
