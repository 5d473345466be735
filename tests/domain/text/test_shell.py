import shlex
import subprocess

import pytest

from domain.text.shell import command, word
from domain.text.visible import is_visible

ERASES_THE_LINE = "x\x15touch /tmp/gone\n"


@pytest.mark.parametrize("text", ["", "a b", "a'b\\c", "$(x)`y`", "é\U0001f4a9", ERASES_THE_LINE, "\x1b[31m\u202e'\\9"])
def test_bash_reads_the_same_text_and_a_terminal_obeys_nothing(text: str) -> None:
    assert all(map(is_visible, word(text)))
    read = subprocess.run(["bash", "-c", f"printf %s {word(text)}"], capture_output=True, check=True)
    assert read.stdout.decode() == text


def test_a_usual_command_is_written_plainly() -> None:
    assert command(["viral", "jobs", "list", "--type", "a b"]) == shlex.join(["viral", "jobs", "list", "--type", "a b"])
