"""Group commit: events that arrive while one commit is under way share the next.

    store ──▶ batcher ──▶ one transaction ──▶ futures resolved ──▶ workers notified

A request is answered only after the commit that holds its event. Whatever goes wrong, storing again is safe, because
(source, external_id) is unique: so a batch that fails is simply tried again, event by event. The workers are notified
after the answers; a notification that is lost is sent again from the table.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Full
from typing import Any

import structlog

from db.events.writer import NewEvent, Stored, store_and_commit
from db.postgres.connection import AppConnection
from db.postgres.error_text import one_line
from db.queue.enqueue import ENQUEUED
from db.queue.notifications import Notifications
from domain.errors import Unavailable
from workers.engine.batcher import Batcher
from workers.runtime.metrics import Metrics

Answer = asyncio.Future[Stored]

MAX_BATCH_BYTES = 8 * 1024 * 1024
RECONNECT_EVERY = 0.2
"""Seconds between attempts to reach a Postgres that is away."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
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
        metrics: Metrics | None = None,
    ) -> None:
        """`patience`: seconds that a request waits for its commit; a shorter outage is only a delay.

        `notify` is called by the writer's thread, between two batches: it should neither wait nor raise.
        """
        self._connect = connect
        self._notify = notify
        self._metrics = metrics or Metrics()
        self._patience = patience
        self._accepting = False
        self._connection: AppConnection | None = None
        self._away = False
        self._batcher = Batcher[Delivery, None](
            self._write,
            name="webhook-writer",
            limit=MAX_BATCH_BYTES,
            weigh=lambda delivery: max(len(delivery.event.payload), MAX_BATCH_BYTES // max_batch),
            most_waiting=max_waiting,
        )

    @property
    def waiting(self) -> int:
        """Events that no batch has taken yet."""
        return self._batcher.waiting

    def start(self) -> None:
        """Nothing is connected before the first event."""
        self._batcher.start()
        self._accepting = True

    def stop(self) -> None:
        """Take no more events, store those that were taken, and return; blocks for `patience` at most.

        Call it in a thread: the futures are resolved by the event loop.
        """
        self._accepting = False
        if self._batcher.stop(self._patience) and self._connection is not None:
            self._connection.close()

    async def store(self, event: NewEvent) -> Stored:
        """Return once the event and its job are committed (by now or by an earlier delivery).

        Raises:
            Unavailable: it could not be stored within `patience`, or too many are waiting. The sender should retry.
        """
        if not self._accepting:
            raise Unavailable("this process is shutting down")
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        try:
            self._batcher.post(Delivery(event, answer, time.monotonic() + self._patience))
        except Full:
            raise Unavailable("too many events are waiting to be stored") from None
        # A plain timer: `asyncio.timeout` would cost more than all the rest of this method.
        timer = loop.call_later(self._patience, _refuse, [answer], "the database did not answer in time")
        try:
            return await answer
        finally:
            timer.cancel()

    # --- the writer thread ---------------------------------------------------------------------------------

    def _write(self, batch: Sequence[Delivery]) -> None:
        try:
            self._store(batch)
        except Exception:
            log.exception("webhook_writer.round_failed", events=len(batch))
            _on_loop(batch, _refuse, "an error of our own")

    def _store(self, batch: Sequence[Delivery]) -> None:
        try:
            stored = self._commit(batch)
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.warning("webhook_writer.batch_failed", events=len(batch), reason=one_line(error))
            for delivery in batch:
                self._write_alone(delivery)
        else:
            self._answer(batch, stored)

    def _write_alone(self, delivery: Delivery) -> None:
        """Store one event, waiting for Postgres as long as its request does."""
        while not delivery.given_up():
            try:
                stored = self._commit([delivery])
            except Unavailable:
                time.sleep(RECONNECT_EVERY)
            except Exception as error:
                event = delivery.event
                log.exception("webhook_writer.event_failed", source=event.source, external_id=event.external_id)
                _on_loop([delivery], _refuse, one_line(error))
                return
            else:
                self._answer([delivery], stored)
                return
        _on_loop([delivery], _refuse, "the database is away")

    def _commit(self, batch: Sequence[Delivery]) -> list[Stored]:
        """Store the batch; the beginning and the end of an outage are logged once.

        Raises:
            Unavailable: Postgres cannot be reached, or stores nothing now.
        """
        try:
            with self._metrics.timed("viral_ingest_commit_seconds"):
                stored = store_and_commit(self._connected(), [delivery.event for delivery in batch])
            self._metrics.observe("viral_ingest_batch_events", len(batch))
        except Unavailable as error:
            if not self._away:
                log.warning("webhook_writer.postgres_away", reason=one_line(error))
            self._away = True
            raise
        if self._away:
            log.info("webhook_writer.postgres_back")
        self._away = False
        return stored

    def _connected(self) -> AppConnection:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
                self._connection.autocommit = True
            except Exception as error:
                raise Unavailable(f"Postgres cannot be reached: {one_line(error)}") from error
        return self._connection

    def _answer(self, batch: Sequence[Delivery], stored: Sequence[Stored]) -> None:
        _on_loop(batch, _resolve, stored)
        notifications = Notifications()
        for delivery, each in zip(batch, stored, strict=True):
            if not each.duplicate and each.job_id is not None:
                notifications.add(each.queue, each.job_id, delivery.event.priority)
                notifications.count(ENQUEUED, delivery.event.job_type)
            outcome = "duplicate" if each.duplicate else "accepted"
            self._metrics.count("viral_webhooks_total", delivery.event.source, outcome)
        if notifications:
            self._notify(notifications)
        _log_accepted(batch, stored)


def _log_accepted(batch: Sequence[Delivery], stored: Sequence[Stored]) -> None:
    """Log a commit in one line: a line for each event costs as much as reading its body and checking its signature."""
    named = [
        (f"{delivery.event.source} {delivery.event.external_id} {delivery.event.type}", each.duplicate)
        for delivery, each in zip(batch, stored, strict=True)
    ]
    events, duplicates = ([name for name, duplicate in named if duplicate is wanted] for wanted in (False, True))
    log.info("webhooks.accepted", events=events, duplicates=duplicates)


def _on_loop(batch: Sequence[Delivery], act: Callable[[list[Answer], Any], None], with_what: object) -> None:
    """Wake the event loop once for the whole batch. A loop that is closed has no request left to answer."""
    answers = [delivery.answer for delivery in batch]
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
