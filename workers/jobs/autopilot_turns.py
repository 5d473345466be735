"""One look at a chain: what is read once, and the ways in which a look may end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.autopilot.chains import PATIENCE, Chain, Mode, Stage, lesser
from domain.autopilot.settings import Settings
from domain.errors import Rejected
from domain.posting.schedule import in_words
from workers.engine.job import Tx
from workers.jobs.video_requests import shown

UNSETTLED_AGAIN = timedelta(hours=1)
"""How often an ended chain is looked at whose money is not settled: a provider, or a person, says what it cost."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A chain under its tenant's lock, in the transaction that may begin its next link. A look ends with `go_on` (the
    next link is begun), `end`, or with when the chain is looked at again: `wait`, which gives up after a while, or
    `look_again`. `keys`: the providers of clips there is a key for."""

    tx: Tx
    keys: Collection[str]
    chain: Chain
    settings: Settings
    now: datetime
    job_id: UUID

    @property
    def tenant_id(self) -> UUID:
        return self.chain.tenant_id

    @property
    def mode(self) -> Mode:
        """What the tenant allows now, and allowed when the chain began."""
        return lesser(self.chain.mode, self.settings.mode)

    def wait(self, after: timedelta, reason: str) -> None:
        """Look again so much later.

        Raises:
            Rejected: the stage has lasted longer than there is patience for.
        """
        if self.chain.is_overdue(self.now):
            raise Rejected(f"given up after {in_words(PATIENCE[self.chain.stage])}: {reason}")
        self.look_again(self.now + after, reason)

    def look_again(self, at: datetime | None, reason: str | None) -> None:
        """Look again at this moment; None: never."""
        if reason is not None and reason != self.chain.reason:
            self.note("waiting", reason)
        self._change(reason=reason, look_after=at)

    def go_on(
        self,
        stage: Stage,
        reason: str,
        *,
        look_after: timedelta,
        job_id: UUID | None = None,
        details: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> None:
        """Write down the link that this transaction has begun."""
        self.note(stage.value, reason, job_id=job_id, **details or {})
        values |= {"stage": stage, "job_id": job_id, "reason": reason, "look_after": self.now + look_after}
        if stage != self.chain.stage:
            values["since"] = self.now
        self._change(**values)

    def end(self, stage: Stage, reason: str, **details: Any) -> None:
        """End the chain. One whose money is not settled is looked at until it is."""
        self.note(stage.value, reason, **details)
        look_after = self.now + UNSETTLED_AGAIN if self.chain.reserved_usd else None
        self._change(stage=stage, reason=reason, look_after=look_after, ended_at=self.now)

    def note(self, kind: str, message: str, *, job_id: UUID | None = None, **details: Any) -> None:
        job = job_id or self.job_id
        self.tx.chains.note(
            self.tenant_id, self.chain.id, kind, message, at=self.now, job_id=job, details=details or None
        )

    def settle(self) -> "Turn":
        """Settle what the chain's video cost, once it has ended, and return the turn as it is then. What a provider
        or a person has still to say stays reserved."""
        if not self.chain.reserved_usd or self.chain.video_id is None:
            return self
        video = shown(self.tx, self.tenant_id, self.chain.video_id)
        if video["status"] not in ("completed", "failed", "cancelled"):
            return self
        reserved, spent = Decimal(video["reserved_usd"]), Decimal(video["cost_usd"] or 0)
        if (reserved, spent) == (self.chain.reserved_usd, self.chain.spent_usd):
            return self
        self._change(reserved_usd=reserved, spent_usd=spent)
        self.note("settled", f"the video cost ${spent:.2f}" + (f"; ${reserved:.2f} stay reserved" if reserved else ""))
        return replace(self, chain=replace(self.chain, reserved_usd=reserved, spent_usd=spent))

    def _change(self, **values: Any) -> None:
        self.tx.chains.change(self.tenant_id, self.chain.id, self.now, **values)
