"""What documents and docstrings point to exists: files by their paths, modules and functions by their dotted names."""

import importlib
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = "tests|web|workers|db|domain|cli|local|simulators|integrations|scheduler|benchmarks|docs|migrations"
PATH = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w/.-]*\w)")
DOTTED = re.compile(r"`((?:domain|db|web|cli|local|simulators|integrations|workers\.\w+|scheduler)(?:\.\w+)+)`")
LOG_EVENTS = {"web.waits", "web.too_many_connections", "scheduler.waits"}
NOT_SEARCHED = (
    "CHANGELOG.md",
    "migrations/versions/",
    "tests/test_words.py",
    "tests/test_documents.py",
    "web/api/assets/",
)


def sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [
        path
        for path in listed
        if path.endswith((".py", ".md")) and not path.startswith(NOT_SEARCHED) and (ROOT / path).exists()
    ]


def missing_paths(text: str) -> list[str]:
    named = {match for match in PATH.findall(text) if re.search(r"\.(py|md|toml|sql)$", match)}
    return sorted(path for path in named if not (ROOT / path).exists())


def missing_names(text: str) -> list[str]:
    return sorted(name for name in set(DOTTED.findall(text)) - LOG_EVENTS if not exists(name))


def exists(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_what_is_pointed_to_exists() -> None:
    texts = {path: (ROOT / path).read_text("utf-8") for path in sources()}
    missing = {path: missing_paths(text) + missing_names(text) for path, text in texts.items()}
    assert {path: names for path, names in missing.items() if names} == {}


def test_the_tests_that_ci_names_exist() -> None:
    named = re.findall(r"\btests/[\w/.]+", (ROOT / ".ci/run").read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_is_missing_is_found() -> None:
    text = "`db/nowhere.py`, `db/queue/claim.py`, `domain.quota.quota.reset`, `domain.quota.quota.nothing`"
    assert (missing_paths(text), missing_names(text)) == (["db/nowhere.py"], ["domain.quota.quota.nothing"])
