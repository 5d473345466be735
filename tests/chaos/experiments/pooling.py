"""pooler: everything through a PgBouncer in transaction mode that has fewer sessions than there are clients; logged in
as the owner of the tables, and every statement is asked who it is. The pooler is killed in between."""

import time

from tests.chaos.fleet import FAST
from tests.chaos.load import delivering, feeding
from tests.chaos.report import Finding
from tests.chaos.stage import Stage, settle
from tests.pooler import ASK_EVERY_STATEMENT, NOT_RUN, find, pooling
from tests.wait import until

RECOVERY_BAR = 5.0
"""Seconds from the pooler's return until webhooks are accepted again."""


def pooled(stage: Stage, finding: Finding) -> None:
    """All processes find the database through the pooler; the harness looks at it directly."""
    if find() is None:
        finding.skip(NOT_RUN)
        return
    rng = stage.rng()
    jobs, events, kills = stage.size((1000, 10_000, 5), (80, 200, 1))
    with stage.place_and_fleet(**FAST) as (place, fleet), pooling(place.owner_url, pool_size=4) as pooler:
        place.rows(ASK_EVERY_STATEMENT)
        fleet.environment["DATABASE_URL"] = pooler.url(place.owner_url)
        origin = fleet.web()
        fleet.scheduler()
        fleet.dynos(2)
        fleet.await_signed_on(2)
        with (
            feeding(place, rng, target=jobs, per_second=stage.size(40, 80)) as feeder,
            delivering(origin, rng, events, threads=16) as deliveries,
        ):
            for n in range(kills):
                share = (n + 1) * events // (kills + 1)
                until(lambda share=share: deliveries.accepted >= share, "webhooks between kills", seconds=120)  # type: ignore[misc]
                pooler.kill()
                time.sleep(0.3)
                pooler.start()
                back, before = time.monotonic(), deliveries.accepted
                until(lambda before=before: deliveries.accepted > before, "a webhook to be accepted")  # type: ignore[misc]
                finding.worst("webhooks_again_s", time.monotonic() - back)
            until(lambda: deliveries.accepted >= events, "every event to be accepted", seconds=180)
            until(lambda: len(feeder.promised) >= jobs, "every job to be promised")
            settle(finding, place, fleet, feeder, bar=60)
        finding.trials = events + jobs
        deliveries.judge(finding, place)
        stage.hold_to(RECOVERY_BAR, finding, "webhooks_again_s")
        wrong = sum("asked by the wrong one" in str(line) for line in fleet.lines())
        finding.figures["transactions_as_another_role"] = wrong
        finding.expect(wrong == 0, f"{wrong} statements were asked by another role, or in no scope")
