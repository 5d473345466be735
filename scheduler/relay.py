"""Keeps promises that others may have lost: rings again, rescues the jobs of dead workers, fires the calendar.

Any number of copies may run. Each of the three works in one short transaction that skips what another copy holds.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import redis
import structlog

from db.transaction import SYSTEM, Database
from scheduler.schedule import Schedule, to_fire
from workers.broker import Doorbell
from workers.job import QUEUES
from workers.runner import JobTypes, rescue

WINDOW = 64
"""Messages a queue may hold in Redis before the relay stops adding: order and fairness are decided in the table."""

log = structlog.get_logger()


class Relay:
    """One scheduler's work. `clock` replaces the database's clock for the calendar; for tests and rehearsals."""

    def __init__(
        self,
        db: Database,
        doorbell: Doorbell,
        job_types: JobTypes,
        schedules: Sequence[Schedule],
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._db = db
        self._doorbell = doorbell
        self._types = job_types
        self._schedules = schedules
        self._clock = clock
        self._epoch: str | None = None
        self._heard = True

    def ring(self) -> int:
        """Ring for pending jobs whose ring is owed: delayed ones that became due, and those whose ring was lost.

        Returns how many jobs were rung. Redis is asked first, so that a job's timer is not spent on a deaf bell.
        """
        try:
            self._notice_loss()
            with self._db.transaction(SYSTEM) as tx:
                queues = tx.fires.waiting_queues()
            waiting = self._doorbell.waiting(queues)
        except redis.RedisError as error:
            if self._heard:
                log.warning("relay.redis_away", reason=str(error))
            self._heard = False
            self._epoch = None
            return 0
        if not self._heard:
            log.info("relay.redis_back")
        self._heard = True
        room = {queue: WINDOW - waiting[queue] for queue in queues if waiting[queue] < WINDOW}
        rung = 0
        for queue, bells in room.items():
            with self._db.transaction(SYSTEM) as tx:
                rings = tx.fires.take_due_rings([queue], bells * QUEUES.get(queue, 1))
            if rings and not self._doorbell.ring(rings):
                self._epoch = None
            rung += sum(map(len, rings.values()))
        return rung

    def _notice_loss(self) -> None:
        """Redis forgot (or we cannot know what it heard): every ring of the past is owed again."""
        epoch = self._doorbell.epoch(secrets.token_hex(8))
        if epoch == self._epoch:
            return
        with self._db.transaction(SYSTEM) as tx:
            owed = tx.fires.expect_rings_again()
        if owed:
            log.info("relay.rings_owed_again", jobs=owed)
        self._epoch = epoch

    def rescue(self) -> int:
        """Return the jobs of dead workers to their queues. Returns how many."""
        with self._db.transaction(SYSTEM) as tx:
            rescued = rescue(tx, self._types)
            tx.workers.forget_dead()
        return rescued

    def fire(self) -> int:
        """Enqueue what the calendar says is due, each fire once among all schedulers. Returns how many fired."""
        fired = 0
        with self._db.transaction(SYSTEM) as tx:
            if not tx.fires.try_lock():
                return 0
            now = self._clock() if self._clock is not None else tx.now()
            last = tx.fires.last()
            for schedule in self._schedules:
                if schedule.name not in last:
                    # First sight of a schedule: it begins now, and owes nothing for the time before.
                    tx.fires.begin(schedule.name, now)
                    continue
                for fire_at in to_fire(schedule, last[schedule.name], now):
                    fired += tx.fires.fire(schedule.name, fire_at, partial(schedule.enqueue, tx, fire_at))
        return fired
