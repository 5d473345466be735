"""Not built yet."""

from pathlib import Path

from domain.ports import MediaStore


def open_store(*, folder: Path, bucket: str, endpoint: str, cdn: str) -> MediaStore:
    raise NotImplementedError
