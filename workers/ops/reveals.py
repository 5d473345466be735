"""What is masked everywhere else is shown as it stands to whoever asks for it: here it is noted that somebody did."""

import structlog

from db.transaction import Tx
from domain.ops.actions import Outcome, Result
from domain.ops.causes import UNKNOWN_PERSON
from workers.runtime.work import current

log = structlog.get_logger()


def note_reveal(tx: Tx, target: str) -> None:
    """Note in the audit, and in the log, that the payload of `job:ID` or `event:ID`, or those of a list (`jobs`), are
    shown unmasked, and to whom."""
    row_id, who = tx.new_id(), current.get().cause or f"person:{UNKNOWN_PERSON}"
    name = "event.reveal" if target.startswith("event:") else "job.reveal"
    tx.actions.begin(row_id, who=who, action=name, target=target, arguments={}, reason=None)
    tx.actions.end(row_id, Result(Outcome.DONE, "it was shown as it stands"))
    log.info("payload.revealed", target=target)
