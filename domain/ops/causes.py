"""What a job was enqueued by, as `job_queue.cause` and `changes.cause` have it.

    event:<uuid>              a webhook event
    job:<uuid>                another job, or its `on_failure`
    schedule:<name>@<time>    a run of a schedule
    person:<name>             somebody in the shell, by the name that the machine knows them by
    operator:<name>           somebody on the operator's page, by the name of their token
    api:<uuid>                a request of this API key or user

None: another program enqueued it, by plain SQL. Another program may also write what it likes there.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

LONGEST = 200
"""Characters. What is longer was not written by us."""

LONGEST_NAME = 64
"""Characters of a person's name that are kept."""

UNKNOWN_PERSON = "somebody"

BY_A_JOB = "job:"
"""What the cause begins with that the indexes by cause are for."""

_NAME = re.compile(r"[^\w.@+-]")


class CauseKind(StrEnum):
    """What can enqueue a job."""

    EVENT = "event"
    JOB = "job"
    SCHEDULE = "schedule"
    PERSON = "person"
    OPERATOR = "operator"
    API = "api"


NAMED = (CauseKind.PERSON, CauseKind.OPERATOR)
"""Kinds whose ids are names of people."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who or what enqueued a job. `id` is an id of the kind, a person's name, or `<schedule>@<time>`."""

    kind: CauseKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def of_run(cls, schedule: str, at: datetime) -> Self:
        """Return the cause of what this run of a schedule enqueues."""
        return cls(CauseKind.SCHEDULE, f"{schedule}@{at.isoformat()}")

    @classmethod
    def of_person(cls, name: str) -> Self:
        """Return the cause of what somebody enqueues in the shell; only letters, digits and `.@+-_` of the name are
        kept, and not more than `LONGEST_NAME` of them."""
        return cls(CauseKind.PERSON, _NAME.sub("_", name.strip())[:LONGEST_NAME] or UNKNOWN_PERSON)

    @classmethod
    def of_operator(cls, name: str) -> Self:
        """Return the cause of what somebody enqueues on the operator's page, by the name of their token; it is kept as
        that of a person is."""
        return cls(CauseKind.OPERATOR, _NAME.sub("_", name.strip())[:LONGEST_NAME] or UNKNOWN_PERSON)

    @property
    def uuid(self) -> UUID | None:
        """The id of the event, job, key or user."""
        return None if self.kind in (CauseKind.SCHEDULE, *NAMED) else UUID(self.id)

    @property
    def run(self) -> tuple[str, datetime] | None:
        """The schedule and the time of its run."""
        if self.kind is not CauseKind.SCHEDULE:
            return None
        name, _, at = self.id.rpartition("@")
        return name, datetime.fromisoformat(at)

    @property
    def words(self) -> str:
        """What it is, in words for people."""
        match self.kind:
            case CauseKind.EVENT:
                return f"the event {self.id}"
            case CauseKind.JOB:
                return f"the job {self.id}"
            case CauseKind.SCHEDULE:
                name, _, at = self.id.rpartition("@")
                return f"the run of {name} at {at}"
            case CauseKind.PERSON:
                return f"{self.id}, in the shell"
            case CauseKind.OPERATOR:
                return f"{self.id}, on the operator's page"
            case CauseKind.API:
                return f"a request of the key or user {self.id}"


KINDS = frozenset(map(str, CauseKind))

ANOTHER_PROGRAM = "another program"


def parse(text: str | None) -> Cause | None:
    """Read a cause; None if there is none, or if it is not one that we write."""
    if text is None or len(text) > LONGEST:
        return None
    word, colon, reference = text.partition(":")
    if not colon or word not in KINDS or not reference:
        return None
    cause = Cause(CauseKind(word), reference)
    return cause if _readable(cause) else None


def words(text: str | None) -> str:
    """Say in words what enqueued a job, from the column as it is."""
    cause = parse(text)
    return ANOTHER_PROGRAM if cause is None else cause.words


def _readable(cause: Cause) -> bool:
    if cause.kind in NAMED:
        return len(cause.id) <= LONGEST_NAME and not _NAME.search(cause.id)
    try:
        if cause.kind is CauseKind.SCHEDULE:
            name, _, at = cause.id.rpartition("@")
            return bool(name) and name.isprintable() and datetime.fromisoformat(at).tzinfo is not None
        return str(UUID(cause.id)) == cause.id
    except ValueError:
        return False
