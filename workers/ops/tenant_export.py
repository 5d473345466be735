"""All of one tenant in one zip file: its rows as JSON Lines, its media files, and a manifest that counts both."""

import fcntl
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import Conflict
from domain.text.readable import plain
from domain.videos.media import MediaMissing, object_key
from workers.app import App

FORMAT = 1
MANIFEST, ROWS, FILES = "manifest.json", "rows", "media"


@dataclass
class Exported:
    """What was written: rows by table, media files and their bytes, and keys of files that the store has lost or that
    are not what their rows say."""

    path: Path
    progress: Callable[[str, int], object] = field(repr=False)
    tables: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)


def export_tenant(
    app: App,
    tenant_id: UUID,
    path: Path,
    *,
    replace: bool = False,
    progress: Callable[[str, int], object] = lambda what, count: None,
) -> Exported:
    """Write `path`: all rows as they were at one moment, and the files that they name then. It holds a few hundred rows
    and a piece of a file at a time. What is not finished is `path` with `.part`, which the next try begins anew; `path`
    itself is whole, or not there. `progress` is told a table's name, or `media`, and how much of it is done.

    Raises:
        UnknownTenant: there is none of this id.
        Conflict: the file exists and is not to be replaced, is a directory, or somebody else writes it now.
        OSError: it cannot be written.
        StoreUnavailable: the media store does not answer; nothing is kept.
    """
    if path.is_dir():
        raise Conflict("IS_A_DIRECTORY", f"{path} is a directory: name a file in it")
    if path.exists() and not replace:
        raise Conflict("FILE_EXISTS", f"{path} exists: name another file, or say that it is to be replaced")
    part = path.with_name(f"{path.name}.part")
    with _alone(part) as file:
        exported = Exported(path, progress)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            manifest = _write_rows(app, tenant_id, archive, exported)
            _write_media(app, tenant_id, archive, exported, manifest.pop("keys"))
            manifest["media"] = {"files": exported.files, "bytes": exported.bytes, "missing": exported.missing}
            archive.writestr(MANIFEST, json.dumps(plain(manifest), indent=1, ensure_ascii=False))
        file.flush()
        os.fsync(file.fileno())
        part.replace(path)
    return exported


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Open a file that only its owner can read, and that nobody else writes meanwhile; on an error it is deleted."""
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("EXPORT_RUNS", f"another export writes {part}") from None
        os.fchmod(file.fileno(), 0o600)  # another try's may be older than this rule
        file.truncate()
        try:
            yield file
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _write_rows(
    app: App,
    tenant_id: UUID,
    archive: zipfile.ZipFile,
    exported: Exported,
) -> dict[str, Any]:
    tables = {}
    with app.db.transaction(SYSTEM) as tx:
        tx.explain.use_one_snapshot()  # first of all, so that all rows are of one moment
        tx.tenants.get(tenant_id)
        at = tx.now()
        for table in tx.tenant_rows.exported():
            name = f"{ROWS}/{table}.jsonl"
            count, digest = _write_lines(
                archive, name, tx.tenant_rows.rows(table, tenant_id), partial(exported.progress, table)
            )
            exported.tables[table] = count
            tables[table] = {
                "file": name,
                "rows": count,
                "sha256": digest,
                "left_out": tx.tenant_rows.left_out(table),
            }
        keys = tx.tenant_rows.stored_files(tenant_id)
        not_exported = tx.tenant_rows.not_exported()
    return {
        "format": FORMAT,
        "tenant_id": tenant_id,
        "at": at,
        "release": app.release,
        "tables": tables,
        "not_exported": not_exported,
        "keys": keys,
    }


def _write_lines(
    archive: zipfile.ZipFile, name: str, rows: Iterable[str], progress: Callable[[int], object]
) -> tuple[int, str]:
    count, digest = 0, sha256()
    with archive.open(name, "w", force_zip64=True) as target:
        for row in rows:
            line = f"{row}\n".encode()
            digest.update(line)
            target.write(line)
            count += 1
            if count % 1000 == 0:
                progress(count)
    progress(count)
    return count, digest.hexdigest()


def _write_media(
    app: App,
    tenant_id: UUID,
    archive: zipfile.ZipFile,
    exported: Exported,
    stored: Iterable[tuple[bytes, str, int]],
) -> None:
    """Add each file under the name `media/<sha256>.<extension>`, and count it. What the store lacks, or is not what
    its row says, is named in the manifest instead; of that a part may be in the archive."""
    for digest, extension, size in stored:
        name = zipfile.ZipInfo(f"{FILES}/{digest.hex()}.{extension}")
        name.compress_type, name.external_attr = zipfile.ZIP_STORED, 0o600 << 16
        found = sha256()
        key = object_key(tenant_id, digest, extension)
        if not app.ports.media.has(key):
            exported.missing.append(name.filename)
            continue
        with archive.open(name, "w", force_zip64=True) as target:
            with suppress(MediaMissing):  # deleted since: its digest says so
                for piece in app.ports.media.read(key, 0, size):
                    target.write(piece)
                    found.update(piece)
        if found.digest() == digest:
            exported.files += 1
            exported.bytes += size
        else:
            exported.missing.append(name.filename)
        exported.progress(FILES, exported.files)
