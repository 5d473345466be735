"""Presents the commands of this shell: plain lines that wrap, copy and grep well, no boxes."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

Act = TypeVar("Act", bound=Callable[..., Any])

Listing = Mapping[str, tuple[str, str]]
"""The place of each command (`module:name`, a `Group` or a function) and the sentence that the shell's help shows."""


NO_ID = "is no id; ids are as long as 01a20417-5ccc-7850-9558-0a37b805228c, and lists show them"


class Command(TyperCommand):
    """In the usage line, an argument that has to be given is `TYPE` and not `{TYPE}`; what is no id is said so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if "valid UUID" in error.message:
                error.message = f"it {NO_ID}"
            raise

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
