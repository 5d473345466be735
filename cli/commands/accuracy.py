"""`viral reflexion accuracy`: how far predictions were off, beside a running median."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, earlier, one_of
from cli.output import AsJson, console, print_json, show
from cli.session import session
from domain.concepts.wording import counted
from domain.learning.accuracy import Accuracy, AccuracyBy, AccuracyReport, report_values
from domain.learning.outcomes import LEARNED, SHOWN
from domain.learning.performance import LONGEST_PERIOD, USUAL_PERIOD
from domain.text.readable import readable
from workers.ops import accuracy

GROUPS = tuple(AccuracyBy)
COLUMNS = (*("group", "outcomes", "gap", "bias", "within_20%", "within_10", "covered", "running_median", "skill"),)


def show_accuracy(
    tenant: Annotated[
        UUID | None, typer.Option("--tenant", metavar="ID", help="Whose predictions. Default: all tenants'.")
    ] = None,
    by: Annotated[str, typer.Option(help=f"{', '.join(GROUPS)}.", autocompletion=among(GROUPS))] = AccuracyBy.WEEK,
    horizon: Annotated[str, typer.Option(help=f"{' or '.join(LEARNED)}.", autocompletion=among(LEARNED))] = SHOWN,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=earlier, metavar="TIME", help=f"Numbers taken from here on. Default: {USUAL_PERIOD.days} days."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=earlier,
            metavar="TIME",
            help=f"Numbers taken before this. Default: now. At most {LONGEST_PERIOD.days} days.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how far predictions were off, beside a running median.

    Only predictions count that were written down before the post was out. A gap is actual minus predicted, in points;
    skill is 1 - gap / the gap of a running median, so below 0 the running median was better.

    \b
    viral reflexion accuracy --tenant ID
    viral reflexion accuracy --by category --horizon 7d
    """
    one_of(GROUPS, by, "--by", "group")
    one_of(LEARNED, horizon, "--horizon", "horizon")
    with session() as app:
        found = accuracy.accuracy(
            app, tenant, by=AccuracyBy(by), horizon=LEARNED[LEARNED.index(horizon)], since=since, until=until
        )
    if as_json:
        print_json(report_values(found))
    else:
        _print(found)


def _print(report: AccuracyReport) -> None:
    out = console()
    out.print(f"By {report.by}, {report.horizon} after publication")
    out.print(f"numbers taken from {readable(report.since)} to {readable(report.until)}; weeks in {report.time_zone}\n")
    rows = [{"group": each.label, **_row(each.accuracy)} for each in report.groups]
    if len(rows) > 1:
        rows.append({"group": "all", **_row(report.total)})
    show(rows, COLUMNS, as_json=False, nothing="No outcome of a predicted post was learned in this time.")
    if report.more:
        out.print("Groups with fewer outcomes are left out.")
    evidence = report.evidence
    out.print(f"\n{counted(evidence.learned, 'outcome')} learned, {evidence.waiting} waiting")
    for reason, count in evidence.set_aside.items():
        out.print(f"{counted(count, 'outcome')} set aside: {reason}")
    for change in report.changes:
        where = " ".join(each for each in (change.platform, change.horizon, change.model) if each)
        out.print(f"{readable(change.at)}  {change.kind}: {where}: {change.reason}")


def _row(each: Accuracy) -> dict[str, Any]:
    return {
        "outcomes": each.outcomes,
        "gap": _points(each.gap),
        "bias": None if each.bias is None else f"{each.bias:+.1f}",
        "within_20%": _share(each.within20),
        "within_10": _share(each.within10),
        "covered": _share(each.coverage),
        "running_median": "—" if each.median_gap is None else f"{each.median_gap:.1f} ({each.compared})",
        "skill": "—" if each.skill is None else f"{each.skill:+.2f}",
    }


def _points(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.0f}%"
