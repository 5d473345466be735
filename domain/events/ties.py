"""Which of several events of one second tells the latest state, whatever the order in which they came.

Stripe's clock has whole seconds. An update carries in `previous_attributes` what it changed, and from what: each is an
edge from one value to another, and the edges of one second lead, field by field, from the state before it to the one
after it. Where they lead round in a circle, the state before that second says where the circle was entered.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeVar


class Telling(Protocol):
    """What an event says; `before` is the same with the values before the event, if it tells any."""

    @property
    def before(self) -> "Telling | None": ...


T = TypeVar("T", bound=Telling)


def last_values(told: Sequence[T], start: T | None, names: Iterable[str]) -> dict[str, Any] | None:
    """The value of each field after all that was told in one second; None if that cannot be known from it. `start` is
    the state before that second, if any is known."""
    found = {}
    for name in names:
        known, value = _last(told, start, name)
        if not known:
            return None
        found[name] = value
    return found


def _last(told: Sequence[T], start: T | None, name: str) -> tuple[bool, Hashable]:
    said = {getattr(each, name) for each in told}
    changes = [
        (getattr(each.before, name), getattr(each, name))
        for each in told
        if each.before is not None and getattr(each.before, name) != getattr(each, name)
    ]
    if len(said) == 1 and not changes:
        return True, said.pop()
    entered: Counter[Hashable] = Counter()
    for before, after in changes:
        entered[before] -= 1
        entered[after] += 1
    if not said <= entered.keys():
        return False, None  # one says something that no other leads to, nor from
    ends = [value for value, times in entered.items() if times > 0]
    if ends:
        return len(ends) == 1 and entered[ends[0]] == 1, ends[0]
    value = getattr(start, name, None)
    return start is not None and value in entered, value
