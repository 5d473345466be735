"""`viral jobs` about a job that has left the queue's table."""

from uuid import UUID, uuid4

import pytest

from db.transaction import SYSTEM
from tests.cli.shell import Shell
from tests.drain import drain
from workers.app import App
from workers.jobs.billing import apply_stripe_event


@pytest.fixture
def archived(app: App) -> UUID:
    """A dead letter."""
    with app.db.transaction(SYSTEM) as tx:
        job_id = apply_stripe_event.enqueue(tx, event_id=uuid4())
    drain(app)
    with app.db.transaction(SYSTEM) as tx:
        row = tx.jobs.get(job_id)
        assert row is not None
        assert tx.archive.move("failed", row["completed_at"], tx.now(), 1).count == 1
    return job_id


def test_it_is_shown_with_its_attempts_as_archived(viral: Shell, archived: UUID) -> None:
    shown = [line.split() for line in viral.done("jobs", "show", archived).lines]
    assert ["status", "failed"] in shown
    assert ["archived", "yes"] in shown
    assert "UnknownEvent" in viral.done("jobs", "show", archived).out
    row = viral.json("jobs", "show", archived)
    [attempt] = row["attempt_history"]
    assert (attempt["outcome"], attempt["error_class"], row["archived"]) == ("rejected", "UnknownEvent", True)


def test_it_cannot_be_retried(viral: Shell, archived: UUID) -> None:
    result = viral("jobs", "retry", archived)
    assert (result.code, result.lines) == (
        1,
        [f"{archived}  it is archived, and only a failed or cancelled job can be"],
    )


def test_it_is_explained(viral: Shell, archived: UUID) -> None:
    [reason] = viral.json("jobs", "explain", archived)["reasons"]
    assert reason["code"] == "archived"
    assert reason["says"].endswith("(failed), and is archived: it can be read, not retried")
