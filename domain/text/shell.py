"""Commands that are shown to be copied into a shell, with values that may be anybody's text."""

import shlex
from collections.abc import Iterable, Mapping

from domain.text.visible import is_visible


def command(words: Iterable[str]) -> str:
    return " ".join(map(word, words))


def word(text: str) -> str:
    r"""Return the text as one word of bash and zsh. What is not seen is written out (`$'\x15'`): a terminal into which
    it is pasted as it is edits the line with it, or ends it."""
    if all(map(is_visible, text)):
        return shlex.quote(text)
    return f"$'{''.join(map(_written_out, text))}'"


def _written_out(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if is_visible(character):
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogatepass"))


def options_of(filters: Mapping[str, str]) -> list[str]:
    """Return the words of options by their names: the filters of a list, as a command of the shell has them."""
    return [each for name, value in filters.items() for each in (f"--{name}", value)]
