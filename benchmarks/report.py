"""What was measured, held against the bars: a table to read, and `bench.json` with every single run."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES, Comparison, Figure
from benchmarks.servers import ROOT

OURS = "ours"
COLUMNS = ("measure", "figure", "unit", "ours", "peer", "theirs", "ratio", "bar", "verdict")
MET, MISSED, MEASURED, FAILED, SKIPPED = "met", "missed", "measured", "failed", "skipped"
WIDEST = 72
"""Characters of a verdict in the table; the file has it whole."""


@dataclass
class Report:
    """The figures that were found, and why others were not.

    `measures`: those asked for. `absent`: peers that take no part, each with the reason.
    """

    measures: Sequence[str]
    absent: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Sequence[Figure]] = field(default_factory=lambda: FIGURES)
    facts: dict[str, Any] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, figure: str, system: str, value: float) -> None:
        """Keep the figure of one run.

        Raises:
            LookupError: `benchmarks/figures.py` has no such figure.
        """
        unit = next((each.unit for all_of in self.figures.values() for each in all_of if each.name == figure), None)
        if unit is None:
            raise LookupError(f"benchmarks/figures.py does not know the figure {figure}")
        self.runs.setdefault((figure, system), []).append(value)
        print(f"  {figure:<25} {system:<16} {value:>12,.2f} {unit}", flush=True)

    def fail(self, measure: str, system: str, reason: str) -> None:
        """Note that the system could not be measured; if it is ours, that the whole measure could not."""
        self.failures.setdefault((measure, system), reason)
        print(f"  {measure:<25} {system:<16} FAILED: {reason}", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """One for each comparison of each figure of the measures asked for, whatever became of it."""
        return [
            self._row(measure, figure, comparison)
            for measure in self.measures
            for figure in self.figures[measure]
            for comparison in figure.comparisons
        ]

    def unmet(self) -> list[dict[str, Any]]:
        """The rows whose bar is missed, or that could not be measured."""
        return [row for row in self.rows() if row["verdict"].partition(":")[0] in (MISSED, FAILED)]

    def table(self) -> str:
        cells = [[_cell(row[column])[:WIDEST] for column in COLUMNS] for row in self.rows()]
        lines = [list(COLUMNS), *cells]
        widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
        right = {"ours", "theirs", "ratio"}
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column in right else cell.ljust(width)
                for cell, width, column in zip(line, widths, COLUMNS, strict=True)
            ).rstrip()
            for line in lines
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        medians = [
            {"figure": figure, "system": system, "median": statistics.median(runs)}
            | {"min": min(runs), "max": max(runs), "runs": runs}
            for (figure, system), runs in self.runs.items()
        ]
        document = self.facts | {"rows": self.rows(), "figures": medians, "details": self.details}
        path.write_text(json.dumps(document, indent=2) + "\n")

    def _row(self, measure: str, figure: Figure, comparison: Comparison) -> dict[str, Any]:
        peer = comparison.peer
        ours = self._median(figure.name, OURS)
        theirs = self._median(comparison.figure or figure.name, peer) if peer else None
        ratio = ours / theirs if ours is not None and theirs else None
        return {
            "measure": measure,
            "figure": figure.name,
            "unit": figure.unit,
            "meaning": figure.meaning,
            "ours": ours,
            "peer": peer,
            "theirs": theirs,
            "ratio": ratio,
            "bar": comparison.bar,
            "verdict": self._verdict(measure, comparison, ratio if peer else ours),
            "runs": len(self.runs.get((figure.name, OURS), ())),
        }

    def _verdict(self, measure: str, comparison: Comparison, judged: float | None) -> str:
        peer = comparison.peer
        if reason := self.failures.get((measure, OURS)):
            return f"{FAILED}: {reason}"
        if peer and (reason := self.failures.get((measure, peer))):
            return f"{FAILED}: {peer}: {reason}"
        if peer is not None and peer in self.absent:
            return f"{SKIPPED}: {self.absent[peer]}"
        if judged is None:
            return f"{FAILED}: not measured"
        if comparison.bar is None:
            return MEASURED
        return MET if comparison.met(judged) else MISSED

    def _median(self, figure: str, system: str) -> float | None:
        values = self.runs.get((figure, system))
        return statistics.median(values) if values else None


def markdown(document: Mapping[str, Any]) -> str:
    """The rows of a report that was written, as docs/performance.md has them."""
    lines = [COLUMNS[1:], ["---"] * len(COLUMNS[1:])]
    lines += [[_cell(row[column]) for column in COLUMNS[1:]] for row in document["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"
        case _:
            return str(value)


def machine() -> dict[str, Any]:
    """Where it was measured."""
    asked = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "load_average": os.getloadavg(),
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]
