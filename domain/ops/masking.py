"""Payloads of others, and of jobs, as an operator may see them: by a list of the paths that may be shown.

Everything whose path is not on its source's list is replaced by its kind and length (`‹text of 34›`), at any depth. A
name of a field is shown if it is one that the source is known to use: a name can be data, too. What is on the list is
shown only while it is a number, a yes or no, or one word as ids, states and times are (a UUID, where others write free
text); a secret is none even then.
Numbers keep all their digits. What is very deep, long or wide is cut, and says so.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from domain.text.redaction import holds_secret, without_secrets
from domain.text.visible import visible, visible_json

DEEPEST: Final = 12
WIDEST: Final = 100
"""Members of one list or object that are shown."""
MOST: Final = 2_000
"""Values that are shown in all."""
LARGEST: Final = 10**1_000
"""Whole numbers from here on are not written out."""

ITEM: Final = "[]"
"""Any member of a list, as a part of a path."""


@dataclass(slots=True)
class Place:
    """A place in a value: those below it that lead to something on the list, and whether it is on the list itself."""

    below: dict[str, "Place"] = field(default_factory=dict)
    on_list: bool = False
    as_uuid: bool = False


NOWHERE: Final = Place()


class Shown(NamedTuple):
    """The paths of one source whose values are shown, and the names of fields that are known besides."""

    paths: Place
    names: frozenset[str]


def masked_event(source: str, payload: Any) -> Any:
    """Return the payload of an event of `stripe` or `clerk`. Of another source nothing but the shape is shown."""
    return masked(payload, EVENTS.get(source, HIDDEN))


def masked_payload(job_type: str, payload: Any) -> Any:
    """Return the arguments of a job."""
    return masked(payload, PAYLOADS.get(job_type, PAYLOAD))


def masked_result(job_type: str, result: Any) -> Any:
    """Return the facts that a job reported, or what one of its steps brought."""
    return masked(result, RESULTS.get(job_type, RESULT))


def masked_api(body: Any) -> Any:
    """Return what a client of the API sent, or was answered."""
    return masked(body, API)


def masked(value: Any, shown: Shown) -> Any:
    """Return the JSON value with everything masked that is not `shown`."""
    return _Walk(shown.names).of(value, shown.paths, depth=0)


def written(value: Any) -> str:
    """Return a masked value as indented JSON text, in which nothing is unseen."""
    return visible_json(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def masked_email(address: str | None) -> str | None:
    """Return `m…@example.org` of `mara@example.org`; of what is no address, its kind and length."""
    if address is None:
        return None
    name, at, host = address.rpartition("@")
    if not name or not at or not _HOST.fullmatch(host):
        return _text(address)
    return f"{visible(name[0])}…@{host.lower()}"


def masked_text(text: str | None) -> str | None:
    """Return a sentence of ours that may quote others, without e-mail addresses and secrets."""
    if text is None:
        return None
    return _ADDRESS.sub(lambda found: masked_email(found[0]) or "", without_secrets(text))


def paths(text: str) -> Place:
    """Read a list of paths: `id data.object.{id status} lines.data[].amount metadata.tenant_id=uuid`."""
    root = Place()
    for path in _expanded(text.split()):
        steps, _, form = path.replace(ITEM, f".{ITEM}").partition("=")
        place = root
        for step in steps.split("."):
            place = place.below.setdefault(step, Place())
        place.on_list, place.as_uuid = True, form == "uuid"
    return root


def _expanded(words: Iterable[str]) -> Iterable[str]:
    """Yield each path of `before.{one two}.after`; groups do not hold groups."""
    before, names = "", list[str]()
    for word in words:
        head, opens, name = word.partition("{") if not names else ("", "{", word)
        if not opens:
            yield word
            continue
        before = before if names else head
        name, closes, after = name.partition("}")
        names.append(name)
        if closes:
            yield from (f"{before}{each}{after}" for each in names)
            names = []


class _Walk:
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._left = MOST

    def of(self, value: Any, place: Place, depth: int) -> Any:
        self._left -= 1
        match value:
            case None:
                return None
            case Mapping() | list() if depth >= DEEPEST and value:
                return _kind(value)
            case Mapping():
                return self._object(value, place, depth)
            case list():
                return self._list(value, place, depth)
        return value if place.on_list and _is_plain(value, place) else _kind(value)

    def _object(self, value: Mapping[Any, Any], place: Place, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, each in value.items():
            if len(found) >= WIDEST or self._left <= 0:
                found[f"‹{len(value) - len(found)} more›"] = None
                break
            below = place.below.get(key) if key != ITEM else None
            name = key if below is not None or key in self._names else _name(str(key), found)
            found[name] = self.of(each, below or NOWHERE, depth + 1)
        return found

    def _list(self, value: list[Any], place: Place, depth: int) -> list[Any]:
        found: list[Any] = []
        for each in value:
            if len(found) >= WIDEST or self._left <= 0:
                found.append(f"‹{len(value) - len(found)} more›")
                break
            found.append(self.of(each, place.below.get(ITEM, NOWHERE), depth + 1))
        return found


_WORD = re.compile(r"[A-Za-z0-9_.:/+-]{1,200}")
_HOST = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}")
_ADDRESS = re.compile(r"[^\s@<>\"'(),:;=\[\]{}]{1,64}@[^\s@<>\"'(),:;=\[\]{}]{1,255}")


def _is_plain(value: Any, place: Place) -> bool:
    match value:
        case str() if place.as_uuid:
            return _is_uuid(value)
        case str():
            return _WORD.fullmatch(value) is not None and not holds_secret(value)
        case int() if not isinstance(value, bool):
            return abs(value) < LARGEST
        case bool() | float() | Decimal():
            return True
    return False


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "‹yes or no›"
        case int() | float() | Decimal():
            return "‹number›"
        case str():
            return _text(value)
        case Mapping():
            return f"‹object of {len(value)}›"
        case list():
            return f"‹list of {len(value)}›"
    return "‹value›"


def _text(value: str) -> str:
    return f"‹text of {len(value)}›"


def _name(key: str, others: Mapping[str, Any]) -> str:
    """Return a name for a field whose own is not shown; no other field of the object has it."""
    name, n = f"‹name of {len(key)}›", 2
    while name in others:
        name, n = f"‹name of {len(key)}› {n}", n + 1
    return name


def _shown(listed: str, names: str = "") -> Shown:
    root = paths(listed)
    return Shown(root, frozenset(names.split()).union(_steps(root)))


def _steps(place: Place) -> Iterator[str]:
    for step, below in place.below.items():
        yield step
        yield from _steps(below)


HIDDEN: Final = _shown("")

# Of Stripe's objects: ids, states, times and money. What a person wrote, or what describes one, is not here.
_OF_STRIPE = """
id object created livemode status customer subscription invoice payment_intent charge latest_charge latest_invoice
default_payment_method currency collection_method billing_reason reason type mode payment_status amount amount_due
amount_paid amount_remaining amount_refunded amount_captured amount_total amount_subtotal application_fee_amount total
subtotal tax discount quantity paid attempted attempt_count auto_advance next_payment_attempt start_date ended_at
cancel_at cancel_at_period_end canceled_at current_period_start current_period_end trial_start trial_end
billing_cycle_anchor days_until_due due_date period_start period_end effective_at active deleted refunded disputed
captured failure_code recurring.interval recurring.interval_count unit_amount product price.id plan.id
metadata.{tenant_id=uuid tenantId=uuid} client_reference_id=uuid pause_collection.{behavior resumes_at}
status_transitions.{paid_at finalized_at voided_at marked_uncollectible_at} cancellation_details.reason
items.{has_more total_count} lines.{has_more total_count} schedule test_clock evidence_details.due_by
plan.{id object amount currency interval interval_count product active}
parent.{type subscription_details.subscription subscription_details.metadata.tenant_id=uuid}
parent.subscription_details.metadata.tenantId=uuid subscription_details.metadata.{tenant_id=uuid tenantId=uuid}
"""
_OF_ITEMS = """
id object created quantity price.{id currency unit_amount product active type recurring.interval} plan.{id currency
amount interval interval_count product active} subscription current_period_start current_period_end deleted
"""
_OF_LINES = """
id object amount currency quantity proration type period.{start end} subscription subscription_item price.id
plan.id pricing.type pricing.price_details.{price product} parent.type parent.subscription_item_details.{subscription
subscription_item proration} parent.invoice_item_details.{subscription proration}
"""
_STRIPE = _shown(
    """
    id object type api_version created livemode pending_webhooks account context request.id reason.type
    related_object.{id type}
    """
    + " ".join(
        f"{place}.{path}"
        for root in ("data.object", "data.previous_attributes")
        for place, listed in (
            (root, _OF_STRIPE),
            (f"{root}.items.data[]", _OF_ITEMS),
            (f"{root}.lines.data[]", _OF_LINES),
        )
        for path in _expanded(listed.split())
    ),
    """
    account_country account_name account_tax_ids address adjustable_quantity after_expiration allow_promotion_codes
    application automatic_tax balance balance_transaction billing_address_collection billing_details cancel_url city
    client_secret comment consent country custom_fields custom_text custom_unit_amount customer_account customer_address
    customer_creation customer_details customer_email customer_name customer_phone customer_shipping customer_tax_exempt
    customer_tax_ids default_currency default_source default_tax_rates description destination discounts dispute email
    ending_balance error evidence expires_at failure_message feedback footer fraud_details from_invoice idempotency_key
    hosted_invoice_url individual_name invoice_pdf invoice_prefix invoice_settings issuer last_finalization_error line1
    line2 locale lookup_key name next_pending_invoice_item_invoice nickname note number on_behalf_of order outcome
    payment_method payment_method_collection payment_method_configuration_details payment_method_details
    payment_method_options payment_method_types payment_settings pending_invoice_item_interval pending_setup_intent
    pending_update phone postal_code post_payment_credit_notes_amount pre_payment_credit_notes_amount preferred_locales
    receipt_email receipt_number receipt_url rendering risk_level seller_message setup_intent shipping shipping_address
    shipping_cost shipping_details source starting_balance state statement_descriptor submit_type success_url tax_ids
    tax_rates tax_exempt tiers tiers_mode tos_acceptance total_details transfer_data transform_quantity trial_settings
    ui_mode unit_amount_decimal url usage_type user_agent vat_id
    """,
)

_CLERK = _shown(
    "type object timestamp instance_id data.{id object created_at updated_at last_sign_in_at last_active_at banned "
    "locked deleted status user_id role organization_id primary_email_address_id two_factor_enabled password_enabled "
    "abandon_at expire_at max_allowed_memberships members_count created_by} data.organization.{id object created_at} "
    "data.public_user_data.user_id data.email_addresses[].{id object} "
    "data.email_addresses[].verification.{status strategy} data.external_accounts[].{id object provider}",
    """
    actor attempts backup_code_enabled body client_id create_organization_enabled delete_self_enabled email_address
    event_attributes expire_at external_account_id external_id first_name from_email_name has_image http_request
    identifier image_url last_name linked_to logo_url name password_last_updated_at passkeys phone_number phone_numbers
    primary_phone_number_id primary_web3_wallet_id private_metadata profile_image_url provider_user_id public_metadata
    saml_accounts slug subject to_email_address totp_enabled unsafe_metadata url username web3_wallets client_ip
    user_agent admin_delete_enabled
    """,
)

EVENTS: Final[Mapping[str, Shown]] = {"stripe": _STRIPE, "clerk": _CLERK}

# Arguments of our own job types. A job of another program may say anything under any name.
PAYLOAD: Final = _shown(
    "event_id=uuid tenant_id=uuid account_id=uuid post_id=uuid video_id=uuid chain_id=uuid import_id=uuid "
    "outcome_id=uuid generation_id=uuid job_id=uuid clerk_id count "
    "generator category platform older_than apply_too period",
    "words name value values filter reason",
)
PAYLOADS: Final[Mapping[str, Shown]] = {}
"""Lists of job types that need one of their own."""

RESULT: Final = _shown(
    "accounts begun cancelled claimed compared concepts cost_usd count critique_id critiques deleted deliveries "
    "different dropped enqueued event_id evergreen_trends exports_deleted figures files folded_anew generation_id "
    "generator id ignored job_id learned left_alone left_on_the_way left_out lessons limits live_trends looked_at "
    "measured missed model moved of_deleted outcome outcomes post_id promotions provider refreshed refreshes "
    "released removed repaired reset restored retired rollbacks rows set_aside settled status stored tenants "
    "tokens_in tokens_out video_id",
    "text title caption prompt url error message name skipped failed_sources",
)
RESULTS: Final[Mapping[str, Shown]] = {}

API: Final = _shown(
    "id code status type count created_at updated_at tenant_id job_id post_id video_id account_id generation_id "
    "platform provider scheduled_for items[].id items[].status next_cursor",
    "error details message name title caption email text data key token secret value",
)
