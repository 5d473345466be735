"""Chains from the day's concepts to the posts: what no person allowed never happens, and every end has its reason."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from domain.autopilot.chains import Mode
from tests.autopilot_stage import AutopilotStage, autopilot_stage
from tests.chaos import cuts
from tests.drain import drain
from workers.engine.outcomes import rescue
from workers.jobs.autopilot import advance
from workers.jobs.generation import daily
from workers.jobs.posting import find_due as posts_due
from workers.jobs.upkeep import prune
from workers.ops import accounts, autopilot, posts, restore


@pytest.fixture
def here(settings, tmp_path):
    with autopilot_stage(settings, tmp_path, "bluesky", "tiktok") as stage:
        yield stage


def links(here, tenant_id):
    """The jobs that the tenant's chains began, by type."""
    query = """
        SELECT job_type, count(*) FROM job_queue
        WHERE tenant_id = %s AND job_type = ANY('{generation.generate_concepts,videos.render}') GROUP BY 1
    """
    return dict(here.rows(query, tenant_id))


def test_a_day_goes_from_concepts_to_posts_by_itself(here: AutopilotStage):
    soon, later = (here.now + timedelta(hours=hours) for hours in (1, 7))  # before the next day of chains begins
    tenant_id = here.tenant(platforms=("bluesky", "tiktok"), times=(f"{soon:%H}:00", f"{later:%H}:00"), videos_a_day=2)

    chains = here.until(tenant_id, "done", minutes=200, minutes_a_step=15)

    assert links(here, tenant_id) == {"generation.generate_concepts": 1, "videos.render": 2}
    assert sorted(here.made(tenant_id)) == [("bluesky", "published")] * 2 + [("tiktok", "published")] * 2
    here.posts.assert_once()
    assert len({each["concept_id"] for each in chains}) == 2
    assert [kind for kind, _ in here.events(chains[1])] == ["begun", "concepts", "video", "posts", "done"]
    assert "bluesky: published" in chains[0]["reason"]
    says = [autopilot.explain(here.app, tenant_id, each["id"]).explanation for each in chains]
    assert [each.decision.concept_id for each in says] == [each["concept_id"] for each in chains]
    first, second = sorted(
        says, key=lambda each: "another chain took it" in [of.why for of in each.decision.passed_over]
    )
    taken = [of.concept_id for of in second.decision.passed_over if of.why == "another chain took it"]
    assert taken == [first.decision.concept_id]
    assert first.decision.score >= second.decision.score
    assert len(second.decision.passed_over) == len(first.decision.passed_over) == 4
    times = {at.hour for (at,) in here.rows("SELECT scheduled_for FROM social_posts")}
    assert times == {soon.hour, later.hour}
    with here.app.db.transaction(SYSTEM) as tx:
        [job_id] = [row[0] for row in here.rows("SELECT id FROM job_queue WHERE job_type LIKE 'generation.g%%'")]
        assert {each["id"] for each in tx.autopilot.of_job(job_id)} == {each["id"] for each in chains}


def test_a_chain_goes_on_each_minute_although_its_jobs_begin_late(here: AutopilotStage):
    """A link that began some seconds after its minute is over when the next one comes."""
    tenant_id = here.tenant()
    here.minute()
    stages = []
    for _ in range(2):
        here.posts.later(seconds=-2)
        here.minute()
        stages.append(here.chains(tenant_id)[0]["stage"])

    assert stages == ["video", "posts"]


def test_with_approve_everything_waits_for_a_person(here: AutopilotStage):
    tenant_id = here.tenant(Mode.APPROVE)
    here.until(tenant_id, "posts")

    here.posts.later(hours=30)
    here.minute()
    assert here.made(tenant_id) == [("bluesky", "needs_approval")]

    [(post_id,)] = here.rows("SELECT id FROM social_posts")
    posts.approve(here.app, tenant_id, post_id)
    here.until(tenant_id, "done", minutes=20, minutes_a_step=15)
    assert here.made(tenant_id)[0] == ("bluesky", "published")


def test_what_nobody_approves_is_cancelled_in_the_end(here: AutopilotStage):
    tenant_id = here.tenant(Mode.APPROVE)
    here.until(tenant_id, "posts")
    here.posts.later(days=17)

    [chain] = here.until(tenant_id, "stopped", minutes=3)[-1:]

    assert chain["reason"].startswith("nothing was posted: ")
    assert here.made(tenant_id)[0] == ("bluesky", "cancelled")


def test_no_account_is_posted_to_whose_consent_was_withdrawn(here: AutopilotStage):
    """Before the posts are made it is left out of them; after that, what nobody has claimed is cancelled."""
    tenant_id = here.tenant(platforms=("bluesky", "tiktok"))
    bluesky, tiktok = here.accounts[tenant_id]
    here.until(tenant_id, "video")
    assert here.withdraw(tenant_id, tiktok) == []
    here.until(tenant_id, "posts")
    assert here.made(tenant_id) == [("bluesky", "scheduled")]

    cancelled = here.withdraw(tenant_id, bluesky)

    assert len(cancelled or ()) == 1
    assert here.made(tenant_id) == [("bluesky", "cancelled")]
    [chain] = here.until(tenant_id, "stopped")
    assert "cancelled" in chain["reason"]
    here.posts.later(days=1)
    here.minute()
    assert "no account: none has its consent" in here.chains(tenant_id)[0]["reason"]
    assert not here.posts.posts()


@pytest.mark.parametrize("how", ["withdrawn", "off", "approve"])
def test_a_claimed_post_of_which_nothing_was_sent_is_held_back_too(here: AutopilotStage, how):
    """It may have waited for hours, for a place or for the platform."""
    tenant_id = here.tenant()
    here.until(tenant_id, "posts")
    here.posts.later(hours=2)
    with here.app.db.transaction(SYSTEM) as tx:
        job_id = posts_due.enqueue(tx)
    here.app.runner().run_one(job_id)
    assert here.made(tenant_id) == [("bluesky", "claimed")]

    if how == "withdrawn":
        here.withdraw(tenant_id, here.accounts[tenant_id][0])
    else:
        here.allow(tenant_id, mode=how)

    held = ("bluesky", "needs_approval" if how == "approve" else "cancelled")
    assert here.made(tenant_id) == [held]
    here.minute()
    here.minute()
    assert here.made(tenant_id) == [held]
    assert not here.posts.posts()
    if how == "approve":
        posts.approve(here.app, tenant_id, here.rows("SELECT id FROM social_posts")[0][0])
        here.until(tenant_id, "done", minutes=20, minutes_a_step=15)
        here.posts.assert_once()


def test_switched_off_it_stops_before_the_next_link_and_takes_back_what_waits(here: AutopilotStage):
    first, second = here.tenant(), here.tenant()
    here.until(first, "video")
    here.allow(first, mode=Mode.OFF)
    [chain] = here.until(first, "stopped")
    assert chain["reason"] == "the autopilot was switched off"
    assert not here.made(first)

    here.until(second, "posts")
    [held] = here.allow(second, mode=Mode.APPROVE)
    assert here.made(second) == [("bluesky", "needs_approval")]
    posts.approve(here.app, second, held)
    assert here.allow(second, mode=Mode.OFF) == [], "what a person approved is that person's"
    assert here.made(second) == [("bluesky", "scheduled")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ("status = 'needs_reconnect', reason = 'it was revoked'", "has to be connected again (it was revoked)"),
        ("disabled_at = now()", "our people let nothing be posted to"),
    ],
    ids=["lost", "disabled"],
)
def test_an_account_that_cannot_be_posted_to_is_left_out_and_named(here: AutopilotStage, changes, says):
    tenant_id = here.tenant(platforms=("bluesky", "tiktok"))
    here.until(tenant_id, "video")
    here.rows(f"UPDATE social_accounts SET {changes} WHERE id = %s RETURNING id", here.accounts[tenant_id][1])

    [chain] = here.until(tenant_id, "posts")

    assert here.made(tenant_id) == [("bluesky", "scheduled")]
    [line] = [message for kind, message in here.events(chain) if kind == "left_out"]
    assert line.startswith(f"not posted to {here.accounts[tenant_id][1]} on tiktok: ")
    assert says in line


def test_nothing_is_made_for_an_account_whose_owner_took_a_needed_choice_back(here: AutopilotStage):
    """TikTok wants a person to say who sees a post: without that the video could not be posted."""
    tenant_id = here.tenant(platforms=("tiktok",))
    with here.app.db.transaction(tenant_id) as tx:
        tx.social_accounts.change(tenant_id, here.accounts[tenant_id][0], settings={"privacy_level": None})

    [chain] = here.until(tenant_id, "stopped")

    assert "TikTok wants its owner to choose privacy_level" in chain["reason"]
    assert not links(here, tenant_id)


def test_every_account_that_had_consent_and_gets_no_post_is_named(here: AutopilotStage):
    """One is disconnected while the video is made, one's consent is withdrawn, and one's is there again in time."""
    tenant_id = here.tenant(platforms=("bluesky", "tiktok", "bluesky", "bluesky"))
    _, tiktok, other, again = here.accounts[tenant_id]
    here.until(tenant_id, "video")
    accounts.disconnect(here.app, tenant_id, tiktok)
    for account_id in (other, again):
        here.withdraw(tenant_id, account_id)
    assert here.withdraw(tenant_id, other) is None
    autopilot.consent(here.app, tenant_id, again, by="person:ada")
    [chain] = here.chains(tenant_id)
    before = autopilot.explain(here.app, tenant_id, chain["id"]).explanation.left_out
    assert [each.partition(": ")[2] for each in before] == [
        "the account was disconnected",
        "the consent for this account was withdrawn",
    ]

    [chain] = here.until(tenant_id, "posts")

    assert here.made(tenant_id) == [("bluesky", "scheduled")] * 2
    left_out = [message for kind, message in here.events(chain) if kind == "left_out"]
    assert [each.rpartition(": ")[2] for each in left_out] == [each.partition(": ")[2] for each in before]
    assert left_out[0].startswith(f"not posted to {tiktok} on tiktok: "), "one without a name is called by its id"
    withdrawn = [message for kind, message in here.events(chain) if kind == "withdrawn"]
    assert [each.partition(": ")[0] for each in withdrawn][:2] == [
        each.removeprefix("not posted to ").rpartition(": ")[0] for each in left_out
    ]
    assert len(withdrawn) == 3
    after = autopilot.explain(here.app, tenant_id, chain["id"]).explanation.left_out
    assert after == [each.removeprefix("not posted to ") for each in left_out]
    for account_id in (here.accounts[tenant_id][0], again):
        here.withdraw(tenant_id, account_id)
    [chain] = here.until(tenant_id, "stopped")
    why = autopilot.explain(here.app, tenant_id, chain["id"]).explanation.why
    assert why.count("cancelled (the consent for this account was withdrawn)") == 2


@pytest.mark.parametrize(
    ("how", "says"),
    [
        pytest.param({"platforms": ()}, "none has its consent", id="no consent"),
        pytest.param({"least_score": 100}, " of 100", id="no concept is good enough"),
        pytest.param({"columns": {"monthly_quota": 0}}, "0 of 0 left", id="no quota"),
    ],
)
def test_a_chain_that_cannot_go_on_says_why(here: AutopilotStage, how, says):
    tenant_id = here.tenant(**how)

    [chain] = here.until(tenant_id, "stopped")

    assert says in chain["reason"]
    assert here.events(chain)[-1] == ("stopped", chain["reason"])


def test_a_month_that_has_begun_and_is_not_written_yet_has_what_is_left_of_it(here: AutopilotStage):
    """Another program has used some of it since."""
    tenant_id = here.tenant(concepts_a_day=10)
    with here.app.db.transaction(SYSTEM) as tx:
        over = min(here.now, tx.now()) - timedelta(hours=1)
        tx.driver.execute(
            "UPDATE tenants SET quota_anchor = %(over)s, quota_period_start = %(over)s - interval '31 days',"
            " quota_reset_at = %(over)s, monthly_quota = 10, used_quota = 6 WHERE id = %(id)s",
            {"over": over, "id": tenant_id},
        )
    here.minute()
    query = "SELECT payload->'count' FROM job_queue WHERE tenant_id = %s AND job_type = 'generation.generate_concepts'"
    assert here.rows(query, tenant_id) == [(4,)]


def test_a_failed_render_stops_its_own_chain_only(here: AutopilotStage):
    tenant_id = here.tenant(videos_a_day=2)
    here.until(tenant_id, "video")
    query = "SELECT id FROM videos WHERE tenant_id = %s ORDER BY id LIMIT 1"
    [(video_id,)] = here.rows(query, tenant_id)
    here.rows("UPDATE videos SET status = 'failed', error_message = 'it broke' WHERE id = %s RETURNING id", video_id)

    chains = here.until(tenant_id, "posts", "stopped")

    assert sorted(each["stage"] for each in chains) == ["posts", "stopped"]
    assert [each["reason"] for each in chains if each["stage"] == "stopped"] == ["its video has failed: it broke"]


# --- money ------------------------------------------------------------------------------------------------------------


def test_many_chains_at_once_keep_to_the_budget(here: AutopilotStage):
    """Ten chains in eight threads, with money for three clips: the others are drawn, and none is doubled."""
    tenant_id = here.tenant(videos_a_day=10, concepts_a_day=20, provider="runway", usd=1000)
    here.minute()
    price = Decimal("0.60")
    assert {each["stage"] for each in here.chains(tenant_id)} == {"concepts"}
    here.allow(tenant_id, budget_usd=3 * price + Decimal("0.10"))
    with here.app.db.transaction(tenant_id) as tx:
        ids = [each["id"] for each in here.chains(tenant_id)]
        advance.enqueue_many(tx, [{"tenant_id": tenant_id, "chain_id": each} for each in ids])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: drain(here.app), range(8)))

    chains = here.chains(tenant_id)
    reserved = sum(each["reserved_usd"] for each in chains)
    budget = 3 * price + Decimal("0.10")
    assert 0 < reserved <= budget
    assert {each["stage"] for each in chains} == {"video"}
    assert links(here, tenant_id) == {"generation.generate_concepts": 1, "videos.render": 10}
    assert len({each["concept_id"] for each in chains}) == 10

    chains = here.until(tenant_id, "posts", "done", minutes=60)
    with here.app.db.transaction(tenant_id) as tx:
        spent = tx.autopilot.spent(tenant_id, here.now.date().replace(day=1))
    assert (spent.reserved, spent.spent) == (0, here.runway.charged_usd)
    assert spent.spent <= budget
    drawn = [kind for each in chains for kind, _ in here.events(each) if kind == "storyboard"]
    assert len(drawn) == sum(not each["spent_usd"] for each in chains)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        pytest.param("disabled", "runway is disabled here", id="disabled"),
        pytest.param("no key", "there is no key for runway here", id="no key"),
    ],
)
def test_a_provider_that_cannot_be_asked_is_waited_for_and_then_given_up(here: AutopilotStage, how, why):
    tenant_id = here.tenant(provider="runway", usd=100, budget_usd=Decimal(50))
    if how == "disabled":
        with here.app.db.transaction(SYSTEM) as tx:
            tx.video_providers.enable("runway", False)
    else:
        here.posts.app = replace(here.app, ports=replace(here.app.ports, clips={}))
    for _ in range(4):
        here.minute()
    [chain] = here.chains(tenant_id)
    assert (chain["stage"], chain["reason"]) == ("concepts", why)
    says = autopilot.explain(here.app, tenant_id, chain["id"]).explanation
    assert (says.stands, says.why) == (
        "the day's concepts are made; it waits for somebody who can make a video of the best",
        why,
    )
    assert f"now: {why}; a day waits up to 6 hours" in autopilot.show(here.app, tenant_id).next[1]

    [chain] = here.until(tenant_id, "stopped", minutes=10, minutes_a_step=60)

    assert chain["reason"] == f"given up after 6 hours: {why}"
    assert chain["reserved_usd"] == chain["spent_usd"] == 0


# --- deaths, and a database that goes back ---------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["COMMIT:before", "COMMIT:after"])
def test_a_death_at_any_link_neither_loses_nor_doubles_it(here: AutopilotStage, moment):
    """Every look at the chain dies once, before or after its commit; then it is taken up by another process."""
    tenant_id = here.tenant()
    here.minute()
    [chain] = here.chains(tenant_id)
    died = 0
    with cuts.installed():
        for _ in range(30):
            with here.app.db.transaction(tenant_id) as tx:
                job_id = advance.enqueue(tx, tenant_id=tenant_id, chain_id=chain["id"])
            died += _die(here, job_id, moment)
            here.posts.due()
            here.posts.turn()
            here.posts.later(minutes=20)
            chain = here.chains(tenant_id)[-1]
            if chain["stage"] == "done":
                break

    assert chain["stage"] == "done"
    assert died >= 4
    assert links(here, tenant_id) == {"generation.generate_concepts": 1, "videos.render": 1}
    assert here.made(tenant_id) == [("bluesky", "published")]
    here.posts.assert_once()


def _die(here, job_id, moment):
    runner = here.app.runner()
    beat = {"hostname": "tests", "pid": 0, "queues": (), "version": ""}
    with here.app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(runner.worker_id, **beat, lease=timedelta(minutes=1))
    try:
        with cuts.counting(cuts.Moments({moment: cuts.cut})):
            runner.run_one(job_id)
    except cuts.Cut:
        with here.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(runner.worker_id, **beat, lease=timedelta(seconds=-1))
        rescue(here.app.db, here.app.job_types)
        return True
    return False


def test_while_a_restore_is_open_nothing_is_begun_and_what_was_under_way_stops(here: AutopilotStage):
    tenant_id = here.tenant()
    here.until(tenant_id, "video")
    restore.begin(here.app, here.now - timedelta(hours=1))
    other = here.tenant()
    here.posts.later(minutes=11)
    here.minute()
    assert here.chains(tenant_id)[0]["stage"] == "video"
    assert not here.chains(other)

    restore.end(here.app)
    here.posts.later(minutes=11)
    here.minute()

    [[chain], [of_other]] = here.chains(tenant_id), here.chains(other)
    assert chain["stage"] == of_other["stage"] == "stopped"
    assert chain["reason"] == of_other["reason"]
    assert "the database was put back" in chain["reason"]
    here.posts.later(days=1)
    here.minute()
    assert len(here.chains(tenant_id)) == 2, "the next day begins as usual"


# --- days -------------------------------------------------------------------------------------------------------------


def test_days_that_nobody_began_are_there_with_the_reason(here: AutopilotStage):
    tenant_id = here.tenant()
    here.minute()
    here.posts.later(days=3)

    here.minute()

    chains = here.chains(tenant_id)
    assert [(chains[0]["day"] - each["day"]).days for each in chains] == [0, 1, 2, 3]
    assert [each["stage"] == "stopped" for each in chains] == [False, True, True, False]
    assert {each["reason"] for each in chains[1:3]} == {"no scheduler worked while this day was to be begun"}


def test_switched_off_and_on_again_within_a_day_it_makes_no_second_video(here: AutopilotStage):
    tenant_id = here.tenant()
    here.until(tenant_id, "posts")

    for _ in range(2):
        here.allow(tenant_id, mode=Mode.OFF)
        here.minute()
        here.allow(tenant_id, mode=Mode.AUTO)
        here.minute()

    assert len(here.chains(tenant_id)) == 1
    assert links(here, tenant_id) == {"generation.generate_concepts": 1, "videos.render": 1}


def test_the_tenants_own_daily_concepts_are_used(here: AutopilotStage):
    tenant_id = here.tenant(columns={"daily_enabled": True, "daily_count": 6})
    here.minute()
    assert "daily concepts" in here.chains(tenant_id)[0]["reason"]
    assert not links(here, tenant_id)
    with here.app.db.transaction(SYSTEM) as tx:
        daily.enqueue(tx)

    here.until(tenant_id, "posts", minutes=60)

    assert links(here, tenant_id) == {"generation.generate_concepts": 1, "videos.render": 1}


def test_a_tenant_whose_people_are_banned_or_gone_is_served_no_more(here: AutopilotStage):
    tenant_id = here.tenant()
    here.until(tenant_id, "posts")
    query = "INSERT INTO users (id, tenant_id, clerk_id, email, banned) VALUES (%s, %s, 'u', 'a@b', true) RETURNING id"
    here.rows(query, uuid4(), tenant_id)
    here.posts.later(minutes=16)

    [chain] = here.until(tenant_id, "stopped")

    assert "everybody who answers for the tenant is banned" in here.events(chain)[-2][1]
    assert here.made(tenant_id) == [("bluesky", "cancelled")]


def test_what_happened_to_chains_is_kept_for_half_a_year(here: AutopilotStage):
    tenant_id = here.tenant(platforms=())
    [chain] = here.until(tenant_id, "stopped")
    for days, kept in ((179, 2), (2, 0)):
        here.posts.later(days=days)
        with here.app.db.transaction(SYSTEM) as tx:
            prune.enqueue(tx)
        here.posts.turn()
        assert len(here.events(chain)) == kept
