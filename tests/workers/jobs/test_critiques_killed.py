"""A worker that writes a critique is killed by SIGKILL: nothing is half kept, no answer on record is paid twice."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from db.transaction import SYSTEM
from simulators.llm import LlmSimulator, llm_simulator
from tests.builders import job_row
from tests.wait import until
from tests.workers.jobs.test_critiques import missed, rows
from tests.workers.jobs.test_generation import A_WORKER, again
from workers.app import App, build
from workers.engine.outcomes import rescue
from workers.jobs.critiques import critique
from workers.settings import Settings


@pytest.fixture
def llm() -> Iterator[LlmSimulator]:
    with llm_simulator() as fake:
        yield fake


@pytest.fixture
def online(settings: Settings, llm: LlmSimulator) -> Iterator[App]:
    values = settings.model_dump() | {"anthropic_api_key": "a-key", "anthropic_base_url": llm.server.url}
    app = build(Settings.model_validate(values), name="tests")
    yield app
    app.close()


@pytest.mark.proof
@pytest.mark.parametrize(("moment", "calls"), [("asked", 2), ("answered", 1)])
def test_a_worker_killed_around_the_models_answer_leaves_one_critique(
    online: App, llm: LlmSimulator, owner_url: str, moment: str, calls: int
) -> None:
    """An answer that has not come yet when the process dies is asked for again; one that is on record is not."""
    ada = missed(online, {"news": [-12] * 5})
    with online.db.transaction(ada.id) as tx:
        job_id = critique.enqueue(tx, ada.id, "news", "tiktok", account_id=ada.accounts[0])
    urls = {name.upper(): str(value) for name, value in online.settings.model_dump().items() if name.endswith("_url")}
    environment = os.environ | {name: url for name, url in urls.items() if url} | {"ANTHROPIC_API_KEY": "a-key"}
    asked, killed = threading.Event(), threading.Event()

    def confirmed() -> bool:
        query = "SELECT count(*) FROM job_steps WHERE step = 'critique 1' AND status = 'confirmed'"
        with online.db.transaction(SYSTEM) as tx:
            return bool(tx.driver.execute(query).fetchall()[0][0])

    with psycopg.connect(owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")

        def answering() -> None:
            asked.set()
            if moment == "asked":
                killed.wait(60)
            else:  # what saves the critique waits for the tenant
                owner.execute("SELECT FROM tenants FOR NO KEY UPDATE")

        llm.before_answering = answering
        worker = subprocess.Popen([sys.executable, "-c", A_WORKER], env=environment)
        try:
            until(asked.is_set if moment == "asked" else confirmed, f"the model to be {moment}")
        finally:
            worker.kill()
            worker.wait()
            llm.before_answering = lambda: None
            killed.set()
    written = [rows(online, ada.id, table) for table in ("self_critiques", "reflexion_insights")]
    assert (llm.calls, written) == (1, [[], []])

    with online.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE workers SET lease_until = now() - interval '1 second'")
    assert rescue(online.db, online.job_types) == 1
    again(online, job_id)
    assert (job_row(online, job_id)["status"], llm.calls) == ("completed", calls)
    [one] = rows(online, ada.id, "self_critiques")
    assert (one["model"].split("/")[0], len(one["evidence"])) == ("anthropic", 5)
    paid = [each for each in rows(online, ada.id, "api_usage") if each["kind"] == "llm"]
    assert len(paid) == 1
