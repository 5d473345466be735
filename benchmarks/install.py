"""The peers' own environments: Python ones from a package index, graphile-worker by npm."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.servers import ROOT

PEERS = Path(__file__).with_name("peers")
INSTALLED = ROOT / ".bench"
"""Kept between runs; git ignores it."""

PYTHON = INSTALLED / "peers" / "bin" / "python"
NODE = INSTALLED / "node"


def install_peers() -> bool:
    """Install what is pinned, unless it is there. Returns whether graphile-worker is, and says why not."""
    INSTALLED.mkdir(exist_ok=True)
    (INSTALLED / ".gitignore").write_text("*\n")
    wanted = PEERS / "requirements.txt"
    if differ(wanted, INSTALLED / "requirements.txt"):
        print("installing the peers into .bench (once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", INSTALLED / "peers"], check=True)
        pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True)
        shutil.copy(wanted, INSTALLED / "requirements.txt")
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("graphile-worker is left out: it needs node and npm, which are not here", flush=True)
        return False
    if differ(PEERS / "package.json", NODE / "package.json") or not (NODE / "node_modules").is_dir():
        NODE.mkdir(exist_ok=True)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        shutil.copy(PEERS / "package.json", NODE / "package.json")
        subprocess.run(npm, cwd=NODE, check=True)
    return True


def differ(wanted: Path, installed: Path) -> bool:
    return not installed.exists() or installed.read_bytes() != wanted.read_bytes()


def versions() -> dict[str, str]:
    """Those that are pinned, by name, and Node's."""
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line]
    found = {name.partition("[")[0]: version for name, _, version in pinned}
    found |= json.loads((PEERS / "package.json").read_text())["dependencies"]
    if shutil.which("node"):
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        found["node"] = said.strip().lstrip("v")
    return found
