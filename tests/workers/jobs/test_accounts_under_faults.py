"""Whatever happens to refreshes: nobody's refresh token is emptied, and one call is made for many who need it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from db.transaction import SYSTEM
from simulators.platforms.bluesky import bluesky_simulator
from simulators.platforms.instagram import instagram_simulator
from simulators.platforms.mastodon import mastodon_simulator
from simulators.platforms.tiktok import tiktok_simulator
from simulators.platforms.youtube import youtube_simulator
from tests.account_stage import KEY, OBTAINED, OTHER_KEY, PLATFORM, Stage, account_stage, open_account
from tests.cutting import Died, rescue_all
from workers.adapters import platforms
from workers.app import App
from workers.jobs import accounts
from workers.ops import accounts as ops
from workers.ops.connecting import begin_connect, finish_connect
from workers.settings import Settings


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    with account_stage(app) as made:
        yield made


def die() -> None:
    raise Died


def test_a_process_dies_between_the_answer_and_the_commit(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    stage.platform.after = die
    with suppress(Died):
        stage.run(account)
    stage.platform.after = lambda: None
    rescue_all(stage.app)
    assert stage.row(account)["refresh_tries"] == 1
    # For a minute nobody can tell whether it is still at it.
    with stage.app.db.transaction(stage.tenant_id) as tx:
        job_id = open_account.enqueue(tx, tenant_id=stage.tenant_id, account_id=account, refused="")
    stage.drain()
    with stage.app.db.transaction(SYSTEM) as tx:
        waiting = tx.jobs.get(job_id)
    assert waiting is not None
    assert (waiting["status"], stage.platform.refreshes) == ("pending", 1)
    stage.clock.later(minutes=2)
    stage.run(account)
    assert (stage.row(account)["status"], stage.row(account)["reason"]) == ("needs_reconnect", accounts.ANSWER_LOST)
    assert all(stage.tokens(account))


def test_a_process_dies_before_the_call(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    stage.platform.during = die
    with suppress(Died):
        stage.run(account)
    stage.platform.during = lambda: None
    stage.clock.later(minutes=2)
    assert stage.run(account)["status"] == "completed"
    assert stage.row(account)["status"] == "active"


def test_a_job_that_is_not_ours_any_more_keeps_what_its_refresh_brought(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)

    def taken_over() -> None:
        with stage.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute("UPDATE job_queue SET lease_token = lease_token + 1 WHERE status = 'running'")

    stage.platform.after = taken_over
    stage.run(account)
    assert stage.tokens(account)[1] in stage.platform.good_refresh
    assert stage.row(account)["token_version"] == 2


def test_many_who_need_fresh_tokens_make_one_call(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    everybody = threading.Barrier(16)
    with stage.app.db.transaction(stage.tenant_id) as tx:
        jobs = [open_account.enqueue(tx, tenant_id=stage.tenant_id, account_id=account, refused="") for _ in range(16)]
    runner = stage.app.runner()
    stage.register(runner)

    def run(job_id: Any) -> None:
        everybody.wait()
        runner.run_one(job_id)

    threads = [threading.Thread(target=run, args=(job_id,)) for job_id in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.platform.refreshes == 1
    assert OBTAINED
    assert {each.access_token for each in OBTAINED} == {stage.tokens(account)[0]}
    with stage.app.db.transaction(SYSTEM) as tx:
        left = [tx.jobs.get(job_id) for job_id in jobs]
    assert {each["status"] for each in left if each} <= {"completed", "pending"}


@pytest.mark.parametrize("seed", range(12))
def test_no_sequence_of_events_empties_a_refresh_token(stage: Stage, seed: int) -> None:
    rng = Random(seed)
    stage.platform.rotating = rng.random() < 0.7
    account = stage.connect()
    other = stage.with_keys(OTHER_KEY, KEY)
    for _ in range(20):
        match rng.choice(["use", "use", "refused", "fault", "die", "reconnect", "reconnect without", "rotate", "wait"]):
            case "use":
                other.run(account)
            case "refused":
                other.run(account, refused=other.tokens(account)[0])
            case "fault":
                stage.platform.faults.append(rng.choice(["lost", "500", "not sent", "429", "revoked"]))
            case "die":
                moment = rng.choice(["during", "after"])
                setattr(stage.platform, moment, die)
                with suppress(Died):
                    other.run(account)
                setattr(stage.platform, moment, lambda: None)
                rescue_all(stage.app)
            case "reconnect":
                stage.connect()
            case "reconnect without":
                stage.connect(stage.platform.grant(with_refresh=False))
            case "rotate":
                list(ops.rotate_keys(other.app))
            case "wait":
                stage.clock.later(minutes=rng.choice([1, 10, 70, 130]))
        row = other.row(account)
        opens, renews = other.tokens(account)
        assert opens, "an access token is never emptied"
        assert renews, "a refresh token is never emptied"
        assert row["status"] in ("active", "needs_reconnect")
        assert (row["reason"] is None) == (row["status"] == "active")
    stage.platform.faults.clear()
    stage.connect()
    stage.clock.later(hours=3)
    assert other.run(account)["status"] == "completed"


def test_keys_are_rotated_while_tokens_are_refreshed(stage: Stage) -> None:
    connected = [stage.connect(stage.platform.grant(f"ext-{number}")) for number in range(12)]
    fresh = stage.with_keys(OTHER_KEY, KEY)
    stage.clock.later(hours=3)
    rotation = threading.Thread(target=lambda: list(ops.rotate_keys(fresh.app)))
    rotation.start()
    for account in connected:
        fresh.run(account)
    rotation.join()
    list(ops.rotate_keys(fresh.app))
    only = stage.with_keys(OTHER_KEY)
    for account in connected:
        assert only.tokens(account)[1] in stage.platform.good_refresh
    seen = {each.what: each for each in ops.rotate_keys(only.app)}
    assert (seen["accounts"].seen, seen["accounts"].changed, seen["accounts"].unreadable) == (12, 0, 0)


def test_what_cannot_be_decrypted_is_counted_and_left(stage: Stage) -> None:
    account = stage.connect()
    before = stage.tokens(account)
    last = {each.what: each for each in ops.rotate_keys(stage.with_keys(OTHER_KEY).app)}
    assert (last["accounts"].changed, last["accounts"].unreadable) == (0, 1)
    assert stage.tokens(account) == before


# --- the simulated platforms --------------------------------------------------------------------------------------

SIMULATORS: dict[str, tuple[Callable[..., AbstractContextManager[Any]], str, str]] = {
    "tiktok": (tiktok_simulator, "tiktok", "token"),
    "youtube-shorts": (youtube_simulator, "google", "token"),
    "instagram-reels": (instagram_simulator, "meta", "refresh"),
    "bluesky": (bluesky_simulator, "bluesky", "refreshSession"),
}
IDS = {"tiktok": "tiktok_client_key", "google": "google_client_id", "meta": "meta_app_id"}
SECRETS = {"tiktok": "tiktok_client_secret", "google": "google_client_secret", "meta": "meta_app_secret"}


def connected_to(stage: Stage, platform: str, simulator: Any, setting: str) -> Stage:
    """Connect an account of a simulated platform as its owner does, and return the stage with it."""
    changes: dict[str, Any] = {f"{setting}_base_url": simulator.url, "token_encryption_keys": KEY}
    if setting in IDS:
        changes |= {IDS[setting]: simulator.client_id, SECRETS[setting]: simulator.client_secret}
    base = stage.app.settings.model_dump() | {"token_encryption_keys": ""}
    settings = Settings.model_validate(base | changes)
    ports = replace(
        stage.app.ports,
        publishers=platforms.publishers(settings),
        logins=platforms.logins(settings),
        login_apps=platforms.login_apps(settings),
    )
    made = replace(stage, app=replace(stage.app, ports=ports, settings=settings))
    if platform == "bluesky":
        owner = simulator.add_account("did:plc:ada", "ada.bsky.social")
        ops.connect_password(made.app, made.tenant_id, platform, name="ada.bsky.social", password=owner.password)
        return made
    simulator.add_account("17841400000000000", "ada")
    server = simulator.url if platform == "mastodon" else ""
    begun = begin_connect(made.app, made.tenant_id, platform, server=server)
    back = httpx.get(begun.address, follow_redirects=False)
    assert back.status_code in (302, 303), back.text
    outcome = finish_connect(made.app, platform, dict(parse_qsl(urlsplit(back.headers["location"]).query)))
    assert outcome.code == "connected", outcome
    return made


@pytest.mark.parametrize("platform", SIMULATORS)
def test_the_answer_to_a_refresh_is_lost(stage: Stage, platform: str) -> None:
    simulated, setting, call = SIMULATORS[platform]
    with simulated() as simulator:
        here = connected_to(stage, platform, simulator, setting)
        (account,) = [row["id"] for row in ops.listed(here.app, here.tenant_id)]
        before = here.tokens(account)
        simulator.later(timedelta(days=2).total_seconds())
        here.clock.later(days=2)
        simulator.fault(call, "hang-up after")
        here.run(account, refused=before[0])
        assert here.row(account)["status"] == "active"
        here.clock.later(minutes=2)
        here.run(account, refused=before[0])
        row, after = here.row(account), here.tokens(account)
        if row["status"] == "active":
            assert after[0] != before[0]
            assert row["refresh_tries"] == 0
        else:
            assert row["reason"] == accounts.ANSWER_LOST
        assert bool(after[1]) == bool(before[1])
        assert (platform, row["status"]) in {
            ("tiktok", "needs_reconnect"),
            ("youtube-shorts", "active"),
            ("instagram-reels", "active"),
            ("bluesky", row["status"]),
        }


def test_a_mastodon_account_is_connected_and_has_no_refresh(stage: Stage) -> None:
    with mastodon_simulator() as simulator:
        here = connected_to(stage, "mastodon", simulator, "mastodon")
        (row,) = ops.listed(here.app, here.tenant_id)
        assert (row["server"], row["status"]) == (simulator.url, "active")
        assert row["limits"]["max_characters"]
        here.clock.later(days=400)
        assert here.run(row["id"])["status"] == "completed"
        here.run(row["id"], refused=here.tokens(row["id"])[0])
        assert here.row(row["id"])["reason"] == accounts.NO_RENEWAL
        done = ops.disconnect(here.app, here.tenant_id, row["id"])
        assert done.says == "its tokens are deleted"


def test_what_an_owner_can_choose_is_read_when_the_account_is_connected(stage: Stage) -> None:
    with tiktok_simulator() as simulator:
        here = connected_to(stage, PLATFORM, simulator, "tiktok")
        (row,) = ops.listed(here.app, here.tenant_id)
        assert row["limits"]["settings"]["privacy_options"]
        here.drain()
        assert here.row(row["id"])["limits_read_at"] is not None
