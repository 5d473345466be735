"""One seed for all that tests draw. It is another one each time, and printed, so that `TEST_SEED=N make test` draws the
same again; `.ci/run` sets it, and so the same commit gets the same answer there."""

import os
from random import Random, SystemRandom

NAME = "TEST_SEED"
OF_THIS_RUN = "TEST_SEED_OF_THIS_RUN"
"""By this the processes that share a run's tests have one seed."""

FIXED = NAME in os.environ
SEED = int(os.environ[NAME] if FIXED else os.environ.setdefault(OF_THIS_RUN, str(SystemRandom().randrange(2**32))))


def seeded(*what: object) -> Random:
    """Return a generator of this run's own for `what`, which repeats itself whichever tests ran before."""
    return Random(repr((SEED, *what)))
