"""Write docs/reference/ and cli/completion/commands.json anew, from the code.

    python -m tests.reference

A test fails while a page is stale.
"""

import sys

from cli.completion.lookup import TREE
from tests.reference import completions
from tests.reference.pages import FOLDER, pages

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")
    TREE.write_text(completions.text(), "utf-8")
    sys.stdout.write("cli/completion/commands.json\n")
