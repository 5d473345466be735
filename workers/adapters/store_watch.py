"""Leaves this process's marker in the media store's folder, and records whose markers it finds there: so `viral doctor`
knows whether all processes see the same folder."""

import socket
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog

from db.ops.store_views import StoreView
from db.transaction import SYSTEM, Database
from domain.errors import Unavailable
from domain.videos.media import StoreUnavailable
from integrations.store.folder import FolderStore
from integrations.store.incoming import own_folder, sweep

INTERVAL = timedelta(minutes=1)
"""Between two looks, at least: what is seen changes with a deployment, and hardly ever otherwise."""
LEFT = timedelta(days=1)
"""A file that has been on its way for so long is not on its way."""
LATE = timedelta(seconds=5)
"""So long after its start a process's marker is looked for."""

log = structlog.get_logger()


class StoreWatch:
    """A thread of its own. `folder` is None where files are kept in a bucket, whose name is `store`."""

    def __init__(
        self, db: Database, folder: FolderStore | None, *, store: str, role: str, interval: timedelta = INTERVAL
    ) -> None:
        self.process_id = uuid4()
        self._db = db
        self._folder = folder
        self._store = store
        self._role = role
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take the marker away; whoever looks later does not miss it."""
        self._stop.set()
        self._thread.join(timeout=5)
        try:
            with self._db.transaction(SYSTEM, durable=False) as tx:
                tx.store_views.forget(self.process_id)
            if self._folder is not None:
                self._folder.unmark(self.process_id)
        except Unavailable as error:
            log.warning("store_watch.not_signed_off", reason=str(error))

    def look(self) -> None:
        """Leave the marker, look for others', and record them."""
        sees: list[UUID] = []
        trouble = None
        try:
            if self._folder is not None:
                sees = self._folder.mark(self.process_id)
        except StoreUnavailable as error:
            trouble = str(error)
            log.error("store_watch.unusable", reason=trouble, seldom=True)
        with self._db.transaction(SYSTEM, durable=False) as tx:
            tx.store_views.record(
                self.process_id,
                role=self._role,
                hostname=socket.gethostname(),
                store=self._store,
                sees=sees,
                trouble=trouble,
            )

    def sweep(self, before: datetime) -> int:
        """Delete what killed processes left on this machine on its way to a bucket. `upkeep.media` does it on one
        machine only; a store in a folder is the same on all of them."""
        try:
            return sweep(own_folder(), before) if self._folder is None else 0
        except (StoreUnavailable, OSError) as error:
            log.error("store_watch.not_swept", reason=str(error))
            return 0

    def _run(self) -> None:
        self.sweep(datetime.now(UTC) - LEFT)
        while True:
            try:
                self.look()
            except Exception as error:  # the next look may do better: a database that is away, or not migrated yet
                log.warning("store_watch.not_recorded", reason=type(error).__name__, seldom=True)
            if self._stop.wait(self._interval.total_seconds()):
                return


def fresh_within(idle_interval: timedelta) -> timedelta:
    """How old the view of a process that lives may be."""
    return 2 * max(INTERVAL, idle_interval) + LATE


def divided(views: Iterable[StoreView]) -> list[str]:
    """Say which processes do not see one store; each of the views is fresh."""
    found = list(views)
    faults = [f"{_named(view)} cannot use it: {view.trouble}" for view in found if view.trouble]
    usable = [view for view in found if not view.trouble]
    kinds = {view.store.partition(" ")[0] for view in usable}
    if len(kinds) > 1 or ("bucket" in kinds and len({view.store for view in usable}) > 1):
        stores = ", ".join(f"{_named(view)}: {view.store}" for view in usable)
        return [*faults, f"processes have different stores set ({stores})"]
    for view in usable:
        for other in usable:
            due = other.started_at + LATE < view.seen_at
            if view.store.startswith("folder") and due and other.id not in view.sees:
                faults.append(f"{_named(view)} does not find the marker of {_named(other)} in its {view.store}")
    return faults


def _named(view: StoreView) -> str:
    return f"{view.role} on {view.hostname}"
