"""Tells by the type alone how urgent an event of either sender is, or why it is ignored."""

from collections.abc import Callable, Mapping
from typing import Final

from domain.billing import events as billing_events
from domain.events.outcomes import Ignored, Priority
from domain.identity import events as identity_events

TRIAGE: Final[Mapping[str, Callable[[str], Priority | Ignored]]] = {
    "stripe": billing_events.triage,
    "clerk": identity_events.triage,
}
