"""The port by which the job of a bulk action acts: some items a transaction, each within a savepoint of its own."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog

from db.transaction import NO_ANSWER, SYSTEM, Contended, Database, Tx
from domain.errors import Unavailable, ViralError
from domain.ops.actions import Outcome, Result, target
from workers.engine.job import JobTypes
from workers.ops.acting import IN_TRANSACTION

AT_ONCE = 100
"""Items of one transaction: what it locks others wait for."""

Row = Mapping[str, Any]

log = structlog.get_logger()


class ManyThingsInDatabase:
    """Acts on jobs and events. The row of the bulk action is locked meanwhile: of two who act, one waits."""

    def __init__(self, db: Database, job_types: JobTypes, at_once: int = AT_ONCE) -> None:
        self._db = db
        self._job_types = job_types
        self._at_once = at_once

    def act(self, bulk_id: UUID) -> bool:
        with self._db.transaction(SYSTEM) as tx:
            bulk = tx.actions.bulk(bulk_id, lock=True)
            if bulk is None or bulk["state"] not in ("running", "cancelling"):
                return False
            items = tx.actions.next_items(bulk_id, self._at_once) if bulk["state"] == "running" else []
            if not items:
                counts = tx.actions.counts(bulk_id)
                says = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
                tx.actions.end_bulk(bulk_id, Outcome.DONE, says)
                return False
            results = {each["position"]: self._act(tx, bulk, each["target"]) for each in items}
            tx.actions.save_items(bulk_id, results)
            return True

    def _act(self, tx: Tx, bulk: Row, what: str) -> Result:
        try:
            with tx.savepoint(SYSTEM):
                return IN_TRANSACTION[bulk["action"]](tx, self._job_types, target(what), bulk["arguments"])
        except (*NO_ANSWER, Contended):  # the job tries again, from this transaction's first item
            raise
        except Unavailable as error:
            return Result(Outcome.FAILED, str(error))
        except ViralError as error:
            return Result(Outcome.REFUSED, str(error))
        except Exception as error:  # one thing that cannot be acted upon keeps nobody from acting on the next
            log.error("operator.action_failed", action=bulk["action"], target=what, exc_info=error)
            return Result(Outcome.FAILED, f"an error of our own ({type(error).__name__}); it has been logged")
