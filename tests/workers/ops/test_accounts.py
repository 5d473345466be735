"""What an account's owner decides, and what becomes of what waited."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from db.transaction import SYSTEM
from domain.errors import Rejected, UnknownAccount
from domain.posting.posts import PostStatus
from tests.account_stage import KEY, OTHER_KEY, Stage, account_stage
from tests.builders import a_tenant
from tests.post_stage import PostStage, post_stage
from tests.workers.ops.test_posts import at_once
from workers.app import App
from workers.ops import account_checks, accounts
from workers.ops.post_stories import explain
from workers.settings import Settings


@pytest.fixture
def stage(app: App) -> Iterator[Stage]:
    with account_stage(app) as made:
        yield made


@pytest.fixture
def posting(settings: Settings, tmp_path: Path) -> Iterator[PostStage]:
    with post_stage(settings, tmp_path, "tiktok") as made:
        yield made


def limited(stage: Stage, **settings: object) -> None:
    (row,) = accounts.listed(stage.app, stage.tenant_id)
    with stage.app.db.transaction(stage.tenant_id) as tx:
        tx.social_accounts.save_limits(stage.tenant_id, row["id"], {"settings": settings}, stage.clock())


def test_privacy_is_chosen_of_what_the_platform_named(stage: Stage) -> None:
    account = stage.connect()
    assert stage.row(account)["settings"] == {}
    limited(stage, privacy_options=["SELF_ONLY"], duet_disabled=True)
    with pytest.raises(Rejected, match="lets this account choose SELF_ONLY"):
        accounts.change(stage.app, stage.tenant_id, account, settings={"privacy_level": "PUBLIC_TO_EVERYONE"})
    with pytest.raises(Rejected, match="forbid it"):
        accounts.change(stage.app, stage.tenant_id, account, settings={"allow_duet": True}, consent=True)
    with pytest.raises(Rejected, match="no option"):
        accounts.change(stage.app, stage.tenant_id, account, settings={"privacy": "SELF_ONLY"})
    row = accounts.change(stage.app, stage.tenant_id, account, settings={"privacy_level": "SELF_ONLY"})
    assert row["settings"] == {"privacy_level": "SELF_ONLY"}
    row = accounts.change(stage.app, stage.tenant_id, account, settings={"privacy_level": None})
    assert row["settings"] == {}


def test_viewers_may_do_nothing_until_the_owner_agrees(stage: Stage) -> None:
    account = stage.connect()
    with pytest.raises(Rejected, match="agrees"):
        accounts.change(stage.app, stage.tenant_id, account, settings={"allow_comment": True})
    row = accounts.change(stage.app, stage.tenant_id, account, settings={"allow_comment": True}, consent=True)
    assert row["settings"] == {"allow_comment": True, "consent_at": stage.clock().isoformat()}
    # Connecting it again takes nothing of that away.
    stage.connect()
    assert stage.row(account)["settings"]["allow_comment"] is True


@pytest.mark.parametrize("wrong", [{"daily_limit": 0}, {"timezone": "Mars"}, {"niche": ""}, {"niche": "a\nb"}], ids=str)
def test_what_makes_no_sense_is_refused(stage: Stage, wrong: dict[str, object]) -> None:
    account = stage.connect()
    with pytest.raises(Rejected):
        accounts.change(stage.app, stage.tenant_id, account, **wrong)  # type: ignore[arg-type]


def test_another_tenants_account_is_none(stage: Stage) -> None:
    account, other = stage.connect(), a_tenant(stage.app)
    for act in (accounts.show, accounts.change, accounts.disconnect):
        with pytest.raises(UnknownAccount):
            act(stage.app, other, account)
    assert accounts.listed(stage.app, other) == []


def test_the_account_with_the_most_room_is_chosen(stage: Stage) -> None:
    full = stage.connect(stage.platform.grant("full"))
    free = stage.connect(stage.platform.grant("free"))
    accounts.change(stage.app, stage.tenant_id, full, niche="food", daily_limit=1)
    accounts.change(stage.app, stage.tenant_id, free, niche="food")
    choice = accounts.choose(stage.app, stage.tenant_id, "tiktok", "food")
    assert {each.candidate.account_id for each in choice.ranked} == {full, free}
    with stage.app.db.transaction(stage.tenant_id) as tx:
        tx.social_accounts.refuse(stage.tenant_id, free, "connect it again")
    choice = accounts.choose(stage.app, stage.tenant_id, "tiktok", "food")
    assert choice.account_id == full
    assert choice.left_out == ("user of free: it has to be connected again",)


def test_a_disconnect_cancels_what_waits_and_says_what_nobody_can_see(posting: PostStage) -> None:
    tenant_id = posting.tenant()
    account = posting.account(tenant_id, "tiktok")
    waits, sent, done = (posting.ask(tenant_id, account, after=timedelta(days=1)) for _ in range(3))
    with posting.app.db.transaction(SYSTEM) as tx:
        change = "UPDATE social_posts SET status = %s WHERE id = %s"
        tx.driver.execute(change, (PostStatus.PROCESSING, sent))
        tx.driver.execute(change, (PostStatus.PUBLISHED, done))
    change = accounts.disconnect(posting.app, None, account)
    assert change.done
    assert "1 post that waited is cancelled" in change.says
    assert [posting.show(each).status for each in (waits, sent, done)] == ["cancelled", "unconfirmed", "published"]
    assert "nobody can look any more" in (posting.show(sent).error_message or "")
    assert posting.events(waits)[-1:] == ["cancelled"]
    assert posting.platforms["tiktok"].received[-1:] == ["revoke"]
    assert not accounts.disconnect(posting.app, None, account).done


def test_the_doctor_looks_at_tokens_and_at_who_waits(stage: Stage) -> None:
    def checked(made: Stage) -> list[str]:
        with made.app.db.transaction(SYSTEM) as tx:
            return [
                check(made.app, tx)[0]
                for check in (
                    account_checks.check_keys,
                    account_checks.check_connections,
                    account_checks.check_addresses,
                )
            ]

    assert checked(stage) == ["ok", "ok", "warn"]
    account = stage.connect()
    assert checked(stage)[0] == "ok"
    assert checked(stage.with_keys(OTHER_KEY, KEY))[0] == "warn"
    assert checked(stage.with_keys(OTHER_KEY))[0] == "fail"
    without = replace(stage, app=replace(stage.app, ports=replace(stage.app.ports, vault=None)))
    assert checked(without)[0] == "fail"
    with stage.app.db.transaction(stage.tenant_id) as tx:
        tx.social_accounts.refuse(stage.tenant_id, account, "connect it again")
    assert checked(stage)[1] == "warn"


def test_posts_to_a_disabled_account_wait_until_it_is_enabled(posting: PostStage) -> None:
    tenant_id = posting.tenant()
    account = posting.account(tenant_id, "tiktok")
    waits = posting.ask(tenant_id, account)
    disabled = at_once(8, lambda _: accounts.disable(posting.app, account))
    assert sorted(each.outcome for each in disabled) == ["done", *["unchanged"] * 7]
    posting.due()
    posting.turn()
    assert posting.show(waits).status == "scheduled"
    assert "our people let nothing be posted to its account" in (explain(posting.app, tenant_id, waits).next or "")
    assert accounts.choose(posting.app, tenant_id, "tiktok").account_id is None
    assert accounts.show(posting.app, tenant_id, account)["status"] == "active", "nothing was revoked"
    enabled = at_once(8, lambda _: accounts.enable(posting.app, account))
    assert sorted(each.outcome for each in enabled) == ["done", *["unchanged"] * 7]
    posting.run()
    assert posting.show(waits).status == "published"

    late = posting.ask(tenant_id, account)
    accounts.disable(posting.app, account)
    posting.later(hours=3)
    posting.due()
    posting.turn()
    assert (posting.show(late).status, "its account is disabled" in str(posting.show(late))) == ("missed", True)

    accounts.disconnect(posting.app, tenant_id, account)
    assert [each(posting.app, account).outcome for each in (accounts.enable, accounts.disable)] == ["refused"] * 2
