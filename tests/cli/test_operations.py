"""What operators see and decide: queues, schedules, workers, and why a job is where it is. On a real database."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from apscheduler.triggers.cron import CronTrigger

from cli.commands.schedules import timetable
from db.queue.claim import known_types
from db.queue.enqueue import NewJob
from db.queue.transitions import FailedAttempt
from db.transaction import SYSTEM
from domain.billing.tiers import TENANT_WEIGHTS
from domain.text.readable import span
from scheduler.schedule import SCHEDULES, Calendar, runs_between
from tests.builders import a_tenant, job_row, new_id
from tests.cli.shell import Shell, working
from tests.drain import drain as drain_app
from tests.wait import until
from workers.app import App
from workers.engine.job import Context, job
from workers.engine.queues import QUEUES
from workers.jobs.billing import apply_stripe_event
from workers.jobs.quota import reset_due

NOBODY = uuid4()
MINUTE = timedelta(minutes=1)


class Lease(NamedTuple):
    """A running job, as far as a transition has to know it."""

    id: UUID
    lease_token: int
    queue: str = "default"
    limited: bool = False


def a_job(app: App, **columns: Any) -> UUID:
    job_id: UUID = columns.pop("id", None) or new_id()
    job = NewJob(**{"id": job_id, "job_type": "quota.reset_due", "queue": "default"} | columns)
    with app.db.transaction(SYSTEM) as tx:
        return tx.enqueue(job)


def a_worker(app: App, *, lease: timedelta = MINUTE, queues: tuple[str, ...] = tuple(QUEUES), **more: Any) -> UUID:
    worker_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.beat(worker_id, hostname="dyno-1", pid=42, queues=queues, version=app.version, lease=lease)
    return worker_id


def running(app: App, worker_id: UUID, *job_ids: UUID) -> None:
    release = known_types({name: job_type.terms for name, job_type in app.job_types.items()})
    with app.db.transaction(SYSTEM) as tx:
        assert len(tx.claims.claim(job_ids, worker_id, release)) == len(job_ids)


def sql(app: App, statement: str, *values: object) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(statement.encode(), values)


# --- queues


def queue(viral: Shell, name: str) -> dict[str, Any]:
    return next(row for row in viral.json("queues", "list") if row["queue"] == name)


def test_every_queue_is_listed_with_what_is_in_it(viral: Shell, app: App) -> None:
    assert [row["queue"] for row in viral.json("queues", "list")] == list(QUEUES)
    worker_id = a_worker(app, queues=("default",))
    waiting, runs = a_job(app), a_job(app)
    running(app, worker_id, runs)
    a_job(app, delay=timedelta(hours=1))
    a_job(app, queue="of_the_dashboard")
    sql(app, "UPDATE job_queue SET scheduled_for = now() - interval '2 hours' WHERE id = %s", waiting)
    found = queue(viral, "default")
    assert [found[name] for name in ("waiting", "scheduled", "running", "workers")] == [1, 1, 1, 1]
    assert 7200 <= found["oldest_age"] < 7300
    assert [queue(viral, "of_the_dashboard")[name] for name in ("waiting", "workers")] == [1, 1]
    assert queue(viral, "events")["workers"] == 0
    header, *lines = viral.done("queues", "list").lines
    assert header.split() == ["queue", "waiting", "scheduled", "running", "oldest_age", "workers", "late"]
    assert lines[1].split() == ["default", "1", "1", "1", "2h", "1", "over", "1m"]


def test_a_paused_queue_begins_no_job_until_it_is_resumed(viral: Shell, app: App) -> None:
    job_id = a_job(app)
    result = viral.done("queues", "pause", "default").out
    assert result == "default is paused; what runs goes on. To undo it: `viral queues resume default`\n"
    since = queue(viral, "default")["paused_at"]
    assert drain_app(app) == 0
    assert "already" in viral.done("queues", "pause", "default").out
    assert queue(viral, "default")["paused_at"] == since
    assert viral.done("queues", "resume", "default").lines == ["default goes on"]
    assert drain_app(app) == 1
    assert job_row(app, job_id)["status"] == "completed"
    assert "default is not paused" in viral.refused("queues", "resume", "default")


def test_one_tenant_can_be_paused_in_a_queue(viral: Shell, app: App) -> None:
    ada = a_tenant(app)
    assert f"tenant {ada} in default is paused" in viral.done("queues", "pause", "default", "--tenant", ada).out
    [decided] = queue(viral, "default")["tenants"]
    assert (decided["tenant_id"], decided["max_running"]) == (str(ada), None)
    assert queue(viral, "default")["paused_at"] is None
    heading, header, line = viral.done("queues", "list").lines[-3:]
    assert heading == "Decided of single tenants"
    assert (header.split(), line.split()[:2]) == (["queue", "tenant_id", "paused_at"], ["default", str(ada)])
    viral.done("queues", "pause", "default")
    result = viral.done("queues", "resume", "default", "--tenant", ada).out
    assert "goes on, but the whole queue is paused: `viral queues resume default`" in result
    assert f"tenant {ada} in default is not paused" in viral.refused("queues", "resume", "default", "--tenant", ada)


def test_limits_are_set_kept_and_lifted(viral: Shell, app: App) -> None:
    def limit(*words: object) -> str:
        return viral.done("queues", "limit", "llm", *words).out.strip()

    ada = a_tenant(app)
    assert limit("--running", 8) == "llm: at most 8 at once"
    assert limit("--per-tenant", 2) == "llm: at most 8 at once, at most 2 of each tenant"
    assert limit("--running", 9) == "llm: at most 9 at once, at most 2 of each tenant"
    assert limit("--tenant", ada, "--running", 4) == f"tenant {ada} in llm: at most 4 at once"
    found = queue(viral, "llm")
    assert (found["max_running"], found["max_running_per_tenant"]) == (9, 2)
    assert [each["max_running"] for each in found["tenants"]] == [4]
    assert limit("--tenant", ada, "--none") == f"tenant {ada} in llm: no limit"
    assert limit("--none") == "llm: no limit"
    assert (queue(viral, "llm")["max_running"], queue(viral, "llm")["tenants"]) == (None, [])


def test_a_limit_does_not_end_a_pause(viral: Shell, app: App) -> None:
    viral.done("queues", "pause", "llm")
    viral.done("queues", "limit", "llm", "--running", 2)
    viral.done("queues", "limit", "llm", "--none")
    assert queue(viral, "llm")["paused_at"] is not None


@pytest.mark.parametrize("words", [("pause",), ("resume",), ("limit", "--running", 1)])
def test_a_queue_or_tenant_that_nobody_knows(viral: Shell, app: App, words: tuple[object, ...]) -> None:
    verb, *options = words
    a_job(app, queue="of_the_dashboard")
    assert "QUEUE: no such queue; there are events, default" in viral.senseless("queues", verb, "nope", *options)
    assert "social, of_the_dashboard" in viral.senseless("queues", verb, "nope", *options)
    assert "no tenant has the id" in viral.refused("queues", verb, "default", "--tenant", NOBODY, *options)


def test_a_list_of_the_jobs_of_a_queue_that_nobody_knows(viral: Shell, app: App) -> None:
    a_job(app, queue="of_the_dashboard")
    viral.done("jobs", "list", "--queue", "of_the_dashboard")
    assert "knows no nope; it knows events, default" in viral.senseless("jobs", "list", "--queue", "nope")


def test_of_queues_that_others_made_up_an_error_names_a_few(viral: Shell, app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("INSERT INTO job_queue (job_type, queue) SELECT 'x', 'q' || n FROM generate_series(1, 500) n")
    error = viral.senseless("queues", "pause", "nope")
    assert "no such queue; there are events, default" in error
    assert " more" in error
    assert len(error) < 1_000


def test_a_queue_that_another_program_named_can_be_paused(viral: Shell, app: App) -> None:
    a_job(app, queue="of_the_dashboard")
    viral.done("queues", "pause", "of_the_dashboard")
    assert drain_app(app) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "give the first, the second or both; or the third"),
        (["--none", "--running", "1"], "give the first, the second or both; or the third"),
        (["--running", "0"], "--running"),
        (["--per-tenant", "1", "--tenant", str(NOBODY)], "--per-tenant: a tenant's own limit is --running"),
        (["--running", "1", "--tenant", "abc"], "--tenant"),
    ],
)
def test_a_senseless_limit(away: Shell, options: list[str], why: str) -> None:
    assert why in away.senseless("queues", "limit", "llm", *options)


# --- schedules

HOURLY = next(schedule for schedule in SCHEDULES if schedule.name == "quota.reset_due")


def a_calendar(app: App) -> Calendar:
    return Calendar(app.db, (HOURLY,))


def schedule(viral: Shell, name: str = "quota.reset_due") -> dict[str, Any]:
    return next(row for row in viral.json("schedules", "list") if row["name"] == name)


def seen_hours_ago(app: App, hours: int) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.schedule_runs.register("quota.reset_due", tx.now() - timedelta(hours=hours))


def test_schedules_are_listed_with_their_timetable(viral: Shell, app: App) -> None:
    assert [row["name"] for row in viral.json("schedules", "list")] == [each.name for each in SCHEDULES]
    row = schedule(viral)
    assert (row["timetable"], row["catch_up"], row["last_fire"], row["overdue_since"]) == (
        *("0 * * * *", "latest"),
        *(None, None),
    )
    assert row["next_fire"].endswith(":00:00Z")
    header, *lines = viral.done("schedules", "list").lines
    assert header.split() == ["name", "timetable", "catch_up", "next_fire"]
    assert len(lines) == len(SCHEDULES)


def test_what_nobody_fires_is_overdue(viral: Shell, app: App) -> None:
    seen_hours_ago(app, 3)
    assert schedule(viral)["last_fire"] is None
    assert schedule(viral)["overdue_since"].endswith(":00:00Z")
    assert "`viral scheduler`" in viral.done("schedules", "list").lines[-1]
    assert a_calendar(app).fire() == 1
    row = schedule(viral)
    assert row["overdue_since"] is None
    assert job_row(app, UUID(row["last_job_id"]))["job_type"] == "quota.reset_due"


def test_the_doctor_notices_that_no_scheduler_runs(viral: Shell, app: App) -> None:
    def verdict() -> tuple[str, str]:
        return next((each["state"], each["says"]) for each in viral.json("doctor") if each["check"] == "scheduler")

    assert verdict() == ("warn", "none has ever run: start one with `viral scheduler`")
    seen_hours_ago(app, 3)
    assert verdict() == ("warn", "quota.reset_due is overdue, so none runs: start one with `viral scheduler`")
    a_calendar(app).fire()
    assert verdict() == ("ok", "runs every schedule in time")


def finding(viral: Shell, check: str) -> tuple[str, str]:
    return next((each["state"], each["says"]) for each in viral.json("doctor") if each["check"] == check)


def test_fires_of_a_time_to_come_are_told_before_and_after_they_are_set_aside(viral: Shell, app: App) -> None:
    seen_hours_ago(app, 3)
    with app.db.transaction(SYSTEM) as tx:
        tx.schedule_runs.register("quota.reset_due", tx.now() + timedelta(days=400))
    assert schedule(viral)["overdue_since"] is not None
    for count in (1, 0):
        assert schedule(viral)["ahead"] == 1
        assert viral.done("schedules", "list").lines[-1] == (
            "Runs are recorded for a time still to come: a clock ran ahead, or a backup is of another time; "
            "the schedules go on by the clock of the database."
        )
        state, says = finding(viral, "calendar")
        assert state == "warn"
        assert says.startswith("runs of quota.reset_due are recorded for a time still to come")
        assert a_calendar(app).fire() == count
    assert schedule(viral)["overdue_since"] is None


def test_a_fire_whose_job_is_gone_is_told_until_the_next(viral: Shell, app: App) -> None:
    seen_hours_ago(app, 3)
    a_calendar(app).fire()
    assert schedule(viral)["last_job"] == "pending"
    assert finding(viral, "calendar") == ("ok", "every last run has its job, and none lies in the future")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM job_queue")
    assert schedule(viral)["last_job"] == "gone"
    gone = "the job of the last run of quota.reset_due is gone: `viral schedules fire NAME` makes another"
    assert finding(viral, "calendar") == ("warn", gone)


def test_time_zones_that_nobody_knows_are_told(viral: Shell, app: App) -> None:
    a_tenant(app)
    assert finding(viral, "time zones") == ("ok", "known to this system")
    odd = a_tenant(app, timezone="Mars/Phobos")
    assert finding(viral, "time zones")[1].startswith("1 row names 'Mars/Phobos': UTC is used;")
    for n in range(6):
        a_tenant(app, timezone="Europe/Berlin" + n * "\n")
    state, says = finding(viral, "time zones")
    assert state == "warn"
    assert says.startswith(r"6 rows name 'Europe/Berlin\n', 'Europe/Berlin\n\n',")
    assert " and 1 more: UTC is used; `viral generations daily TENANT --zone ZONE` sets a tenant's" in says
    [line] = [line for line in viral.done("tenants", "show", odd).lines if line.startswith("timezone")]
    assert line.endswith("'Mars/Phobos', which is no zone that this system knows: UTC is used")
    assert viral.json("tenants", "show", odd)["timezone_known"] is False
    assert "is no zone that this system knows" in viral.senseless("generations", "daily", odd, "--zone", "Mars/Phobos")
    viral.done("generations", "daily", odd, "--zone", "Europe/Berlin")
    assert viral.json("tenants", "show", odd)["timezone_known"] is True


def test_the_next_fires_of_one_and_of_all(away: Shell) -> None:
    before = datetime.now(UTC)
    rows = away.json("schedules", "next", "upkeep.prune", "--count", 3)
    moments = [datetime.fromisoformat(row["fire_at"]) for row in rows]
    assert [each.minute for each in moments] == [30] * 3
    assert before < moments[0] <= before + timedelta(hours=1) + MINUTE
    header, *lines = away.done("schedules", "next", "-n", 400).lines
    assert (header.split(), len(lines)) == (["fire_at", "name"], 400)
    assert lines == sorted(lines)
    shown = [(datetime.fromisoformat(" ".join(line.split()[:2])), line.split()[-1]) for line in lines]
    first, last = shown[0][0], shown[-1][0]
    whole = {each.name for each in SCHEDULES if any(runs_between(each.trigger, first - MINUTE, last - MINUTE))}
    assert whole <= {name for _, name in shown} <= {each.name for each in SCHEDULES}
    assert len(whole) >= 6  # the last minute may be cut, and what runs once a day may be later


def test_a_fire_by_hand_makes_its_job_and_is_remembered(viral: Shell, app: App) -> None:
    [job_id] = viral.done("schedules", "fire", "quota.reset_due").lines
    assert job_row(app, UUID(job_id))["status"] == "pending"
    row = schedule(viral)
    assert (row["last_by_hand_job_id"], row["last_fire"]) == (job_id, None)
    again = viral.json("schedules", "fire", "quota.reset_due")
    assert schedule(viral)["last_by_hand_job_id"] == again["id"] != job_id
    assert schedule(viral)["last_by_hand"] == again["fire_at"]


def test_the_timetable_does_not_notice_a_fire_by_hand(viral: Shell, app: App) -> None:
    """Neither is a missed fire swallowed by it, nor does a schedule begin with it, nor is the next one moved."""
    with app.db.transaction(SYSTEM) as tx:
        now = tx.now()
    top = now.replace(minute=0, second=0, microsecond=0)
    seen_hours_ago(app, 2)
    viral.done("schedules", "fire", "quota.reset_due")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.schedule_runs.last(now)["quota.reset_due"] < now - timedelta(hours=1)
    assert a_calendar(app).fire() == 1, "the missed one"
    assert schedule(viral)["last_fire"] >= f"{top:%Y-%m-%dT%H:%M:%S}Z"
    viral.done("schedules", "fire", "quota.reset_due")
    soon = Calendar(app.db, (HOURLY,), clock=lambda: top + timedelta(hours=2))
    assert soon.fire() == 1, "the next one"


def test_a_fire_by_hand_is_no_first_sight_of_a_schedule(viral: Shell, app: App) -> None:
    viral.done("schedules", "fire", "quota.reset_due")
    with app.db.transaction(SYSTEM) as tx:
        assert "quota.reset_due" not in tx.schedule_runs.last(tx.now())


def test_a_schedule_that_nobody_knows(away: Shell) -> None:
    for verb in ("next", "fire"):
        text = away.senseless("schedules", verb, "nope")
        assert f"NAME: no such schedule; there are {', '.join(each.name for each in SCHEDULES)}" in text


@pytest.mark.parametrize("written", ["0 * * * *", "*/5 3 1 */2 mon-fri", "30 3 * * *"])
def test_a_timetable_is_told_as_crontab_writes_it(written: str) -> None:
    assert timetable(CronTrigger.from_crontab(written, timezone="UTC")) == written


def test_what_crontab_cannot_write_is_told_in_full() -> None:
    assert timetable(CronTrigger(second="*/10", timezone="UTC")) == "cron[second='*/10']"


# --- workers


def test_workers_are_listed_alive_draining_and_dead(viral: Shell, app: App) -> None:
    assert viral.done("workers", "list").out.startswith("No worker process has signed on")
    dead, draining, alive = a_worker(app, lease=-MINUTE), a_worker(app), a_worker(app, queues=("events", "default"))
    with app.db.transaction(SYSTEM) as tx:
        tx.workers.set_draining(draining)
    running(app, alive, a_job(app))
    rows = {row["id"]: row for row in viral.json("workers", "list")}
    assert {each: row["state"] for each, row in rows.items()} == {
        str(dead): "dead",
        str(draining): "draining",
        str(alive): "alive",
    }
    assert (rows[str(alive)]["running"], rows[str(alive)]["queues"]) == (1, ["events", "default"])
    assert 0 <= rows[str(alive)]["heartbeat_age"] < 60
    header, first, *_ = viral.done("workers", "list").lines
    assert header.split()[:4] == ["hostname", "pid", "state", "running"]
    assert first.split()[:6] == ["dyno-1", "42", "alive", "1", "events", "default"]
    assert first.split()[-1] == str(alive)


# --- jobs explain


def codes(viral: Shell, job_id: UUID) -> list[str]:
    return [reason["code"] for reason in viral.json("jobs", "explain", job_id)["reasons"]]


def test_each_state_of_a_job_is_explained(viral: Shell, app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        failed = apply_stripe_event.enqueue(tx, event_id=NOBODY)
        completed = reset_due.enqueue(tx)
    drain_app(app)
    assert codes(viral, completed) == ["completed"]
    heading, line = viral.done("jobs", "explain", failed).lines
    assert heading == "billing.apply_stripe_event on events: failed"
    assert f"UnknownEvent: no event has the id {NOBODY}" in line
    assert f"`viral jobs retry {failed}`" in line
    cancelled = a_job(app)
    viral.done("jobs", "cancel", cancelled)
    assert codes(viral, cancelled) == ["cancelled"]
    runs, lost = a_job(app), a_job(app)
    running(app, a_worker(app), runs)
    running(app, a_worker(app, lease=-MINUTE), lost)
    viral.done("jobs", "cancel", runs)
    assert codes(viral, runs) == ["running", "alive", "cancel_requested", "deadline"]
    assert codes(viral, lost) == ["running", "lost"]


def test_a_job_that_is_not_due_is_explained(viral: Shell, app: App) -> None:
    a_worker(app)
    assert codes(viral, a_job(app, delay=MINUTE)) == ["scheduled"]
    worker_id = a_worker(app)
    for outcome, counted, code in (("failed", True, "backoff"), ("snoozed", False, "snoozed")):
        job_id = a_job(app)
        running(app, worker_id, job_id)
        attempt = FailedAttempt(outcome, "ProviderUnavailable", "come back later")
        lease = Lease(job_id, job_row(app, job_id)["lease_token"])
        with app.db.transaction(SYSTEM) as tx:
            assert tx.transitions.reschedule(lease, attempt, MINUTE, counted=counted)
        [reason] = viral.json("jobs", "explain", job_id)["reasons"]
        assert reason["code"] == code
        assert "come back later" in reason["says"]


def test_a_job_that_operators_hold_back_is_explained(viral: Shell, app: App) -> None:
    ada, worker_id = a_tenant(app), a_worker(app)
    first, held = a_job(app, tenant_id=ada), a_job(app, tenant_id=ada)
    assert codes(viral, held) == ["waiting"]
    viral.done("queues", "limit", "default", "--running", 1, "--per-tenant", 1)
    running(app, worker_id, first)
    assert codes(viral, held) == ["limit", "limit"]
    viral.done("queues", "pause", "default", "--tenant", ada)
    viral.done("queues", "pause", "default")
    assert codes(viral, held) == ["paused", "paused", "limit", "limit"]


def test_a_job_that_another_holds_back_is_explained(viral: Shell, app: App) -> None:
    worker_id = a_worker(app)
    first, second, third = (a_job(app, ordering_key="cus_ada") for _ in range(3))
    assert codes(viral, first) == ["waiting"]
    [reason] = viral.json("jobs", "explain", third)["reasons"]
    assert reason["code"] == "ordered"
    assert f"{first} (pending) and 1 more have not ended" in reason["says"]
    running(app, worker_id, first)
    assert f"{first} (running) has not ended" in viral.done("jobs", "explain", second).out


def test_a_job_of_another_release_is_explained(viral: Shell, app: App) -> None:
    a_worker(app)
    assert codes(viral, a_job(app, job_type="videos.rerender")) == ["unknown_type"]
    assert codes(viral, a_job(app, payload_version=9)) == ["newer_payload"]


def test_a_job_that_nobody_works_on_is_explained(viral: Shell, app: App) -> None:
    job_id, elsewhere = a_job(app), a_job(app, queue="of_the_dashboard")
    assert codes(viral, job_id) == ["waiting", "no_worker"]
    a_worker(app, queues=("events",))
    assert "of 1 live worker processes none works on the queue default" in viral.done("jobs", "explain", job_id).out
    a_worker(app, queues=("default",))
    assert codes(viral, job_id) == codes(viral, elsewhere) == ["waiting"]


def test_a_job_that_nobody_wakes_is_explained(viral: Shell, app: App) -> None:
    a_worker(app)
    job_id = a_job(app)
    sql(app, "UPDATE job_queue SET wake_at = now() - interval '1 minute' WHERE id = %s", job_id)
    assert codes(viral, job_id) == ["waiting", "no_scheduler"]
    other = a_job(app, delay=MINUTE)
    assert codes(viral, other) == ["scheduled", "no_scheduler"]


def test_a_job_that_is_not_there_is_one_line(viral: Shell) -> None:
    assert "no job has the id" in viral.refused("jobs", "explain", NOBODY)


def test_the_jobs_ahead_are_those_that_would_be_dispatched_before_it(viral: Shell, app: App) -> None:
    """While nothing runs and nothing is added, what is ahead of a job is what the dispatcher would send before it."""
    agency, free = a_tenant(app, subscription_tier="AGENCY"), a_tenant(app)
    for n, tenant_id in enumerate((agency, free, None, free, agency, agency, free, None, agency)):
        a_job(app, tenant_id=tenant_id, priority=5 if n % 4 else 3, cost=1 + n % 3)
    paused = a_tenant(app)
    a_job(app, tenant_id=paused)
    viral.done("queues", "pause", "default", "--tenant", paused)
    running(app, a_worker(app), a_job(app, tenant_id=agency, cost=4))
    with app.db.transaction(SYSTEM) as tx:
        line = [ready.job_id for ready in tx.dispatch.next("default", 1000, TENANT_WEIGHTS)]
        rows = [row for job_id in line if (row := tx.jobs.get(UUID(job_id))) is not None]
        places = [tx.explain.ahead(row, TENANT_WEIGHTS) for row in rows]
    assert len(line) == 9
    assert [place and place.more_urgent + place.of_its_tenant + place.of_others for place in places] == list(range(9))


# --- jobs prune, and what few jobs have


def test_pruning_by_hand_is_a_job_of_its_type(viral: Shell, app: App) -> None:
    [job_id] = viral.done("jobs", "prune").lines
    assert job_row(app, UUID(job_id))["job_type"] == "upkeep.prune"
    with working(app):
        assert viral.json("jobs", "prune", "--wait")["status"] == "completed"
    assert "'--older-than': '5' is no duration" in viral.senseless("jobs", "prune", "--older-than", "5")


def test_what_is_pruned_by_age_is_for_the_job_type_to_say(viral: Shell, app: App) -> None:
    [job_id] = viral.done("jobs", "prune", "--older-than", "90d").lines
    assert job_row(app, UUID(job_id))["payload"] == {"older_than": "P90D"}


def test_the_special_about_a_job_is_shown_where_there_is_something(viral: Shell, app: App) -> None:
    plain = a_job(app)
    assert not {"cost", "snoozes", "ordering_key"} & set(viral.done("jobs", "list").lines[0].split())
    assert "snoozes" not in viral.done("jobs", "show", plain).out
    special = a_job(app, ordering_key="cus_ada", cost=7)
    sql(app, "UPDATE job_queue SET snoozes = 2 WHERE id = %s", special)
    header, first, second = viral.done("jobs", "list").lines
    assert header.split()[-3:] == ["ordering_key", "cost", "snoozes"]
    assert first.split()[-3:] == ["cus_ada", "7", "2"]
    assert second.split()[-3:] == ["-", "-", "-"]
    shown = [line.split() for line in viral.done("jobs", "show", special).lines]
    assert ["cost", "7"] in shown
    assert ["snoozes", "2"] in shown
    assert viral.json("jobs", "show", plain)["cost"] == 1


@pytest.mark.parametrize(
    ("seconds", "result"),
    [(0.4, "0s"), (-3, "0s"), (59, "59s"), (184, "3m 4s"), (7200, "2h"), (7205, "2h"), (90000, "1d 1h")],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, result: str) -> None:
    assert span(timedelta(seconds=seconds)) == result


# --- retry, in order


def test_retried_jobs_of_one_ordering_key_run_in_their_order_however_they_are_named(viral: Shell, app: App) -> None:
    ran: list[UUID] = []
    probe = job("testing.ordered", system=True)(lambda ctx: _note(ctx, ran))
    ordered = replace(app, job_types={"testing.ordered": probe})
    jobs = [a_job(app, job_type="testing.ordered", ordering_key="k") for _ in range(5)]
    sql(app, "UPDATE job_queue SET status = 'failed', completed_at = now()")
    # A worker takes what it is notified of at once: none may be due before all are.
    named = [jobs[n] for n in (2, 1, 0, 4, 3)]
    with working(ordered):
        result = viral.done("jobs", "retry", *named)
        until(lambda: len(ran) == 5, "the jobs to run")
    assert ran == jobs
    assert result.lines == [f"{job_id}  due again" for job_id in named]


def _note(ctx: Context, ran: list[UUID]) -> None:
    ran.append(ctx.job.id)
    with ctx.finish():
        pass


def test_who_retries_a_job_is_told_that_later_ones_of_its_key_have_run(viral: Shell, app: App) -> None:
    first, second, third = (a_job(app, ordering_key="k") for _ in range(3))
    other = a_job(app, ordering_key="other")
    sql(app, "UPDATE job_queue SET status = 'failed', completed_at = now() WHERE id IN (%s, %s)", first, other)
    sql(app, "UPDATE job_queue SET status = 'completed', completed_at = now() WHERE id IN (%s, %s)", second, third)
    overtaken = "2 later jobs of its ordering key have run already"
    assert viral.json("jobs", "explain", first)["reasons"][-1]["code"] == "overtaken"
    assert [reason["code"] for reason in viral.json("jobs", "explain", other)["reasons"]] == ["failed"]
    result = viral.done("jobs", "retry", first, other).lines
    assert result[0].startswith(f"{first}  due again; {overtaken}")
    assert result[1] == f"{other}  due again"
    assert overtaken in viral.json("jobs", "explain", first)["reasons"][-1]["says"]


# --- what is typed


@pytest.mark.parametrize(
    "words",
    [
        *(("jobs", "prune", "--older-than", length) for length in ("-1", "-1d", "1", "1e9d", "999999w", "inf", "")),
        *(("jobs", "enqueue", "upkeep.prune", "--in", length) for length in ("-5s", "3651d", "1.5h")),
        *(("jobs", "enqueue", "upkeep.prune", "--at", time) for time in ("0001-01-01", "9999-12-31T23:59Z", "1e12")),
        *(("jobs", "enqueue", "upkeep.prune", "--priority", n) for n in ("-1", "101", "2148", "99999999999999999999")),
        *(
            ("jobs", "enqueue", "upkeep.prune", "--payload", n)
            for n in ('{"n": Infinity}', '{"n": 1e999}', '{"n": NaN}')
        ),
        ("jobs", "enqueue", "upkeep.prune", "--payload", '{"n": ' + "[" * 5000 + "]" * 5000 + "}"),
        ("jobs", "enqueue", "upkeep.prune", "--payload", '{"n": ' + "9" * 5000 + "}"),
        *(("jobs", "list", "--limit", n) for n in ("0", "-1", "10001", "99999999999999999999")),
        *(("queues", "limit", "llm", "--running", n) for n in ("0", "-1", "2147483648")),
        *(("queues", "limit", "llm", "--per-tenant", n) for n in ("0", "-1", "2147483648")),
        *(("schedules", "next", "-n", n) for n in ("0", "-1", "1001")),
        *(("web", "--port", n) for n in ("-1", "65536")),
    ],
    ids=lambda words: " ".join(words)[:60],
)
def test_numbers_and_durations_out_of_bounds_make_no_sense(away: Shell, words: tuple[str, ...]) -> None:
    """Told before anything is asked of anybody, in one line that names the option."""
    [line] = away.senseless(*words).splitlines()
    assert line.startswith("viral: Invalid value for ")


@pytest.mark.parametrize("length", ["-PT1S", "-P1D", "P99999D"])
def test_a_job_is_not_pruned_by_what_is_no_age(viral: Shell, app: App, length: str) -> None:
    old = a_job(app)
    sql(app, "UPDATE job_queue SET status = 'completed', completed_at = now() - interval '1 day'")
    with working(app):
        result = viral("jobs", "enqueue", "upkeep.prune", f"older_than={length}", "--wait")
    assert result.code == 1
    assert "older_than is between 0 and 3650 days" in result.out
    assert job_row(app, old)["status"] == "completed"


def test_the_json_of_tenants_has_their_dates(viral: Shell, app: App) -> None:
    tenant_id = a_tenant(app, daily_last_on=date(2026, 11, 22))
    assert viral.json("tenants", "list")[0]["daily_last_on"] == "2026-11-22"
    assert viral.json("tenants", "show", tenant_id)["daily_last_on"] == "2026-11-22"
