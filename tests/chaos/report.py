"""What an experiment has found, as a line of the table and an entry of the JSON report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED, CAUGHT = "passed", "FAILED", "skipped", "caught"


@dataclass
class Finding:
    """Of one experiment. `hit` counts faults that were seen to land, by kind; `broken` is why it failed."""

    name: str
    summary: str
    trials: int = 0
    hit: dict[str, int] = field(default_factory=dict)
    lost: int | None = None
    doubled: int | None = None
    recovery_s: float | None = None
    verdict: str = PASSED
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    took_s: float = 0

    def expect(self, holds: object, otherwise: str) -> None:
        if not holds:
            self.verdict = FAILED
            self.broken.append(otherwise)

    def saw(self, kind: str, count: int, least: int = 1) -> None:
        """A fault that was not seen to hit proves nothing: the experiment has failed."""
        self.hit[kind] = self.hit.get(kind, 0) + count
        self.expect(count >= least, f"{kind}: seen {count} times, wanted at least {least}")

    def worst(self, figure: str, value: float) -> None:
        """Keep the greatest value of a figure."""
        self.figures[figure] = max(self.figures.get(figure, 0.0), round(value, 2))

    def skip(self, reason: str) -> None:
        self.verdict = SKIPPED
        self.notes.append(reason)


HEADINGS = ("experiment", "trials", "faults that hit", "lost", "doubled", "recovery s", "took s", "verdict")
WIDTHS = (42, 7, 46, 5, 8, 11, 7, 8)


def line(cells: Sequence[object]) -> str:
    return "  ".join(f"{'' if cell is None else cell!s:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def row(finding: Finding) -> str:
    hits = ", ".join(f"{count} {kind}" for kind, count in finding.hit.items()) or "-"
    recovery = None if finding.recovery_s is None else f"{finding.recovery_s:.1f}"
    head, *rest = wrapped(hits, WIDTHS[2])
    cells = (
        f"{finding.name} {finding.summary}"[: WIDTHS[0]],
        finding.trials,
        head,
        finding.lost,
        finding.doubled,
        recovery,
        f"{finding.took_s:.0f}",
        finding.verdict,
    )
    lines = [line(cells), *(line(("", "", more, "", "", "", "", "")) for more in rest)]
    lines += [f"    ! {why}" for why in finding.broken] + [f"    - {note}" for note in finding.notes]
    return "\n".join(text.rstrip() for text in lines)


def wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def write(path: Path, facts: Mapping[str, Any], findings: Sequence[Finding]) -> None:
    path.parent.mkdir(exist_ok=True)
    failed = [finding.name for finding in findings if finding.verdict == FAILED]
    report = {**facts, "failed": failed, "experiments": [asdict(finding) for finding in findings]}
    path.write_text(json.dumps(report, indent=2, default=str) + "\n")
