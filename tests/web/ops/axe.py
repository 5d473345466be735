"""axe-core, which finds what keeps people out of a page: https://github.com/dequelabs/axe-core

It is fetched once by npm, pinned by version and content, into `.bench`; .ci/run sees to npm.
"""

import json
import os
import shutil
import subprocess
import tarfile
from base64 import b64encode
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest

from tests.cli import browser
from tests.cli.shell import ROOT

VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""As npm shows it (`npm view axe-core@VERSION dist.integrity`)."""

KEPT = ROOT / ".bench"


def script() -> str:
    """Return the script. Without npm, or its registry, a test is skipped; on CI it fails."""
    file = KEPT / f"axe-core-{VERSION}.tgz"
    if not _is_it(file):
        _fetch(file)
    with tarfile.open(file) as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found is not None
        return found.read().decode()


def _is_it(file: Path) -> bool:
    return file.exists() and b64encode(sha512(file.read_bytes()).digest()).decode() == INTEGRITY


def _fetch(file: Path) -> None:
    KEPT.mkdir(exist_ok=True)
    (KEPT / ".gitignore").write_text("*\n")
    reason = "npm is needed, which is not here"
    if npm := shutil.which("npm"):
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(KEPT)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if _is_it(file):
            return
        reason = f"npm did not fetch it: {(ran.stderr or ran.stdout).strip()[-200:]}"
    if os.environ.get("CI"):
        pytest.fail(f"axe-core {VERSION}: {reason}")
    pytest.skip(f"axe-core {VERSION}: {reason}")


def violations(page: browser.Page, axe: str) -> list[str]:
    """Return what is wrong with the page that is open, each with where it is."""
    if page.run("typeof axe") != "object":
        page.run(axe + ";null")
    found: list[dict[str, Any]] = json.loads(
        page.run("axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))")
    )
    return [
        f"{each['id']}: {node['html'][:160]} ({' '.join(node['failureSummary'].split())[:240]})"
        for each in found
        for node in each["nodes"][:3]
    ]
