"""Presents the commands of this shell: plain lines that wrap, copy and grep well, no boxes."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

import typer
from typer._click.exceptions import MissingParameter, NoArgsIsHelpError, NoSuchOption, UsageError  # exported nowhere
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

Act = TypeVar("Act", bound=Callable[..., Any])

Listing = Mapping[str, tuple[str, str]]
"""The place of each command (`module:name`, a `Group` or a function) and the sentence that the shell's help shows."""


NO_ID = "is no id; ids are as long as 01a20417-5ccc-7850-9558-0a37b805228c, and lists show them"


PLAINLY = (
    (re.compile(r".*valid UUID.*"), f"it {NO_ID}"),
    (re.compile(r"Input should be a valid integer.*"), "should be a whole number"),
    (re.compile(r"Input should be a valid number.*"), "should be a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"should be at least \1"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"should be at most \1"),
    (re.compile(r"Value error, (.+?)\.?"), r"\1"),
)
"""What the parser says of a value, and how it is said here."""

NEGATIVE = re.compile(r"-[0-9]")

MOST_NAMED = 12
"""Words that may stand for an argument are named, if it is missing, when they are no more than these."""


class Command(TyperCommand):
    """In the usage line, an argument that has to be given is `TYPE` and not `{TYPE}`. A negative number is a value and
    no option, what is wrong with a value is said in plain words, and an option that takes one value is refused if it is
    given more than once: the last alone would hold, and nobody would know."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        try:
            try:
                self._check_given_once(ctx, args)
                return super().parse_args(ctx, args)
            except NoSuchOption as error:
                if not NEGATIVE.match(error.option_name):
                    raise
                # Now any unknown option is a value; as one it is too many, or no value of the kind that is wanted.
                ctx.ignore_unknown_options = True
                self._check_given_once(ctx, words)
                return super().parse_args(ctx, words)
        except typer.BadParameter as error:
            for pattern, plain in PLAINLY:
                if found := pattern.fullmatch(error.message):
                    error.message = found.expand(plain)
            raise

    def _check_given_once(self, ctx: Any, args: list[str]) -> None:
        if ctx.resilient_parsing:
            return
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(order).items():
            takes_one = isinstance(option, TyperOption) and not (option.multiple or option.is_flag or option.count)
            if takes_one and times > 1:
                ctx.fail(f"{option.opts[0]} is given {'twice' if times == 2 else f'{times} times'}; it takes one value")

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


class Group(typer.Typer):
    """Commands under one word; the word alone shows them."""

    def __init__(self, **options: Any) -> None:
        plain = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
        super().__init__(add_completion=False, **plain | options)
        self.callback()(lambda: None)  # a group of one command stays a group

    def command(self, name: str | None = None, **options: Any) -> Callable[[Act], Act]:
        return super().command(name, **{"cls": Command} | options)


def run(app: typer.Typer, words: Sequence[str] | None) -> int:
    """Run a command, and return its exit code. A command line that makes no sense is 2, and one line on standard error
    which ends in what to try next; a list that belongs to it has lines of its own."""
    try:
        return app(words, prog_name="viral", standalone_mode=False) or 0
    except NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except UsageError as error:
        sys.stderr.write(f"viral: {_usage_error(error)}\n")
        return error.exit_code
    except typer.Abort:
        sys.stderr.write("Aborted!\n")
        return 1


def _usage_error(error: UsageError) -> str:
    says = error.format_message()
    if isinstance(error, typer.BadParameter) and error.param is None and error.param_hint is None:
        says = error.message  # it is about no single value
    if isinstance(error, MissingParameter) and error.param is not None and error.ctx is not None:
        named = [each.value for each in error.param.shell_complete(error.ctx, "") if each.type == "plain"]
        if 0 < len(named) <= MOST_NAMED:
            says = f"{says.partition('. ')[0].rstrip('.')}: {', '.join(named)}"
    if error.ctx is None:
        return says
    if "\n" in says:
        return f"{says}\nTry '{error.ctx.command_path} --help'."
    return f"{says}{'' if says[-1] in '.?!' else '.'} Try '{error.ctx.command_path} --help'."


def lazy_group(listing: Listing) -> type[TyperGroup]:
    """Return a class of groups that import the module of a command when it is run, or when its own help is shown."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            listed = {name: Command(name, help=sentence) for name, (_, sentence) in listing.items()}
            super().__init__(**options | {"commands": listed})

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, _, rest = super().resolve_command(ctx, args)
            return name, None if name is None else load(*listing[name]), rest

    return LazyGroup


def load(place: str, sentence: str) -> Any:
    """Import the command at `place` (`module:name`); `sentence` is the help of a group."""
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name)
    if isinstance(found, Group):
        group = get_command(found)
        group.help = sentence
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    alone.command(cls=Command)(found)
    return get_command(alone)
