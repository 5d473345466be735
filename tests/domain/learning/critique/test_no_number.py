"""Words move no number (docs/decisions/0044): what writes critiques neither sees a learner nor writes what scores are
made of."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
OF_WORDS = sorted(
    path.relative_to(ROOT).as_posix()
    for where in ("domain/learning/critique/*.py", "workers/jobs/critiques.py", "db/learning/critiques.py")
    for path in ROOT.glob(where)
)
OF_NUMBERS = (
    *("domain.learning.learner", "domain.learning.models", "domain.learning.pool", "domain.learning.promotion"),
    *("domain.learning.scoring", "db.learning.learners", "db.learning.guard_rails", "db.learning.predictions"),
)
GROUPS = ("learners", "guard_rails", "predictions", "outcomes")
TABLES = ("learners", "pooled_priors", "post_predictions", "scoring_adjustments", "performance_feedback")


@pytest.mark.parametrize("path", OF_WORDS)
def test_words_move_no_number(path: str) -> None:
    source = (ROOT / path).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(OF_NUMBERS), node.module
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tx":
            assert node.attr not in GROUPS
    assert re.findall(rf"(?:INSERT INTO|UPDATE|DELETE FROM)\s+({'|'.join(TABLES)})\b", source) == []


def test_all_that_writes_words_is_looked_at() -> None:
    assert {"workers/jobs/critiques.py", "db/learning/critiques.py", "domain/learning/critique/offline.py"} <= {
        *OF_WORDS
    }
