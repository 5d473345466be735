"""The verifier of Clerk's (Svix's) signatures, held against Standard Webhooks' own; and what of a body is stored."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedEvent, SignatureInvalid
from integrations.clerk.webhooks import key, parse_event, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another key of some length").decode()
NOW = 1_800_000_000.0
BODY = '{"data":{"id":"user_1"},"object":"event","type":"user.created","note":"Zoë 🎬"}'.encode()


def headers(
    signature: str | None, message_id: str | None = "msg_1", time: str | None = "1800000000", family: str = "svix"
) -> dict[str, str]:
    found = {f"{family}-id": message_id, f"{family}-timestamp": time, f"{family}-signature": signature}
    return {name: value for name, value in found.items() if value is not None}


def signed(body: bytes = BODY, secret: str = SECRET, at: float = NOW, family: str = "svix") -> dict[str, str]:
    return headers(sign(body, secret, "msg_1", int(at)), time=str(int(at)), family=family)


def test_the_reference_vector() -> None:
    """Of Svix's own test suite."""
    body = b'{"test": 2432232314}'
    value = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    message_id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert sign(body, SECRET, message_id, 1_614_265_330) == value
    assert verify(body, headers(value, message_id, "1614265330"), [SECRET], 1_614_265_330.0) == message_id


def test_what_standard_webhooks_signs_is_valid() -> None:
    at = datetime.fromtimestamp(NOW, UTC)
    theirs = standardwebhooks.Webhook(SECRET).sign("msg_1", at, BODY.decode())
    assert verify(BODY, headers(theirs, family="webhook"), [SECRET], NOW) == "msg_1"


def test_what_we_sign_is_valid_to_standard_webhooks() -> None:
    now = int(datetime.now(UTC).timestamp())
    standardwebhooks.Webhook(SECRET).verify(BODY, signed(at=now, family="webhook"))


@pytest.mark.parametrize("family", ["svix", "webhook"])
def test_both_families_of_headers_are_understood(family: str) -> None:
    assert verify(BODY, signed(family=family), [SECRET], NOW) == "msg_1"


def test_the_id_is_of_the_family_that_was_verified() -> None:
    mixed = signed(family="webhook") | {"svix-id": "msg_forged"}
    assert verify(BODY, mixed, [SECRET], NOW) == "msg_1"
    with pytest.raises(SignatureInvalid):
        verify(BODY, signed(family="webhook") | headers("v1,AAAA", "msg_forged"), [SECRET], NOW)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_signature_holds_for_five_minutes_on_both_sides(seconds: int) -> None:
    verify(BODY, signed(at=NOW + seconds), [SECRET], NOW)


@pytest.mark.parametrize(("seconds", "side"), [(-301, "past"), (301, "future"), (86_400, "future")])
def test_a_signature_of_another_time_is_refused(seconds: int, side: str) -> None:
    with pytest.raises(SignatureInvalid, match=f"in the {side}"):
        verify(BODY, signed(at=NOW + seconds), [SECRET], NOW)


def test_while_a_secret_is_rolled_either_side_may_know_both() -> None:
    verify(BODY, signed(secret=OTHER), [SECRET, OTHER], NOW)
    both = " ".join(sign(BODY, secret, "msg_1", int(NOW)) for secret in (OTHER, SECRET))
    verify(BODY, headers(both), [SECRET], NOW)
    with pytest.raises(SignatureInvalid, match="fits"):
        verify(BODY, signed(secret=OTHER), [SECRET], NOW)


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), f" {SECRET}\n"])
def test_a_secret_may_come_without_its_prefix(secret: str) -> None:
    assert len(key(secret)) == 24


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_ü", "whsec_not base64!", "whsec_a", "=", "whsec_===="])
def test_a_secret_without_a_key_verifies_nothing(secret: str) -> None:
    assert key(secret) == b""
    with pytest.raises(SignatureInvalid, match="no signing secret"):
        verify(BODY, signed(secret=""), [secret], NOW)
    with pytest.raises(SignatureInvalid, match="fits"):
        verify(BODY, signed(secret=""), [secret, SECRET], NOW)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe not utf-8", b"\x00"])
def test_any_bytes_can_be_signed(body: bytes) -> None:
    verify(body, signed(body), [SECRET], NOW)


@pytest.mark.parametrize("changed", [BODY + b" ", BODY[1:], b""])
def test_a_changed_body_is_refused(changed: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="fits"):
        verify(changed, signed(), [SECRET], NOW)


GOOD = sign(BODY, SECRET, "msg_1", int(NOW))


@pytest.mark.parametrize(
    ("malformed", "says"),
    [
        ({}, "missing"),
        (headers(None), "missing"),
        (headers(GOOD, message_id=None), "missing"),
        (headers(GOOD, time=None), "missing"),
        (headers(""), "missing"),
        (headers(GOOD, message_id=""), "missing"),
        (headers(GOOD, message_id="ü"), "not an id"),
        (headers(GOOD, message_id="a\x00b"), "not an id"),
        (headers(GOOD, message_id="m" * 256), "not an id"),
        (headers(GOOD, message_id="msg_2"), "fits"),
        (headers(GOOD, time="now"), "Unix time"),
        (headers(GOOD, time="1800000000.5"), "Unix time"),
        (headers(GOOD, time="-1800000000"), "Unix time"),
        (headers(GOOD, time="nan"), "Unix time"),
        (headers(GOOD, time="inf"), "Unix time"),
        (headers(GOOD, time="١٨٠٠٠٠٠٠٠٠"), "Unix time"),
        (headers(GOOD, time="9" * 400), "Unix time"),
        (headers(GOOD, time="1800000001"), "fits"),
        (headers("v1"), "no readable v1"),
        (headers("v1,"), "no readable v1"),
        (headers(","), "no readable v1"),
        (headers(" "), "no readable v1"),
        (headers("v1,,"), "no readable v1"),
        (headers("v1,a,b"), "no readable v1"),
        (headers("v1,*not*base64*"), "no readable v1"),
        (headers("v1,ü"), "no readable v1"),
        (headers("v1,\ud800"), "no readable v1"),
        (headers(GOOD.replace("v1,", "v1a,")), "no readable v1"),
        (headers(GOOD.replace("v1,", "v2,")), "no readable v1"),
        (headers(GOOD.replace("v1,", "")), "no readable v1"),
        (headers("v1,AAAA"), "fits"),
        (headers(GOOD[:-4]), "fits"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_malformed_headers_are_refused_and_the_text_says_why(malformed: dict[str, str], says: str) -> None:
    with pytest.raises(SignatureInvalid, match=says):
        verify(BODY, malformed, [SECRET], NOW)


@pytest.mark.parametrize("value", [f"v1a,x {GOOD}", f"  {GOOD}  ", f"v1,, {GOOD} v2,zz", f"v1,AAAA {GOOD}"])
def test_what_else_stands_in_the_header_does_no_harm(value: str) -> None:
    verify(BODY, headers(value), [SECRET], NOW)


@given(signature=st.text(), message_id=st.text(), time=st.text() | st.integers().map(str), body=st.binary())
def test_random_headers_can_only_be_invalid(signature: str, message_id: str, time: str, body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify(body, headers(signature, message_id, time), [SECRET], NOW)


# --- the envelope --------------------------------------------------------------------------------------------

CREATED: dict[str, Any] = {
    "data": {"id": "user_1", "object": "user"},
    "object": "event",
    "type": "user.created",
    "timestamp": 1_800_000_000_123,
    "instance_id": "ins_1",
}


def body_of(**changes: Any) -> bytes:
    return orjson.dumps(CREATED | changes)


def test_an_event_is_known_by_the_id_of_its_message() -> None:
    event = parse_event(body_of(), "msg_1")
    assert (event.external_id, event.type, event.subject) == ("msg_1", "user.created", "user_1")
    assert event.occurred_at == datetime(2027, 1, 15, 8, 0, 0, 123_000, tzinfo=UTC)
    assert (event.api_version, event.livemode) == (None, None)
    assert json.loads(event.payload) == CREATED
    assert event.body == body_of()


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        ({"id": "orgmem_1", "public_user_data": {"user_id": "user_2"}}, "user_2"),
        ({"id": "sess_1", "user_id": "user_3"}, "user_3"),
        ({"id": "org_1"}, "org_1"),
        ({"id": "csub_1", "payer": {"user_id": "user_4"}}, "user_4"),
        ({"id": "csub_1", "payer": {"user_id": "", "organization_id": "org_1"}}, "org_1"),
        ({"id": 4, "public_user_data": []}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_subject_is_the_user_or_else_the_organization(data: object, subject: str | None) -> None:
    assert parse_event(body_of(data=data), "msg_1").subject == subject


@pytest.mark.parametrize("kind", ["email.created", "sms.created", "organizationInvitation.created"])
def test_one_time_codes_are_not_kept(kind: str) -> None:
    event = parse_event(body_of(type=kind, data={"body": "your code is 424242"}), "msg_1")
    assert (event.type, event.body) == (kind, None)
    assert "424242" not in event.payload


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[1]",
        b"{",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        body_of(type=None),
        body_of(type=7),
        body_of(type=""),
        body_of(timestamp="soon"),
        body_of(timestamp=10**18),
        body_of(timestamp=True),
        body_of(data=[1]),
        body_of(data="x"),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_event(body, "msg_1")


@given(st.binary())
def test_random_bodies_can_only_be_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_event(body, "msg_1")
