"""Group commit: events that arrive while one commit is under way share the next.

    store ──▶ waiting ──▶ the writer thread ──▶ one transaction ──▶ futures resolved ──▶ the notifier thread

A request is answered only after the commit that holds its event. Whatever goes wrong, storing again is safe, because
(source, external_id) is unique: so a batch that fails is simply tried again, event by event. The bell is rung after
the answers, by a thread of its own; a ring that is lost or dropped is rung again from the table.
"""

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue, SimpleQueue
from typing import Any
from uuid import UUID

import structlog

from db.events.writer import NewEvent, Stored, store_and_commit
from db.postgres.connection import AppConnection
from db.postgres.error_text import one_line
from domain.errors import Unavailable

Notifications = Mapping[str, Mapping[UUID, int]]
"""Ids of jobs that are due, by queue."""

Answer = asyncio.Future[Stored]

MAX_BATCH_BYTES = 8 * 1024 * 1024
RECONNECT_EVERY = 0.2
"""Seconds between attempts to reach a Postgres that is away."""

NOTIFICATIONS_WAITING = 1000
"""Rings that a slow Redis may fall behind; more are dropped."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """An event whose request awaits `answer`; after `deadline` (monotonic seconds) nobody does."""

    event: NewEvent
    answer: Answer
    deadline: float

    def given_up(self) -> bool:
        return self.answer.done() or time.monotonic() > self.deadline


class WebhookWriter:
    """Stores events durably for the requests of one event loop."""

    def __init__(
        self,
        connect: Callable[[], AppConnection],
        notify: Callable[[Notifications], object],
        *,
        max_batch: int = 128,
        max_waiting: int = 2000,
        patience: float = 5.0,
    ) -> None:
        """`patience`: seconds that a request waits for its commit; a shorter outage is only a delay."""
        self._connect = connect
        self._notify = notify
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._patience = patience
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._accepting = False
        self._connection: AppConnection | None = None
        self._served = True
        self._notifications: Queue[Notifications | None] = Queue(NOTIFICATIONS_WAITING)
        self._writer = threading.Thread(target=self._write_all, name="webhook-writer", daemon=True)
        self._notifier = threading.Thread(target=self._notify_all, name="webhook-notifier", daemon=True)

    def start(self) -> None:
        """Nothing is connected before the first event."""
        self._accepting = True
        self._writer.start()
        self._notifier.start()

    def stop(self) -> None:
        """Take no more events, store those that were taken, and return; blocks for `patience` and a second at most.

        Call it in a thread: the futures are resolved by the event loop.
        """
        self._accepting = False
        self._queue.put(None)
        self._writer.join(self._patience)
        self._put_notifications(None)
        self._notifier.join(1.0)

    async def store(self, event: NewEvent) -> Stored:
        """Return once the event and its job are committed (by now or by an earlier delivery).

        Raises:
            Unavailable: it could not be stored within `patience`, or too many are waiting. The sender should retry.
        """
        if not self._accepting:
            raise Unavailable("this process is shutting down")
        if self._queue.qsize() >= self._max_waiting:
            raise Unavailable("too many events are waiting to be stored")
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        self._queue.put(Waiting(event, answer, time.monotonic() + self._patience))
        # A plain timer: `asyncio.timeout` would cost more than all the rest of this method.
        timer = loop.call_later(self._patience, _refuse, [answer], "the database did not answer in time")
        try:
            return await answer
        finally:
            timer.cancel()

    # --- the writer thread ---------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception:
                log.exception("webhook_writer.writer_failed", events=len(batch))
                _on_loop(batch, _refuse, "an error of our own")
        if self._connection is not None:
            self._connection.close()

    def _next_batch(self) -> list[Waiting]:
        """Everything that is waiting, within bounds, but at least one event; nothing after the last one."""
        batch: list[Waiting] = []
        size = 0
        try:
            while len(batch) < self._max_batch and size < MAX_BATCH_BYTES:
                waiting = self._queue.get_nowait() if batch else self._queue.get()
                if waiting is None:
                    self._queue.put(None)
                    break
                batch.append(waiting)
                size += len(waiting.event.payload)
        except Empty:
            pass
        return batch

    def _write(self, batch: Sequence[Waiting]) -> None:
        try:
            stored = self._commit(batch)
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.warning("webhook_writer.batch_failed", events=len(batch), reason=one_line(error))
            for waiting in batch:
                self._write_alone(waiting)
        else:
            self._answer(batch, stored)

    def _write_alone(self, waiting: Waiting) -> None:
        """Store one event, waiting for Postgres as long as its request does."""
        while not waiting.given_up():
            try:
                stored = self._commit([waiting])
            except Unavailable:
                time.sleep(RECONNECT_EVERY)
            except Exception as error:
                event = waiting.event
                log.exception("webhook_writer.event_failed", source=event.source, external_id=event.external_id)
                _on_loop([waiting], _refuse, one_line(error))
                return
            else:
                self._answer([waiting], stored)
                return
        _on_loop([waiting], _refuse, "the database is away")

    def _commit(self, batch: Sequence[Waiting]) -> list[Stored]:
        """An outage is told once, and its end.

        Raises:
            Unavailable: Postgres cannot be reached, or stores nothing now.
        """
        try:
            stored = store_and_commit(self._connected(), [waiting.event for waiting in batch])
        except Unavailable as error:
            if self._served:
                log.warning("webhook_writer.postgres_away", reason=one_line(error))
            self._served = False
            raise
        if not self._served:
            log.info("webhook_writer.postgres_back")
        self._served = True
        return stored

    def _connected(self) -> AppConnection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
                self._connection.autocommit = True
            except Exception as error:
                raise Unavailable(f"Postgres cannot be reached: {one_line(error)}") from error
        return self._connection

    def _answer(self, batch: Sequence[Waiting], stored: Sequence[Stored]) -> None:
        _on_loop(batch, _resolve, stored)
        notifications: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
        for waiting, each in zip(batch, stored, strict=True):
            if not each.duplicate and each.job_id is not None:
                notifications[each.queue][each.job_id] = waiting.event.priority
        if notifications:
            self._put_notifications(notifications)

    # --- the notifier thread ---------------------------------------------------------------------------------

    def _put_notifications(self, notifications: Notifications | None) -> None:
        try:
            self._notifications.put_nowait(notifications)
        except Full:
            log.warning("webhook_writer.notification_dropped", jobs=sum(map(len, (notifications or {}).values())))

    def _notify_all(self) -> None:
        """Ring for what was stored; what gathers during a slow ring goes into the next one."""
        heard = True
        while True:
            gathered: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
            notifications = self._notifications.get()
            while notifications is not None:
                for queue, jobs in notifications.items():
                    gathered[queue].update(jobs)
                if self._notifications.empty():
                    break
                notifications = self._notifications.get()
            if gathered:
                heard = self._notify_once(gathered, was_heard=heard)
            if notifications is None:
                return

    def _notify_once(self, notifications: Notifications, *, was_heard: bool) -> bool:
        try:
            self._notify(notifications)
        except Exception as error:
            if was_heard:
                log.warning("webhook_writer.notification_failed", reason=one_line(error))
            return False
        return True


def _on_loop(batch: Sequence[Waiting], act: Callable[[list[Answer], Any], None], with_what: object) -> None:
    """One wake-up of the event loop for the whole batch. A loop that is closed has nobody left to tell."""
    answers = [waiting.answer for waiting in batch]
    with contextlib.suppress(RuntimeError):
        answers[0].get_loop().call_soon_threadsafe(act, answers, with_what)


def _resolve(answers: Sequence[Answer], stored: Sequence[Stored]) -> None:
    for answer, each in zip(answers, stored, strict=True):
        if not answer.done():
            answer.set_result(each)


def _refuse(answers: Sequence[Answer], reason: str) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(Unavailable(reason))
