"""docs/export-dexie.html, in a real browser, on a database that the real Dexie filled."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from simulators.loopback import serving
from tests.builders import a_tenant
from tests.cli import browser
from tests.cli.shell import ROOT, Shell
from tests.cli.test_dexie import a_critique, a_generation, an_adjustment, an_insight, exported, in_order, outcomes
from workers.app import App

DEXIE = "4.4.7"

# As the old app declared it.
FILL = """
(async () => {
  const db = new Dexie("ViralDashboard");
  db.version(1).stores({ generations: "id, date, isFavorite" });
  db.version(2).stores({
    generations: "id, date, isFavorite",
    critiques: "id, conceptId, createdAt, appliedAt",
    insights: "id, category, platform, discoveredAt, appliedToScoring",
    adjustments: "id, category, adjustmentType, appliedAt, critiqueId",
  });
  const data = %s;
  for (const table of Object.keys(data)) await db.table(table).bulkPut(data[table]);
  const concepts = [{ score: NaN, gone: undefined }];
  await db.generations.put({ id: "odd", date: new Date(0), concepts, isFavorite: 1 });
  db.close();
})()
"""


@pytest.fixture(scope="session")
def dexie() -> Path:
    """The library's own file, fetched once by npm."""
    kept = ROOT / ".bench" / f"dexie-{DEXIE}"
    file = kept / "node_modules" / "dexie" / "dist" / "dexie.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is needed to fetch Dexie, once")
        kept.mkdir(parents=True, exist_ok=True)
        (kept.parent / ".gitignore").write_text("*\n")
        fetch = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(kept), f"dexie@{DEXIE}"]
        fetched = subprocess.run(fetch, check=False, capture_output=True, text=True)
        if fetched.returncode:
            pytest.skip(f"npm cannot fetch Dexie: {fetched.stderr.strip().splitlines()[0]}")
    return file


@pytest.fixture
def origin(tmp_path: Path, dexie: Path) -> Iterator[str]:
    """The old app's address, with our page and Dexie."""
    folder = tmp_path / "public"
    folder.mkdir()
    shutil.copy(ROOT / "docs" / "export-dexie.html", folder)
    (folder / "app.html").write_text("<!doctype html><script src=dexie.min.js></script>")
    shutil.copy(dexie, folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with serving(partial(Quiet, directory=str(folder))) as base:
        yield base


@pytest.mark.proof
@pytest.mark.parametrize("way", ["page", "snippet"])
def test_what_dexie_holds_is_exported_and_imported(
    viral: Shell, app: App, page: browser.Page, origin: str, tmp_path: Path, way: str
) -> None:
    whole: dict[str, list[Any]] = {
        "generations": [a_generation(isFavorite=n % 2) for n in range(500)],
        "critiques": [a_critique(critique="half \ud83d of a pair, a \0, and \U0001f431")],
        "insights": [an_insight()],
        "adjustments": [an_adjustment()],
    }
    page.open(f"{origin}/app.html")
    page.run(FILL % json.dumps(whole))
    if way == "page":
        page.open(f"{origin}/export-dexie.html")
        page.run("document.getElementById('export').click()")
    else:
        snippet = (ROOT / "docs" / "export-dexie.html").read_text().partition('<script id="code">')[2]
        page.run(snippet.partition("</script>")[0] + "exportViralDashboard()")
    file = tmp_path / "browser" / "downloads" / page.downloaded()
    assert file.name == "viral-dashboard-export.json"

    ada = a_tenant(app)
    report = viral.json("import-dexie", file, "--tenant", ada)
    assert {table: outcomes(report, table) for table in whole} == {
        "generations": [0, 501, 0, 0],
        "critiques": [0, 1, 0, 0],
        "insights": [1, 0, 0, 0],
        "adjustments": [1, 0, 0, 0],
    }
    odd = {"id": "odd", "date": "1970-01-01T00:00:00.000Z", "concepts": [{"score": None}], "isFavorite": 1}
    whole["generations"].append(odd)
    assert exported(viral, ada, tmp_path) == {table: in_order(records) for table, records in whole.items()}


def test_where_the_old_app_never_ran_the_page_says_so(page: browser.Page, origin: str) -> None:
    page.open(f"{origin}/export-dexie.html")
    page.run("document.getElementById('export').click()")
    answer = "new Promise((done) => setInterval(() => said.textContent && done(said.textContent), 5))"
    assert page.run(answer) == f"The old app has no data in this browser at {origin}"
    assert page.run("indexedDB.databases().then(all => all.length)") == 0
