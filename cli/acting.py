"""Acts of operators from the shell: one is performed and reported, many are shown, confirmed and followed."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import one_of
from cli.output import console, progress
from cli.session import interruptible_sleep, person, session
from domain.errors import Rejected, ViralError
from domain.ops.action_list import VERDICTS, action
from domain.ops.actions import Performed, Target, target
from domain.ops.causes import Cause
from domain.ops.many import ManyFilter, check_choice
from domain.text.filters import SenselessFilter, uuid_of
from domain.text.readable import readable, shortened
from workers.app import App
from workers.ops import bulk as bulks
from workers.ops.actions import perform
from workers.ops.bulk import Bulk
from workers.ops.filter_names import check_names

Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with what is done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

BETWEEN_LOOKS = 0.3
MOST_REFUSED = 1_000
MOST_REASONS = 5
"""Reasons that are counted at the end, where several things were refused for one."""


class ActionRefused(ViralError):
    """What was asked for was refused, or did not work."""


class StillActing(ViralError):
    """The shell no longer follows an action, which goes on."""


def me() -> str:
    """Return whoever uses the shell, as causes and the audit name them."""
    return str(Cause.of_person(person()))


def act(
    current: App, name: str, what: str, arguments: Mapping[str, Any] | None = None, *, reason: str | None = None
) -> Performed:
    """Perform an action on `<kind>:<id>`, and return what became of it.

    Raises:
        ActionRefused: an error refused it, or made it fail.
    """
    done = _performed(current, name, what, arguments, reason=reason)
    if done.error is not None:
        raise ActionRefused(done.says)
    return done


def _performed(
    current: App, name: str, what: str, arguments: Mapping[str, Any] | None, *, reason: str | None
) -> Performed:
    return perform(current, name, target(what), arguments, who=me(), reason=reason)


def act_on_some(
    name: str,
    ids: Sequence[UUID] | None,
    wanted: ManyFilter | None,
    arguments: Mapping[str, Any] | None = None,
    *,
    reason: str | None,
    yes: bool,
    advice: Callable[[App, UUID], str | None] = lambda current, each: None,
) -> None:
    """Act on the things that are named, or on those that a filter finds. `advice` says what to do next about a thing
    that was named.

    Raises:
        typer.BadParameter: both are given, or neither.
    """
    kind = action(name).kind
    if not ids and wanted is None:
        raise typer.BadParameter(f"Missing argument 'ID': name {kind}s, or say --status and other filters")
    if ids and wanted is not None:
        raise typer.BadParameter(f"name {kind}s, or say a filter: one of them", param_hint="ID")
    if wanted is not None:
        _need_reason(reason)
        try:
            check_choice(action(name), wanted)
        except Rejected as error:
            raise typer.BadParameter(str(error)) from None
    with session() as current:
        if wanted is None:
            act_on_each(current, name, ids or (), arguments, reason=reason, advice=advice)
        else:
            act_on_many(current, name, arguments, wanted=wanted, reason=reason, yes=yes)


def act_on_each(
    current: App,
    name: str,
    ids: Sequence[UUID],
    arguments: Mapping[str, Any] | None = None,
    *,
    reason: str | None,
    advice: Callable[[App, UUID], str | None] = lambda current, each: None,
) -> None:
    """Perform an action on things, in the order of their ids; print a line for each in the order in which they are
    named, and exit with 1 if one of them was refused: that keeps nobody from acting on the next.

    Raises:
        ActionRefused: an error refused it, or made it fail, and it is the only one.
    """
    kind, perform_one = action(name).kind, act if len(set(ids)) == 1 else _performed
    done = {each: perform_one(current, name, f"{kind}:{each}", arguments, reason=reason) for each in sorted(set(ids))}
    for each in dict.fromkeys(ids):
        console().print(f"{each}  {done[each].says}")
        if (says := advice(current, each)) is not None:
            console().print(says)
    if not all(each.well for each in done.values()):
        raise typer.Exit(1)


def act_on_many(
    current: App,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    wanted: ManyFilter | None = None,
    targets: Sequence[Target] = (),
    reason: str | None,
    yes: bool,
) -> None:
    """Show what a filter chooses, or what is named, ask, and follow the action on it to its end; exit with 1 if
    something was refused.

    Raises:
        StillActing: Ctrl-C; the action goes on.
    """
    _need_reason(reason)
    shown = bulks.preview(current, name, arguments, who=me(), wanted=wanted, targets=targets)
    if not shown.items:
        if wanted is not None:
            check_known(current, wanted)
        console().print(f"No {shown.action.kind} is in such a state and fits.")
        return
    asked = _asked(shown)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"{asked} Say --yes to do it", param_hint="--yes")
        for each, what in shown.first:
            typer.echo(f"  {each.partition(':')[2]}  {shortened(readable(what))}", err=True)
        if shown.items > len(shown.first):
            typer.echo(f"  … and {shown.items - len(shown.first):,} more", err=True)
        typer.confirm(asked, abort=True, err=True)
    bulks.begin(current, shown.id, who=me(), reason=reason)
    _tell(_follow(current, shown.id))


def check_known(current: App, wanted: ManyFilter) -> None:
    """Refuse a filter that has found nothing, if nobody knows a name that it asks for.

    Raises:
        typer.BadParameter: nobody does; the error lists those that there are.
    """
    try:
        check_names(current, wanted)
    except SenselessFilter as error:
        raise typer.BadParameter(str(error)) from None


def _need_reason(reason: str | None) -> None:
    if not (reason or "").strip():
        raise typer.BadParameter("say why: it is kept with what is done to many", param_hint="--reason")


def _asked(shown: Bulk) -> str:
    more = f" (the first {shown.items:,} of those that fit)" if shown.more else ""
    return f"{shown.action.verb} {shown.items:,} {shown.action.kind}{'' if shown.items == 1 else 's'}{more}?"


def _follow(current: App, bulk_id: UUID) -> Bulk:
    found = bulks.bulk(current, bulk_id, most=MOST_REFUSED)
    with progress(found.action.verb, found.items) as step:
        while not found.over:
            done = found.items - found.left
            step(done, says=f"{done:,} of {found.items:,}")
            try:
                interruptible_sleep(BETWEEN_LOOKS)
            except KeyboardInterrupt:
                raise StillActing(
                    f"it goes on without you: `viral actions show {bulk_id}` says how far it is, "
                    f"`viral actions cancel {bulk_id}` stops it"
                ) from None
            found = bulks.bulk(current, bulk_id, most=MOST_REFUSED)
    return found


def _tell(found: Bulk) -> None:
    for each in found.refused:
        console().print(f"{each['target'].partition(':')[2]}  {readable(each['says'])}")
    alike = Counter(each["says"] for each in found.refused)
    for says, count in alike.most_common(MOST_REASONS):
        if count > 1:
            console().print(f"{count:,} × {readable(says)}")
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(found.counts.items()))
    console().print(f"{found.id}  {found.state}: {counts}")
    if found.counts.get("refused", 0) + found.counts.get("failed", 0) or found.state == "cancelled":
        raise typer.Exit(1)


def decided(words: Sequence[str], filters: Mapping[str, str], last: str) -> tuple[list[UUID], str, str | None]:
    """Read what somebody decides: the ids of things, found or lost, and what one is called there, if that is said; by
    filters only the decision. `last` is the name of the last word.

    Raises:
        typer.BadParameter: something is missing, too much, or none of these.
    """
    named = [found for word in takewhile(uuid_of, words) if (found := uuid_of(word)) is not None]
    if not named and not filters:
        says = "say which one by its id, or all that are meant by --status and other filters"
        raise typer.BadParameter(f"{words[0]!r} is no id: {says}", param_hint="ID")
    verdict, *rest = words[len(named) :] or [""]
    one_of(VERDICTS, verdict or None, "found|lost", "verdict")
    if not verdict:
        raise typer.BadParameter("Missing argument: say found or lost", param_hint="found|lost")
    if verdict == "found" and (filters or len(named) > 1):
        raise typer.BadParameter("found is said of one at a time: each has an id of its own", param_hint="found|lost")
    if rest and (filters or verdict == "lost"):
        raise typer.BadParameter("goes with found, of one", param_hint=last)
    if len(rest) > 1:
        raise typer.BadParameter(f"nothing comes after {last}", param_hint=rest[1])
    return named, verdict, rest[0] if rest else None
