"""Search the project for words that its glossary has retired.

    python -m tests.words [--root DIR]

Two kinds of retired words are searched for. A *metaphor* is retired everywhere: as a part of an identifier, in texts
(log events, help, messages, comments, docstrings) and in the documentation. A *history* word (`told`, `known`) says how
a value came about and not what it is: it is retired as an identifier, and may stand in a sentence.

Files that are history themselves (migrations that have run, CHANGELOG.md) and the content of videos are not searched.
"""

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

METAPHORS = {
    "bell": "notification",
    "bells": "notifications",
    "doorbell": "notifier",
    "ring": "notify",
    "rings": "notifications",
    "rung": "notified",
    "ringing": "notifying",
    "relay": "dispatcher",
    "lane": "tenant share",
    "lanes": "tenant shares",
    "awake": "ready",
    "asleep": "deferred",
    "overslept": "overdue",
    "helping": "batch size",
    "suspect": "quarantined",
    "suspects": "quarantined jobs",
    "merger": "batcher",
    "endings": "outcomes",
    "intake": "event store",
    "door": "endpoint",
    "doors": "endpoints",
    "wish": "preference",
    "wishes": "preferences",
    "nursery": "supervisor",
    "bury": "reap",
    "footing": "user",
    "asker": "caller",
}
"""Retired everywhere, with the word that takes the place."""

HISTORY = {
    "told": "the result, answer or report that it is",
    "said": "the result, answer or report that it is",
    "news": "change",
    "seat": "active membership",
    "brief": "request",
    "fires": "schedule runs",
    "adding": "enqueue",
    "ingest": "webhook writer",
    "refusal": "error response",
    "refusals": "error responses",
}
"""Retired as a part of an identifier."""

BARE = {
    "known": "the thing that is known",
    "given": "the thing that is given",
    "story": "scenario",
    "cast": "scenario",
    "lives": "scenarios",
    "life": "scenario",
    "ground": "process",
    "tend": "supervise",
}
"""Retired as a whole identifier."""

QUEUE_FOLDERS = ("scheduler/", "db/queue/", "domain/queue/", "workers/engine/", "tests/scheduler/")
BARE_OF_QUEUE = {"turn": "dispatch order", "turns": "dispatch order", "place": "concurrency key"}
"""Retired as a whole identifier where it would be about jobs. (An invoice has lines.)"""

ALLOWED = {
    "ordering_key": "contract: a column of job_queue",
    "schedule_fires": "contract: a table",
    "ring_at": "a retired column of job_queue, dropped in the next release",
    "ingest": "the name of a measure of `make bench`",
    "refusal": "the term for a model's answer that declines",
    "hacker_news": "the name of a site",
    "hackernews": "the name of a site",
    "The Lord of the Rings": "the name of a film",
}
"""Names that contain a retired word and stay, with the reason."""

EXPECTED = {
    ("db/schema/queue.py", "rings"): "a retired column of job_queue, dropped in the next release",
    ("cli/commands/jobs.py", "rings"): "hides that column",
    ("docs/reference/tables.md", "rings"): "lists that column",
    ("tests/db/migrate/test_upgrade.py", "rings"): "writes that column, as the release before does",
}
"""Files in which a retired word stands on purpose."""

NOT_SEARCHED = (
    *("migrations/versions/", "CHANGELOG.md", "docs/decisions/0033-"),  # history
    *("domain/concepts/categories.toml", "domain/concepts/formats.toml"),  # what videos show and say
    *("web/api/assets/swagger-ui/", "tests/words.py", "tests/test_words.py"),
)

WORD_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LIBRARY_NAMES = {
    "cast": re.compile(r"^from (typing import .*\bcast\b|sqlalchemy import )", re.MULTILINE),
    "given": re.compile(r"^from hypothesis import .*\bgiven\b", re.MULTILINE),
}
"""Names of libraries that are retired as ours, and how a module imports them."""

TEXT_WORDS = re.compile(r"[A-Za-z]+")


class Finding(NamedTuple):
    path: str
    line: int
    text: str
    word: str


def parts_of(identifier: str) -> list[str]:
    """Split an identifier at underscores and capitals, in lower case."""
    return [part.lower() for part in WORD_PARTS.findall(identifier)]


@cache
def in_identifier(identifier: str, bare: frozenset[str]) -> list[str]:
    """Return the retired words of an identifier. A test's name is a sentence: only metaphors are retired in it."""
    if identifier in ALLOWED or any(name in identifier for name in ALLOWED if "_" in name):
        return []
    whole = identifier.strip("_").lower()
    history = {} if identifier.startswith("test_") else HISTORY
    found = [part for part in parts_of(identifier) if part in METAPHORS or part in history]
    return [*found, whole] if whole in bare else found


def in_text(text: str) -> list[str]:
    """Return the metaphors of a text."""
    if METAPHORS.keys().isdisjoint(TEXT_WORDS.findall(text.lower())):
        return []
    for allowed in ALLOWED:
        text = re.sub(re.escape(allowed), "", text, flags=re.IGNORECASE)
    return [word for word in TEXT_WORDS.findall(text.lower()) if word in METAPHORS]


def may_be_in(source: str, bare: Collection[str]) -> bool:
    """Whether a retired word can be in a module at all: to divide one into its tokens takes a hundred times as long."""
    parts = {*parts_of(source), *TEXT_WORDS.findall(source.lower())}
    return not all(retired.isdisjoint(parts) for retired in (METAPHORS.keys(), HISTORY.keys(), bare))


def in_python(path: str, source: str) -> Iterator[Finding]:
    """Search the identifiers, comments and strings of a module."""
    retired = BARE.keys() | (BARE_OF_QUEUE.keys() if path.startswith(QUEUE_FOLDERS) else set())
    bare = frozenset(retired - {name for name, imported in LIBRARY_NAMES.items() if imported.search(source)})
    yield from (Finding(path, 0, "the file's name", word) for word in in_text(path))
    if not may_be_in(source, bare):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            words = in_identifier(token.string, bare)
        elif token.type in {tokenize.COMMENT, tokenize.STRING} or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            words = in_text(token.string)
        else:
            continue
        for word in words:
            yield Finding(path, token.start[0], token.line.strip().partition("\n")[0], word)


def in_document(path: str, text: str) -> Iterator[Finding]:
    """Search a text that is no Python: documentation, configuration, SQL."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in in_text(line):
            yield Finding(path, number, line.strip(), word)
    for word in in_text(path):
        yield Finding(path, 0, "the file's name", word)


def search(root: Path, paths: Iterable[str]) -> Iterator[Finding]:
    """Search files of `root`, given by their paths within it."""
    for path in paths:
        if path.startswith(NOT_SEARCHED):
            continue
        found: Iterator[Finding] = iter(())
        if path.endswith(".py"):
            found = in_python(path, (root / path).read_text("utf-8"))
        elif path.endswith((".md", ".toml", ".sql", ".ini", ".yml")) or path in {"Makefile", "Procfile", ".ci/run"}:
            found = in_document(path, (root / path).read_text("utf-8"))
        yield from (each for each in found if (path, each.word) not in EXPECTED)


def tracked(root: Path) -> list[str]:
    """List the files of the checkout that git knows, or all of them where there is no git."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for path in listed.stdout.splitlines() if (root / path).exists()]
    hidden = (".venv", ".git", "node_modules", "__pycache__")
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not set(hidden) & set(path.parts))


def main() -> int:
    parser = argparse.ArgumentParser(description="Search the project for retired words.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--counts", action="store_true", help="only how often each word was found")
    options = parser.parse_args()
    findings = list(search(options.root, tracked(options.root)))
    if not options.counts:
        for finding in findings:
            print(f"{finding.path}:{finding.line}: {finding.word!r}: {finding.text[:120]}")
    for word, count in Counter(finding.word for finding in findings).most_common():
        print(f"{count:6} {word} -> {(METAPHORS | HISTORY | BARE | BARE_OF_QUEUE)[word]}")
    print(f"{len(findings):6} in all")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
