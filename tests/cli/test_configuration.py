"""The secrets that this shell makes for people without accounts elsewhere."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.configuration import development_settings
from integrations.vault import FernetVault
from local.spawn import EmbeddedError
from workers.settings import load


def test_a_fresh_home_can_encrypt_the_tokens_of_accounts(tmp_path: Path) -> None:
    made = development_settings(tmp_path / "home")
    settings = load(made)
    vault = FernetVault(settings.reveal(settings.token_encryption_keys))
    assert vault.unseal(vault.seal("token")) == "token"
    assert (tmp_path / "home" / "development.json").stat().st_mode & 0o077 == 0
    assert development_settings(tmp_path / "home") == made


def test_a_home_of_an_earlier_release_keeps_its_secrets_and_gets_those_that_came_later(tmp_path: Path) -> None:
    path = tmp_path / "development.json"
    before = {"STRIPE_WEBHOOK_SECRET": "whsec_old", "STRIPE_STARTER_PRICE_ID": "price_mine"}
    path.write_text(json.dumps(before))
    found = development_settings(tmp_path)
    assert found.items() >= before.items()
    assert "TOKEN_ENCRYPTION_KEYS" in found
    assert json.loads(path.read_text()) == found


def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = {each["TOKEN_ENCRYPTION_KEYS"] for each in pool.map(development_settings, [tmp_path / "home"] * 32)}
    assert found == {development_settings(tmp_path / "home")["TOKEN_ENCRYPTION_KEYS"]}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "development.json").write_text("{")
    with pytest.raises(EmbeddedError, match=r"development\.json is damaged"):
        development_settings(tmp_path)
