"""pooler: everything through a PgBouncer in transaction mode that has fewer sessions than there are clients; logged in
as the owner of the tables, and every statement is asked who it is. The pooler is killed in between."""

import time

from tests.chaos.fleet import FAST
from tests.chaos.load import traffic
from tests.chaos.report import Finding
from tests.chaos.stage import Stage, settle
from tests.pooler import ASK_EVERY_STATEMENT, NOT_RUN, find, pooling

RECOVERY_BAR = 5.0
"""Seconds from the pooler's return until webhooks are accepted again."""


def pooled(stage: Stage, finding: Finding) -> None:
    """All processes find the database through the pooler; the harness looks at it directly."""
    if find() is None:
        finding.skip(NOT_RUN)
        return
    rng = stage.rng()
    jobs, events, kills = stage.size((1000, 10_000, 5), (80, 200, 1))
    with stage.system_and_fleet(**FAST) as (system, fleet), pooling(system.owner_url, pool_size=4) as pooler:
        system.rows(ASK_EVERY_STATEMENT)
        fleet.environment["DATABASE_URL"] = pooler.url(system.owner_url)
        with traffic(system, fleet, rng, jobs, events, jobs_per_second=stage.size(40, 80)) as load:
            for n in range(kills):
                load.await_accepted((n + 1) / (kills + 1))
                pooler.kill()
                time.sleep(0.3)
                pooler.start()
                finding.worst("webhooks_again_s", load.await_next_webhook())
            load.await_end()
            settle(finding, system, fleet, load.feeder, bar=60)
        finding.trials = events + jobs
        load.deliveries.judge(finding, system)
        stage.hold_to(RECOVERY_BAR, finding, "webhooks_again_s")
        wrong = sum("asked by the wrong one" in str(line) for line in fleet.lines())
        finding.figures["transactions_as_another_role"] = wrong
        finding.expect(wrong == 0, f"{wrong} statements were asked by another role, or in no scope")
