"""What a preview shows is what is acted upon, each thing once and in order, whatever happens meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected
from domain.ops.actions import target
from domain.ops.event_filters import EventFilter
from domain.queue.job_filters import JobFilter
from tests.builders import job_row
from tests.workers.ops.test_actions import a_job
from workers.adapters.many_things import ManyThingsInDatabase
from workers.app import App
from workers.engine.outcomes import cancel
from workers.ops.actions import audit
from workers.ops.bulk import NoSuchBulk, begin, bulk, cancel_bulk, preview

ADA = "person:ada"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
FAILED = JobFilter(state="failed")


class Killed(BaseException):
    """As a process that is killed: nothing after it is run."""


def items(app: App, bulk_id: UUID) -> list[tuple[str, str | None]]:
    with app.db.transaction(SYSTEM) as tx:
        query = "SELECT target, outcome FROM bulk_items WHERE bulk_id = %s ORDER BY position"
        return tx.driver.execute(query, (bulk_id,)).fetchall()


MEANWHILE = ("nothing", "retried", "archived", "twin", "cancelled")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(MEANWHILE), min_size=1, max_size=7), st.integers(1, 3))
def test_what_was_previewed_is_acted_upon_and_nothing_else(
    app: App, drain: Callable[[], int], fates: list[str], at_once: int
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("DELETE FROM job_queue")
    ids = sorted(a_job(app, "failed", unique_key=str(number)) for number in range(len(fates)))
    keys = {job_id: job_row(app, job_id)["unique_key"] for job_id in ids}
    shown = preview(app, "job.retry", who=ADA, wanted=FAILED)
    assert shown.items == len(ids)
    assert [each for each, _ in items(app, shown.id)] == [f"job:{job_id}" for job_id in ids]
    later = a_job(app, "failed")
    for job_id, fate in zip(ids, fates, strict=True):
        if fate == "twin":
            a_job(app, unique_key=keys[job_id])
        with app.db.transaction(SYSTEM) as tx:
            if fate == "retried":
                tx.transitions.retry(job_id)
            elif fate == "cancelled":
                tx.driver.execute("UPDATE job_queue SET status = 'cancelled' WHERE id = %s", (job_id,))
            elif fate == "archived":
                tx.driver.execute("DELETE FROM job_queue WHERE id = %s", (job_id,))
    begin(app, shown.id, who=ADA, reason="try again")
    many = ManyThingsInDatabase(app.db, app.job_types, at_once)
    while many.act(shown.id, NOW):
        pass
    found = bulk(app, shown.id)
    refused = {"retried": "refused", "archived": "refused", "twin": "refused"}
    assert items(app, shown.id) == [
        (f"job:{job_id}", refused.get(fate, "done")) for job_id, fate in zip(ids, fates, strict=True)
    ]
    assert (found.state, found.left, len(found.refused)) == ("completed", 0, sum(fate in refused for fate in fates))
    assert job_row(app, later)["status"] == "failed"


def test_a_bulk_action_is_done_by_its_job_and_kept_in_the_audit(app: App, drain: Callable[[], int]) -> None:
    ids = sorted(a_job(app, "failed") for _ in range(5))
    wanted = replace(FAILED, job_type="quota.reset_due", since=timedelta(hours=1))
    shown = preview(app, "job.retry", who=ADA, wanted=wanted)
    assert shown.first == [(f"job:{each}", "quota.reset_due: failed") for each in ids]
    with pytest.raises(Rejected, match="say why"):
        begin(app, shown.id, who=ADA, reason=" ")
    with ThreadPoolExecutor(4) as pool:

        def once(_: int) -> bool:
            with suppress(Conflict):
                begin(app, shown.id, who="person:bob", reason="it's fixed")
                return True
            return False

        assert sum(pool.map(once, range(4))) == 1
    drain()
    found = bulk(app, shown.id)
    assert (found.state, found.counts, found.first) == ("completed", {"done": 5}, [])
    line = "viral jobs retry --status failed --since 1h --type quota.reset_due --reason 'it'\"'\"'s fixed'"
    assert found.shell == line
    [row] = audit(app, who="person:bob")
    assert (row["action"], row["outcome"], row["bulk_id"]) == ("job.retry", "done", shown.id)
    assert (row["says"], row["reason"]) == ("5 done", "it's fixed")
    assert all(job_row(app, job_id)["status"] == "completed" for job_id in ids)


def test_one_that_is_killed_between_and_within_its_commits_does_each_thing_once(app: App) -> None:
    ids = sorted(a_job(app, "failed") for _ in range(9))
    shown = preview(app, "job.retry", who=ADA, targets=[target(f"job:{each}") for each in reversed(ids)])
    begin(app, shown.id, who=ADA, reason="try")
    one, other = (ManyThingsInDatabase(app.db, app.job_types, 2) for _ in range(2))
    assert one.act(shown.id, NOW)
    with pytest.raises(Killed), app.db.transaction(SYSTEM) as tx:
        tx.actions.bulk(shown.id, lock=True)
        tx.transitions.retry(ids[2])
        raise Killed
    with ThreadPoolExecutor(2) as pool:
        while all(pool.map(lambda each: each.act(shown.id, NOW), (one, other))):
            pass
    assert items(app, shown.id) == [(f"job:{each}", "done") for each in ids]
    assert {job_row(app, each)["max_attempts"] for each in ids} == {3}
    assert not one.act(shown.id, NOW)


def test_one_that_cannot_be_acted_upon_keeps_nobody_from_the_next(app: App) -> None:
    """A trigger of somebody's refuses a row in a way that no rule of ours foresees."""
    ids = sorted(a_job(app, "failed") for _ in range(3))
    with psycopg.connect(app.settings.owner_url, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF OLD.id = '{ids[1]}' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$; "
            "CREATE TRIGGER refuse BEFORE UPDATE ON job_queue FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    shown = preview(app, "job.retry", who=ADA, wanted=FAILED)
    begin(app, shown.id, who=ADA, reason="try")
    many = ManyThingsInDatabase(app.db, app.job_types, 3)
    assert many.act(shown.id, NOW)
    assert [outcome for _, outcome in items(app, shown.id)] == ["done", "failed", "done"]
    assert not many.act(shown.id, NOW)
    assert bulk(app, shown.id).state == "completed"


def test_one_whose_job_ends_without_it_has_ended(app: App) -> None:
    a_job(app, "failed")
    shown = preview(app, "job.retry", who=ADA, wanted=FAILED)
    job_id = begin(app, shown.id, who=ADA, reason="try").job_id
    assert job_id is not None
    with app.db.transaction(SYSTEM) as tx:
        assert cancel(tx, app.job_types, job_id) == "cancelled"
    assert (bulk(app, shown.id).state, bulk(app, shown.id).counts) == ("cancelled", {"left": 1})
    [row] = audit(app, who=ADA)
    assert (row["outcome"], row["says"]) == ("failed", f"its job {job_id} ended; what it had not come to is as it was")


def test_a_cancelled_one_stops_before_its_next_things(app: App) -> None:
    ids = sorted(a_job(app) for _ in range(5))
    shown = preview(app, "job.prioritize", {"priority": 1}, who=ADA, wanted=JobFilter(state="waiting"))
    begin(app, shown.id, who=ADA, reason="first")
    many = ManyThingsInDatabase(app.db, app.job_types, 2)
    assert many.act(shown.id, NOW)
    assert cancel_bulk(app, shown.id, who="person:bob").state == "cancelling"
    assert not many.act(shown.id, NOW)
    found = bulk(app, shown.id)
    assert (found.state, found.counts, found.cancelled_by) == ("cancelled", {"done": 2, "left": 3}, "person:bob")
    assert [job_row(app, each)["priority"] for each in ids] == [1, 1, 5, 5, 5]
    with pytest.raises(Conflict):
        cancel_bulk(app, shown.id, who=ADA)
    unbegun = preview(app, "job.cancel", who=ADA, wanted=JobFilter(state="pending"))
    assert cancel_bulk(app, unbegun.id, who=ADA).state == "cancelled"
    with pytest.raises(Conflict, match="preview it again"):
        begin(app, unbegun.id, who=ADA, reason="late")
    with app.db.transaction(SYSTEM) as tx:
        old = preview_of(app)
        tx.driver.execute("UPDATE bulk_actions SET at = now() - interval '2 hours' WHERE id = %s", (old,))
    with pytest.raises(Conflict, match="older than an hour"):
        begin(app, old, who=ADA, reason="late")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.actions.prune("previews", tx.now() - timedelta(hours=1), 10) == 1
    with pytest.raises(NoSuchBulk):
        bulk(app, old)


def preview_of(app: App) -> UUID:
    with ThreadPoolExecutor(1) as pool:  # the caller's thread is in a transaction
        return pool.submit(lambda: preview(app, "job.cancel", who=ADA, wanted=JobFilter(state="pending")).id).result()


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        ("quota.reset", {"wanted": FAILED}, "one thing at a time"),
        ("job.retry", {}, "one of them"),
        ("job.retry", {"wanted": JobFilter()}, "in which state"),
        ("job.retry", {"wanted": JobFilter(state="pending")}, "failed, cancelled"),
        ("job.retry", {"wanted": JobFilter(state="failed", archived=True)}, "none of the archive"),
        ("job.retry", {"wanted": EventFilter(source="stripe")}, "done to a job"),
        ("event.replay", {"wanted": EventFilter()}, "by a filter"),
        ("job.retry", {"targets": [target("queue:llm")]}, "done to a job"),
    ],
)
def test_what_cannot_be_done_to_many_is_rejected(app: App, name: str, what: dict[str, object], says: str) -> None:
    with pytest.raises(Rejected, match=says):
        preview(app, name, who=ADA, **what)  # type: ignore[arg-type]
