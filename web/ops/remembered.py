"""Whom a process remembers to have admitted: while Postgres does not answer, and between two look-ups."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from domain.ops.operators import SESSION_IDLE, SESSION_LIFE, Operator, OperatorRole, token_hash
from workers.ops.operators import NOTED_EVERY, AskedSession

RECENT = 1000
"""Credentials that a process remembers to have admitted."""
TRUSTED_WITHOUT_POSTGRES = SESSION_LIFE.total_seconds()
"""Seconds for which somebody who was admitted may look while nobody can be looked up."""
KEPT_LIFE = 3600.0
"""Seconds of a session that could not be stored, since Postgres refuses writes."""
MOST_KEPT = 100


@dataclass
class Seen:
    """When this process admitted a credential last, looked it up last, and wrote that down last; seconds of its own
    clock."""

    operator: Operator
    at: float
    looked_up_at: float
    noted_at: float = float("-inf")
    used_at: float = float("-inf")
    session: AskedSession | None = field(default=None, repr=False)
    """What it is looked up by, if it is a session that Postgres has."""


@dataclass(frozen=True)
class Kept:
    """A session in this process's memory, begun with the token of this hash."""

    token: str = field(repr=False)
    until: float


class Remembered:
    """Credentials by their hashes, and networks from where somebody came in. Safe for threads.

    Who was looked up is `fresh` for `fresh_for` seconds of the clock `monotonic`.
    """

    def __init__(self, monotonic: Callable[[], float], *, fresh_for: float) -> None:
        self._monotonic = monotonic
        self._fresh_for = fresh_for
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._good_networks: OrderedDict[str, None] = OrderedDict()

    def get(self, key: bytes) -> Seen | None:
        with self._lock:
            return self._seen.get(key)

    def fresh(self, key: bytes, *, use: bool) -> Seen | None:
        """Return who was looked up so lately that they need not be again."""
        with self._lock:
            seen, now = self._seen.get(key), self._monotonic()
            if seen is None or now - seen.looked_up_at >= self._fresh_for:
                return None
            seen.used_at = now if use else seen.used_at
            return seen

    def admit(self, key: bytes, operator: Operator, network: str, session: AskedSession | None = None) -> None:
        """Remember that somebody was looked up and admitted, from this network."""
        with self._lock:
            now = self._monotonic()
            before = self._seen.pop(key, None)
            self._seen[key] = Seen(operator, now, now, before.noted_at if before else now, now, session)
            self._good_networks[network] = None
            self._good_networks.move_to_end(network)
            for kept in (self._seen, self._good_networks):
                while len(kept) > RECENT:
                    kept.popitem(last=False)

    def forget(self, key: bytes) -> None:
        with self._lock:
            self._kept.pop(key, None)
            self._seen.pop(key, None)

    def is_good(self, network: str) -> bool:
        """Return whether somebody came in from there."""
        with self._lock:
            return network in self._good_networks

    def is_note_due(self, seen: Seen) -> bool:
        """Return whether it is time to write down a use, and have no other thread do so too."""
        with self._lock:
            now = self._monotonic()
            if now - seen.noted_at < NOTED_EVERY.total_seconds():
                return False
            seen.noted_at = now
            return True

    def trusted(self, seen: Seen) -> Operator | None:
        """Return who was admitted before, for whom nothing but looking is left; None if that is too long ago."""
        if self._monotonic() - seen.at > TRUSTED_WITHOUT_POSTGRES:
            return None
        return Operator(seen.operator.name, OperatorRole.LOOK, seen.operator.token_id)

    def keep(self, session: str, token: str) -> None:
        """Hold a session that could not be stored."""
        with self._lock:
            self._kept[token_hash(session)] = Kept(token, self._monotonic() + KEPT_LIFE)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def kept(self, key: bytes) -> Kept | None:
        """Return a session that was kept, and is not over."""
        with self._lock:
            kept = self._kept.get(key)
            return kept if kept is not None and self._monotonic() < kept.until else None

    def to_look_up(self, key: bytes, asked: AskedSession, *, use: bool) -> dict[bytes, AskedSession]:
        """Return this session and all others that have asked lately, by their keys: looked up together, so many open
        pages cost what one does. When one's use is to be written down, all of theirs are."""
        with self._lock:
            now = self._monotonic()
            mine = self._seen.get(key)
            others = {
                each: (seen, seen.session)
                for each, seen in self._seen.items()
                if each != key and seen.session is not None and now - seen.used_at < 2 * self._fresh_for
            }
            used = [seen for seen, _ in others.values()] + ([mine] if use and mine is not None else [])
            due = (use and mine is None) or any(now - seen.noted_at >= NOTED_EVERY.total_seconds() for seen in used)
            if due:
                for seen in used:
                    seen.noted_at = now
            idle = SESSION_IDLE.total_seconds()
            lately = mine is not None and now - mine.at < idle
            return {key: replace(asked, note=use and due, used_lately=lately)} | {
                each: replace(session, note=due, used_lately=now - seen.at < idle)
                for each, (seen, session) in others.items()
            }

    def looked_up(self, found: Mapping[bytes, Operator | None]) -> None:
        """Remember what became of a look-up of others: who is None is forgotten."""
        with self._lock:
            now = self._monotonic()
            for key, operator in found.items():
                seen = self._seen.get(key)
                if seen is None:
                    continue
                if operator is None:
                    del self._seen[key]
                else:
                    seen.operator, seen.at, seen.looked_up_at = operator, seen.used_at, now
