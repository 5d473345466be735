"""Nothing of an autopilot goes out that was forbidden before it was sent, whatever state its posts and its chain are in
by then."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from domain.autopilot.chains import Mode
from domain.autopilot.consent import Withheld
from domain.autopilot.settings import Settings
from tests.autopilot_stage import AutopilotStage, autopilot_stage
from tests.drain import drain
from tests.wait import until
from workers.engine.job import FailedJob
from workers.jobs.autopilot import stop_failed
from workers.ops import autopilot, posts, restore

CHANGES = ("off", "approve", "withdrawn")


@pytest.fixture
def here(settings, tmp_path):
    with autopilot_stage(settings, tmp_path) as stage:
        yield stage


def scheduled(here: AutopilotStage):
    """Tenants whose chains have made a post each, which is due now, by what its owner will do."""
    tenants = {how: here.tenant() for how in CHANGES}
    for tenant_id in tenants.values():
        here.until(tenant_id, "posts")
    here.posts.later(hours=2)
    return tenants


def refused(here: AutopilotStage):
    """As `scheduled`; the platform was asked to publish each, and has refused it for now."""
    tenants = scheduled(here)
    here.posts.platforms["bluesky"].fault("putRecord", "429", times=len(tenants))
    for _ in range(10):
        here.minute()
        rows = here.rows("SELECT status, submitted_at IS NOT NULL FROM social_posts")
        if all(sent for _, sent in rows):
            break
    assert rows == [("claimed", True)] * len(tenants)
    return tenants


def change_minds(here: AutopilotStage, tenants):
    here.allow(tenants["off"], mode=Mode.OFF)
    here.allow(tenants["approve"], mode=Mode.APPROVE)
    here.withdraw(tenants["withdrawn"], here.accounts[tenants["withdrawn"]][0])


def assert_held_back(here: AutopilotStage, tenants):
    """None goes out by itself; the one in approve mode does once a person approves it."""
    for _ in range(4):
        here.minute(minutes=10)
    assert not here.posts.posts()
    held = {"off": "cancelled", "approve": "needs_approval", "withdrawn": "cancelled"}
    assert {how: here.made(tenant_id) for how, tenant_id in tenants.items()} == {
        how: [("bluesky", status)] for how, status in held.items()
    }
    for how in ("off", "withdrawn"):
        [chain] = here.chains(tenants[how])
        assert chain["stage"] == "stopped", chain["reason"]
        assert "nothing was posted" in chain["reason"]
    [(post_id,)] = here.rows("SELECT id FROM social_posts WHERE tenant_id = %s", tenants["approve"])
    posts.approve(here.app, tenants["approve"], post_id)
    here.until(tenants["approve"], "done", minutes=10, minutes_a_step=10)
    assert here.made(tenants["approve"]) == [("bluesky", "published")]
    here.posts.assert_once()


def test_a_post_whose_commit_was_refused_is_not_sent_again_against_a_changed_mind(here: AutopilotStage):
    """It keeps the time of its submission, so the change itself leaves it alone: the next submission asks."""
    tenants = refused(here)
    change_minds(here, tenants)
    assert_held_back(here, tenants)


def test_a_post_that_a_restore_puts_in_doubt_is_not_sent_after_it_against_a_changed_mind(here: AutopilotStage):
    tenants = scheduled(here)
    restore.begin(here.app, here.now - timedelta(hours=1))
    assert {here.made(each)[0][1] for each in tenants.values()} == {"unconfirmed"}
    here.minute()
    stages = {here.chains(each)[0]["stage"] for each in tenants.values()}
    assert stages == {"posts"}, "nobody can say yet what became of them"

    change_minds(here, tenants)
    here.posts.later(minutes=70)
    here.posts.turn()
    restore.end(here.app)

    assert_held_back(here, tenants)


def test_a_chain_whose_look_failed_still_loses_its_posts(here: AutopilotStage):
    tenants = scheduled(here)
    for tenant_id in tenants.values():
        [chain] = here.chains(tenant_id)
        with here.app.db.transaction(tenant_id) as tx:
            arguments = {"tenant_id": tenant_id, "chain_id": chain["id"]}
            stop_failed(tx, FailedJob(tx.new_id(), tenant_id, arguments, "it was cancelled"))
        assert here.chains(tenant_id)[0]["stage"] == "posts", "its posts are not over"

    change_minds(here, tenants)
    here.posts.later(hours=1)

    assert_held_back(here, tenants)


def test_who_makes_a_post_again_approves_it(here: AutopilotStage):
    tenant_id = here.tenant()
    here.until(tenant_id, "posts")
    [post_id] = here.allow(tenant_id, mode=Mode.OFF)

    posts.retry(here.app, tenant_id, post_id)
    here.posts.run()

    assert here.made(tenant_id) == [("bluesky", "published")]


# --- a database that went back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["noticed", "begun"])
def test_a_restore_brings_no_autopilot_back_that_nobody_is_asked_by(here: AutopilotStage, how):
    """A mode or a consent may have been withdrawn since the backup: so a person is asked, also for posts to come."""
    tenant_id, approving, off = here.tenant(), here.tenant(Mode.APPROVE), here.tenant(Mode.OFF)
    here.until(tenant_id, "posts")
    if how == "noticed":
        with here.app.db.transaction(SYSTEM) as tx:
            tx.restores.notice("2 submissions are missing", here.now)
    else:
        restore.begin(here.app, here.now - timedelta(hours=1))

    ended = restore.end(here.app)

    assert ended.asking_again == [tenant_id]
    assert here.made(tenant_id) == [("bluesky", "needs_approval")]
    shown = {each: autopilot.show(here.app, each) for each in (tenant_id, approving, off)}
    assert {each: of.settings["mode"] for each, of in shown.items()} == {
        tenant_id: "approve",
        approving: "approve",
        off: "off",
    }
    assert "the database was put back: switch it to auto again" in shown[tenant_id].next[0]
    assert not any("put back" in line for line in shown[approving].next)
    [chain] = here.chains(tenant_id)
    assert "the database was put back" in here.events(chain)[-1][1]
    here.posts.later(hours=3)
    here.minute()
    assert not here.posts.posts()

    again = autopilot.change(here.app, tenant_id, {"mode": "auto"}, by="person:ada")
    assert not any("put back" in line for line in again.next)
    assert restore.status(here.app).asking_again == []


# --- at the same moment -----------------------------------------------------------------------------------------------


def submit(here: AutopilotStage, tx, tenant_id):
    [(post_id,)] = tx.driver.execute("SELECT id FROM social_posts WHERE tenant_id = %s", (tenant_id,)).fetchall()
    return tx.posts.begin_submission(tenant_id, post_id, id=uuid4(), now=here.now, look_after=here.now)


def waited_for(tx):
    query = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return tx.driver.execute(query).fetchone() is not None


def test_a_submission_waits_for_a_change_that_has_not_committed_and_the_other_way_round(here: AutopilotStage):
    tenants = refused(here)

    def submit_alone():
        with here.app.db.transaction(SYSTEM) as tx:
            return submit(here, tx, tenants["off"])

    with ThreadPoolExecutor() as pool:
        with here.app.db.transaction(tenants["off"]) as tx:
            tx.autopilot.save(tenants["off"], Settings(), here.now)
            submission = pool.submit(submit_alone)
            until(lambda: waited_for(tx), "the submission waits")
        assert isinstance(submission.exception(), Withheld)

        with here.app.db.transaction(SYSTEM) as tx:
            assert submit(here, tx, tenants["withdrawn"]) == "claimed"
            change = pool.submit(here.withdraw, tenants["withdrawn"], here.accounts[tenants["withdrawn"]][0])
            until(lambda: waited_for(tx), "the change waits")
        assert change.result() == [], "it is on its way already"


def test_whoever_changes_it_while_posts_are_sent_stops_all_that_were_not(here: AutopilotStage):
    """Eight threads post for six tenants while each is switched off: what was not on its way then never is."""
    tenants = [here.tenant() for _ in range(6)]
    for tenant_id in tenants:
        here.until(tenant_id, "posts")
    here.posts.later(hours=2)
    here.posts.platforms["bluesky"].fault("putRecord", "429", times=len(tenants) // 2)
    here.posts.due()

    def switch_off(tenant_id):
        with here.app.db.transaction(tenant_id) as tx:
            tx.autopilot.save(tenant_id, Settings(), here.now)
            return tx.driver.execute(
                "SELECT count(*) FROM post_submissions WHERE tenant_id = %s", (tenant_id,)
            ).fetchall()

    with ThreadPoolExecutor(12) as pool:
        working = [pool.submit(drain, here.app) for _ in range(6)]
        sent = dict(zip(tenants, pool.map(switch_off, tenants), strict=True))
        for each in working:
            each.result()
    for _ in range(4):
        here.minute(minutes=10)

    for tenant_id in tenants:
        query = "SELECT count(*) FROM post_submissions WHERE tenant_id = %s"
        assert here.rows(query, tenant_id) == sent[tenant_id]
    here.posts.assert_once()
    assert {status for each in tenants for _, status in here.made(each)} <= {"published", "cancelled"}
