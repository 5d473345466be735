"""Write docs/reference/ anew, from the code.

    python -m tests.reference

A test fails while a page is stale.
"""

import sys

from tests.reference.pages import FOLDER, pages

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        sys.stdout.write(f"docs/reference/{name}\n")
