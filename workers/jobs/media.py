"""Files that are kept and deleted: the row and the store, step by step. `db/videos/media.py` says why in this order.

    file = keep(ctx.begin, ctx.ports.media, tenant_id, path, sha256=hashed, extension="mp4")
    with ctx.finish() as tx:
        if tx.media.use(tenant_id, file.id) is None: …  # somebody has deleted it since

Jobs begin a transaction by `ctx.begin`, the API by the database's own `transaction`; none may be open meanwhile.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from uuid import UUID

from domain.errors import StillUsed
from domain.ports import MediaStore
from domain.videos.media import Media, StoreUnavailable
from workers.engine.job import Tx

TRIES = 5
"""Each time the tenant has deleted the same content in the meantime."""

Begin = Callable[[], AbstractContextManager[Tx]]


def keep(
    begin: Begin,
    store: MediaStore,
    tenant_id: UUID,
    path: Path,
    *,
    extension: str,
    sha256: bytes | None = None,
    most_bytes: int | None = None,
) -> Media:
    """Keep a file for the tenant, and return its row; the same content is kept once. `sha256` is the file's, if it is
    known already. An object that the store has lost is put again.

    Raises:
        TenantFull: all files of the tenant would have more than `most_bytes`.
        StoreUnavailable: the store is away or full; nothing half-kept remains.
    """
    digest = sha256 or sha256_of(path)
    for _ in range(TRIES):
        with begin() as tx:
            size = path.stat().st_size
            file = tx.media.begin(tenant_id, sha256=digest, size=size, extension=extension, most_bytes=most_bytes)
        if file.stored_at is not None and store.has(file.key):
            return file
        store.put(file.key, path, content_type=file.content_type)
        with begin() as tx:
            stored = tx.media.mark_stored(tenant_id, file.id)
        if stored is not None:
            return stored
    raise StoreUnavailable("the file is deleted again and again while it is being stored; try again later")


def discard(
    begin: Begin,
    store: MediaStore,
    tenant_id: UUID,
    media_id: UUID,
    *,
    before: datetime | None = None,
    unfinished_before: datetime | None = None,
) -> bool:
    """Delete a file that nothing uses; False if there is none to delete (`MediaFiles.withdraw` says which).

    Raises:
        StillUsed: a video uses it.
        StoreUnavailable: it cannot be used any more, and `upkeep.media` will delete it.
    """
    with begin() as tx:
        withdrawn = tx.media.withdraw(tenant_id, media_id, before=before, unfinished_before=unfinished_before)
    if withdrawn is None:
        return False
    with begin() as tx:
        if tx.media.lock_withdrawn(withdrawn):
            store.delete(withdrawn.media.key)
            tx.media.forget(withdrawn)
    return True


def discard_unused(
    begin: Begin, store: MediaStore, tenant_id: UUID, media_id: UUID, *, before: datetime, unfinished_before: datetime
) -> bool:
    """`discard` a file if it is still old and unused; False if it is not any more."""
    try:
        return discard(begin, store, tenant_id, media_id, before=before, unfinished_before=unfinished_before)
    except StillUsed:
        return False


def sha256_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, "sha256").digest()
