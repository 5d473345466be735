"""How the reference's pages are written: tables, anchors and first sentences, in plain Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table's lines, and an empty one. A cell's line breaks and bars are made harmless."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(_cell(each) for each in row)} |" for row in rows]
    return [*lines, ""]


def code(text: object) -> str:
    return f"`{text}`"


def anchor(heading: str) -> str:
    """Return the fragment by which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")


def one_line(text: str | None) -> str:
    """Return a docstring's text in one line."""
    return " ".join((text or "").split())


def first_paragraph(text: str | None) -> str:
    return one_line((text or "").strip().partition("\n\n")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "-"
