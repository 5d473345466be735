"""The declaration of a job, and what it makes of arguments."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from db.postgres.errors import UniqueViolation
from db.queue.enqueue import PART
from db.transaction import SYSTEM
from domain.errors import PayloadInvalid, TenantContextNotSet
from tests.builders import a_tenant, job_row
from workers.app import App
from workers.engine.discovery import JobTypeTwice, discover
from workers.engine.job import Context, job

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@job("testing.thumbnail", queue="media", unique=("video_id",), ordering="video_id", priority=3, max_attempts=7)
def thumbnail(ctx: Context, tenant_id: UUID, video_id: UUID, width: int = 320, at: datetime | None = None) -> None:
    raise AssertionError("never run here")


def enqueue(app: App, tenant_id: UUID, **arguments: object) -> UUID:
    with app.db.transaction(SYSTEM) as tx:
        return thumbnail.enqueue_payload(tx, {"tenant_id": tenant_id, **arguments})


def test_the_row_says_what_the_declaration_says(app: App) -> None:
    tenant_id, video_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        job_id = thumbnail.enqueue(tx, tenant_id=tenant_id, video_id=video_id, at=NOON)
    row = job_row(app, job_id)
    assert row["tenant_id"] == tenant_id
    assert row["payload"] == {"video_id": str(video_id), "width": 320, "at": "2026-12-01T12:00:00Z"}
    assert (row["queue"], row["priority"], row["max_attempts"], row["status"]) == ("media", 3, 7, "pending")
    assert row["unique_key"] == row["ordering_key"] == str(video_id)


def test_arguments_come_back_typed_from_the_row() -> None:
    tenant_id, video_id = uuid4(), uuid4()
    arguments = thumbnail.arguments({"video_id": str(video_id), "at": "2026-12-01T12:00:00Z"}, tenant_id, 1)
    assert arguments == {"tenant_id": tenant_id, "video_id": video_id, "width": 320, "at": NOON}


def test_a_second_live_job_of_the_same_identity_is_the_first(app: App) -> None:
    tenant_id, video_id = a_tenant(app), uuid4()
    assert enqueue(app, tenant_id, video_id=video_id) == enqueue(app, tenant_id, video_id=video_id, width=640)
    assert enqueue(app, tenant_id, video_id=uuid4()) != enqueue(app, tenant_id, video_id=video_id)


def test_options_change_one_enqueueing_only(app: App) -> None:
    tenant_id, video_id = a_tenant(app), uuid4()
    with app.db.transaction(tenant_id) as tx:
        later = thumbnail.with_options(
            scheduled_for=NOON, delay=timedelta(hours=1), priority=1, max_attempts=1, unique_key="mine"
        )
        job_id = later.enqueue(tx, tenant_id=tenant_id, video_id=video_id)
    row = job_row(app, job_id)
    assert row["scheduled_for"] == NOON + timedelta(hours=1)
    assert (row["priority"], row["max_attempts"], row["unique_key"]) == (1, 1, "mine")
    assert thumbnail.options == {}


def test_a_job_may_have_an_id_that_was_chosen_for_it(app: App) -> None:
    tenant_id, job_id = a_tenant(app), uuid4()
    own = thumbnail.with_options(id=job_id)
    with app.db.transaction(tenant_id) as tx:
        assert own.enqueue(tx, tenant_id=tenant_id, video_id=uuid4()) == job_id
    assert job_row(app, job_id)["job_type"] == thumbnail.name
    with pytest.raises(UniqueViolation), app.db.transaction(tenant_id) as tx:
        own.enqueue(tx, tenant_id=tenant_id, video_id=uuid4())


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        ({}, "tenant_id: field required; video_id: field required"),
        ({"tenant_id": uuid4(), "video_id": "seven"}, "video_id: input should be a valid uuid"),
        ({"tenant_id": uuid4(), "video_id": uuid4(), "widht": 3}, "widht: extra inputs are not permitted"),
        ({"tenant_id": uuid4(), "video_id": uuid4(), "width": "wide"}, "width: input should be a valid integer"),
    ],
)
def test_arguments_that_do_not_fit_are_all_named(payload: dict[str, object], complaint: str) -> None:
    with pytest.raises(PayloadInvalid) as raised:
        thumbnail.validated(payload)
    assert complaint in str(raised.value)
    assert "it takes tenant_id" in str(raised.value)


def test_in_bulk_one_that_does_not_fit_refuses_all_and_leaves_the_transaction_as_it_was(app: App) -> None:
    tenant_id = a_tenant(app)
    payloads = [{"tenant_id": tenant_id, "video_id": uuid4()} for _ in range(2 * PART)]
    with app.db.transaction(tenant_id) as tx:
        with pytest.raises(PayloadInvalid):
            thumbnail.enqueue_many(tx, [*payloads, {"tenant_id": tenant_id}])
        kept = thumbnail.enqueue_many(tx, payloads[:2])
    with app.db.transaction(tenant_id) as tx:
        assert {row["id"] for row in tx.jobs.list_recent().rows} == set(kept)


def test_a_tenants_job_without_a_tenant_is_refused() -> None:
    with pytest.raises(TenantContextNotSet, match="works for one tenant"):
        thumbnail.scope(None)


def test_a_declaration_that_names_no_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="its handler has no argument vidoe_id"):
        job("testing.typo", unique=("vidoe_id",))(lambda ctx, video_id: None)
    with pytest.raises(ValueError, match="unknown queue 'fast'; the queues are events, default"):
        job("testing.queue", queue="fast")(lambda ctx: None)


def test_a_name_used_twice_stops_the_start() -> None:
    from tests.workers import twins

    with pytest.raises(JobTypeTwice, match=r"'twins.job' is declared in tests.workers.twins.one and again in .*two"):
        discover([twins])


@job("testing.scored", system=True, unique=("name",))
def scored(ctx: Context, name: str, score: float = 0.0) -> None:
    raise AssertionError("never run here")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "-Infinity"])
def test_a_number_that_json_cannot_say_is_refused_by_name(number: object) -> None:
    with pytest.raises(PayloadInvalid, match=r"testing\.scored: score: input should be a finite number"):
        scored.validated({"name": "x", "score": number})


@pytest.mark.parametrize("name", ["a\0b", "a\ud83db"])
def test_a_text_that_cannot_be_stored_is_replaced_and_is_the_jobs_identity_all_the_same(app: App, name: str) -> None:
    with app.db.transaction(SYSTEM) as tx:
        first, second = (scored.enqueue(tx, name=name) for _ in range(2))
    assert first == second
    row = job_row(app, first)
    assert (row["payload"]["name"], row["unique_key"]) == ("a\ufffdb", "a\ufffdb")
