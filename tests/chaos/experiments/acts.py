"""`acts-kill`: worker processes die while they delete tenants, act on many things for an operator, and tell tenants'
programs of posts. Then each tenant is gone, each thing was acted upon once, and each program was sent all of it."""

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from uuid import UUID

from db.ops.tenant_rows import KEPT, owned
from db.transaction import SYSTEM
from domain.ops.actions import target
from domain.queue.job_filters import JobFilter
from domain.queue.retries import CRASHES_BEFORE_QUARANTINE
from simulators.loopback import Loopback, Reply, Request
from tests.builders import a_tenant
from tests.chaos.fleet import FAST, Fleet
from tests.chaos.ledger import attempts, stuck
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage, landed
from tests.wait import until
from tests.workers.jobs.test_outgoing import KEY, Shop
from workers.app import App, build
from workers.jobs.outgoing import find_due
from workers.ops.actions import perform
from workers.ops.bulk import begin, preview
from workers.settings import load

WHO = "person:chaos"
ROWS, JOBS, POSTS = 3000, 400, 12
"""Of a tenant that is deleted, of a bulk action, and of a tenant whose program is sent them."""

BUSY = """
SELECT w.pid FROM workers w JOIN job_queue q ON q.worker_id = w.id AND q.status = 'running'
GROUP BY w.id HAVING max(q.crashes) = 0
"""
LIVE = """
SELECT count(*) FROM job_queue WHERE status IN ('pending', 'running')
AND job_type IN ('tenants.delete', 'ops.bulk', 'webhooks.deliver', 'webhooks.due')
"""
DEAD = "SELECT id, crashes FROM job_queue WHERE status = 'failed' AND job_type <> 'gone'"
MORE = "INSERT INTO generations (tenant_id) SELECT %s FROM generate_series(1, %s)"
CANCEL = (
    "UPDATE job_queue SET status = 'cancelled', completed_at = now() WHERE job_type = 'gone' AND status = 'pending'"
)
FAILED = """
INSERT INTO job_queue (job_type, status, completed_at, attempts, max_attempts)
SELECT 'gone', 'failed', now(), 3, 3 FROM generate_series(1, %s)
"""


def acts(stage: Stage, finding: Finding) -> None:
    """`acts-kill`."""
    rng = stage.rng()

    def answer(request: Request) -> Reply:
        time.sleep(0.05)  # long enough to be killed in
        return Reply()

    with Loopback(answer) as receiver:
        more = {"TOKEN_ENCRYPTION_KEYS": KEY, "WEBHOOK_RECEIVER_BASE_URL": receiver.url}
        with stage.system_and_fleet(**FAST, **more) as (system, fleet):
            app = build(load(system.environment | more), name="acts", pool_size=4)
            try:
                fleet.workers(3, threads=2)
                doomed, shops = list[UUID](), list[Shop]()
                for n in range(stage.size(12, 2)):
                    if stage.left() < 60 and n:
                        break
                    doomed.append(one_round(app, shops, receiver))
                    for _ in range(3):
                        time.sleep(rng.uniform(0.02, 0.4))  # the moment of the kill is left to chance
                        kill_one(system)
                        fleet.restart_fallen()
                    finish(app, system, fleet)
                finding.trials = len(doomed)
                judge(finding, app, system, doomed, shops)
            finally:
                app.close()
            finding.saw("kills amid jobs", landed(system), least=stage.size(12, 1))
            finding.saw("attempts lost", attempts(system, "lost"))


def kill_one(system: System) -> None:
    """Kill a process that works on something which has not died before: what dies twice is given up, by design, and
    another experiment's affair (R11)."""
    for (pid,) in system.rows(BUSY):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return


def one_round(app: App, shops: list[Shop], receiver: Loopback) -> UUID:
    """Begin all three at once. Returns the tenant that is to go."""
    tenant_id = a_tenant(app)
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(MORE, (tenant_id, ROWS))
        tx.driver.execute(FAILED, (JOBS,))
    shops.append(shop := Shop(app, receiver, posts=POSTS))
    chosen = preview(app, "job.retry", who=WHO, wanted=JobFilter(state="failed", job_type="gone"))
    begin(app, chosen.id, who=WHO, reason="chaos")
    for post_id in shop.posts:
        shop.publish(post_id)
    perform(app, "tenant.delete", target(f"tenant:{tenant_id}"), {"name": str(tenant_id)}, who=WHO, reason="chaos")
    with app.db.transaction(SYSTEM) as tx:
        find_due.enqueue(tx)
    return tenant_id


def finish(app: App, system: System, fleet: Fleet) -> None:
    """Wait for the rest. What was near two deaths is in the dead letters, by design: a person would retry it."""

    def done() -> bool:
        fleet.restart_fallen()
        for job_id, crashes in system.rows(DEAD):
            assert crashes >= CRASHES_BEFORE_QUARANTINE, "a job was given up for another reason than deaths"
            with app.db.transaction(SYSTEM) as tx:
                tx.transitions.retry(job_id)
        return not system.value(LIVE)

    try:
        until(done, "every act to end", seconds=150, every=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {stuck(system)}") from error
    # Nobody knows their type: they would wait for ever.
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(CANCEL)


def judge(finding: Finding, app: App, system: System, doomed: list[UUID], shops: list[Shop]) -> None:
    gone = [name for name in owned() if name not in KEPT]
    left = {
        (name, of): number
        for name in gone
        for of in doomed
        if (number := system.value(f"SELECT count(*) FROM {name} WHERE tenant_id = %s", (of,)))
    }
    finding.expect(not left, f"rows of deleted tenants are left: {left}")
    query = "SELECT target, count(*) FROM operator_actions WHERE action = 'tenant.delete' GROUP BY target"
    audits = dict(system.rows(query))
    finding.expect(audits == {f"tenant:{of}": 1 for of in doomed}, f"the audit of deletions: {audits}")
    tries = Counter(
        dict(system.rows("SELECT max_attempts, count(*) FROM job_queue WHERE job_type = 'gone' GROUP BY 1"))
    )
    finding.lost, finding.doubled = tries[3], sum(count for most, count in tries.items() if most > 4)
    items = dict(system.rows("SELECT outcome, count(*) FROM bulk_items GROUP BY outcome"))
    finding.expect(items == {"done": JOBS * len(doomed)}, f"items by outcome: {items}")
    untold = repeated = 0
    for shop in shops:
        arrived = Counter(each.headers["webhook-id"] for each in shop.arrived())
        untold += sum(each["delivered_at"] is None for each in shop.deliveries()) + POSTS - len(arrived)
        repeated += sum(arrived.values()) - len(arrived)
    finding.figures |= {"deliveries": POSTS * len(shops), "deliveries repeated": repeated}
    finding.lost += untold
    finding.expect(finding.lost == 0, f"{finding.lost} lost: {tries}, {untold} deliveries")
    finding.expect(finding.doubled == 0, f"{finding.doubled} things were acted upon twice: {tries}")
