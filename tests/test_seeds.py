"""Nothing that tests draw is left to chance that nobody could repeat."""

import ast
from pathlib import Path

import pytest
from hypothesis import core

from tests.seeds import SEED, seeded

ROOT = Path(__file__).parent
ASKS_FOR_ONE = {"seeds.py", "chaos/__main__.py", "converge/__main__.py"}
"""These take a seed from whoever runs them, or draw and print one."""


def test_properties_draw_by_the_seed_of_the_run(pytestconfig: pytest.Config) -> None:
    assert str(core.global_force_seed) == pytestconfig.getoption("--hypothesis-seed")
    assert isinstance(SEED, int)


def test_what_is_drawn_depends_on_what_for_and_on_nothing_before() -> None:
    first = seeded("a", 1).random()
    assert seeded("a", 2).random() != first
    assert seeded("a", 1).random() == first


def drawn_unseeded(path: Path) -> list[int]:
    """Return the lines with a generator that has no seed, or that is everybody's."""
    found, text = [], path.read_text()
    if "random" not in text.lower():
        return []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            *of, name = ast.unparse(node.func).split(".") if isinstance(node.func, ast.Name | ast.Attribute) else [""]
            unseeded = name == "SystemRandom" or (name == "Random" and not node.args)
            if unseeded or (of == ["random"] and name != "Random"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("text", ["SystemRandom().random()", "Random()", "import random\nrandom.choice([1])"])
def test_a_draw_without_a_seed_is_found(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test_one.py"
    path.write_text(text)
    assert drawn_unseeded(path)


@pytest.mark.parametrize("text", ["Random(7)", "random.Random(7).sample([1], 1)", "seeded(1).choice([1])"])
def test_a_draw_with_a_seed_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "test_one.py"
    path.write_text(text)
    assert drawn_unseeded(path) == []


def test_no_test_draws_without_a_seed() -> None:
    files = [path for path in ROOT.rglob("*.py") if str(path.relative_to(ROOT)) not in ASKS_FOR_ONE]
    assert {str(path.relative_to(ROOT)): lines for path in files if (lines := drawn_unseeded(path))} == {}
