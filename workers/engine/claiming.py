"""Takes jobs for a worker process: those that many threads ask for in one transaction."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from db.queue.claim import known_types
from db.queue.transitions import ClaimedJob
from db.transaction import SYSTEM, Database, Tx
from domain.errors import Unavailable
from workers.engine.failures import text_of
from workers.engine.job import JobTypes

Claim = tuple[list[ClaimedJob], list[UUID]]
"""What was claimed of the jobs asked for; and their suspects, which are claimed one by one
(`workers.engine.quarantine`)."""

log = structlog.get_logger()


class Claimer:
    """Claims for one worker process. Tokens of what it has claimed are added to `leases`; the runner takes them out."""

    def __init__(self, db: Database, worker_id: UUID, job_types: JobTypes, leases: set[int]) -> None:
        self._db = db
        self._worker_id = worker_id
        self._known = known_types({name: job_type.terms for name, job_type in job_types.items()})
        self._leases = leases

    def take_for_all(self, requests: Sequence[Sequence[UUID]]) -> list[Claim]:
        """Claim what each of the requests asks for. Suspects are left."""
        if len(requests) == 1:
            return [self.take(requests[0], quarantined=False)]
        claimed, quarantined = self.take([job_id for job_ids in requests for job_id in job_ids], quarantined=False)
        asker = {job_id: n for n, job_ids in enumerate(requests) for job_id in job_ids}
        answers: list[Claim] = [([], []) for _ in requests]
        for job in claimed:
            answers[asker[job.id]][0].append(job)
        for job_id in quarantined:
            answers[asker[job_id]][1].append(job_id)
        return answers

    def take(self, job_ids: Sequence[UUID], *, quarantined: bool) -> Claim:
        """Claim together; if Postgres refuses that, one by one, so that the row that it refuses costs only itself.

        Raises:
            DatabaseUnavailable: nothing was claimed.
        """
        try:
            return self._take(job_ids, quarantined=quarantined)
        except Unavailable:
            raise
        except Exception as error:
            if len(job_ids) == 1:
                log.error("job.claim_refused", job_id=str(job_ids[0]), error=text_of(error))
                return [], []
        claimed: list[ClaimedJob] = []
        left: list[UUID] = []
        for job_id in job_ids:
            one, left_alone = self.take([job_id], quarantined=quarantined)
            claimed += one
            left += left_alone
        return claimed, left

    def _take(self, job_ids: Sequence[UUID], *, quarantined: bool) -> Claim:
        # A claim that a server crash forgets is harmless: the fence refuses its finish, and the job runs again.
        with self._db.transaction(SYSTEM, durable=False) as tx:
            claimed = tx.claims.claim(job_ids, self._worker_id, self._known, quarantined=quarantined)
            left = tx.claims.quarantined(job_ids, self._known) if len(claimed) < len(job_ids) else []
        self._leases.update(job.lease_token for job in claimed)
        return claimed, left

    def take_back(self, tx: Tx, job_ids: Sequence[UUID]) -> int:
        """Return what a claim took whose COMMIT was not answered: nobody here has begun it. Returns how many."""
        return tx.transitions.give_back_unknown(job_ids, self._worker_id, self._leases)
