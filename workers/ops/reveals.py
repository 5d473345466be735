"""What is masked everywhere else is shown as it stands to whoever asks for it: here it is noted that somebody did."""

import structlog

log = structlog.get_logger()


def note_reveal(target: str) -> None:
    """Note that the payload of `job:ID` or `event:ID`, or those of a list (`jobs`), are shown unmasked.

    It is logged. An action's row of who did it, and why, belongs here too.
    """
    log.info("payload.revealed", target=target)
