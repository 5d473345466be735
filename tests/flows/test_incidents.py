"""The five incidents of docs/operating.md: each is found and mended by the commands that it shows, in their order, and
they print what it says."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from db.transaction import SYSTEM
from domain.quota.quota import add_months
from simulators.personas import Persona
from simulators.stripe.api import StripeSimulator
from simulators.stripe.events import invoice, subscription
from tests.builders import a_tenant
from tests.cli.shell import Shell
from tests.cli.test_reconcile import START
from tests.conftest import Servers
from tests.documented import ROOT, blocks_to_run, play, sections
from tests.drain import drain
from tests.outages import read_only
from tests.video_stage import stage
from workers.app import App
from workers.engine.outcomes import rescue
from workers.jobs.accounts import read_limits
from workers.jobs.upkeep import prune
from workers.settings import Settings


class Incident:
    """One incident, told block by block; what happens between two of them is the test's."""

    def __init__(self, heading: str, viral: Shell) -> None:
        self.viral = viral
        text = dict(sections((ROOT / "docs/operating.md").read_text("utf-8")))[heading]
        self._blocks = blocks_to_run(text)

    def tell(self, **values: object) -> None:
        shown = {name: str(value) for name, value in values.items()}
        block = [step.with_values(shown) for step in self._blocks.pop(0)]
        play(block, self._run, lambda: shown)

    @property
    def is_over(self) -> bool:
        return not self._blocks

    def _run(self, words: list[str]) -> tuple[int, str]:
        result = self.viral(*words)
        return result.code, result.out + result.err


@pytest.fixture
def incidents(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Incident]:
    environment = {
        "DATABASE_URL": settings.database_url,
        "DIRECT_URL": settings.direct_url,
        "REDIS_URL": settings.redis_url,
        "VIRAL_HOME": str(tmp_path / "home"),
    }
    return lambda heading: Incident(heading, Shell(environment, monkeypatch, capsys))


def test_a_provider_is_down(settings: Settings, tmp_path: Path, incidents: Callable[[str], Incident]) -> None:
    with stage(settings, tmp_path / "media") as here:
        incident = incidents("A provider is down")
        for name in ("runwayml", "luma_agents"):
            key, url = (name + "_api_secret" if name == "runwayml" else name + "_api_key"), name + "_base_url"
            incident.viral.environment[key.upper()] = getattr(here.app.settings, key).get_secret_value()
            incident.viral.environment[url.upper()] = getattr(here.app.settings, url)
        incident.viral.environment["MEDIA_DIR"] = str(tmp_path / "media")
        here.bills["runway"].misbehave(*["limited"] * 3)
        video_id = here.ask(here.tenant(usd=50), provider="runway")
        for _ in range(3):
            here.turn()
            here.later(minutes=1)
        video = here.show(video_id)
        incident.tell(VIDEO=video_id, JOB=video["job_id"])
        incident.tell(VIDEO=video_id, GENERATION=video["generation_id"])
        here.run()
        incident.tell()
        assert incident.is_over
        assert len(here.bills["luma"].orders) == 1
        assert here.bills["runway"].orders == []


def test_a_poison_job(app: App, incidents: Callable[[str], Incident]) -> None:
    incident = incidents("A poison job")
    with app.db.transaction(SYSTEM) as tx:
        job_id = prune.enqueue(tx)
    for _ in range(2):
        app.runner().claim([job_id], quarantined=True)  # a process that is never heard of again
        rescue(app.db, app.job_types)
    incident.tell(JOB=job_id)
    incident.tell(JOB=job_id)
    assert drain(app) == 1
    incident.tell(JOB=job_id)
    assert incident.is_over


def test_stripe_is_away_for_six_hours(
    selling: App, stripe: StripeSimulator, incidents: Callable[[str], Incident]
) -> None:
    incident = incidents("Stripe is away for six hours")
    tenant_id = a_tenant(selling, name="Ada", created_at=START - timedelta(days=9), stripe_customer_id="cus_ada")
    who = Persona(tenant_id, "cus_ada", "sub_ada", "user_ada", "ada@example.com")
    period = (START, add_months(START, 1))
    stripe.books["subscriptions"].append(subscription(who, START, period))
    stripe.books["invoices"].append(invoice(who, period, at=START, billing_reason="subscription_create"))
    stripe.now = START + timedelta(hours=6)
    incident.viral.environment |= {
        "STRIPE_SECRET_KEY": stripe.key,
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_PRO_PRICE_ID": "price_pro",
    }
    incident.tell()
    incident.viral.environment["STRIPE_API_BASE"] = selling.settings.stripe_api_base
    incident.tell()
    drain(selling)
    incident.tell()
    assert incident.is_over


def test_a_tenants_flood(app: App, incidents: Callable[[str], Incident]) -> None:
    incident = incidents("A tenant's flood")
    loud, quiet = a_tenant(app, name="Loud"), a_tenant(app, name="Quiet")
    with app.db.transaction(SYSTEM) as tx:
        read_limits.enqueue_many(tx, [{"tenant_id": str(loud), "account_id": str(uuid4())} for _ in range(300)])
        job_id = read_limits.enqueue(tx, tenant_id=quiet, account_id=uuid4())
    for _ in range(3):
        incident.tell(LOUD=loud, QUIET=quiet, JOB=job_id)
    assert incident.is_over


def test_postgres_fails_over(servers: Servers, app: App, incidents: Callable[[str], Incident]) -> None:
    incident = incidents("Postgres fails over")
    with read_only(servers.postgres):
        incident.tell()
    incident.tell()
    assert incident.is_over
    assert drain(app) == 1
