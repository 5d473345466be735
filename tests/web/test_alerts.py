"""Each alert rule fires when what it is about really is so, on real servers, and at no other time."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from cli.commands.schedules import calendar
from db.events.probe import WriteProbe
from db.queue.enqueue import NewJob
from db.transaction import SYSTEM
from domain.events.outcomes import Status
from domain.ops.metrics import METRICS
from scheduler.schedule import SCHEDULES, Calendar
from tests.promql import Samples, evaluate
from web.metrics import MetricsEndpoint
from workers.app import App
from workers.ops.monitoring import RULES, alerts, dashboard, files

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {rule.name: rule for rule in RULES}


@pytest.fixture
def scrape(app: App) -> Iterator[Callable[[], Samples]]:
    """Read everything anew, as a scrape has it, parsed."""
    probe = WriteProbe(app.db.connect)
    endpoint = MetricsEndpoint(app, probe.ask, app.notifier.probe, may_look=lambda request: None, calendar=calendar())

    def scrape() -> Samples:
        endpoint.look()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(endpoint.text().decode())
            for sample in family.samples
        }

    yield scrape
    probe.close()


def firing(samples: Samples) -> dict[str, list[dict[str, str]]]:
    """The rules that fire, each with its labels."""
    found = {rule.name: evaluate(rule.expression, samples) for rule in RULES}
    return {
        name: [{label: value for label, value in labels if label != "__name__"} for labels in found_labels]
        for name, found_labels in found.items()
        if found_labels
    }


def test_a_sound_system_fires_nothing(app: App, scrape: Callable[[], Samples]) -> None:
    Calendar(app.db, SCHEDULES).fire()
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many([NewJob(uuid4(), "quota.reset_due", "default") for _ in range(20)])
    assert firing(scrape()) == {}


def test_a_job_that_has_been_due_for_long_fires_unless_its_queue_is_paused(
    app: App, scrape: Callable[[], Samples]
) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue_many([NewJob(uuid4(), "t", queue) for queue in ("events", "media")])
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() - interval '6 minutes'")
        tx.queues.pause("media")
    assert firing(scrape()) == {"ViralQueueIsLate": [{"queue": "events"}]}


def test_a_deferred_job_that_nobody_wakes_is_late_too(app: App, scrape: Callable[[], Samples]) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(NewJob(uuid4(), "t", "default", delay=timedelta(hours=1)))
        tx.driver.execute("UPDATE job_queue SET scheduled_for = now() - interval '6 minutes', wake_at = now()")
    assert firing(scrape()) == {"ViralQueueIsLate": [{"queue": "default"}]}


def test_failed_jobs_fire_by_their_type(app: App, drain: Callable[[], int], scrape: Callable[[], Samples]) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(NewJob(uuid4(), "upkeep.prune", "default", payload={"older_than": -5}, max_attempts=1))
    assert drain() == 1
    assert firing(scrape()) == {"ViralJobsFailed": [{"job_type": "upkeep.prune"}]}


def test_parked_money_fires_by_its_reason(app: App, scrape: Callable[[], Samples]) -> None:
    with app.db.transaction(SYSTEM) as tx:
        for source, status in (("stripe", Status.PARKED_PRICE), ("clerk", Status.PARKED_USER)):
            tx.driver.execute(
                "INSERT INTO webhook_events (source, external_id, type, status) VALUES (%s, 'e', 't', %s)",
                (source, status),
            )
    assert firing(scrape()) == {"ViralMoneyIsParked": [{"reason": "unknown_price"}]}


def test_a_post_that_may_be_live_fires(app: App, owner_url: str, scrape: Callable[[], Samples]) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        # Its account and video are of no interest here.
        owner.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'a')")
        for constraint in owner.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'social_posts'::regclass AND contype = 'f'"
        ).fetchall():
            owner.execute(f"ALTER TABLE social_posts DROP CONSTRAINT {constraint[0]}".encode())
        owner.execute(
            "INSERT INTO social_posts (tenant_id, video_id, account_id, status)"
            " SELECT id, gen_random_uuid(), gen_random_uuid(), 'unconfirmed' FROM tenants"
        )
    assert firing(scrape()) == {"ViralEffectsUnconfirmed": [{"kind": "post"}]}


def test_a_calendar_that_nobody_looks_at_fires(app: App, scrape: Callable[[], Samples]) -> None:
    Calendar(app.db, SCHEDULES).fire()
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE schedule_fires SET fire_at = fire_at - interval '5 minutes'")
    assert firing(scrape()) == {"ViralNoScheduler": [{}]}


def test_a_redis_that_only_reads_fires(app: App, redis_url: str, scrape: Callable[[], Samples]) -> None:
    client = redis.Redis.from_url(redis_url)
    client.config_set("min-replicas-to-write", 1)
    try:
        found = scrape()
    finally:
        client.config_set("min-replicas-to-write", 0)
        client.close()
    assert firing(found) == {"ViralCannotWrite": [{}]}
    assert found["viral_redis_writable", ()] == 0
    assert found["viral_postgres_writable", ()] == 1


def test_a_postgres_that_only_reads_fires(
    app: App, database: str, owner_url: str, scrape: Callable[[], Samples]
) -> None:
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
    app.db.close()
    found = scrape()
    assert firing(found) == {"ViralCannotWrite": [{}]}
    assert found["viral_postgres_writable", ()] == 0


def test_every_query_names_a_metric_and_its_labels() -> None:
    panels = json.loads(dashboard())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(expressions) >= len(METRICS)
    for expression in [*expressions, *(rule.expression for rule in RULES)]:
        names = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"viral_\w+", expression)}
        assert names <= METRICS.keys(), expression
        labels = {label for name in names for label in METRICS[name].labels} | {"le"}
        used = {word for each in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for word in each.split(", ")}
        assert used | set(re.findall(r'(\w+)="', expression)) <= labels, expression
    shown = " ".join(expressions)
    assert [name for name in METRICS if name not in shown] == []


def test_the_files_in_the_docs_are_fresh() -> None:
    """`viral metrics export docs/monitoring`, and metrics.md in docs/reference."""
    for name, text in files().items():
        folder = ROOT / "docs/reference" if name == "metrics.md" else ROOT / "docs/monitoring"
        assert (folder / name).read_text("utf-8") == text, f"{name} is stale"


def test_every_rule_has_a_runbook() -> None:
    text = (ROOT / "docs/runbooks.md").read_text("utf-8")
    anchors = {
        re.sub(r"[^\w-]", "", line[3:].lower().replace(" ", "-")) for line in text.splitlines() if line[:3] == "## "
    }
    assert {rule.anchor for rule in RULES} == anchors
    assert all(f"`{rule.name}`" in text for rule in RULES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_reads_the_rules(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(alerts())
    command = ["promtool", "check", "rules", str(tmp_path / "alerts.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


@pytest.mark.parametrize("expression", ["rate(viral_x[5m]) > 0", "viral_x < 1", "viral_x > 1 and viral_y > 1"])
def test_what_is_not_read_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"read|expected"):
        evaluate(expression, {})
