"""`viral accounts`, as an operator types it, against a simulated Bluesky and Mastodon."""

import io
import sys
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from simulators.platforms.bluesky import bluesky_simulator
from simulators.platforms.mastodon import mastodon_simulator
from tests.account_stage import KEY, OTHER_KEY
from tests.builders import a_tenant
from tests.cli.shell import Shell
from workers.app import App, build
from workers.ops.connecting import finish_connect
from workers.settings import load


def test_a_bluesky_account_from_its_connection_to_its_end(
    viral: Shell, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = a_tenant(app)
    with bluesky_simulator() as bluesky:
        owner = bluesky.add_account("did:plc:" + "a" * 24, "ada.example")
        viral.environment |= {"BLUESKY_BASE_URL": bluesky.url, "TOKEN_ENCRYPTION_KEYS": KEY}
        words = ("accounts", "connect", "bluesky", "--tenant", tenant_id, "--handle", "ada.example", "--password-stdin")
        monkeypatch.setattr(sys, "stdin", io.StringIO("wrong\n"))
        assert "app password" in viral.refused(*words)
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{owner.password}\n"))
        connected = viral.json(*words)
        assert (connected["platform"], connected["username"], connected["status"]) == (
            "bluesky",
            "ada.example",
            "active",
        )
        assert not {"access_token", "refresh_token"} & connected.keys()
        account = connected["id"]
        assert [row["id"] for row in viral.json("accounts", "list", "--tenant", tenant_id)] == [account]
        assert "ada.example" in viral.done("accounts", "list", "--platform", "bluesky").out
        changed = viral.json(
            *("accounts", "set", account, "-o", 'langs=["en"]', "--daily-limit", 3, "--niche", "food"),
        )
        assert (changed["settings"], changed["daily_limit"], changed["niche"]) == ({"langs": ["en"]}, 3, "food")
        assert "no option" in viral.refused("accounts", "set", account, "-o", "nope=1")
        assert 'langs: ["en"]' in viral.done("accounts", "show", account).out
        assert "disabled_at" not in viral.done("accounts", "show", account).out
        viral.done("accounts", "disable", account)
        assert "disabled_at" in viral.done("accounts", "show", account).out, "nothing is posted, though it is active"
        viral.done("accounts", "enable", account)
        viral.environment |= {"TOKEN_ENCRYPTION_KEYS": f"{OTHER_KEY},{KEY}"}
        found = {row["what"]: row for row in viral.json("accounts", "rotate-keys")}
        assert (found["accounts"]["seen"], found["accounts"]["changed"]) == (1, 1)
        viral.environment |= {"TOKEN_ENCRYPTION_KEYS": OTHER_KEY}
        assert "its tokens are deleted" in viral.done("accounts", "disconnect", account).out
        assert bluesky.received[-1] == "deleteSession"
        assert viral("accounts", "disconnect", account).code == 1


def test_an_address_is_printed_and_leads_back_to_us(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app)
    with mastodon_simulator() as mastodon:
        mastodon.add_account("1", "ada")
        viral.environment |= {"MASTODON_BASE_URL": mastodon.url, "TOKEN_ENCRYPTION_KEYS": KEY}
        address = viral.json("accounts", "connect", "mastodon", "--tenant", tenant_id)["url"]
        back = urlsplit(httpx.get(address).headers["location"])
        assert back.path == "/oauth/mastodon/callback"
        # What `viral web` does with it.
        made = build(load(viral.environment), name="tests")
        try:
            outcome = finish_connect(made, "mastodon", dict(parse_qsl(back.query)))
        finally:
            made.close()
        assert outcome.code == "connected"
        assert outcome.message.startswith("ada@")
        (row,) = viral.json("accounts", "list")
        assert (row["platform"], row["server"]) == ("mastodon", mastodon.url)


def test_what_is_missing_is_said(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app)
    words = ("accounts", "connect", "tiktok", "--tenant", tenant_id)
    assert "TOKEN_ENCRYPTION_KEYS is not set" in viral.refused(*words)
    viral.environment |= {"TOKEN_ENCRYPTION_KEYS": KEY}
    assert "TIKTOK_CLIENT_KEY" in viral.refused(*words)
    assert "there is no platform" in viral.refused("accounts", "connect", "myspace", "--tenant", tenant_id)
    viral.senseless("accounts", "connect", "bluesky", "--tenant", tenant_id)
    assert "No social accounts" in viral.done("accounts", "list").out
