"""`viral completion`"""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cli.completion.lookup import script


class Completed(StrEnum):
    """The shells for which there is a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Completed, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Have bash, zsh or fish complete what you type.

    It prints what the shell runs for that: commands, options and many of their values, looked up in a moment.

    In ~/.bashrc or ~/.zshrc (behind compinit): eval "$(viral completion bash)", or zsh. For fish, once: viral
    completion fish > ~/.config/fish/completions/viral.fish

    \b
    viral completion bash
    """
    sys.stdout.write(script(shell))
