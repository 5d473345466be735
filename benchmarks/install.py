"""The peers' own environments: Python ones from a package index, graphile-worker and stripe-sync-engine by npm."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.servers import ROOT

PEERS = Path(__file__).with_name("peers")
INSTALLED = ROOT / ".bench"
"""Kept between runs; git ignores it."""

PYTHON = INSTALLED / "peers" / "bin" / "python"
NODE = INSTALLED / "node"
WITHIN = 600.0
"""Seconds for each command."""


class CannotInstall(Exception):
    """The text says what is missing."""


def install_python() -> None:
    """Install what is pinned for Python, unless it is there.

    Raises:
        CannotInstall: the package index refuses or is out of reach.
    """
    INSTALLED.mkdir(exist_ok=True)
    (INSTALLED / ".gitignore").write_text("*\n")
    wanted, installed = PEERS / "requirements.txt", INSTALLED / "requirements.txt"
    if not differ(wanted, installed):
        return
    print("installing the peers into .bench (once)", flush=True)
    run([sys.executable, "-m", "venv", str(INSTALLED / "peers")])
    run([str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", str(wanted)])
    shutil.copy(wanted, installed)


def install_node() -> None:
    """Install what is pinned for Node, unless it is there.

    Raises:
        CannotInstall: there is no npm, or its registry refuses or is out of reach.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise CannotInstall("it needs node and npm, which are not here")
    if differ(PEERS / "package.json", NODE / "package.json") or not (NODE / "node_modules").is_dir():
        NODE.mkdir(exist_ok=True)
        shutil.copy(PEERS / "package.json", NODE / "package.json")
        run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], NODE)


def run(command: Sequence[str], folder: Path = ROOT) -> None:
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WITHIN, check=False)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{command[0]} was not done within {WITHIN:g} s") from None
    if ran.returncode != 0:
        lines = (ran.stderr or ran.stdout).strip().splitlines()
        raise CannotInstall(f"{' '.join(command)}: {lines[-1] if lines else f'exit code {ran.returncode}'}")


def differ(wanted: Path, installed: Path) -> bool:
    return not installed.exists() or installed.read_bytes() != wanted.read_bytes()


def versions() -> dict[str, str]:
    """Those that are pinned, by name, and Node's."""
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line]
    found = {name.partition("[")[0]: version for name, _, version in pinned}
    found |= json.loads((PEERS / "package.json").read_text())["dependencies"]
    if shutil.which("node"):
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        found["node"] = version.strip().lstrip("v")
    return found
