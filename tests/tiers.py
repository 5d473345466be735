"""Two tiers of tests: the suite (`make test`) and the proofs (`make proofs`), told apart by the marker `proof`."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

PROOF, SUITE = "proof", "not proof"
"""The marker's name, and the expression by which `make test` selects the rest."""

LONG = 8.0
"""Seconds from which on an unmarked test is named at the end of `make test`."""


def leaves_to_the_suite(mark: pytest.Mark, name: str) -> bool:
    """Whether the test `name`, with its case in brackets, is one of those in `but=` of its marker."""
    return mark.name == PROOF and any(name.endswith(f"[{case}]") for case in mark.kwargs.get("but", ()))


def slowest(reports: Sequence[pytest.TestReport], most: int = 10) -> list[str]:
    """Return a line for each of the `most` longest tests over LONG seconds, the longest first."""
    took = sorted(((each.duration, each.nodeid) for each in reports if each.when == "call"), reverse=True)
    return [f"{seconds:6.1f} s  {name}" for seconds, name in took[:most] if seconds > LONG]


def without_a_quick_test(path: Path) -> bool:
    """Whether a file has tests, and all of them are proofs with no case left to the suite."""
    tests = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    marks = [[ast.unparse(mark) for mark in test.decorator_list] for test in tests]
    return bool(tests) and all(f"pytest.mark.{PROOF}" in each for each in marks)
