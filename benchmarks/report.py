"""What was measured, held against the bars: a table to read, and `bench.json` with every single run."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.servers import ROOT


@dataclass(frozen=True)
class Bar:
    """What is asked of `measure`: in the unit measured, or as a multiple of `against` = (measure, system)."""

    measure: str
    at_least: float | None = None
    at_most: float | None = None
    against: tuple[str, str] | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        times = " x" if self.against else ""
        return f">= {self.at_least:g}{times}" if self.at_least is not None else f"<= {self.at_most:g}{times}"


@dataclass
class Report:
    """Figures by (measure, system), each a list of runs."""

    bars: Sequence[Bar]
    facts: dict[str, Any] = field(default_factory=dict)
    runs: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, measure: str, system: str, value: float, unit: str) -> None:
        """Keep the figure of one run."""
        self.units[measure] = unit
        self.runs.setdefault((measure, system), []).append(value)
        print(f"  {measure:<24} {system:<16} {value:>12,.2f} {unit}", flush=True)

    def median(self, measure: str, system: str) -> float | None:
        values = self.runs.get((measure, system))
        return statistics.median(values) if values else None

    def rows(self) -> list[dict[str, Any]]:
        """One for each of our figures and whatever it is compared with."""
        rows = []
        for measure, ours in self._ours():
            bars = [bar for bar in self.bars if bar.measure == measure]
            compared = {bar.against for bar in bars}
            alone = [bar for bar in bars if bar.against is None]
            rows += [self._row(measure, ours, None, bar) for bar in alone]
            rows += [self._row(measure, ours, bar.against, bar) for bar in bars if bar.against in self.runs]
            others = [key for key in self.runs if key[0] == measure and key[1] != "ours" and key not in compared]
            rows += [self._row(measure, ours, key, None) for key in others]
            if not alone and not others and not any(key in self.runs for key in compared):
                rows.append(self._row(measure, ours, None, None))
        return rows

    def _ours(self) -> Iterable[tuple[str, float]]:
        return [(measure, statistics.median(runs)) for (measure, system), runs in self.runs.items() if system == "ours"]

    def _row(self, measure: str, ours: float, peer: tuple[str, str] | None, bar: Bar | None) -> dict[str, Any]:
        theirs = self.median(*peer) if peer else None
        ratio = ours / theirs if theirs else None
        judged = ratio if bar and bar.against else ours
        return {
            "measure": measure,
            "unit": self.units[measure],
            "ours": ours,
            "peer": None if peer is None else peer[1] if peer[0] == measure else f"{peer[1]} ({peer[0]})",
            "theirs": theirs,
            "ratio": ratio,
            "bar": str(bar) if bar else None,
            "met": bar.met(judged) if bar and judged is not None else None,
        }

    def table(self) -> str:
        words = ("measure", "unit", "ours", "peer", "theirs", "ratio", "bar", "met")
        lines = [words, *(tuple(_cell(row[word]) for word in words) for row in self.rows())]
        widths = [max(len(line[n]) for line in lines) for n in range(len(words))]
        right = {"ours", "theirs", "ratio"}
        return "\n".join(
            "  ".join(
                cell.rjust(width) if word in right else cell.ljust(width)
                for cell, width, word in zip(line, widths, words, strict=True)
            ).rstrip()
            for line in lines
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        medians = [
            {"measure": measure, "system": system, "unit": self.units[measure], "median": statistics.median(runs)}
            | {"min": min(runs), "max": max(runs), "runs": runs}
            for (measure, system), runs in self.runs.items()
        ]
        document = self.facts | {"figures": medians, "compared": self.rows(), "details": self.details}
        path.write_text(json.dumps(document, indent=2) + "\n")


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "NO"
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
