"""What may come next on a command line, for the shells that complete it.

    python -I -S cli/completion/lookup.py SHELL -- WORD…

Who presses Tab waits for it, so it imports nothing but the standard library, and looks the commands up in
`commands.json`, which is made of them (`python -m tests.reference`, and a test fails while it is stale): to import
them takes a second. The scripts run this very file, isolated: nothing that lies in the folder where Tab is pressed is
imported.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

TREE = Path(__file__).with_name("commands.json")

Node = Mapping[str, Any]
"""`about`: a sentence. Of a group `commands`; of a command `options` (`values` of one are what it may be, None: it
takes none) and `arguments`, what each in its place may be, with `more` if the last one is repeated."""

SCRIPTS: Mapping[str, str] = {
    "bash": """\
_viral() {
    local IFS=$'\\n'
    COMPREPLY=($(ASKED bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _viral viral
""",
    "zsh": """\
#compdef viral
_viral() {
    local -a candidates
    candidates=("${(@f)$(ASKED zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${candidates[*]}" ]]; then _describe viral candidates; else _files; fi
}
if [[ "${funcstack[1]}" = _viral ]]; then _viral "$@"; else compdef _viral viral; fi
""",
    "fish": """\
function __viral
    set -l words (commandline -opc)
    ASKED fish -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete --command viral --no-files --condition 'test -n "$(__viral)"' --arguments '(__viral)'
complete --command viral --force-files --condition 'test -z "$(__viral)"'
""",
}
"""What each shell runs once. `ASKED` stands for what it runs from then on."""


class Candidate(NamedTuple):
    word: str
    about: str


def script(shell: str) -> str:
    """Return what makes a shell complete, with this Python and this release."""
    asked = f"{quote(sys.executable)} -I -S {quote(str(Path(__file__).resolve()))}"
    return SCRIPTS[shell].replace("ASKED", asked)


def candidates(tree: Node, words: Sequence[str]) -> list[Candidate]:
    """Return what the last of `words` may become, behind those before it; nothing if that is not known, as of ids."""
    # Bash cuts `--type=x` into three words.
    *before, begun = [word for word in words if word != "="] if words[-1:] != ["="] else [*words[:-1], ""]
    option, _, rest = begun.partition("=")
    if begun.startswith("--") and "=" in begun:
        return [
            Candidate(f"{option}={each.word}", each.about)
            for each in candidates(tree, [*(word for word in before if word != "="), option, rest])
        ]
    return [each for each in _possible(tree, before, begun) if each.word.startswith(begun)]


def _possible(node: Node, before: Sequence[str], begun: str) -> Iterator[Candidate]:
    place, options, rest = 0, True, iter(before)
    for word in rest:
        option = node.get("options", {}).get(word) if options else None
        if option is not None and option["values"] is not None:
            if next(rest, None) is None:
                yield from (Candidate(value, "") for value in option["values"])
                return
        elif word == "--":
            options = False
        elif option is not None or (options and word.startswith("-")):
            continue
        elif "commands" in node:
            node = node["commands"].get(word, {})
        else:
            place += 1
    yield from (Candidate(name, each["about"]) for name, each in node.get("commands", {}).items())
    if options and begun.startswith("-"):
        yield from (Candidate(name, each["about"]) for name, each in node.get("options", {}).items())
        return
    arguments = node.get("arguments", [])
    if place < len(arguments) or (arguments and node.get("more")):
        yield from (Candidate(value, "") for value in arguments[min(place, len(arguments) - 1)])


def written(found: Sequence[Candidate], shell: str) -> list[str]:
    """Return a line for each, as the shell's script reads it: with what it is about where there is a place for it."""
    if shell == "zsh":
        return [f"{each.word.replace(':', chr(92) + ':')}:{each.about}".rstrip(":") for each in found]
    if shell == "fish":
        return [f"{each.word}\t{each.about}".rstrip() for each in found]
    return [each.word for each in found]


if __name__ == "__main__":
    for line in written(candidates(json.loads(TREE.read_text("utf-8")), sys.argv[3:]), sys.argv[1]):
        sys.stdout.buffer.write(f"{line}\n".encode())
