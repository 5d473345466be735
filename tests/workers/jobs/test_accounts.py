"""Tokens of accounts: kept fresh, by one refresh at a time, and never lost by us."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from db.transaction import SYSTEM
from tests.account_stage import OBTAINED, Stage, account_stage
from workers.app import App
from workers.jobs import accounts


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    with account_stage(app) as made:
        yield made


def test_a_token_that_lasts_is_used_as_it_is(stage: Stage) -> None:
    account = stage.connect()
    assert stage.run(account)["status"] == "completed"
    assert OBTAINED[-1].access_token == stage.tokens(account)[0]
    assert stage.platform.refreshes == 0


def test_a_token_that_ends_is_refreshed_first_and_the_new_ones_are_kept(stage: Stage) -> None:
    account = stage.connect()
    before = stage.tokens(account)
    stage.clock.later(hours=3)
    assert stage.run(account)["status"] == "completed"
    after = stage.tokens(account)
    assert OBTAINED[-1].access_token == after[0]
    assert after[0] in stage.platform.good_access
    assert after[1] in stage.platform.good_refresh
    assert set(after).isdisjoint(before)
    assert (stage.row(account)["token_version"], stage.row(account)["refresh_tries"]) == (2, 0)


def test_a_token_that_the_platform_refuses_is_not_used_again(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(minutes=5)
    refused = stage.tokens(account)[0]
    stage.run(account, refused=refused)
    assert OBTAINED[-1].access_token != refused
    assert stage.platform.refreshes == 1
    # Another job was refused the same one: there are fresh ones by now.
    stage.run(account, refused=refused)
    assert stage.platform.refreshes == 1


def test_a_refresh_that_gives_no_refresh_token_leaves_the_one_before(stage: Stage) -> None:
    stage.platform.rotating = False
    account = stage.connect()
    before = stage.tokens(account)[1]
    stage.clock.later(hours=3)
    stage.run(account)
    assert stage.tokens(account)[1] == before
    assert stage.row(account)["refresh_expires_at"] is not None
    stage.connect(stage.platform.grant(with_refresh=False))
    assert stage.tokens(account)[1] == before


def test_an_answer_that_breaks_what_reads_it_takes_no_token_that_lasts(stage: Stage) -> None:
    account = stage.connect()
    before = stage.tokens(account)[0]
    stage.clock.later(minutes=115)

    def break_() -> None:
        raise ValueError("a planted token")

    stage.platform.after = break_
    assert stage.run(account)["status"] == "completed"
    assert OBTAINED[-1].access_token == before
    stage.clock.later(minutes=10)
    stage.platform.rotating = False
    job = stage.run(account)
    assert job["status"] == "failed"
    with stage.app.db.transaction(SYSTEM) as tx:
        attempts = tx.driver.execute("SELECT to_jsonb(a)::text FROM job_attempts a").fetchall()
    assert attempts
    assert "planted" not in job["error_message"] + str(attempts)


@pytest.mark.parametrize("fault", ["not sent", "429", "500"])
def test_an_outage_disconnects_nobody(stage: Stage, fault: str) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    for _ in range(4):
        stage.platform.faults.append(fault)
        assert stage.run(account)["status"] == "failed"  # it has one attempt
        stage.clock.later(hours=1)
    assert stage.row(account)["status"] == "active"
    assert stage.run(account)["status"] == "completed"
    assert stage.row(account)["refresh_tries"] == 0


def test_a_token_that_still_lasts_is_used_while_there_is_no_other(stage: Stage) -> None:
    account = stage.connect()
    before = stage.tokens(account)[0]
    stage.clock.later(minutes=115)
    stage.platform.faults.append("500")
    assert stage.run(account)["status"] == "completed"
    assert OBTAINED[-1].access_token == before


def test_after_a_lost_answer_the_old_tokens_are_sent_once_more_and_then_the_owner_is_asked(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    stage.platform.faults.append("lost")
    assert stage.run(account)["status"] == "failed"
    assert stage.row(account)["status"] == "active"
    stage.clock.later(minutes=2)
    stage.run(account)
    row = stage.row(account)
    assert (row["status"], row["reason"]) == ("needs_reconnect", accounts.ANSWER_LOST)
    assert stage.platform.refreshes == 2
    # Nothing is asked any more, and the tokens stay until its owner comes.
    stage.run(account)
    assert stage.platform.refreshes == 2
    assert all(stage.tokens(account))
    stage.connect()
    assert stage.run(account)["status"] == "completed"
    assert stage.row(account)["reason"] is None


def test_the_platforms_word_that_access_was_taken_away_is_the_owners_affair(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    stage.platform.faults.append("revoked")
    job = stage.run(account)
    assert job["status"] == "failed"
    assert "connect it again" in job["error_message"]
    assert stage.row(account)["status"] == "needs_reconnect"
    assert "viral " not in stage.row(account)["reason"]


def test_a_reconnect_during_a_refresh_is_not_overtaken(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)
    fresh = stage.platform.grant()
    stage.platform.during = lambda: stage.connect(fresh)
    stage.run(account)
    assert stage.tokens(account) == (fresh.access_token, fresh.refresh_token)
    assert OBTAINED[-1].access_token == fresh.access_token


def test_a_disconnect_during_a_refresh_stays(stage: Stage) -> None:
    account = stage.connect()
    stage.clock.later(hours=3)

    def disconnect() -> None:
        with stage.app.db.transaction(stage.tenant_id) as tx:
            tx.social_accounts.disconnect(stage.tenant_id, account)

    stage.platform.during = disconnect
    stage.run(account)
    assert stage.row(account)["status"] == "disconnected"
    assert stage.tokens(account) == ("", "")


def test_tokens_under_a_key_that_is_gone_need_their_owner_until_the_key_is_back(stage: Stage) -> None:
    account = stage.connect()
    other = stage.with_keys("0" * 43 + "=")
    assert other.run(account)["status"] == "failed"
    assert (other.row(account)["status"], other.row(account)["reason"]) == ("needs_reconnect", accounts.SEAL_UNKNOWN)
    with stage.app.db.transaction(SYSTEM) as tx:
        accounts.find_due.enqueue(tx)
    stage.drain()
    assert stage.row(account)["status"] == "active"
    assert stage.run(account)["status"] == "completed"


def test_long_tokens_are_refreshed_at_half_of_their_time(stage: Stage) -> None:
    stage.platform.access_for = timedelta(days=60)
    account = stage.connect(platform="instagram-reels")
    for days, refreshes in ((20, 0), (20, 1)):
        stage.clock.later(days=days)
        with stage.app.db.transaction(stage.tenant_id) as tx:
            accounts.refresh.enqueue(tx, tenant_id=stage.tenant_id, account_id=account)
        stage.drain()
        assert stage.platform.refreshes == refreshes


def test_a_refresh_that_is_due_waits_for_a_platform_that_is_away(stage: Stage) -> None:
    stage.platform.access_for = timedelta(days=60)
    account = stage.connect(platform="instagram-reels")
    stage.clock.later(days=40)
    stage.platform.faults.extend(["500"])
    with stage.app.db.transaction(stage.tenant_id) as tx:
        job_id = accounts.refresh.enqueue(tx, tenant_id=stage.tenant_id, account_id=account)
    stage.drain()
    # The token lasts, so nothing is wrong yet; the next hour's job tries again.
    assert stage.row(account)["status"] == "active"
    stage.clock.later(days=15)
    stage.platform.faults.extend(["500"])
    stage.run(account, refused=stage.tokens(account)[0])
    with stage.app.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id)
    assert row is not None
    assert (row["status"], row["result"]) == ("completed", {"refreshed": False})


def test_what_is_due_is_found_each_hour_and_no_more_than_that(stage: Stage) -> None:
    stage.platform.access_for = timedelta(days=60)
    stage.connect(platform="instagram-reels")
    stage.platform.access_for = timedelta(hours=2)
    stage.connect(stage.platform.grant("ext-2"))
    results = []
    for days in (0, 40, 0):  # between half of its time and a tenth more, by the account
        stage.clock.later(days=days)
        with stage.app.db.transaction(SYSTEM) as tx:
            job_id = accounts.find_due.enqueue(tx)
        stage.drain()
        with stage.app.db.transaction(SYSTEM) as tx:
            results.append((tx.jobs.get(job_id) or {})["result"])
            waiting = tx.driver.execute("SELECT job_type FROM job_queue WHERE status = 'pending'").fetchall()
    assert results[0] == {"refreshes": 0, "limits": 2, "restored": 0}
    assert results[1] == {"refreshes": 1, "limits": 2, "restored": 0}
    # Those of the first hour still wait for their turn within it, and are the same ones.
    assert sorted(each[0] for each in waiting) == ["accounts.read_limits"] * 2 + ["accounts.refresh"]
