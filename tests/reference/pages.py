"""The pages of docs/reference/, each made from the code that it describes."""

from pathlib import Path

from tests.reference import api, commands, errors, job_types, settings, tables
from workers.ops import monitoring

FOLDER = Path(__file__).resolve().parents[2] / "docs/reference"


def pages() -> dict[str, str]:
    """Return the text of each page, by its file's name."""
    return {
        "cli.md": commands.page(),
        "api.md": api.page(),
        "settings.md": settings.page(),
        "job-types.md": job_types.page(),
        "tables.md": tables.page(),
        "metrics.md": monitoring.document(),
        "errors.md": errors.page(),
    }
