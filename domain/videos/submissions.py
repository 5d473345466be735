"""A submission is one paid request for a clip: what is ordered, what the provider's answer means, and how it goes on.

Each submission is a row of `provider_jobs` and goes `intended → submitted → running → succeeded | failed | cancelled`;
`refused` if the provider never took it, and `unconfirmed` if nobody can tell whether it did. Answers are values and not
errors: an answer that is not kept would be asked for, and paid for, again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID


class SubmissionState(StrEnum):
    INTENDED = "intended"
    SUBMITTED = "submitted"
    RUNNING = "running"
    UNCONFIRMED = "unconfirmed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


OPEN = (
    SubmissionState.INTENDED,
    SubmissionState.SUBMITTED,
    SubmissionState.RUNNING,
    SubmissionState.UNCONFIRMED,
)
"""States that reserve money. A video has at most one open submission."""


@dataclass(frozen=True, slots=True)
class ClipOrder:
    """A request for one clip. `seconds` is one of the lengths that the model makes; `resolution` is in the model's own
    words (`1080p`, `720:1280`)."""

    model: str
    prompt: str
    seconds: int
    resolution: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the order. `estimated_usd` is the most that it may cost, if the provider says so."""

    provider_job_id: str
    estimated_usd: Decimal | None = None


class RefusedFor(StrEnum):
    """PROMPT: no such prompt, here and now (moderation). REQUEST: our key, our credit, a model or a value that it does
    not know. BUSY: not now: a limit, an overload announced before the order was read, no connection."""

    PROMPT = "prompt"
    REQUEST = "request"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider certainly did not take the order: nothing is charged, and another may be asked."""

    kind: RefusedFor
    code: str
    reason: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The order was sent, and nobody can tell whether it was taken: it counts as paid until a person decides."""

    reason: str


Submission = Accepted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider says that it has no such job."""


Lookup = Accepted | Absent | Unknown


class ClipState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ClipStatus:
    """How a submission is doing, as the provider tells it. `percent` and `queue` (the place in the provider's queue)
    are None where it does not say; `final_usd` is what was charged, once it has ended and the provider says so; `url`
    is where the clip is copied from, only while `succeeded`; it is never stored.

    `refused_prompt`: it failed because of what was asked for, and will at this provider every time.
    """

    state: ClipState
    percent: int | None = None
    queue: int | None = None
    final_usd: Decimal | None = None
    url: str | None = None
    code: str | None = None
    reason: str | None = None
    refused_prompt: bool = False

    @property
    def ended(self) -> bool:
        return self.state in (ClipState.SUCCEEDED, ClipState.FAILED, ClipState.CANCELLED)


@dataclass(frozen=True, slots=True)
class ProviderJob:
    """A submission as its row tells it."""

    id: UUID
    tenant_id: UUID
    video_id: UUID
    scene: int
    attempt: int
    provider: str
    model: str
    resolution: str
    prompt: str
    seconds: int
    state: str
    provider_job_id: str | None
    month: date
    estimated_usd: Decimal
    final_usd: Decimal | None
    percent: int | None
    queue: int | None
    failed_fetches: int
    error_code: str | None
    error_message: str | None
    job_id: UUID | None
    media_id: UUID | None
    created_at: datetime
    submitted_at: datetime | None
    deadline_at: datetime | None
    checked_at: datetime | None
    ended_at: datetime | None

    @property
    def open(self) -> bool:
        return self.state in OPEN

    @property
    def order(self) -> ClipOrder:
        return ClipOrder(self.model, self.prompt, self.seconds, self.resolution)

    @property
    def name(self) -> str:
        """The name that people read."""
        its_id = f" {self.provider_job_id}" if self.provider_job_id else ""
        return f"clip {self.scene + 1} ({self.provider}{its_id})"


def answer_row(answer: Submission) -> dict[str, Any]:
    """Return the answer as JSON values, which a step keeps."""
    match answer:
        case Accepted(provider_job_id, usd):
            return {"accepted": provider_job_id, "estimated_usd": None if usd is None else str(usd)}
        case Refused(kind, code, reason, wait):
            seconds = None if wait is None else wait.total_seconds()
            return {"refused": kind.value, "code": code, "reason": reason, "retry_after": seconds}
        case Unknown(reason):
            return {"unknown": reason}


def answer_of(row: Mapping[str, Any]) -> Submission:
    """Return the answer that `answer_row` wrote."""
    if "accepted" in row:
        usd = row["estimated_usd"]
        return Accepted(row["accepted"], None if usd is None else Decimal(usd))
    if "refused" in row:
        seconds = row["retry_after"]
        wait = None if seconds is None else timedelta(seconds=seconds)
        return Refused(RefusedFor(row["refused"]), row["code"], row["reason"], wait)
    return Unknown(row["unknown"])


POLLS = (timedelta(seconds=2), timedelta(seconds=15))
"""The shortest and the longest wait between two looks at a clip that is on time."""
LATE_POLLS = timedelta(minutes=30)
UNKNOWN_FOR = timedelta(minutes=5)
"""How long a provider has to say that it knows no such job until that is believed."""
GIVEN_UP_AFTER = timedelta(hours=24)
"""How long a submission is looked at; after that a person has to decide what became of it."""


def poll_after(since: timedelta, patience: timedelta) -> timedelta | None:
    """Return how long to wait before the next look at a submission that was taken `since`; None: look no more.

    Longer than `patience` is late and not failed: it may still be charged, so it is looked at, ever more rarely.
    """
    if since >= GIVEN_UP_AFTER:
        return None
    if since < patience:
        return min(max(since / 8, POLLS[0]), POLLS[1])
    return min(max((since - patience) / 8, POLLS[1]), LATE_POLLS)
