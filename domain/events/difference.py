"""A difference between our mirror and the books of Stripe or Clerk.

It is repaired by storing an event, which is applied like a delivered one. So there is one way in which the mirror
changes, and whoever derives everything from the stored events again gets the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.errors import MalformedEvent

Json = Mapping[str, Any]
Changes = Mapping[str, tuple[Any, Any]]
"""The fields that differ, each with our value and theirs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object (`kind`, `id`) that `source` describes in another way than the mirror does.

    `event` is the event that repairs the mirror; it is None where no event helps. `subject` is the customer or the
    account that this event is about.
    """

    source: str
    kind: str
    id: str
    subject: str | None
    event: Json | None
    changes: Changes = field(default_factory=dict)

    @property
    def event_id(self) -> str:
        """Return the id under which the event is stored. Clerk's carry none: one object has one event a moment."""
        event = self.event or {}
        return str(event.get("id") or f"reconcile_{self.id}_{event.get('timestamp')}")


def changed(ours: Json, theirs: Json) -> Changes:
    """Return the fields of which the values differ."""
    return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


def unreadable(source: str, kind: str, item: Json, error: MalformedEvent) -> Difference:
    """Return the difference of one odd object. It is no reason not to compare the others."""
    name = str(item.get("id"))
    return Difference(source, kind, name, None, None, {"unreadable": (None, str(error))})


def repairs(differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences that an event repairs, in the order in which deliveries are stored: by the event's id.

    Whoever stores several events in one transaction keeps to this order, or two of them may wait for each other.
    """
    return sorted((found for found in differences if found.event is not None), key=lambda found: found.event_id)
