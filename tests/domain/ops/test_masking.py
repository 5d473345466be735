"""What is not on a list never comes out, wherever it stands."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ops.masking import (
    API,
    DEEPEST,
    EVENTS,
    HIDDEN,
    ITEM,
    MOST,
    PAYLOAD,
    RESULT,
    Place,
    Shown,
    masked,
    masked_email,
    masked_event,
    masked_payload,
    masked_text,
    written,
)

ROOT = Path(__file__).resolve().parents[3]
LISTS = {"stripe": EVENTS["stripe"], "clerk": EVENTS["clerk"], "payload": PAYLOAD, "result": RESULT, "api": API}
PLANTED = ("Mara Planted", "mara.planted@example.org", "sk_live_planted0123456789abcdef", "+49 170 5550100", "planted")

names = st.sampled_from(
    sorted({"id", "data", "object", "items", "metadata", "email", "name", "status", "customer", "", "[]", *PLANTED[:3]})
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=10
)
steps = st.lists(st.one_of(names, st.just(0)), max_size=8)


def buried(value: Any, path: list[Any], beside: Any) -> Any:
    for step in reversed(path):
        value = [beside, value] if step == 0 else {"beside": beside, step: value}
    return value


def is_on_list(shown: Shown, path: list[Any]) -> bool:
    place: Place | None = shown.paths
    for step in path:
        place = None if place is None else place.below.get(ITEM if step == 0 else "" if step == ITEM else step)
    return place is not None and place.on_list


def test_what_our_own_handlers_report_is_known_by_its_name() -> None:
    reported = {
        word.arg
        for file in (ROOT / "workers" / "jobs").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("report", "count")
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("ctx", "each")
        for word in node.keywords
        if word.arg is not None
    }
    assert {"outcome", "generation_id", "deliveries"} <= reported
    assert reported - RESULT.names == set()


@pytest.mark.parametrize("name", LISTS)
@given(path=steps, planted=st.sampled_from(PLANTED), beside=values)
def test_what_is_planted_at_any_path_comes_out_only_where_its_path_is_on_the_list(
    name: str, path: list[Any], planted: str, beside: Any
) -> None:
    text = written(masked(buried(planted, path, beside), LISTS[name]))
    if planted == "planted":
        assert ("planted" in text.lower().replace("mara planted", "")) == is_on_list(LISTS[name], path)
    else:  # no name, address or secret is one word of an id
        assert planted not in text


@given(path=steps, planted=st.sampled_from(PLANTED))
def test_what_is_planted_as_a_name_of_a_field_never_comes_out(path: list[Any], planted: str) -> None:
    for shown in LISTS.values():
        assert planted not in written(masked(buried({planted: 1, "id": planted + "!"}, path, None), shown))


@given(values)
def test_nothing_of_an_unknown_source_comes_out(value: Any) -> None:
    def leaves(value: Any) -> list[Any]:
        match value:
            case dict():
                return [leaf for each in value.values() for leaf in leaves(each)]
            case list():
                return [leaf for each in value for leaf in leaves(each)]
        return [value]

    shown = leaves(masked_event("a stranger", value))
    assert all(each is None or (isinstance(each, str) and each.startswith("‹")) for each in shown)


@given(values)
def test_masking_leaves_json(value: Any) -> None:
    assert json.loads(written(masked(value, HIDDEN))) == masked(value, HIDDEN)


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_numbers_are_exact(number: int) -> None:
    payload = {"id": "evt_1", "created": number, "data": {"object": {"amount": number}}}
    assert json.loads(written(masked_event("stripe", payload))) == payload


def test_a_fraction_keeps_its_digits() -> None:
    assert '"created": 0.1' in written(masked_event("stripe", {"created": 0.1}))


def test_an_event_of_stripe_is_still_worth_reading() -> None:
    payload = {
        "id": "evt_1",
        "type": "invoice.paid",
        "data": {
            "object": {
                "id": "in_1",
                "customer": "cus_1",
                "customer_email": "mara@example.org",
                "amount_paid": 4900,
                "lines": {"data": [{"price": {"id": "price_1", "nickname": "For Mara"}}]},
                "metadata": {"tenant_id": "0193b1a0-0000-7000-8000-000000000001", "secret": "call Mara"},
            },
            "previous_attributes": {"status": "open"},
        },
    }
    assert masked_event("stripe", payload) == {
        "id": "evt_1",
        "type": "invoice.paid",
        "data": {
            "object": {
                "id": "in_1",
                "customer": "cus_1",
                "customer_email": "‹text of 16›",
                "amount_paid": 4900,
                "lines": {"data": [{"price": {"id": "price_1", "nickname": "‹text of 8›"}}]},
                "metadata": {"tenant_id": "0193b1a0-0000-7000-8000-000000000001", "‹name of 6›": "‹text of 9›"},
            },
            "previous_attributes": {"status": "open"},
        },
    }


def test_a_place_on_the_way_to_a_listed_one_is_not_on_the_list() -> None:
    assert masked_event("stripe", {"data": "mara", "items": "mara"}) == {"data": "‹text of 4›", "items": "‹text of 4›"}


def test_free_text_is_shown_where_it_is_a_tenants_id_only() -> None:
    payload = {"tenant_id": "mara", "event_id": "0193b1a0-0000-7000-8000-000000000001", "clerk_id": "user_1"}
    assert masked_payload("any.job", payload) == payload | {"tenant_id": "‹text of 4›"}


def test_what_is_deep_long_or_wide_is_cut() -> None:
    deep: Any = "mara"
    for _ in range(250):
        deep = [deep]
    assert written(masked(deep, HIDDEN)).count("[") == DEEPEST
    wide = masked([["mara"] * 500] * 500, HIDDEN)
    assert wide[0][-1] == "‹400 more›"
    assert len(written(wide)) < 40 * MOST
    assert masked({str(n): n for n in range(1000)}, HIDDEN)["‹900 more›"] is None


def test_what_nobody_can_read_is_a_text() -> None:
    assert masked_event("stripe", {"created": 10**2000}) == {"created": "‹number›"}
    assert masked_event("stripe", "[" * 1000) == "‹text of 1000›"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mara@example.org", "m…@example.org"),
        ("m@Example.ORG", "m…@example.org"),
        ("mara", "‹text of 4›"),
        ("@example.org", "‹text of 12›"),
        ("a@b<script>", "‹text of 11›"),
        (None, None),
    ],
)
def test_an_address_keeps_its_first_letter_and_its_host(address: str | None, shown: str | None) -> None:
    assert masked_email(address) == shown


@given(before=st.text(max_size=30), after=st.text(max_size=30))
def test_a_sentence_loses_addresses_and_secrets(before: str, after: str) -> None:
    text = masked_text(f"{before} mara.planted@example.org sk_live_planted0123456789abcdef {after}") or ""
    assert "planted" not in text
