"""An event of Stripe or Clerk, as it is stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.events.outcomes import Status


@dataclass(frozen=True, slots=True)
class Event:
    """A stored event, as the job that applies it reads it. From `dropped_at` on, its payload is gone."""

    id: UUID
    source: str
    external_id: str
    type: str
    occurred_at: datetime | None
    subject: str | None
    payload: dict[str, Any]
    dropped_at: datetime | None = None
    status: Status = Status.RECEIVED

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", Status(self.status))
