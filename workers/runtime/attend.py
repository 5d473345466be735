"""What a worker dyno's first process does when its worker processes are forked: it waits for signals and for their end.

It is executed in place of the one that forked (`workers/__main__.py`), with nothing but the standard library. A page
that both worker processes have written to is copied for each; one that still held the application would keep the first
copy of all of them, which was 35 MB of a dyno's 280.
"""

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress


def attend(children: Iterable[int], stops: Iterable[int], *, patience: int) -> None:
    """Become a process that waits for these children: signals of `stops`, however often, ask all of them to finish what
    they have begun, and so does the end of one; `patience` seconds later those that are left are killed. Exits with 1
    if one failed or was killed, else with 0. The signals are blocked since before the first fork: what came meanwhile
    is there."""
    words = ["workers", str(patience), ",".join(map(str, stops)), ",".join(map(str, children))]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-IS", __file__, *words])  # noqa: S606 - no shell, nothing of others


def main(words: Sequence[str]) -> int:
    """`words`: what `ps` shows, the patience, the signals and the children."""
    _, patience, *numbers = words
    stops, children = ({int(number) for number in each.split(",")} for each in numbers)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # what is ignored need not be kept until asked for
    failed, stopping, number = False, False, int(signal.SIGCHLD)
    while True:
        ended = {child: status for child, status in (os.waitpid(each, os.WNOHANG) for each in children) if child}
        children -= ended.keys()
        for child, status in ended.items():
            failed |= _report(child, os.waitstatus_to_exitcode(status))
        if not children:
            return int(failed)
        if number == signal.SIGALRM:
            _send(children, signal.SIGKILL)
        elif (ended or number in stops) and not stopping:
            stopping = True
            signal.alarm(int(patience))
            _send(children, signal.SIGTERM)
        number = signal.sigwait(stops | {signal.SIGCHLD, signal.SIGALRM})


def _report(child: int, code: int) -> bool:
    """Say of a process that failed or was killed how it ended; return whether it did."""
    if code:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        with suppress(OSError):
            os.write(2, f"viral worker: process {child} {how}\n".encode())
    return bool(code)


def _send(children: Iterable[int], number: signal.Signals) -> None:
    for child in children:
        os.kill(child, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
