"""What an operator can do, from the page and from the shell alike: each action once, with its arguments, its checks and
the line of the shell that does the same.

A target is `<kind>:<id>`: `job:<uuid>`, `event:<uuid>`, `post:<uuid>`, `video:<uuid>`, `account:<uuid>`,
`tenant:<uuid>`, `provider:<name>`, `queue:<name>`, or `queue:<name>/<tenant uuid>` for one tenant's part of a queue.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from domain.errors import Rejected
from domain.text.shell import command

LONGEST_REASON: Final = 500
"""Characters."""

MOST_ITEMS: Final = 100_000
"""Things that one bulk action may be about."""

Arguments = Mapping[str, Any]


class Kind(StrEnum):
    """What an action is done to."""

    JOB = "job"
    EVENT = "event"
    POST = "post"
    VIDEO = "video"
    ACCOUNT = "account"
    TENANT = "tenant"
    PROVIDER = "provider"
    QUEUE = "queue"


NAMED: Final = frozenset({Kind.PROVIDER, Kind.QUEUE})
"""Kinds whose ids are names, not UUIDs."""


class Outcome(StrEnum):
    """What became of an action. *begun*: not known, it was cut short; *unchanged*: it was so already; *refused*: a rule
    or the thing's state forbids it, `says` has the reason; *failed*: an error of ours or of the outside."""

    BEGUN = "begun"
    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Target:
    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def uuid(self) -> UUID:
        """The id; of a queue the tenant whose part of it is meant.

        Raises:
            ValueError: it has none.
        """
        return UUID(self.id.partition("/")[2] if self.kind is Kind.QUEUE else self.id)

    @property
    def queue(self) -> tuple[str, UUID | None]:
        """The queue's name, and the tenant whose part of it is meant."""
        name, slash, tenant = self.id.partition("/")
        return name, UUID(tenant) if slash else None


@dataclass(frozen=True, slots=True)
class Argument:
    """One value that an action takes. `read` makes it of a text and raises ValueError, with a sentence, if it cannot be
    one; `choices` are all that there are, if they are few. `option` is the shell's (empty: a plain argument). Whole
    numbers have their bounds, `least` and `most`, so that a form can say them."""

    name: str
    label: str
    read: Callable[[str], Any] = str
    required: bool = True
    choices: Sequence[str] = ()
    option: str = ""
    hint: str = ""
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """`words` are those of the shell before the id (`jobs retry`), `verb` what a button says, `warns` what somebody
    should know before they do it. `bulk`: it can be done to many at once. `undo` names the action that undoes it."""

    name: str
    kind: Kind
    words: str
    verb: str
    says: str
    warns: str = ""
    arguments: Sequence[Argument] = ()
    bulk: bool = False
    undo: str | None = None
    needs_reason: bool = False


@dataclass(frozen=True, slots=True)
class Performed:
    """What became of one action: `id` is its row in the audit. Who performs an action may choose it (`perform(…,
    action_id=…)`): a second call with that id does nothing, and returns what the row of the first one has by then. So a
    form that is sent twice has one effect."""

    id: UUID
    outcome: Outcome
    says: str
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a performer reports of one thing: `before` and `after` are what of it was changed, as it may be shown."""

    outcome: Outcome
    says: str
    before: Any = None
    after: Any = field(default=None)


def target(text: str) -> Target:
    """Read a target.

    Raises:
        Rejected: it is none.
    """
    word, colon, reference = text.partition(":")
    if not colon or word not in set(Kind) or not reference or len(text) > 300:
        raise Rejected(f"no target: write <kind>:<id>, with one of {', '.join(Kind)}")
    found = Target(Kind(word), reference)
    try:
        if found.kind not in NAMED and str(found.uuid) != reference:
            raise ValueError
        if found.kind is Kind.QUEUE:
            _ = found.queue
    except ValueError:
        raise Rejected(f"no target: {word} has no such id") from None
    return found


def shell_line(action: Action, target: Target, arguments: Arguments, reason: str | None = None) -> str:
    """Return the line of the shell that does the same."""
    name, tenant = target.queue if target.kind is Kind.QUEUE else (target.id, None)
    words = ["viral", *action.words.split(), name]
    for each in action.arguments:
        if (value := arguments.get(each.name)) is not None:
            words += [each.option, str(value)] if each.option else [str(value)]
    words += ["--tenant", str(tenant)] if tenant else []
    words += ["--reason", reason] if reason else []
    return command(words)
