"""What processes under a parent do in `test_start.py`: `python tests/workers/parents.py WORK PATIENCE`, two of them."""

import os
import signal
import sys
from collections.abc import Callable

from workers.__main__ import Asked, Parent


def say(word: str) -> None:
    os.write(1, f"{os.getpid()} {word}\n".encode())


def work_until_asked(asked: Asked) -> None:
    say("works")
    asked.get()
    say("asked")


def never_stop(asked: Asked) -> None:
    say("works")
    while True:
        asked.get()


def fail(asked: Asked) -> None:
    raise RuntimeError("it cannot work")


def be_killed_if_first(asked: Asked) -> None:
    """One process is killed before it does anything; the other works."""
    try:
        os.close(os.open(os.environ["FIRST"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        work_until_asked(asked)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


WORK: dict[str, Callable[[Asked], None]] = {
    each.__name__: each for each in (work_until_asked, never_stop, fail, be_killed_if_first)
}

if __name__ == "__main__":
    Parent(WORK[sys.argv[1]], patience=int(sys.argv[2])).run(2)
