"""A Stripe subscription as our mirror has it: one row, merged from its events in whatever order they come.

Stripe sends events late, twice and in any order. `newer` merges the rows of two events so that every permutation ends
in the same row. It goes by `created`, which has whole seconds. Where several events have the same second, their
`previous_attributes` tell which is the last: each names what it changed, and from what. The changes of one second are
edges that lead, field by field, from the state before it to the state after it. Where they lead round in a circle, the
state before that second tells where the circle was entered.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from domain.billing.invoices import Trial

ENTITLED = frozenset({"active", "trialing", "past_due"})
"""`past_due` is grace: what was last paid for and the period already begun stay, a new period waits for its invoice."""

TERMINAL = frozenset({"canceled", "incomplete_expired"})
"""A subscription never leaves these; its customer needs a new one."""

STATUSES = ("incomplete", "trialing", "active", "past_due", "paused", "unpaid", "incomplete_expired", "canceled")
"""The statuses that we know, in the order of a subscription's life. One in another status changes nothing here."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item that sells something: its quantity is not 0. `start` and `end` are the stretch that Stripe bills now."""

    price_id: str
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        return f"{self.price_id} until {self.end:%Y-%m-%d %H:%M:%SZ}" if self.end else self.price_id


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row of the mirror: a subscription as the newest event about it describes it.

    `cancel_at` is when it is scheduled to end, however that was scheduled. `event_rank` orders events of one second:
    created 0, any other 1, deleted 2. `before` is the row with the values that the event changed, if it names them.

    Later events do not repeat the following, so each is merged by itself. `ended_at` is the latest moment at which an
    event said that its entitlement ended; a subscription that recovered from `unpaid` keeps it. `left_at` is the latest
    at which it went into a status that gives nothing and that it may come back from. `paused_at` is the latest at which
    its collection was paused. `active` is the newest row with that status. `recent` holds the rows of the newest second
    and of the one before, from which a tie is decided.
    """

    id: str
    customer_id: str
    status: str
    price_ids: tuple[str, ...]
    started_at: datetime
    billing_cycle_anchor: datetime
    period_start: datetime | None
    period_end: datetime | None
    trial_end: datetime | None
    cancel_at: datetime | None
    ended_at: datetime | None
    event_created: datetime
    event_rank: int
    items: tuple[Item, ...] = ()
    trial_start: datetime | None = None
    sends_invoices: bool = False
    days_until_due: int | None = None
    collection_paused: bool = False
    paused_at: datetime | None = None
    before: "Subscription | None" = None
    active: "Subscription | None" = None
    left_at: datetime | None = None
    recent: "tuple[Subscription, ...]" = field(default=(), compare=False)

    @property
    def entitled(self) -> bool:
        return self.status in ENTITLED

    @property
    def cycle_start(self) -> datetime:
        """Return the moment from which the anchor's boundaries count: the anchor itself, or, while that lies ahead (a
        trial), the start of the period that leads up to it."""
        return min(self.billing_cycle_anchor, self.period_start or self.started_at)

    @property
    def trial(self) -> Trial | None:
        return None if self.trial_end is None else Trial(self.trial_start, self.trial_end)

    @property
    def paused_since(self) -> datetime | None:
        """Return the moment since which collection is paused, as far as events tell; None if it is not."""
        return (self.paused_at or self.event_created) if self.collection_paused else None


_NOT_CONTENT = ("id", "ended_at", "left_at", "event_created", "event_rank", "paused_at", "before", "active", "recent")
CONTENT = tuple(each.name for each in fields(Subscription) if each.name not in _NOT_CONTENT)
"""The fields that describe the subscription itself: not when an event came, nor what is merged by itself."""


def newer(stored: Subscription | None, incoming: Subscription) -> Subscription:
    """Merge two rows of one subscription: commutative, associative and idempotent, so order and repeats do not matter.

    The row of the later event wins, by (event_created, event_rank); a terminal status wins over any other. Of two equal
    pairs, the one wins to which the other led. Where nothing says which that is, the status further along its life
    wins, then the later period, then the greater of the remaining fields: arbitrary, but the same everywhere, and
    `certain` says so.
    """
    both = (incoming,) if stored is None else (stored, incoming)
    rows = {each for row in both for each in _rows_of(row)}
    rows = {row for row in rows if row.status in TERMINAL} or rows
    seconds = sorted({row.event_created for row in rows})[-2:]
    recent = tuple(_sorted(row for row in rows if row.event_created in seconds))
    latest, _ = _latest(recent)
    return replace(
        latest,
        before=None,
        ended_at=max((row.ended_at for row in both if row.ended_at), default=None),
        left_at=max((row.left_at for row in both if row.left_at), default=None),
        paused_at=max((row.paused_at for row in both if row.paused_at), default=None),
        active=next(iter(_sorted({row.active for row in both if row.active})[-1:]), None),
        recent=recent,
    )


def certain(row: Subscription) -> bool:
    """Return whether the events of the row say which of them is the latest."""
    return not row.recent or _latest(row.recent)[1]


def includes(row: Subscription, incoming: Subscription) -> bool:
    """Return whether an event with just this row was merged before."""
    return _bare(incoming) in _rows_of(row)


def ended(subscription: Subscription, at: datetime | None) -> Subscription:
    """Return the row as it counts once its customer was deleted (`at`; None: it was not): it has ended by then.

    This is applied when the tenant is derived, and never stored. So the mirror keeps what Stripe said of the
    subscription itself, and it does not matter which of the two events comes first.
    """
    if at is None or subscription.status in TERMINAL:
        return subscription
    return replace(subscription, status="canceled", ended_at=at)


def _rows_of(row: Subscription) -> tuple[Subscription, ...]:
    return row.recent or (_bare(row),)


def _bare(row: Subscription) -> Subscription:
    if not (row.ended_at or row.left_at or row.paused_at or row.active or row.recent):
        return row
    return replace(row, ended_at=None, left_at=None, paused_at=None, active=None, recent=())


def _latest(rows: Sequence[Subscription]) -> tuple[Subscription, bool]:
    """Return the row as of the newest second, and whether that is certain."""
    newest = max((row.event_created, row.event_rank) for row in rows)
    rivals = [row for row in rows if (row.event_created, row.event_rank) == newest]
    best = _sorted(rivals)[-1]
    if len(rivals) == 1 or best.status in TERMINAL:
        return best, True
    earlier = [row for row in rows if row not in rivals]
    values = _last_values(rivals, _latest(earlier)[0] if earlier else None)
    return (best, False) if values is None else (replace(best, **values), True)


def _last_values(rivals: Sequence[Subscription], start: Subscription | None) -> dict[str, Any] | None:
    """Return the value of each field after all changes of one second; None if these do not say it. `start` is the state
    before that second, if there is one."""
    values = {}
    for name in CONTENT:
        certainly, values[name] = _last_value(rivals, start, name)
        if not certainly:
            return None
    return values


def _last_value(rivals: Sequence[Subscription], start: Subscription | None, name: str) -> tuple[bool, Hashable]:
    """Return whether it is certain which value of the field is the last, and that value."""
    ends_in = {getattr(row, name) for row in rivals}
    edges = [(getattr(row.before, name), getattr(row, name)) for row in rivals if row.before is not None]
    edges = [(before, after) for before, after in edges if before != after]
    if len(ends_in) == 1 and not edges:
        return True, ends_in.pop()
    entered: Counter[Hashable] = Counter()
    for before, after in edges:
        entered[before] -= 1
        entered[after] += 1
    if not ends_in <= entered.keys():
        return False, None  # no change leads to, or from, one of the values
    ends = [value for value, times in entered.items() if times > 0]
    if ends:
        return len(ends) == 1 and entered[ends[0]] == 1, ends[0]
    value = getattr(start, name, None)
    return start is not None and value in entered, value


def _sorted(rows: Iterable[Subscription]) -> list[Subscription]:
    """Sort by age, the oldest first. Most often there is one row, and its age does not matter."""
    found = list(rows)
    return found if len(found) < 2 else sorted(found, key=_age)


def _age(row: Subscription) -> tuple[Any, ...]:
    """Return the place of the row in a total order over all fields but those that are merged by themselves."""
    progress = STATUSES.index(row.status) if row.status in STATUSES else -1
    times = (row.period_start, row.period_end, row.trial_end, row.cancel_at, row.started_at, row.billing_cycle_anchor)
    numbers = tuple(float("-inf") if time is None else time.timestamp() for time in times)
    order = (row.status in TERMINAL, row.event_created, row.event_rank, progress)
    return (*order, *numbers, row.status, row.price_ids, row.customer_id, repr(_bare(row)))
