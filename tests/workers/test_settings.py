"""What the processes are told from outside, and how they complain about it."""

import pytest

from domain.billing import Tier
from workers.settings import SettingsInvalid, load, require
from workers.signin import issuer


def test_lists_are_separated_by_commas() -> None:
    settings = load({"STRIPE_WEBHOOK_SECRET": "whsec_new, whsec_old,", "STRIPE_PRO_PRICE_ID": "price_a,price_b"})
    assert settings.reveal(settings.stripe_webhook_secret) == ("whsec_new", "whsec_old")
    assert settings.prices == {"price_a": Tier.PRO, "price_b": Tier.PRO}


def test_every_fault_is_named_at_once_and_no_value_is_repeated() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        load({"PORT": "eighty-s3cret", "LOG_FORMAT": "xml", "WORKER_THREADS": "0", "REDIS_URL": "redis://h"})
    text = str(refusal.value)
    assert [name in text for name in ("PORT", "LOG_FORMAT", "WORKER_THREADS", "REDIS_URL")] == [True, True, True, False]
    assert "s3cret" not in text


def test_what_is_required_and_empty_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid, match=r"(?s)DATABASE_URL is not set.*REDIS_URL is not set.*viral up"):
        require(load({}), "database_url", "redis_url", "port")


def test_secrets_do_not_show() -> None:
    settings = load(
        {
            "DATABASE_URL": "postgresql://u:s3cret@h/d",
            "DIRECT_URL": "postgresql://o:s3cret@h/d",
            "REDIS_URL": "redis://:s3cret@h",
            "STRIPE_WEBHOOK_SECRET": "s3cret",
            "CLERK_WEBHOOK_SIGNING_SECRET": "s3cret",
        }
    )
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings)


def test_the_owner_is_who_the_direct_url_names() -> None:
    app, owner = "postgresql://app@h/d", "postgresql://owner@h/d"
    assert load({"DATABASE_URL": app}).owner_url == app
    assert load({"DATABASE_URL": app, "DIRECT_URL": owner}).owner_url == owner


def test_what_sign_in_is_told_is_checked_by_name() -> None:
    settings = load(
        {
            "CLERK_JWKS_URL": "https://clerk.example.com/.well-known/jwks.json",
            "CLERK_ISSUER": "https://clerk.example.com/",
            "CLERK_AUTHORIZED_PARTIES": "https://app.example.com, http://localhost:3000,capacitor://localhost",
        }
    )
    assert settings.clerk_issuer == "https://clerk.example.com"
    assert len(settings.clerk_authorized_parties) == 3
    with pytest.raises(SettingsInvalid) as refusal:
        load(
            {
                "CLERK_JWKS_URL": "http://clerk.example.com/.well-known/jwks.json",
                "CLERK_ISSUER": "clerk.example.com",
                "CLERK_JWT_KEY": "pk_live_s3cret",
                "CLERK_AUTHORIZED_PARTIES": "https://app.example.com/",
            }
        )
    assert [fault.partition(":")[0] for fault in refusal.value.faults] == [
        "CLERK_JWKS_URL",
        "CLERK_JWT_KEY",
        "CLERK_ISSUER",
        "CLERK_AUTHORIZED_PARTIES",
    ]
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"CLERK_JWKS_URL": "https://clerk.example.com/.well-known/jwks.json"}, "https://clerk.example.com"),
        ({"CLERK_JWKS_URL": "https://api.clerk.com/v1/jwks"}, None),
        (
            {
                "CLERK_JWKS_URL": "https://proxy.example.com/.well-known/jwks.json",
                "CLERK_ISSUER": "https://c.example.com",
            },
            "https://c.example.com",
        ),
    ],
)
def test_the_issuer_is_told_or_follows_from_where_the_keys_are(
    environment: dict[str, str], expected: str | None
) -> None:
    assert issuer(load(environment)) == expected


def test_a_key_of_stripe_is_a_secret_one_and_of_the_mode_that_is_served() -> None:
    for known in ("sk_test_s3cret", "rk_test_s3cret"):
        assert (
            load({"STRIPE_SECRET_KEY": known, "STRIPE_LIVEMODE": "false"}).stripe_secret_key.get_secret_value() == known
        )
    assert "s3cret" not in repr(load({"STRIPE_SECRET_KEY": "sk_test_s3cret"}))
    for wrong in (
        {"STRIPE_SECRET_KEY": "pk_test_s3cret"},
        {"STRIPE_SECRET_KEY": "sk_test_s3cret", "STRIPE_LIVEMODE": "1"},
    ):
        with pytest.raises(SettingsInvalid, match="STRIPE_SECRET_KEY") as refusal:
            load(wrong)
        assert "s3cret" not in str(refusal.value)
    with pytest.raises(SettingsInvalid, match="STRIPE_API_BASE"):
        load({"STRIPE_API_BASE": "http://stripe.example.com"})
