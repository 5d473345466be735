"""The port by which the job of a bulk action acts: some items a transaction, each within a savepoint of its own."""

from datetime import datetime
from uuid import UUID

import structlog

from db.transaction import NO_ANSWER, SYSTEM, Contended, Database, is_contended
from domain.errors import Unavailable, ViralError
from domain.ops.action_list import action
from domain.ops.actions import Arguments, Kind, Outcome, Result, read_arguments, target
from workers.engine.job import JobTypes
from workers.ops.acting import IN_TRANSACTION, Within

AT_ONCE = 100
"""Items of one transaction: what it locks others wait for."""

ONE_BY_ONE = (Kind.POST, Kind.VIDEO)
"""Of these each item has a transaction of its own: what is locked of a tenant is locked before what is locked of its
things, and several tenants are in no order."""

log = structlog.get_logger()


class ManyThingsInDatabase:
    """The row of the bulk action is locked meanwhile: of two who act, one waits."""

    def __init__(self, db: Database, job_types: JobTypes, at_once: int = AT_ONCE) -> None:
        self._db = db
        self._job_types = job_types
        self._at_once = at_once

    def act(self, bulk_id: UUID, now: datetime) -> bool:
        with self._db.transaction(SYSTEM) as tx:
            bulk = tx.actions.bulk(bulk_id, lock=True)
            if bulk is None or bulk["state"] not in ("running", "cancelling"):
                return False
            at_once = 1 if action(bulk["action"]).kind in ONE_BY_ONE else self._at_once
            items = tx.actions.next_items(bulk_id, at_once) if bulk["state"] == "running" else []
            if not items:
                counts = tx.actions.counts(bulk_id)
                says = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
                tx.actions.end_bulk(bulk_id, Outcome.DONE, says)
                return False
            within = Within(tx, self._job_types, now)
            arguments = read_arguments(action(bulk["action"]), bulk["arguments"])
            results = {each["position"]: _act(within, bulk["action"], each["target"], arguments) for each in items}
            tx.actions.save_items(bulk_id, results)
            return True


def _act(within: Within, name: str, what: str, arguments: Arguments) -> Result:
    try:
        with within.tx.savepoint(SYSTEM):
            result = IN_TRANSACTION[name](within, target(what), arguments)
            within.tx.work_as(SYSTEM)
            return result
    except (*NO_ANSWER, Contended):  # the job tries again, from this transaction's first item
        raise
    except Unavailable as error:
        return Result(Outcome.FAILED, str(error))
    except ViralError as error:
        return Result(Outcome.REFUSED, str(error))
    except Exception as error:  # one thing that cannot be acted upon keeps nobody from acting on the next
        if is_contended(error):
            raise
        log.error("operator.action_failed", action=name, target=what, exc_info=error)
        return Result(Outcome.FAILED, f"an error of our own ({type(error).__name__}); it has been logged")
