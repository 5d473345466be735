"""The scale from 0 to 100 on which predictions and outcomes are shown, and the logarithm in which they are learned.

The scale is the old app's: engagement in percent of the views, by straight pieces (`src/lib/learning/reflexion.ts`).
Learning is done in ln(1 + percent), where a post with twice the engagement is as far away as one with half of it.
"""

from bisect import bisect_right
from math import expm1, log1p

# From this percentage on: the score there, and points for each further percent.
PIECES = ((0.0, 10.0, 15.0), (2.0, 40.0, 10.0), (5.0, 70.0, 4.0), (10.0, 90.0, 2.0))
_STARTS = tuple(start for start, _, _ in PIECES)
LEAST, MOST = 10.0, 100.0
END = log1p(15.0)
"""The log engagement from which on the score is `MOST`."""
STEEPEST = 60.0
"""The most points for one unit of the logarithm: 10 a percent at 5 percent."""


def log_engagement(percent: float) -> float:
    """Return ln(1 + percent)."""
    return log1p(max(percent, 0.0))


def score_of(value: float) -> float:
    """Return the score, 10 to 100, of a log engagement."""
    percent = expm1(max(value, 0.0))
    start, score, slope = PIECES[bisect_right(_STARTS, percent) - 1]
    return min(MOST, score + slope * (percent - start))


def value_of(score: float) -> float:
    """Return the log engagement that has this score; of several, the least."""
    for start, least, slope in reversed(PIECES):
        if score >= least:
            return log1p(start + (min(score, MOST) - least) / slope)
    return 0.0
