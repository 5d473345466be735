"""Accounts are connected, refreshed with every fault, posted to and disconnected; and no secret of theirs is anywhere:
looked for in every column of every table, in Redis, in the archive, in what was logged, Postgres's own log included.
"""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db.transaction import SYSTEM
from simulators.platforms.oauth import OAuthSimulator
from tests.conftest import Servers
from tests.drain import drain
from tests.flows.test_forgetting import found
from tests.post_stage import PostStage, post_stage
from tests.web.api.test_api import Api, a_key
from workers.jobs import accounts
from workers.jobs.upkeep import prune
from workers.ops import accounts as ops
from workers.runtime import logs
from workers.settings import Settings

PASSWORD = "planted-app-password"


@pytest.fixture
def stage(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, "tiktok", "youtube-shorts", "bluesky") as made:
        yield made


@pytest.fixture
def log(stage: PostStage) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure("json", "DEBUG", stream)
    yield stream
    logs.configure("console", "WARNING")


def secrets_of(simulator: Any) -> set[str]:
    """Return all that opens an account of the platform, or is by now used up."""
    kept = {PASSWORD}
    for account in simulator.accounts.values():
        kept |= {*account.access_tokens, *account.refresh_tokens, *account.used_refresh_tokens}
    if isinstance(simulator, OAuthSimulator):
        kept.add(simulator.client_secret)
    return {each for each in kept if len(each) > 12}


def test_no_secret_of_an_account_is_kept_or_said(
    stage: PostStage, log: io.StringIO, servers: Servers, servers_home: Path
) -> None:
    tenant_id = stage.tenant()
    planted: set[str] = set()
    bluesky = stage.platforms["bluesky"]
    bluesky.add_account("did:plc:" + "a" * 24, "ada.example").password = PASSWORD
    api, key = Api(stage.app), a_key(stage.app, tenant_id, "accounts:write", "posts:read")
    answers = []
    for password in ("wrong-" + PASSWORD, PASSWORD):
        body = {"handle": "ada.example", "app_password": password, "server": bluesky.url}
        answers.append(api("POST", "/accounts/bluesky/connect", key, json=body))
    assert [each.status_code for each in answers] == [422, 201]
    made = {name: stage.account(tenant_id, name) for name in ("tiktok", "youtube-shorts")}
    for fault in ("hang-up after", "500 before", "cut after"):
        for name, account_id in made.items():
            stage.platforms[name].fault("token", fault)
            stage.ask(tenant_id, account_id)
            with stage.app.db.transaction(SYSTEM) as tx:
                accounts.read_limits.enqueue(tx, tenant_id=tenant_id, account_id=account_id)
            planted |= secrets_of(stage.platforms[name])
        stage.due()
        stage.turn()
        stage.later(hours=3)
        for name, account_id in made.items():
            planted |= secrets_of(stage.platforms[name])
            if ops.show(stage.app, tenant_id, account_id)["status"] != "active":
                simulator = stage.platforms[name]
                external_id = ops.show(stage.app, tenant_id, account_id)["external_id"]
                stage.connect(tenant_id, name, accounts.Grant(*simulator.tokens(external_id), external_id=external_id))
    for _ in range(6):
        stage.due()
        stage.turn()
        stage.later(minutes=1)
    assert {name for name, _ in stage.posts()} == set(made)
    planted |= set().union(*map(secrets_of, stage.platforms.values()))
    list(ops.rotate_keys(stage.app))
    answers.append(api("GET", "/accounts", key))
    for row in answers[-1].json()["accounts"]:
        answers += [api("GET", f"/accounts/{row['id']}", key), api("DELETE", f"/accounts/{row['id']}", key)]
    with stage.app.db.transaction(SYSTEM) as tx:
        prune.enqueue(tx, older_than=timedelta(0))
    drain(stage.app)

    assert len(planted) > 8
    # And no address at which a video is uploaded.
    planted |= {"upload_id=", "upload_token="}
    assert found(stage.app, tuple(each.lower() for each in planted)) == set()
    written = log.getvalue() + (servers_home / "postgres.log").read_text() + "".join(each.text for each in answers)
    assert "account.disconnected" in written
    assert [each for each in planted if each in written] == []
