"""`viral keys`, and `viral dev verify-…`: judged as the server would, at any time one likes."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import standardwebhooks
from stripe import WebhookSignature

from db.transaction import SYSTEM
from domain.identity.access import hash_of
from simulators.clerk.sessions import TOKEN_LIFETIME, ClerkSessionSimulator
from tests.builders import a_tenant
from tests.cli.shell import Shell
from workers.app import App

NOW = 1_800_000_000
AT = datetime.fromtimestamp(NOW, UTC).isoformat()
CLERK = ClerkSessionSimulator()
STRIPE_SECRET = "whsec_stripe"
CLERK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAID = {"id": "evt_1", "object": "event", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}}
USER = {"type": "user.created", "object": "event", "timestamp": NOW * 1000, "data": {"id": "user_1"}}

# --- keys


def test_a_key_is_made_listed_and_revoked(app: App, viral: Shell) -> None:
    tenant_id = a_tenant(app)
    made = viral.json(
        *("keys", "create", "--tenant", tenant_id, "--name", "export", "--expires-in", "90d"),
        *("--scope", "account:read", "--scope", "keys:write"),
    )
    text = made.pop("key")
    assert (made["name"], made["scopes"]) == ("export", ["account:read", "keys:write"])
    assert viral.json("keys", "list", "--tenant", tenant_id) == [made]
    with app.db.transaction(SYSTEM) as tx:
        key = tx.keys.find(hash_of(text) or b"")()
    assert key is not None
    assert (str(key.id), key.tenant_id) == (made["id"], tenant_id)
    result = viral.done("keys", "revoke", made["id"], "--tenant", tenant_id).out
    assert "revoked_at" in result
    assert text not in result


def test_a_new_key_is_shown_for_copying(app: App, viral: Shell) -> None:
    tenant_id = a_tenant(app)
    result = viral.done("keys", "create", "--tenant", tenant_id, "--name", "x", "--scope", "account:read")
    [line] = [line for line in result.lines if hash_of(line)]
    assert line not in viral.done("keys", "list", "--tenant", tenant_id).out


def test_keys_that_cannot_be(app: App, viral: Shell) -> None:
    nobody, tenant_id = uuid4(), a_tenant(app)
    create = ("keys", "create", "--name", "x", "--scope", "all", "--tenant")
    assert f"no tenant has the id {nobody}" in viral.refused(*create, nobody)
    assert "one of them is not known; there are account:read, " in viral.refused(*create, tenant_id)
    assert "viral keys list" in viral.refused("keys", "revoke", uuid4(), "--tenant", tenant_id)


# --- verify-token: no server is needed


def test_a_good_token_is_accepted(nothing_runs: Shell) -> None:
    token = CLERK.token(NOW, o={"id": "org_1", "rol": "admin"})
    result = nothing_runs.done("dev", "verify-token", "--at", AT, token, CLERK_JWT_KEY=CLERK.pem())
    assert result.lines == ["accepted: user_ada in org_1 as admin, session sess_1, until 2027-01-15 08:01:00Z"]
    for at in (f"{NOW}.25", "2027-01-15 08:00", "2027-01-15T13:30+05:30"):
        assert (
            nothing_runs.done("dev", "verify-token", "--at", at, token, CLERK_JWT_KEY=CLERK.pem()).lines == result.lines
        )


@pytest.mark.parametrize(
    ("late", "settings", "reason"),
    [
        (TOKEN_LIFETIME + 6, {}, "TOKEN_EXPIRED: the token expired 6 s ago"),
        (-6, {}, "TOKEN_TOO_EARLY: the token's iat is 6 s in the future"),
        (0, {"CLERK_AUTHORIZED_PARTIES": "https://other.example.com"}, "TOKEN_PARTY: "),
        (0, {"CLERK_ISSUER": "https://other.example.com"}, "TOKEN_ISSUER: "),
        (0, {"CLERK_JWT_KEY": ClerkSessionSimulator().pem()}, "TOKEN_SIGNATURE: "),
        (0, {"CLERK_JWT_KEY": ""}, "SIGN_IN_NOT_SET_UP: no Clerk account is set up"),
    ],
)
def test_a_token_is_refused_and_the_line_says_why(
    nothing_runs: Shell, late: int, settings: dict[str, str], reason: str
) -> None:
    environment = {"CLERK_JWT_KEY": CLERK.pem()} | settings
    line = nothing_runs.refused("dev", "verify-token", "--at", NOW + late, CLERK.token(NOW), **environment)
    assert line.startswith(f"viral: refused: {reason}")


def test_the_keys_may_be_published(nothing_runs: Shell) -> None:
    with CLERK.serving() as url:
        words = ("dev", "verify-token", "--at", AT, CLERK.token(NOW))
        assert "TOKEN_ISSUER" in nothing_runs.refused(*words, CLERK_JWKS_URL=url)
        result = nothing_runs.done(*words, CLERK_JWKS_URL=url, CLERK_ISSUER=CLERK.issuer)
    assert len(result.lines) == 1
    assert "UNAVAILABLE: Clerk's keys cannot be fetched: 127.0.0.1/" in nothing_runs.refused(*words, CLERK_JWKS_URL=url)


def test_a_pem_key_that_cannot_be_used_is_named(nothing_runs: Shell) -> None:
    broken = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    assert "CLERK_JWT_KEY" in nothing_runs.refused("dev", "verify-token", "x", CLERK_JWT_KEY=broken)


# --- verify-webhook: signed by the official signers


@pytest.fixture
def paid(tmp_path: Path) -> Path:
    file = tmp_path / "paid.json"
    file.write_text(json.dumps(PAID))
    return file


@pytest.fixture
def user(tmp_path: Path) -> Path:
    file = tmp_path / "user.json"
    file.write_text(json.dumps(USER))
    return file


def signed(file: Path, secret: str = STRIPE_SECRET) -> str:
    return "Stripe-Signature: " + WebhookSignature.generate_signature_header(file.read_text(), secret, NOW)


def test_an_event_of_stripe_is_accepted(nothing_runs: Shell, paid: Path) -> None:
    words = ("dev", "verify-webhook", "stripe", "--header", signed(paid), "--at", AT, paid)
    assert nothing_runs.done(*words, STRIPE_WEBHOOK_SECRET=STRIPE_SECRET).lines == ["accepted: invoice.paid evt_1"]
    assert nothing_runs.done(*words, STRIPE_WEBHOOK_SECRET=f"whsec_new,{STRIPE_SECRET}").code == 0
    assert nothing_runs.done(*words, "--secret", "whsec_new", "--secret", f" {STRIPE_SECRET}\n").code == 0


@pytest.mark.parametrize("family", ["svix", "webhook"])
def test_an_event_of_clerk_is_accepted(nothing_runs: Shell, user: Path, family: str) -> None:
    moment = datetime.fromtimestamp(NOW, UTC)
    signature = standardwebhooks.Webhook(CLERK_SECRET).sign("msg_1", moment, user.read_text())
    words = ["dev", "verify-webhook", "clerk", "--secret", CLERK_SECRET, "--at", AT, user]
    for name, value in (("id", "msg_1"), ("timestamp", NOW), ("signature", signature)):
        words += ["--header", f"{family.title()}-{name}:{value}"]
    assert nothing_runs.done(*words).lines == ["accepted: user.created msg_1"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--at", NOW + 301), "SIGNATURE_INVALID: the signature's time is 301 s in the past; 300 are allowed"),
        (("--at", NOW + 300.25), "SIGNATURE_INVALID: the signature's time is 301 s in the past; 300 are allowed"),
        (("--at", NOW - 301), "SIGNATURE_INVALID: the signature's time is 301 s in the future; 300 are allowed"),
        (("--at", NOW, "--secret", "whsec_other"), "SIGNATURE_INVALID: no v1 signature fits"),
        (("--at", NOW, "--secret", " "), "SECRET_NOT_SET: "),
    ],
)
def test_an_event_is_refused_and_the_line_says_why(
    nothing_runs: Shell, paid: Path, words: tuple[object, ...], reason: str
) -> None:
    command = ("dev", "verify-webhook", "stripe", "--header", signed(paid), *words, paid)
    line = nothing_runs.refused(*command, STRIPE_WEBHOOK_SECRET=STRIPE_SECRET)
    assert line.startswith(f"viral: refused: {reason}")


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[1]", "MALFORMED_EVENT"), (b" " * 1024 * 1024 + b"{}", "BODY_TOO_LARGE")],
    ids=["no event", "too large"],
)
def test_a_body_that_is_no_event_is_refused(nothing_runs: Shell, paid: Path, body: bytes, code: str) -> None:
    paid.write_bytes(body)
    words = ("dev", "verify-webhook", "stripe", "--secret", STRIPE_SECRET, "--at", AT, paid)
    assert f"refused: {code}: " in nothing_runs.refused(*words, "--header", signed(paid))


def test_verifying_what_makes_no_sense(nothing_runs: Shell, paid: Path) -> None:
    assert "there are stripe and clerk" in nothing_runs.senseless("dev", "verify-webhook", "paypal", paid)
    verify = ("dev", "verify-webhook", "stripe")
    assert "'name: value'" in nothing_runs.senseless(*verify, "--header", "Stripe-Signature", paid)
    assert "cannot be read" in nothing_runs.senseless(*verify, paid.parent / "nothing.json")
    assert "Unix time" in nothing_runs.senseless("dev", "verify-token", "--at", "noon", "x")
