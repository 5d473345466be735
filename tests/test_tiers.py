"""The suite has a test of each promise, whatever is told apart as a proof."""

from pathlib import Path

import pytest

from tests.tiers import leaves_to_the_suite, slowest, without_a_quick_test

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "tests/cli/test_demo.py": "tests/cli/test_up.py",
    "tests/flows/test_secrets.py": "tests/flows/test_planted_tokens.py",
    "tests/web/api/test_contract.py": "tests/web/api/test_values.py",
    "tests/web/ops/test_accessible.py": "tests/web/ops/test_browser.py",
    "tests/web/ops/test_behind_nginx.py": "tests/web/ops/test_access.py",
    "tests/web/test_fuzz_clerk.py": "tests/web/test_fuzz.py",
    "tests/workers/jobs/test_critiques_killed.py": "tests/workers/jobs/test_critiques.py",
    "tests/workers/jobs/test_drawing.py": "tests/workers/jobs/test_videos.py",
}
"""Files of proofs alone, and in which other file the suite has quick tests of what they are about."""


def test_each_file_has_a_test_in_the_suite() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.proof" in path.read_text()]
    assert len(files) > 20
    assert sorted(str(path.relative_to(ROOT)) for path in files if without_a_quick_test(path)) == sorted(ELSEWHERE)
    assert [path for path in ELSEWHERE.values() if without_a_quick_test(ROOT / path)] == []


def test_a_file_without_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "test_one.py"
    proof = "@pytest.mark.proof\ndef test_a(): ...\n"
    path.write_text(proof)
    assert without_a_quick_test(path)
    path.write_text(proof + "def test_b(): ...\n")
    assert not without_a_quick_test(path)
    path.write_text("@pytest.mark.proof(but=['a'])\n@pytest.mark.parametrize('c', ['a', 'b'])\ndef test_a(c): ...\n")
    assert not without_a_quick_test(path)


@pytest.mark.proof(but=["here"])
@pytest.mark.parametrize("case", ["here", "there"])
def test_a_case_that_is_named_stays_in_the_suite(request: pytest.FixtureRequest, case: str) -> None:
    assert (request.node.get_closest_marker("proof") is None) is (case == "here")


def test_a_case_is_left_to_the_suite_by_its_whole_name() -> None:
    mark = pytest.mark.proof(but=["a"]).mark
    assert leaves_to_the_suite(mark, "test_one[a]")
    assert not leaves_to_the_suite(mark, "test_one[aa]")
    assert not leaves_to_the_suite(pytest.mark.proof.mark, "test_one[a]")


def test_what_is_slow_is_named_the_longest_first() -> None:
    def report(name: str, seconds: float) -> pytest.TestReport:
        return pytest.TestReport(name, ("", 0, ""), {}, "passed", None, "call", duration=seconds)

    assert slowest([report("a", 9), report("b", 7.9), report("c", 12)]) == ["  12.0 s  c", "   9.0 s  a"]
