"""python -m tests.attack [--url URL --webhook-secret S --pid N] [--only NAME,…] [--report FILE]

It tells what hostile input does to a web process, to its memory, and to the webhooks beside it.

Without --url a system of its own is started. With it, nothing is started: a running system is attacked, which stores
some events of the type `product.created`; an attack that lacks what it needs is skipped, and skipped is not passed.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.attack.catalogue import every_attack
from tests.attack.stage import RSS_MB, WEBHOOK_P99_MS, Attack, Limits, Row, carry_out
from tests.attack.target import System, Target, own_system

WIDTHS = (44, 8, 14, 34)


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    chosen, unknown = select(every_attack(), options.only)
    if unknown:
        parser.error(f"no attack is called {unknown[0]!r}; --list names them all")
    if options.list:
        sys.stdout.writelines(f"{each.name}\n" for each in chosen)
        return 0
    limits = Limits(options.rss_mb, options.webhook_p99_ms)
    rows: list[Row] = []
    say(line(("attack", "rss MB", "webhook p99", "answers"), "verdict"))
    with attacked(options) as (target, own):
        for each in chosen:
            row = carry_out(each, target, own, limits=limits, short=options.short)
            rows.append(row)
            say(shown(row))
            if options.report is not None:
                write(options.report, rows)
    failed = sum(row.failed for row in rows)
    skipped = sum(row.verdict.startswith("skipped") for row in rows)
    say(f"{len(rows)} attacks: {len(rows) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--url", help="of the running web process (default: start a system)")
    parser.add_argument(
        "--webhook-secret",
        default=os.environ.get("STRIPE_WEBHOOK_SECRET", "").partition(",")[0] or None,
        help="to sign Stripe's webhooks with (STRIPE_WEBHOOK_SECRET)",
    )
    parser.add_argument("--pid", type=int, help="of the running web process, on this machine")
    parser.add_argument("--credential", default=os.environ.get("VIRAL_API_KEY"), help="an API key (VIRAL_API_KEY)")
    parser.add_argument("--only", help="names of attacks, or parts of them, separated by commas")
    parser.add_argument("--list", action="store_true", help="name the attacks and end")
    parser.add_argument("--short", action="store_true", help="the form of the test suite: fewer, and for less long")
    parser.add_argument("--report", type=Path, help="write the rows here, as JSON lines")
    parser.add_argument("--rss-mb", type=float, default=RSS_MB, help=f"of memory are allowed ({RSS_MB})")
    parser.add_argument(
        "--webhook-p99-ms", type=float, default=WEBHOOK_P99_MS, help=f"are allowed ({WEBHOOK_P99_MS:g})"
    )
    return parser


def select(attacks: Sequence[Attack], only: str | None) -> tuple[list[Attack], list[str]]:
    """The attacks whose names have one of the parts in them, and the parts that no name has."""
    parts = [part.strip() for part in (only or "").split(",")]
    unknown = [part for part in parts if not any(part in each.name for each in attacks)]
    return [each for each in attacks if any(part in each.name for part in parts)], unknown


@contextlib.contextmanager
def attacked(options: argparse.Namespace) -> Iterator[tuple[Target, System | None]]:
    if options.url is not None:
        yield Target(options.url, options.webhook_secret, options.pid, options.credential), None
        return
    with own_system() as own, own.web() as target:
        yield target, own


def shown(row: Row) -> str:
    rss = "-" if row.rss_mb is None else f"{row.rss_mb:.0f}"
    p99 = "-" if row.webhook_p99_ms is None else f"{row.webhook_p99_ms:.1f} ms"
    answers = ", ".join(f"{count} x {answer}" for answer, count in row.answers.most_common()) or "-"
    return line((row.attack, rss, p99, answers), row.verdict)


def line(cells: Sequence[str], last: str) -> str:
    return "  ".join([*(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)), last])


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row.as_json()) + "\n" for row in rows))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
