"""The verifier of Stripe's signatures, held against the SDK's own; and what of a signed body is stored."""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import MalformedEvent, SignatureInvalid
from integrations.stripe.webhooks import parse_event, sign, verify

SECRET = "whsec_one"
NOW = 1_800_000_000.0
BODY = '{"id":"evt_1","object":"event","type":"invoice.paid","note":"Zoë 🎬"}'.encode()


def header(value: str) -> dict[str, str]:
    return {"stripe-signature": value}


def signed(body: bytes = BODY, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    return header(sign(body, secret, int(at)))


def test_what_the_sdk_signs_is_valid() -> None:
    from stripe import WebhookSignature

    theirs = WebhookSignature.generate_signature_header(BODY.decode(), SECRET, int(NOW))
    verify(BODY, header(theirs), [SECRET], NOW)
    assert theirs == sign(BODY, SECRET, int(NOW))


def test_what_we_sign_is_valid_to_the_sdk() -> None:
    from stripe import WebhookSignature

    assert WebhookSignature.verify_header(BODY, sign(BODY, SECRET, int(NOW)), SECRET)


@pytest.mark.parametrize("seconds", [-300, -299, 0, 299, 300])
def test_a_signature_holds_for_five_minutes_on_both_sides(seconds: int) -> None:
    verify(BODY, signed(at=NOW + seconds), [SECRET], NOW)


@pytest.mark.parametrize(("seconds", "side"), [(-301, "past"), (-90_000, "past"), (301, "future"), (3600, "future")])
def test_a_signature_of_another_time_is_refused(seconds: int, side: str) -> None:
    with pytest.raises(SignatureInvalid, match=f"in the {side}"):
        verify(BODY, signed(at=NOW + seconds), [SECRET], NOW)


def test_while_a_secret_is_rolled_either_side_may_know_both() -> None:
    old, new = sign(BODY, "whsec_old", int(NOW)), sign(BODY, "whsec_new", int(NOW))
    verify(BODY, header(old), ["whsec_new", "whsec_old"], NOW)
    both = f"{new},{old.partition(',')[2]}"
    verify(BODY, header(both), ["whsec_old"], NOW)
    verify(BODY, header(both), ["whsec_new"], NOW)
    with pytest.raises(SignatureInvalid, match="no v1 signature fits"):
        verify(BODY, header(both), ["whsec_third"], NOW)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe not utf-8", b"\x00", "ü".encode() * 1000])
def test_any_bytes_can_be_signed(body: bytes) -> None:
    verify(body, signed(body), [SECRET], NOW)


@pytest.mark.parametrize(
    "changed", [BODY + b" ", BODY[:-1], BODY.replace(b"evt_1", b"evt_2"), b"", json.dumps(json.loads(BODY)).encode()]
)
def test_a_changed_body_is_refused(changed: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="no v1 signature fits"):
        verify(changed, signed(), [SECRET], NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["", ""]])
def test_an_empty_secret_verifies_nothing(secrets: list[str]) -> None:
    with pytest.raises(SignatureInvalid, match="no signing secret"):
        verify(BODY, signed(secret=""), secrets, NOW)


def test_an_empty_secret_beside_a_real_one_verifies_nothing() -> None:
    with pytest.raises(SignatureInvalid, match="no v1 signature fits"):
        verify(BODY, signed(secret=""), ["", SECRET], NOW)


GOOD = sign(BODY, SECRET, int(NOW))
MAC = GOOD.partition("v1=")[2]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "missing"),
        ("garbage", "timestamp"),
        (",", "timestamp"),
        ("=", "timestamp"),
        ("t=", "timestamp"),
        (f"v1={MAC}", "timestamp"),
        (f"t=,v1={MAC}", "timestamp"),
        (f"t=now,v1={MAC}", "timestamp"),
        (f"t=-1800000000,v1={MAC}", "timestamp"),
        (f"t=+1800000000,v1={MAC}", "timestamp"),
        (f"t=1_800_000_000,v1={MAC}", "timestamp"),
        (f"t=1800000000.0,v1={MAC}", "timestamp"),
        (f"t=1e9,v1={MAC}", "timestamp"),
        (f"t=١٨٠٠٠٠٠٠٠٠,v1={MAC}", "timestamp"),
        (f"t={'9' * 5000},v1={MAC}", "timestamp"),
        (f"t=1800000000,t=1800000000,v1={MAC}", "timestamp"),
        ("t=1800000000", "no v1 signature"),
        (f"t=1800000000,v0={MAC}", "no v1 signature"),
        (f"t=1800000000,V1={MAC}", "no v1 signature"),
        ("t=1800000000,v1=", "fits"),
        ("t=1800000000,v1", "fits"),
        ("t=1800000000,v1=zz", "fits"),
        ("t=1800000000,v1=ü", "fits"),
        ("t=1800000000,v1=\ud800", "fits"),
        (f"t=1800000000,v1={MAC[:-1]}", "fits"),
        (f"t=1800000000,v1={MAC}0", "fits"),
        (f"t=1800000000,v1={MAC.upper()}", "fits"),
        (f"t=1800000000,v1={MAC}=", "fits"),
        (f"t=1800000001,v1={MAC}", "fits"),
        (f"t=01800000000,v1={MAC}", "fits"),
    ],
)
def test_a_malformed_header_is_refused_and_says_why(value: str, says: str) -> None:
    with pytest.raises(SignatureInvalid, match=says):
        verify(BODY, header(value), [SECRET], NOW)


def test_no_header_is_refused() -> None:
    with pytest.raises(SignatureInvalid, match="missing"):
        verify(BODY, {}, [SECRET], NOW)


@pytest.mark.parametrize("value", [f"v0=ab,{GOOD}", f"{GOOD},v1=ff", f"{GOOD},v2=x,=,", GOOD.replace(",", ", ")])
def test_what_else_stands_in_the_header_does_no_harm(value: str) -> None:
    verify(BODY, header(value), [SECRET], NOW)


@given(value=st.text() | st.from_regex(r"(t=[0-9]*,?)?(v[01]=[0-9a-f]*,?){0,3}"), body=st.binary())
def test_random_headers_can_only_be_invalid(value: str, body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify(body, header(value), [SECRET], NOW)


# --- the envelope --------------------------------------------------------------------------------------------

SNAPSHOT: dict[str, Any] = {
    "id": "evt_1",
    "object": "event",
    "api_version": "2026-09-30.endive",
    "created": 1_800_000_000,
    "livemode": True,
    "type": "customer.subscription.updated",
    "data": {"object": {"id": "sub_1", "object": "subscription", "customer": "cus_1"}},
}


def body_of(**changes: Any) -> bytes:
    return orjson.dumps(SNAPSHOT | changes)


def test_a_snapshot_event() -> None:
    event = parse_event(body_of())
    assert (event.external_id, event.type) == ("evt_1", "customer.subscription.updated")
    assert (event.api_version, event.livemode, event.subject) == ("2026-09-30.endive", True, "cus_1")
    assert event.occurred_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
    assert json.loads(event.payload) == SNAPSHOT
    assert event.body == body_of()


def test_a_thin_event() -> None:
    thin = {
        "id": "evt_65",
        "object": "v2.core.event",
        "type": "v1.customer.updated",
        "created": "2026-10-28T09:00:00.123Z",
        "livemode": False,
        "related_object": {"id": "cus_9", "type": "customer", "url": "/v1/customers/cus_9"},
    }
    event = parse_event(orjson.dumps(thin))
    assert (event.external_id, event.api_version, event.livemode, event.subject) == (
        "evt_65",
        None,
        False,
        "cus_9",
    )
    assert event.occurred_at == datetime(2026, 10, 28, 9, 0, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("about", "subject"),
    [
        ({"object": "customer", "id": "cus_2"}, "cus_2"),
        ({"object": ["customer"], "type": {}, "id": "cus_2"}, None),
        ({"object": "invoice", "id": "in_1", "customer": {"id": "cus_3", "object": "customer"}}, "cus_3"),
        ({"object": "invoice", "customer": None}, None),
        ({"object": "price", "id": "price_1"}, None),
        ({"object": "invoice", "customer": 7}, None),
        ({"object": "invoice", "customer": "c" * 300}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_subject_is_the_customer(about: object, subject: str | None) -> None:
    assert parse_event(body_of(data={"object": about})).subject == subject


@pytest.mark.parametrize("changes", [{"data": None}, {"data": []}, {"data": 1}, {"related_object": 3}])
def test_an_event_about_nothing_is_stored_all_the_same(changes: dict[str, Any]) -> None:
    assert parse_event(body_of(**changes)).external_id == "evt_1"


def test_what_is_optional_may_be_absent_or_null() -> None:
    bare = parse_event(b'{"id":"evt_1","object":"event","type":"x","api_version":null}')
    assert (bare.api_version, bare.livemode, bare.occurred_at) == (None, None, None)


def test_the_last_of_two_equal_keys_counts() -> None:
    event = parse_event(b'{"id":"evt_1","id":"evt_2","object":"event","type":"x"}')
    assert event.external_id == "evt_2"
    assert json.loads(event.payload)["id"] == "evt_2"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"evt_1"',
        b"[1]",
        b"{",
        b"{}",
        b"not json",
        b"\xff\xfe\x00",
        b'{"id":"evt_1","object":"event","type":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf" + body_of(),
        body_of().decode().encode("utf-16"),
        body_of() + b"x",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"id":"evt_1","object":"event","type":"x","deep":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        body_of(id=None),
        body_of(id=""),
        body_of(id=1),
        body_of(id=["evt_1"]),
        body_of(id="e" * 256),
        body_of(type=None),
        body_of(type=""),
        body_of(type={}),
        body_of(type="t" * 256),
        body_of(object=None),
        body_of(object="customer"),
        body_of(object=["event"]),
        body_of(object={}),
        body_of(api_version=3),
        body_of(livemode="true"),
        body_of(livemode=1),
        body_of(created=True),
        body_of(created="yesterday"),
        body_of(created="2026-10-28"),
        body_of(created="2026-10-28T09:00:00"),
        body_of(created="0001-01-01T00:00:00+14:00"),
        body_of(created=10**18),
        body_of(created=-(10**18)),
        body_of(created=1e300),
        body_of(created=[]),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_event_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_event(body)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (rb'"a\u0000b"', "a\ufffdb"),
        (rb'"\u0000\u0000"', "\ufffd\ufffd"),
        (rb'"\\u0000"', "\\u0000"),
        (rb'"\\\u0000"', "\\\ufffd"),
        (rb'"\\\\u0000"', "\\\\u0000"),
        (rb'"\ud800"', "\ufffd"),
        (rb'"\udc00x\ud83d"', "\ufffdx\ufffd"),
        (rb'"\ud83c\udfac \ud83c"', "🎬 \ufffd"),
        (rb'{"\u0000":1}', {"\ufffd": 1}),
        (rb'{"\ud800":"\u0000"}', {"\ufffd": "\ufffd"}),
        (b"NaN", None),
        (b"[Infinity,-Infinity,1e400,-1e400]", [None] * 4),
        (b"1e-20000", 0.0),
        (b"0." + b"1" * 20_000, pytest.approx(1 / 9)),
        (b"9" * 10_000, None),
        (b"123456789012345678901234567890", pytest.approx(1.2345678901234568e29)),
        (b"[" * 400 + b"]" * 400, ...),
        ("\ufeff 🎬 \u2028".encode().join([b'"', b'"']), "\ufeff 🎬 \u2028"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_postgres_cannot_keep_is_replaced(text: bytes, kept: object) -> None:
    body = b'{"id":"evt_1","object":"event","type":"x","note":' + text + b"}"
    event = parse_event(body)
    assert event.body == body
    if kept is not ...:
        assert json.loads(event.payload)["note"] == kept
    assert "\\u0000" not in event.payload.replace("\\\\", "")


def test_even_the_id_and_type_are_kept_without_what_postgres_cannot_keep() -> None:
    event = parse_event(rb'{"id":"evt_\u0000","object":"event","type":"x.\ud800"}')
    assert (event.external_id, event.type) == ("evt_\ufffd", "x.\ufffd")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_random_bodies_can_only_be_malformed(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse_event(body)


@given(json_values)
def test_whatever_an_event_contains_it_is_stored(value: object) -> None:
    event = parse_event(json.dumps(SNAPSHOT | {"note": value}).encode())
    assert event.external_id == "evt_1"
    event.payload.encode()
