"""An export of the old app on its way into a tenant's tables: first it is read whole and reported on, and nothing is
written; then, once somebody wants it, it is taken over.

    checking ──▶ checked ──▶ importing ──▶ done
        └───────────┴────────────┴──▶ failed, cancelled
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from domain.errors import Conflict, Rejected
from domain.videos.media import EXPORTS


class ImportStatus(StrEnum):
    CHECKING = "checking"
    CHECKED = "checked"
    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = (ImportStatus.CHECKING, ImportStatus.CHECKED, ImportStatus.IMPORTING)

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of an uploaded export. The old app's records have a few kilobytes: that is years of them. What is larger comes
in by `viral import-dexie`."""

MOST_RECORDS = 200_000
"""Records of an uploaded export: a file of nothing but tiny ones would keep a worker busy for an hour."""

MOST_OPEN = 3
"""Imports of one tenant that are not over at once; each keeps a file."""

ON_ITS_WAY = timedelta(minutes=10)
"""A file that is received has so long to get into the store."""

KEPT = timedelta(days=7)
"""How long a file waits for somebody to decide."""

LISTED = timedelta(days=90)
"""How long an import that is over is listed."""


class ImportCursor(NamedTuple):
    """The last import of a page of the list."""

    created_at: datetime
    id: UUID


class FileRefused(Rejected):
    """The file is no export of the old app, or not the whole of one."""


class TooManyImports(Conflict):
    """The tenant has as many imports that are not over as it may have."""

    def __init__(self) -> None:
        super().__init__(
            "TOO_MANY_IMPORTS", f"{MOST_OPEN} imports are not over yet: apply or delete one, and send the file again"
        )


@dataclass(frozen=True, slots=True)
class Import:
    """`report` is what would become of the records, and once it is being applied what has become of them
    (`domain/dexie/reports.py`). `deleted_at` is when the file was deleted."""

    id: UUID
    tenant_id: UUID
    status: str
    object_key: str
    sha256: bytes
    bytes: int
    percent: int | None
    report: dict[str, Any] | None
    error_message: str | None
    job_id: UUID | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    deleted_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


def file_key(tenant_id: UUID, import_id: UUID) -> str:
    """Return where the file is kept. Each import has its own copy, so that one goes without the other."""
    return f"{tenant_id}/{sha256(import_id.bytes).hexdigest()}.{EXPORTS}"
