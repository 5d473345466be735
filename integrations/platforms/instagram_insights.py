"""Instagram's numbers of a reel. One metric that it has retired, or does not count for this reel, fails the whole
request (trypost#319, #362): what the error blames is left out, and the rest is asked for again.

The words of these errors are reported ones, and change: an error that blames nothing that we asked for is got around by
asking for each metric by itself. What was blamed is left out for an hour, for this account, so that not every request
fails first.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from domain.errors import Unavailable
from domain.learning.counts import numbers_of
from domain.learning.metrics import asked
from domain.learning.numbers import Numbers
from domain.ports import More, no_matter
from domain.posting.publishing import PostRefused
from integrations.http.client import Response
from integrations.platforms.graph import NAME, NO_OBJECT, SCOPE, GraphError, meaning, read_error, read_json

PLATFORM = "instagram-reels"
SOURCE = "instagram insights"
LEFT_OUT = timedelta(hours=1)
PARAMETER = 100
WITHHELD = (
    f"{NAME} shows numbers only to who may read insights, which this account was connected without: connect it again "
    "and leave that on. Posting works all the same"
)
ALLOWED = re.compile(r"must be one of the following values: ([\w, ]+)")
BLAMED = re.compile(r"\bthe (\w+) metric\b|\bmetric (\w+) (?:is|was|has)\b", re.IGNORECASE)

ALL = ""
"""Stands for all metrics together: they are asked for one by one."""

Ask = Callable[[Sequence[str]], Response]
"""Requests these metrics of one reel."""


class NoSuchReel(Exception):
    """Instagram says that there is no such object, or none that our access may see: it does not tell which."""


class NotAllowed(Exception):
    """Our access does not extend to insights."""


class Insights:
    """Reads numbers, and remembers what not to ask for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left_out: dict[tuple[str, str], datetime] = {}
        """Until when, by account and metric."""

    def read(self, account: str, ask: Ask, now: datetime, more: More = no_matter) -> Numbers:
        """Return the numbers of one reel. What is learnt of a request is remembered before the next one, so whoever has
        to wait for `more` requests goes on where it was.

        Raises:
            NoSuchReel, NotAllowed
            Unavailable: there are none now; also TokenExpired, AccountRevoked and HeldOff, as for any request.
        """
        names, singly = self._wanted(account, now)
        if singly and names:
            more(len(names) - 1)
        while names and not singly:
            values = _values(ask, names)
            if not isinstance(values, str):
                return numbers_of(PLATFORM, values, now.date())
            wrong = _blamed(names, values)
            singly = not wrong
            names = [each for each in names if each not in wrong]
            if names:
                self._leave_out(account, wrong or [ALL], now)
                more(len(names) if singly else 1)
        if not names:
            raise Unavailable(f"{NAME} takes none of the metrics that are asked for here")
        return self._one_by_one(account, ask, names, now)

    def _one_by_one(self, account: str, ask: Ask, names: list[str], now: datetime) -> Numbers:
        found: dict[str, Any] = {}
        refused: list[str] = []
        for name in names:
            values = _values(ask, [name])
            if isinstance(values, str):
                refused.append(name)
            else:
                found |= values
        if len(refused) == len(names):
            raise Unavailable(f"{NAME} answers none of the metrics that are asked for here")
        self._leave_out(account, refused, now)
        with self._lock:
            self._left_out.pop((account, ALL), None)
        return numbers_of(PLATFORM, found, now.date())

    def _wanted(self, account: str, now: datetime) -> tuple[list[str], bool]:
        """Return the metrics that are asked for, and whether that is one by one."""
        with self._lock:
            out = {name for (whose, name), until in self._left_out.items() if whose == account and until > now}
        return [metric.name for metric in asked(PLATFORM, now.date()) if metric.name not in out], ALL in out

    def _leave_out(self, account: str, names: Sequence[str], now: datetime) -> None:
        if not names:
            return
        with self._lock:
            self._left_out = {key: until for key, until in self._left_out.items() if until > now}
            self._left_out |= {(account, name): now + LEFT_OUT for name in names}


def _values(ask: Ask, names: Sequence[str]) -> Mapping[str, Any] | str:
    """Return the values by metric; the words of the error, if it is about a parameter."""
    response = ask(names)
    error = read_error(response)
    body = read_json(response)
    if error is None:
        rows = body.get("data") if isinstance(body, Mapping) else None
        if not isinstance(rows, list):
            raise Unavailable(f"{NAME} answers with numbers that cannot be read")
        return {str(row.get("name")): _value(row) for row in rows if isinstance(row, Mapping)}
    if (error.code, error.subcode) == (PARAMETER, NO_OBJECT):
        raise NoSuchReel
    if error.code in SCOPE:
        raise NotAllowed
    if error.code == PARAMETER and not error.transient:
        return str(body["error"].get("message") or "")
    raise _failure(error)


def _value(row: Mapping[str, Any]) -> Any:
    """Return a metric's one value, which covers the reel's whole life; None where Instagram has none (yet)."""
    values = row.get("values")
    one = values[0] if isinstance(values, list) and len(values) == 1 else row.get("total_value")
    return one.get("value") if isinstance(one, Mapping) else None


def _blamed(names: Sequence[str], text: str) -> list[str]:
    """Return which of the metrics the error is about: those that are not among the ones it allows, else the first that
    it names, since it may name a replacement too."""
    if allowed := ALLOWED.search(text):
        listed = set(re.findall(r"\w+", allowed[1]))
        return [each for each in names if each not in listed]
    named = [first or second for first, second in BLAMED.findall(text)]
    return [each for each in named if each in names][:1]


def _failure(error: GraphError) -> Exception:
    """Return the error of a question: what is refused says nothing of the post, and is asked again later."""
    meant = meaning(error)
    return Unavailable(str(meant)) if isinstance(meant, PostRefused) else meant
