"""What the processes are told from outside, and how they complain about it."""

import pytest

from domain.billing import Tier
from workers.settings import SettingsInvalid, load, require


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
