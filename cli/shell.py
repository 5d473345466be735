"""How the commands of this shell present themselves: plain lines that wrap, copy and grep well, no boxes."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

Act = TypeVar("Act", bound=Callable[..., Any])


class Command(TyperCommand):
    """In the usage line, an argument that has to be given is `TYPE` and not `{TYPE}`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


class Group(typer.Typer):
    """Commands under one word; the word alone shows them."""

    def __init__(self, **options: Any) -> None:
        plain = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}
        super().__init__(add_completion=False, **plain | options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Act], Act]:
        return super().command(name, **{"cls": Command} | options)
