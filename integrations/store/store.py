"""Opens the media store that the settings name: a bucket of S3, or else a folder."""

from pathlib import Path

from domain.ports import MediaStore
from integrations.store.folder import FolderStore


def open_store(*, folder: Path, bucket: str, endpoint: str, cdn: str, web: str) -> MediaStore:
    """Return the store. `web` is where our own web server is reached. Nothing is asked or written yet."""
    if bucket:
        from integrations.store.s3 import S3Store  # noqa: PLC0415 - 15 MB that a folder does not need

        return S3Store(bucket, endpoint=endpoint, cdn=cdn)
    return FolderStore(folder, web=cdn or web)
