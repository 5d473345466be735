"""Bodies that were got wrong once, one folder a case, in the order in which they happened."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def stripe_case(name: str) -> list[dict[str, Any]]:
    """The bodies of `stripe/<name>-…`, in order."""
    [folder] = (HERE / "stripe").glob(f"{name}-*")
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
