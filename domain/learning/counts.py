"""Numbers of a post, read from what a platform answered. What is no count is unknown, and never 0."""

from collections.abc import Mapping
from datetime import date

from domain.learning.metrics import asked, definition_of
from domain.learning.numbers import Numbers

MOST = 10**15
"""More than this is no count of anything that people do, but a damaged answer."""
COLUMNS = ("views", "likes", "comments", "shares")


def count(value: object) -> int | None:
    """Return the value if it is a count; None for what is negative, too large, a fraction, a text or a truth value."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MOST else None


NOTHING = Numbers()
"""What an answer without any count says: it is none, and the post is asked about again."""


def numbers_of(platform: str, values: Mapping[str, object], on: date) -> Numbers:
    """Return the numbers of a post from a platform's own names and values, by the metrics that it is asked for on this
    day. Of two metrics that are added, one that is missing leaves the sum unknown."""
    found: dict[str, int | None] = {}
    for metric in asked(platform, on):
        value, before = count(values.get(metric.name)), found.get(metric.kept, 0)
        found[metric.kept] = None if value is None or before is None else before + value
    views = found.get("views")
    return Numbers(
        **{name: found.get(name) for name in COLUMNS},
        details={name: value for name, value in found.items() if name not in COLUMNS and value is not None},
        definition=definition_of(platform, on) if views is not None else "",
    )
