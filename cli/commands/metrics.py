"""`viral metrics`"""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, show
from cli.shell import Group
from domain.ops.metrics import ALL
from workers.ops.monitoring import files

app = Group()

COLUMNS = ("name", "kind", "labels", "unit", "help")


@app.command("list")
def list_metrics(as_json: AsJson = False) -> None:
    """List the metrics that `/metrics` has.

    \b
    viral metrics list
    """
    rows = [
        {"name": each.name, "kind": each.kind.value, "labels": each.labels, "unit": each.unit, "help": each.help}
        for each in ALL
    ]
    simplified = lambda row: {**row, "labels": " ".join(row["labels"])}  # noqa: E731
    show(rows, COLUMNS, as_json=as_json, nothing="There is none.", simplified=simplified)


@app.command("export")
def export(folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are written.")]) -> None:
    """Write Grafana's dashboard, alert rules and a list of the metrics.

    As grafana.json, alerts.yaml and metrics.md; files of these names are replaced.

    \b
    viral metrics export docs/monitoring
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, "utf-8")
        typer.echo(folder / name)
