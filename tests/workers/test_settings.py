"""What the processes are told from outside, and how they complain about it."""

import pytest

from domain.billing.tiers import Tier
from simulators.clerk.sessions import ClerkSessionSimulator
from workers.settings import SettingsInvalid, load, require


def test_lists_are_separated_by_commas() -> None:
    settings = load({"STRIPE_WEBHOOK_SECRET": "whsec_new, whsec_old,", "STRIPE_PRO_PRICE_ID": "price_a,price_b"})
    assert settings.reveal(settings.stripe_webhook_secret) == ("whsec_new", "whsec_old")
    assert settings.prices == {"price_a": Tier.PRO, "price_b": Tier.PRO}


def test_every_fault_is_named_at_once_and_no_value_is_repeated() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load({"PORT": "eighty-s3cret", "LOG_FORMAT": "xml", "WORKER_THREADS": "0", "REDIS_URL": "redis://h"})
    text = str(caught.value)
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
    with pytest.raises(SettingsInvalid) as caught:
        load(
            {
                "CLERK_JWKS_URL": "http://clerk.example.com/.well-known/jwks.json",
                "CLERK_ISSUER": "clerk.example.com",
                "CLERK_JWT_KEY": "pk_live_s3cret",
                "CLERK_AUTHORIZED_PARTIES": "https://app.example.com/",
            }
        )
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "CLERK_JWKS_URL",
        "CLERK_JWT_KEY",
        "CLERK_ISSUER",
        "CLERK_AUTHORIZED_PARTIES",
    ]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"CLERK_JWKS_URL": "https://clerk.example.com/.well-known/jwks.json"}, "https://clerk.example.com"),
        ({"CLERK_JWKS_URL": "https://example.com/__clerk/.well-known/jwks.json"}, "https://example.com/__clerk"),
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
    assert load(environment).session_issuer == expected


def test_a_key_of_stripe_is_a_secret_one_and_of_the_mode_that_is_served() -> None:
    for key in ("sk_test_s3cret", "rk_test_s3cret"):
        assert load({"STRIPE_SECRET_KEY": key, "STRIPE_LIVEMODE": "false"}).stripe_secret_key.get_secret_value() == key
    assert "s3cret" not in repr(load({"STRIPE_SECRET_KEY": "sk_test_s3cret"}))
    for wrong in (
        {"STRIPE_SECRET_KEY": "pk_test_s3cret"},
        {"STRIPE_SECRET_KEY": "sk_test_s3cret", "STRIPE_LIVEMODE": "1"},
    ):
        with pytest.raises(SettingsInvalid, match="STRIPE_SECRET_KEY") as caught:
            load(wrong)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingsInvalid, match="STRIPE_API_BASE"):
        load({"STRIPE_API_BASE": "http://stripe.example.com"})


# --- what would do nothing, or fail later -------------------------------------------------------------------

FAULTY = {
    "DATABASE_URL": ("postgresql://u:s3cret@h/db?sslmode=requir", "sslmode=requir: should be one of"),
    "DIRECT_URL": ("postgresql://u:s3cret@h1:5432,h2:5433/db?foo=true", "foo: no parameter of a Postgres URL"),
    "REDIS_URL": ("redis://:s3cret@h:6379/cache", "redis://:password@host:6379/0"),
    "HOST": ("http://0.0.0.0:80", "without a port"),
    "STRIPE_WEBHOOK_SECRET": ("whsec_good,sk_live_s3cret", "whsec_…"),
    "STRIPE_STARTER_PRICE_ID": ("prod_NWjs8kKbJWmuuc", "prod_NWjs8kKbJWmuuc is a product; give the id of one of its"),
    "STRIPE_PRO_PRICE_ID": ("$49.00", "an amount is no price"),
    "STRIPE_AGENCY_PRICE_ID": ("s3cret", "should be ids of prices"),
    "CLERK_WEBHOOK_SIGNING_SECRET": ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_s3cret!", "and then base64"),
    "CLERK_INSTANCE_ID": ("app_s3cret", "ins_…"),
    "CLERK_JWT_KEY": ("-----BEGIN PRIVATE KEY-----s3cret-----END PRIVATE KEY-----", "is a private key"),
    "ANTHROPIC_API_KEY": ("s3cret key", "without spaces"),
    "ANTHROPIC_BASE_URL": ("http://llm.example.com", "https"),
    "OPENAI_API_KEY": ("s3cret key", "without spaces"),
    "OPENAI_BASE_URL": ("http://llm.example.com/v1", "https"),
    "TREND_SOURCES": ("reddit,gnews", "names gnews, which needs GNEWS_API_KEY"),
    "OUTBOUND_PRIVATE_HOSTS": ("https://gateway.example.com", "names of hosts"),
    "TRENDS_CONTACT": ("Zoë <zoe@example.com>", "ASCII"),
    "REDDIT_CLIENT_SECRET": ("s3cret", "set both or neither"),
    "GNEWS_BASE_URL": ("gnews.io", "https"),
}


def test_whatever_would_fail_later_or_do_nothing_is_told_at_the_start_a_line_each_all_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load({name: value for name, (value, _) in FAULTY.items()})
    faults = dict(fault.split(": ", 1) for fault in caught.value.faults)
    assert faults.keys() == FAULTY.keys()
    for name, (_, says) in FAULTY.items():
        assert says in faults[name]
        assert "\n" not in faults[name]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", FAULTY)
def test_each_is_refused_by_itself_too(name: str) -> None:
    sound = {"DATABASE_URL": "postgresql://u:s3cret@h/db"}
    with pytest.raises(SettingsInvalid, match=f"^{name}: ") as caught:
        load(sound | {name: FAULTY[name][0]})
    assert len(caught.value.faults) == 1


def test_a_price_buys_one_plan_and_a_plan_has_several_prices() -> None:
    with pytest.raises(SettingsInvalid, match=r"^STRIPE_AGENCY_PRICE_ID: price_a is in STRIPE_STARTER_PRICE_ID too"):
        load({"STRIPE_STARTER_PRICE_ID": "price_a,price_c", "STRIPE_AGENCY_PRICE_ID": "price_b,price_a"})
    settings = load({"STRIPE_STARTER_PRICE_ID": "price_a,price_a,price_b"})
    assert settings.prices == {"price_a": Tier.STARTER, "price_b": Tier.STARTER}


def test_what_is_migrated_is_what_is_worked_on() -> None:
    with pytest.raises(SettingsInvalid, match=r"^DIRECT_URL: is set and DATABASE_URL is not"):
        load({"DIRECT_URL": "postgresql://owner@h/d"})


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rediss://h?ssl_cert_reqs=never", "its parameter ssl_cert_reqs is one of none, optional, required"),
        ("redis://h?ssl_cert_reqs=none", "its parameter ssl_cert_reqs is for TLS: begin the URL with rediss://"),
        ("redis://h?colour=blue", "its parameter 'colour' is not one of db, protocol"),
        ("redis://h?socket_timeout=s3cret", "its parameter 'socket_timeout' is not one of db, protocol"),
        ("redis://:s3cret@h:99999/0", "should look like redis://"),
        ("redis://:pa?s3cret=x@h:6379/0", "should look like redis://"),
        ("http://h:6379", "should look like redis://"),
    ],
)
def test_an_address_that_the_client_of_redis_would_refuse_later_is_refused_now(url: str, says: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"^REDIS_URL: {says}") as caught:
        load({"REDIS_URL": url})
    assert "s3cret" not in str(caught.value)


def test_what_stands_around_a_value_is_no_part_of_it() -> None:
    """As in a file that was written by hand, or a value that was copied with the end of its line."""
    settings = load({"DATABASE_URL": " postgresql://u@h/d\n", "LOG_FORMAT": "Console", "ANTHROPIC_API_KEY": "  "})
    assert (settings.database_url, settings.log_format) == ("postgresql://u@h/d", "console")
    assert settings.anthropic_api_key is None


def test_good_settings_of_every_kind_are_taken() -> None:
    good = {
        "DATABASE_URL": "postgres://u:p@h1,h2:5433/d%25?target_session_attrs=read-write&connection_limit=4",
        "DIRECT_URL": "postgresql://u:p@h1:5432,h2:5433/d%25?target_session_attrs=read-write",
        "REDIS_URL": "rediss://:p@h:6380/1?ssl_cert_reqs=none",
        "HOST": "::",
        "TREND_SOURCES": "youtube",
        "YOUTUBE_API_KEY": "AIza-1",
        "REDDIT_CLIENT_ID": "id",
        "REDDIT_CLIENT_SECRET": "secret",
        "CLERK_JWT_KEY": ClerkSessionSimulator().pem().replace("\n", "\\n"),
        "CLERK_INSTANCE_ID": "ins_1",
    }
    assert load(good).youtube_api_key is not None
