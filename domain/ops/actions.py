"""What an operator can do, from the page and from the shell alike: each action once, with its arguments, its checks and
the line of the shell that does the same.

A target is `<kind>:<id>`: `job:<uuid>`, `event:<uuid>`, `post:<uuid>`, `video:<uuid>`, `account:<uuid>`,
`tenant:<uuid>`, `provider:<name>`, `queue:<name>`, or `queue:<name>/<tenant uuid>` for one tenant's part of a queue.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from domain.errors import Rejected
from domain.text.shell import command
from domain.text.storable import is_storable

LONGEST_REASON: Final = 500
"""Characters."""

LONGEST_ARGUMENT: Final = 2_000
"""Characters."""

MOST_ITEMS: Final = 100_000
"""Things that one bulk action may be about."""

Arguments = Mapping[str, Any]
Values = Mapping[str, Any]
"""What of a thing an action changed, as the audit keeps it."""


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
    numbers have their bounds, `least` and `most`, so that a form can say them. A `flag` is there or not: its only
    choice is `yes`, its value True, and its option stands alone.
    `open`: who performs the action judges the value, by rules that have words of their own. `whole`: it is of a whole
    queue, not of one tenant's part. `own`: each thing has one of its own, so of many it is not asked; `of_many` are
    those of the choices that can be made for many at once, if not all. `typed`: who acts on the page types it, to be
    sure; the shell asks for it by itself."""

    name: str
    label: str
    read: Callable[[str], Any] = str
    required: bool = True
    choices: Sequence[str] = ()
    option: str = ""
    hint: str = ""
    least: int | None = None
    most: int | None = None
    flag: bool = False
    open: bool = False
    whole: bool = False
    typed: bool = False
    own: bool = False
    of_many: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """`words` are those of the shell before the id (`jobs retry`), `verb` what a button says, `warns` what somebody
    should know before they do it. `states`: what it is done to is in one of them (none: in any). `bulk`: it can be
    done to many at once; a filter then names one of the states. `undo` names the action that brings back just what was
    before; what may have run meanwhile, or would get another time, has none. `undo_arguments` makes its arguments
    of what was before and after (None: it cannot); else they are what was before, by the same names. `id_option`:
    the option by which the shell takes the id, if it is no plain argument."""

    name: str
    kind: Kind
    words: str
    verb: str
    says: str
    warns: str = ""
    arguments: Sequence[Argument] = ()
    bulk: bool = False
    undo: str | None = None
    undo_arguments: Callable[[Values, Values], Values | None] | None = None
    needs_reason: bool = False
    states: Sequence[str] = ()
    id_option: str = ""

    def fits(self, states: Collection[str]) -> bool:
        """Tell whether it is worth offering for what is in these states; who performs it has the last word."""
        return not self.states or any(each in self.states for each in states)

    def of_many(self) -> "Action":
        """Return the action as it is done to many at once, with the arguments that it takes then."""
        taken = [replace(each, choices=each.of_many or each.choices) for each in self.arguments if not each.own]
        return replace(self, arguments=taken)

    def asks(self, target: "Target") -> list[Argument]:
        """Return the arguments that can be given for this target."""
        part = target.kind is Kind.QUEUE and "/" in target.id
        return [each for each in self.arguments if not (part and each.whole)]


@dataclass(frozen=True, slots=True)
class Performed:
    """What became of one action: `id` is its row in the audit. Who performs an action may choose it (`perform(…,
    action_id=…)`): a second call with that id does nothing, and returns what the row of the first one has by then. So a
    form that is sent twice has one effect.

    `error` names the class of the error that refused it, or made it fail; None where the state of the thing did.
    """

    id: UUID
    outcome: Outcome
    says: str
    before: Any = None
    after: Any = None
    error: str | None = None

    @property
    def well(self) -> bool:
        """Whether it is as was wanted, by this action or before it."""
        return self.outcome in (Outcome.DONE, Outcome.UNCHANGED)


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
    words = ["viral", *action.words.split(), *([] if action.id_option else [name]), *_words(action, arguments)]
    words += [action.id_option, name] if action.id_option else []
    words += ["--tenant", str(tenant)] if tenant else []
    words += ["--reason", reason] if reason else []
    return command(words)


def bulk_line(
    action: Action, arguments: Arguments, options: Mapping[str, str | None], reason: str | None = None
) -> str:
    """Return the line of the shell that does the same to many things: to those of a filter, whose `options` are as the
    shell has them (None: the option stands alone), or to those that are named one by one (no options)."""
    words = ["viral", *action.words.split(), *_words(action, arguments)]
    for option, value in options.items():
        words += [option] if value is None else [option, value]
    words += ["--reason", reason] if reason else []
    return command(words)


def _words(action: Action, arguments: Arguments) -> list[str]:
    words = []
    for each in action.arguments:
        value = arguments.get(each.name)
        if value is None or each.typed:
            continue
        words += [each.option] if each.option else []
        words += [] if each.flag else [written(value)]
    return words


def read_arguments(action: Action, values: Arguments) -> dict[str, Any]:
    """Read an action's arguments, of texts or of values that were read before; those that are None or empty are
    left out.

    Raises:
        Rejected: one is unknown, missing, or cannot be.
    """
    takes = {each.name: each for each in action.arguments}
    texts = {name: written(value).strip() for name, value in values.items() if value is not None and value is not False}
    if strange := [name for name, text in texts.items() if text and name not in takes]:
        raise Rejected(f"{action.name} takes no {', '.join(map(repr, strange))}; {_takes(action)}")
    found = {name: _read(takes[name], text) for name, text in texts.items() if text}
    if missing := [each.name for each in action.arguments if each.required and each.name not in found]:
        raise Rejected(f"{action.name} needs {' and '.join(missing)}")
    return found


def _read(argument: Argument, text: str) -> Any:
    if len(text) > LONGEST_ARGUMENT or not is_storable(text):
        raise Rejected(f"{argument.name}: it is too long, or has characters that nothing here has")
    if argument.choices and not argument.open and text not in argument.choices:
        raise Rejected(f"{argument.name}: there is no {text[:40]!r}; there are {', '.join(argument.choices)}")
    if argument.flag:
        return True
    try:
        value = argument.read(text)
    except ValueError as error:
        raise Rejected(f"{argument.name}: {error}") from None
    least, most = argument.least, argument.most
    if (least is not None and value < least) or (most is not None and value > most):
        raise Rejected(f"{argument.name}: {text[:40]} is not between {least:,} and {most:,}")
    return value


def _takes(action: Action) -> str:
    return f"it takes {', '.join(each.name for each in action.arguments)}" if action.arguments else "it takes nothing"


def written(value: object) -> str:
    """Write the value of an argument as its `read` reads it."""
    match value:
        case True:
            return "yes"
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Decimal():
            return f"{value:f}"
    return str(value)


def check_reason(reason: str | None, *, needed: bool) -> str | None:
    """Return the reason as it is kept; None: there is none.

    Raises:
        Rejected: it is needed and missing, or longer than `LONGEST_REASON`, or no text.
    """
    text = (reason or "").strip()
    if not text and needed:
        raise Rejected("say why (--reason TEXT): it is kept with what was done")
    if len(text) > LONGEST_REASON or not is_storable(text):
        raise Rejected(f"the reason has at most {LONGEST_REASON} characters, all of which can be stored")
    return text or None
