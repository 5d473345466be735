"""Numbers in JSON that somebody keeps here, as other programs read them: each is a double, as in JavaScript."""

import math
from typing import Any

LARGEST_WHOLE = 10**21
"""From here on JavaScript writes numbers with an exponent."""


def unreadable(value: Any) -> str | None:
    """Return the place of the first number in a JSON value that no double can be, such as `reasons.0.gap`: one that is
    too large, NaN or Infinity. "" is the value itself; None: there is none."""
    match value:
        case bool():
            return None
        case int() | float():
            return None if _is_finite(value) else ""
        case dict() | list():
            for name, each in value.items() if isinstance(value, dict) else enumerate(value):
                inside = unreadable(each)
                if inside is not None:
                    return f"{name}.{inside}" if inside else str(name)
    return None


def written(value: Any) -> Any:
    """Return a JSON value with its largest whole numbers as they were sent: 1e300, which Postgres gives back as a one
    with 300 zeros. One that a double does not say exactly stays as it is."""
    match value:
        case bool():
            return value
        case int() if abs(value) >= LARGEST_WHOLE and _is_finite(value):
            short = float(value)
            mantissa, _, exponent = repr(short).partition("e")
            whole, _, fraction = mantissa.partition(".")
            return short if int(whole + fraction) * 10 ** (int(exponent) - len(fraction)) == value else value
        case dict():
            return {name: written(each) for name, each in value.items()}
        case list():
            return [written(each) for each in value]
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number
        return False
