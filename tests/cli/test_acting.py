"""Acts on many from the shell: what is chosen is shown and asked about, a reason is kept, refusals are listed."""

from datetime import UTC, datetime
from uuid import UUID

from db.transaction import SYSTEM
from domain.queue.error_groups import error_group
from tests.builders import a_tenant, job_row
from tests.cli.shell import Shell, working
from tests.workers.ops.test_actions import a_job
from workers.app import App

GROUP = error_group("Refused", "the provider said 503")
WHY = ("--reason", "the provider is back")


def failed(app: App, job_id: UUID) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO job_attempts (job_id, attempt, outcome, error_class, error_message, error_group, ended_at)"
            " VALUES (%s, 1, 'failed', 'Refused', 'the provider said 503', %s, now())",
            (job_id, GROUP),
        )


def test_many_need_a_reason_and_a_word(viral: Shell, app: App) -> None:
    job_id = a_job(app, "failed")
    by_filter = ("jobs", "retry", "--status", "failed")
    assert "say why" in viral.senseless(*by_filter)
    assert "Retry 1 job? Say --yes to do it" in viral.senseless(*by_filter, *WHY)
    assert "status: say of jobs in which state" in viral(*by_filter[:2], "--queue", "default", "--yes", *WHY).err
    assert job_row(app, job_id)["status"] == "failed"
    assert viral.json("actions", "list") == []


def test_what_a_filter_finds_is_retried_and_a_twin_is_one_refusal(viral: Shell, app: App) -> None:
    ids = [a_job(app, "failed", unique_key=str(number)) for number in range(3)]
    a_job(app, unique_key="1", scheduled_for=datetime(2100, 1, 1, tzinfo=UTC))
    others = a_job(app, "failed", queue="social")
    with working(app):
        result = viral("jobs", "retry", "--status", "failed", "--queue", "default", "--yes", *WHY)
    assert result.code == 1
    refused, last = result.out.splitlines()
    assert refused.startswith(str(ids[1]))
    assert "of the same key is live" in refused
    assert last.endswith("completed: 2 done, 1 refused")
    assert job_row(app, others)["status"] == "failed"
    [row] = viral.json("actions", "list")
    assert (row["action"], row["reason"], row["bulk_id"]) == ("job.retry", WHY[1], last.partition(" ")[0])
    assert "2 done, 1 refused" in viral.done("actions", "show", row["bulk_id"]).out


def test_a_group_of_failures_is_retried_by_its_name(viral: Shell, app: App) -> None:
    tenant = a_tenant(app)
    ids = [a_job(app, "failed", tenant_id=tenant) for _ in range(3)]
    for job_id in ids:
        failed(app, job_id)
    with working(app):
        out = viral.done("failures", "retry", GROUP, "--yes", *WHY).out
    assert out.endswith("completed: 3 done\n")
    assert viral.done("failures", "retry", GROUP, "--yes", *WHY).out == "No job of this group has given up.\n"
    assert "no failure of the group E-0" in viral.refused("failures", "retry", "E-0", "--yes", *WHY)


def test_events_are_replayed_by_a_filter(viral: Shell, app: App) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(
            "INSERT INTO webhook_events (source, external_id, type, status, payload) SELECT 'stripe', 'evt_' || n,"
            " 'customer.tax_id.created', 'ignored:type', jsonb_build_object('id', 'evt_' || n, 'type',"
            " 'customer.tax_id.created', 'created', 1, 'livemode', false, 'data', jsonb_build_object('object',"
            " jsonb_build_object('id', 'txi_1', 'object', 'tax_id'))) FROM generate_series(1, 3) n"
        )
    with working(app):
        result = viral("events", "replay", "--type", "customer.tax_id.created", "--yes", *WHY)
    assert result.out.endswith("completed: 3 done\n"), result
