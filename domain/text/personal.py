"""Personal data in stored values, and how it is removed when a person is deleted.

An *identifier* is a text that stands for one person wherever it is found: an e-mail address, a telephone number, the
address of a picture, a user name beside them. A name is not one: others have it too, and it is a word in other texts.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from domain.text.redaction import MASK

DESCRIBES_A_PERSON = frozenset(
    {
        *("address", "billing_details", "business_name", "business_vat_id", "client_ip", "custom_fields"),
        *("customer_address", "customer_details", "customer_email", "customer_name", "customer_phone"),
        *("customer_shipping", "customer_tax_ids", "description", "email", "individual_name", "ip", "ip_address"),
        *("name", "phone", "preferred_locales", "receipt_email", "shipping", "shipping_details", "tax_ids"),
        *("user_agent", "vat_id"),
    }
)
"""Fields of Stripe's objects, wherever they stand. Nothing here reads them (`domain/billing/events.py`)."""

IDENTIFIES = frozenset({"email_address", "phone_number", "image_url", "profile_image_url", "email", "identifier"})
"""Fields of Clerk's objects that hold an identifier. Clerk's user names are too short to be one."""

SHORTEST = 6
"""The fewest characters of an identifier: a shorter text may be part of any other."""

SAFE_IN_LINKS = ("", "@", "+", "/", ":/", "!*'()", "!*'()@", ";/?:@&=+$,#!*'()")
"""Characters that encoders of links leave as they are, beside letters, digits and `_.-~`: form fields, paths,
JavaScript's `encodeURIComponent` and `encodeURI`."""


def identifiers(*values: Any) -> list[str]:
    """Return the identifiers in payloads of Clerk's events about one person, or among texts."""
    found = {text.strip() for value in values for text in _identifiers(value, identifies=True)}
    return sorted(each for each in found if _identifies(each))


def without_people(value: Any) -> Any:
    """Return the payload of a Stripe event without the fields that describe people; those about money are untouched."""
    match value:
        case Mapping():
            return {key: None if key in DESCRIBES_A_PERSON else without_people(each) for key, each in value.items()}
        case list():
            return [without_people(each) for each in value]
    return value


def masked(value: Any, words: Collection[str]) -> Any:
    """Return the JSON value, or the text, with these words masked in every text, in any case of letters."""
    match value:
        case str():
            for word in words:
                value = _without(value, word)
            return value
        case Mapping():
            return {masked(key, words): masked(each, words) for key, each in value.items()}
        case list():
            return [masked(each, words) for each in value]
    return value


def written(words: Collection[str]) -> list[str]:
    """Return the words as they stand in texts, in the text of JSON, and in links (`ada%40example.com`)."""
    forms = (
        form
        for word in words
        for form in (
            *(word, json.dumps(word, ensure_ascii=False)[1:-1]),
            *(quote(word, safe=safe, errors="replace") for safe in SAFE_IN_LINKS),
        )
    )
    return list(dict.fromkeys(forms))


def _without(text: str, word: str) -> str:
    lowered, sought = text.lower(), word.lower()
    if len(lowered) != len(text):  # some letters, as İ, are two in lower case: the positions differ
        return text.replace(word, MASK)
    parts, at = [], 0
    while (found := lowered.find(sought, at)) >= 0:
        parts.append(text[at:found])
        at = found + len(sought)
    return MASK.join([*parts, text[at:]])


def _identifiers(value: Any, *, identifies: bool) -> Iterator[str]:
    match value:
        case str() if identifies:
            yield value
        case Mapping():
            for key, each in value.items():
                yield from _identifiers(each, identifies=key in IDENTIFIES)
        case list():
            for each in value:
                yield from _identifiers(each, identifies=False)


def _identifies(text: str) -> bool:
    if len(text) < SHORTEST:
        return False
    return "@" in text or "://" in text or (text.startswith("+") and text[1:].replace(" ", "").isdigit())
