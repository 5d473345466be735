"""What can be done to the thing of a page, what was done to it, and what became of what was just done."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from db.transaction import SYSTEM
from domain.errors import Rejected
from domain.ops.action_list import ACTIONS
from domain.ops.actions import Action, target, written
from domain.text.filters import uuid_of
from workers.app import App
from workers.ops.actions import history

SHOWN: Final = 10
"""Actions of the history on a page."""
OLD: Final = timedelta(minutes=1)
ARGUMENT: Final = "arg."
"""What the names of the arguments' fields begin with."""


@dataclass(frozen=True)
class About:
    """A target, what can be done to it, and the newest of what was done, newest first."""

    target: str
    actions: Sequence[Action]
    history: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Undo:
    """The action that undoes another, and the page on which it is confirmed, filled in with what was before."""

    verb: str
    place: str


@dataclass(frozen=True)
class Done:
    """What became of an action. `is_old`: it was performed a while ago, perhaps by a form that was sent once more."""

    who: str
    action: str
    outcome: str
    verb: str
    target: str
    says: str | None
    at: datetime
    is_old: bool
    undo: Undo | None


def actions_for(kind: str, states: Collection[str] | None = None) -> list[Action]:
    """Return what can be done to one thing of a kind; in these states, if they are said."""
    return [each for each in ACTIONS.values() if each.kind == kind and (states is None or each.fits(states))]


def bulk_actions_for(kind: str, states: Collection[str] | None = None) -> list[Action]:
    """Return what can be done to many things of a kind at once, which are in these states (None: in any)."""
    return [each for each in actions_for(kind, states) if each.bulk]


def about(app: App, text: str, states: Collection[str] | None = None, parts: Sequence[str] = ()) -> About:
    """Tell of one target, which is in these states, with the history of its `parts`. One that the actions cannot name
    (a queue of another program) has neither actions nor a history."""
    try:
        found = target(text)
    except Rejected:
        return About(text, (), ())
    with app.db.transaction(SYSTEM) as tx:
        rows = history(tx, target=found, others=parts, limit=SHOWN)
    return About(text, actions_for(found.kind, states), rows)


def outcome(app: App, text: str) -> Done | None:
    """Tell of an action by the id of its row; None if there is none."""
    action_id = uuid_of(text)
    if action_id is None:
        return None
    with app.db.transaction(SYSTEM) as tx:
        row, now = tx.actions.get(action_id), tx.now()
    if row is None:
        return None
    action = ACTIONS.get(row["action"])
    verb = row["action"] if action is None else action.verb
    undo = None if action is None or row["outcome"] != "done" else _undo(action, row)
    names = ("who", "action", "outcome", "target", "says", "at")
    return Done(**{name: row[name] for name in names}, verb=verb, is_old=now - row["at"] > OLD, undo=undo)


def _undo(action: Action, row: Mapping[str, Any]) -> Undo | None:
    undoes = ACTIONS.get(action.undo or "")
    if undoes is None:
        return None
    before, after = (row[name] if isinstance(row[name], Mapping) else {} for name in ("before", "after"))
    found = before if action.undo_arguments is None else action.undo_arguments(before, after)
    if found is None:
        return None
    filled = {
        f"{ARGUMENT}{each.name}": written(found[each.name])
        for each in undoes.arguments
        if found.get(each.name) is not None
    }
    return Undo(undoes.verb, f"/ops/act/{undoes.name}?{urlencode({'target': row['target'], **filled})}")
