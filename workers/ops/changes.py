"""What was changed in the system, for the rail beside each chart and for who asks what somebody did: deploys, settings,
limits, pauses and migrations.

    rail(tx, since, until)        oldest first, for a chart
    listed(tx, since=…, kind=…)   newest first, for a list

A process says at its start which release and which settings it runs with (`note_start`). A failure to record that never
keeps a process from starting, nor does it wait for it (`StartNote`).
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from pydantic import SecretStr

from db.ops.changes import ChangeRow
from db.schema.ops import CHANGES
from db.transaction import NO_ANSWER, SYSTEM, Contended, Database, Tx
from domain.errors import Rejected
from domain.ops.changes import State, differences, shown
from workers.app import App
from workers.settings import COMMITS, Settings

KINDS: Final = CHANGES

MOST: Final = 500
"""Changes of a rail, or of a page of a list."""

SETTLES: Final = timedelta(minutes=15)
"""A deploy may take so long: until then a process of the release before that starts is one that was restarted."""

OF_A_PROCESS: Final = frozenset({"release", "port", "viral_home", *COMMITS})
"""Settings that are no change: of another kind, or another one at each start."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `says` has it in words, `cause` is who did it (`domain/ops/causes.py`; None: nobody is known).

    `subject` is the role of a process (deploy, setting), a queue, perhaps one tenant's part of it (limit, pause), or
    `schema` (migration). All texts may come from outside.
    """

    id: int
    at: datetime
    kind: str
    subject: str
    says: str
    before: Any
    after: Any
    cause: str | None

    @property
    def release(self) -> str | None:
        """The release that a deploy brought."""
        return _release(self.after) if self.kind == "deploy" else None

    @property
    def queue(self) -> str | None:
        """The queue of a limit or a pause."""
        return self.subject.partition(" ")[0] if self.kind in ("limit", "pause") else None

    @property
    def tenant_id(self) -> UUID | None:
        """The tenant of a limit or a pause that is one's own."""
        try:
            return UUID(self.subject.partition(" ")[2]) if self.kind in ("limit", "pause") else None
        except ValueError:
            return None


def rail(tx: Tx, since: datetime, until: datetime, *, kind: str | None = None, limit: int = MOST) -> list[Change]:
    """Return the changes in [since, until), perhaps of one kind, oldest first, for a chart of that time; of more than
    `limit` the newest."""
    return [_in_words(row) for row in tx.changes.between(since, until, limit, kind)]


def listed(
    tx: Tx, *, since: datetime | None = None, kind: str | None = None, before: int | None = None, limit: int = 100
) -> list[Change]:
    """Return changes, newest first. `before` is the id of the last one that was shown.

    Raises:
        Rejected: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise Rejected(f"there is no such kind of change; there are {', '.join(KINDS)}")
    kinds = None if kind is None else (kind,)
    return [
        _in_words(row) for row in tx.changes.listed(since=since, kinds=kinds, before=before, limit=min(limit, MOST))
    ]


# --- what a process says at its start -------------------------------------------------------------------------------


def state_of(settings: Settings) -> dict[str, str]:
    """Return the settings that are set, as they may be kept."""
    found = {}
    for name in sorted(settings.model_fields_set - OF_A_PROCESS):
        value = getattr(settings, name)
        if value not in ("", None, ()):
            found[name] = shown(name, value, secret=_is_secret(value) or not type(settings).model_fields[name].repr)
    return found


def _is_secret(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(isinstance(part, SecretStr) for part in parts)


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a process. `part` names those processes of a role that have settings of their own: workers of
    other queues."""

    role: str
    release: str
    settings: State
    part: str = ""


def note_start(tx: Tx, start: Start) -> bool:
    """Record a deploy and changed settings, if this process is the first that shows them. System scope.

    Returns False if it cannot be differing yet whether there is one: what was in force before the newest change was put
    back, or a process that still has it was restarted while the change is rolled out. Ask again after `SETTLES`.
    """
    tx.changes.lock(f"start of {start.role}")
    return all([_note_settings(tx, start), _note_release(tx, start.role, start.release)])


def _note_settings(tx: Tx, start: Start) -> bool:
    subject = f"{start.role} {start.part}".strip()
    recorded, newest = tx.changes.settings(subject)
    state = {name: value for name, value in recorded.items() if value is not None}
    if newest is None or state != dict(start.settings):
        before, after = differences(state, start.settings)
        if newest is not None and newest.before == after and newest.at > tx.now() - SETTLES:
            return False
        tx.changes.record("setting", subject, None if newest is None else before, after)
    return True


def _note_release(tx: Tx, role: str, release: str) -> bool:
    deploys = tx.changes.deploys(role)
    newest = _release(deploys[0].after) if deploys else None
    if newest == release:
        return True
    if newest is not None and release in {_release(row.after) for row in deploys}:
        rolls_out = deploys[0].at > tx.now() - SETTLES
        if rolls_out or tx.changes.runs(role, newest, SETTLES):
            return False
    tx.changes.record("deploy", role, None if newest is None else {"release": newest}, {"release": release})
    return True


class StartNote:
    """A thread that notes the start of this process as soon as the database takes it, and then ends."""

    def __init__(
        self, db: Database, start: Start, *, again: timedelta = timedelta(seconds=30), settles: timedelta = SETTLES
    ) -> None:
        """`again` is the time between two tries while the database does not take it."""
        self._db = db
        self._start = start
        self._waits = {None: again, False: settles}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="start-note", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while (noted := self._try()) is not True:
            if self._stop.wait(self._waits[noted].total_seconds()):
                return

    def _try(self) -> bool | None:
        try:
            with self._db.transaction(SYSTEM) as tx:
                return note_start(tx, self._start)
        except (*NO_ANSWER, Contended) as error:
            log.warning("start.not_noted", reason=str(error), seldom=True)
        except Exception:  # what is not known is a mark on a chart, and no reason to stop
            log.exception("start.not_noted", seldom=True)
        return None


def start_note(app: App, role: str, part: str = "") -> StartNote:
    """Return what notes the start of a process of this application."""
    return StartNote(app.db, Start(role, app.release, state_of(app.settings), part))


# --- in words -------------------------------------------------------------------------------------------------------


def _in_words(row: ChangeRow) -> Change:
    says = _WORDS[row.kind](row)
    return Change(row.id, row.at, row.kind, row.subject, says, row.before, row.after, row.cause)


def _of_deploy(row: ChangeRow) -> str:
    before, after = _release(row.before), _release(row.after) or "an unknown release"
    since = f", after {before}" if before else ", the first that was recorded"
    return f"{row.subject} runs {after}{since}"


def _of_settings(row: ChangeRow) -> str:
    after = row.after if isinstance(row.after, Mapping) else {}
    before = row.before if isinstance(row.before, Mapping) else None
    if before is None:
        return f"{row.subject} has {len(after)} settings, recorded for the first time"
    differing = [f"{name.upper()}: {_value(before.get(name))} → {_value(after[name])}" for name in sorted(after)]
    return f"{row.subject}: {'; '.join(differing)}"


def _of_pause(row: ChangeRow) -> str:
    paused = isinstance(row.after, Mapping) and row.after.get("paused")
    return f"{_queue(row.subject)} {'is paused' if paused else 'goes on'}"


def _of_migration(row: ChangeRow) -> str:
    before, after = (state.get("revision") if isinstance(state, Mapping) else None for state in (row.before, row.after))
    return f"the {row.subject} was migrated from {_value(before)} to {_value(after)}"


def _of_values(row: ChangeRow) -> str:
    after = row.after if isinstance(row.after, Mapping) else {}
    before = row.before if isinstance(row.before, Mapping) else {}
    differing = [
        f"{name}: {_value(before.get(name))} → {_value(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return f"{_queue(row.subject)}: {'; '.join(differing)}"


_WORDS: Final[Mapping[str, Callable[[ChangeRow], str]]] = {
    "deploy": _of_deploy,
    "setting": _of_settings,
    "pause": _of_pause,
    "limit": _of_values,
    "migration": _of_migration,
}


def _queue(subject: str) -> str:
    queue, _, tenant = subject.partition(" ")
    return f"{queue} of tenant {tenant}" if tenant else queue


def _value(value: Any) -> str:
    return "none" if value is None else str(value)


def _release(state: Any) -> str | None:
    release = state.get("release") if isinstance(state, Mapping) else None
    return None if release is None else str(release)
