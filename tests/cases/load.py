"""Bodies that were got wrong once, one folder a case, in the order in which they happened."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def stripe_case(name: str) -> list[dict[str, Any]]:
    """The bodies of `stripe/<name>-…`, in order."""
    return _bodies("stripe", name)


def clerk_case(name: str) -> list[dict[str, Any]]:
    """The bodies of `clerk/<name>-…`, in order."""
    return _bodies("clerk", name)


def _bodies(source: str, name: str) -> list[dict[str, Any]]:
    [folder] = (HERE / source).glob(f"{name}-*")
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
