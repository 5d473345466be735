"""Media files, as rows: whose they are, whether the store has them, and what uses them.

A row with `stored_at` never lacks its object, whatever is stored and deleted at once, by whom, and wherever a process
dies. These are the steps; each is a transaction, and the store is asked between them, or under a lock:

- *Storing* (`begin`, put, `mark_stored`): a row without `stored_at` is on its way; nobody may use it.
- *Deleting* (`withdraw`, then `lock_withdrawn`, delete the object, `forget`): `withdraw` locks the row FOR UPDATE, so
  that no row can begin to refer to it, sees that none does, clears `stored_at` and gives the row a new id. The second
  transaction locks it again, deletes the object and then the row.

Why no order of these ends with a stored row without its object: only the second transaction deletes an object, and it
does so under the lock of a row that is not stored.

- Who begins while it holds the lock waits for it, and puts the object after the lock is gone: after the deletion,
  whether that was committed or its process died.
- Who began between the two transactions has changed `last_used_at`: `lock_withdrawn` finds that, and lets it be.
- Who began before `withdraw`, and has perhaps put the object before it is deleted, marks the id of then: there is no
  such row any more, so they begin again.
- Who used the file (`use`) before `withdraw` refers to it, or is too late: their row's foreign key, or `use`, says so.

What is left after a crash is a row that is not stored, whose object may be there or not: `unused` finds it a day later.
One thing is assumed: a request to delete does not reach the store after the transaction that sent it is over. It has
some seconds to end (`integrations/store/s3.py`), and Postgres gives an idle transaction a minute. A process that is
stopped in between and wakes up later could break that.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Select,
    Table,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import delete as delete_from
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from db.postgres.locks import against_changes, against_references
from db.schema.tenants import tenants
from db.schema.videos import LIVE, media, provider_jobs, videos
from domain.errors import StillUsed
from domain.videos.media import Media, MediaCursor, TenantFull, kind_of

COLUMNS = (
    *(media.c.id, media.c.tenant_id, media.c.sha256, media.c.bytes, media.c.kind, media.c.extension),
    *(media.c.stored_at, media.c.created_at, media.c.last_used_at),
)
NOW = func.clock_timestamp()
"""Not the start of the transaction: two transactions that change a row one after the other write two times."""


class Withdrawn(NamedTuple):
    """A file that nobody can use any more, and the moment of that."""

    media: Media
    at: datetime


class MediaFiles:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def begin(
        self, tenant_id: UUID, *, sha256: bytes, size: int, extension: str, most_bytes: int | None = None
    ) -> Media:
        """Return the tenant's row for this content, which is new if there was none. Without `stored_at` the object has
        to be put (under the row's own key), and then marked.

        A row that is on its way, and that somebody described in another way (as of another size), is replaced.

        Raises:
            TenantFull: with it, the tenant's files are more than `most_bytes` together. What is stored already is
                returned nevertheless.
        """
        if most_bytes is not None:
            # One after another, so that each sees the sum of those before.
            self._sql.execute(against_changes(select(tenants.c.id).where(tenants.c.id == tenant_id)))
        file = self._begun(tenant_id, sha256=sha256, size=size, extension=extension)
        if most_bytes is not None and file.stored_at is None:
            total = self.bytes_of(tenant_id)
            if total > most_bytes:
                text = f"the file has {size} bytes, and your files have {total - size} of {most_bytes} that are allowed"
                details = {"bytes": size, "used": total - size, "allowed": most_bytes}
                raise TenantFull(f"{text}: delete some that no video uses", details)
        return file

    def _begun(self, tenant_id: UUID, *, sha256: bytes, size: int, extension: str) -> Media:
        values = {
            "tenant_id": tenant_id,
            "sha256": sha256,
            "bytes": size,
            "kind": kind_of(extension),
            "extension": extension,
            "last_used_at": NOW,
        }
        statement = (
            insert(media)
            .values(values)
            .on_conflict_do_update(index_elements=["tenant_id", "sha256"], set_={"last_used_at": NOW})
            .returning(*COLUMNS)
        )
        file = Media(*self._sql.execute(statement).one())
        if file.stored_at is not None or (file.bytes, file.extension) == (size, extension):
            return file
        described = {name: values[name] for name in ("bytes", "kind", "extension")}
        unfinished = media.c.stored_at.is_(None)
        return self._change(tenant_id, file.id, unfinished, id=func.gen_random_uuid(), **described) or file

    def mark_stored(self, tenant_id: UUID, media_id: UUID) -> Media | None:
        """Say that the store has the object; None if the row of `begin` is gone, and all has to begin again."""
        stored = func.coalesce(media.c.stored_at, NOW)
        return self._change(tenant_id, media_id, stored_at=stored, last_used_at=NOW)

    def use(self, tenant_id: UUID, media_id: UUID, *, probe: Mapping[str, Any] | None = None) -> Media | None:
        """Return the file for a row that will refer to it in this transaction; None if there is none that is stored.
        What was found in it is kept with it."""
        found = {} if probe is None else {"probe": probe}
        return self._change(tenant_id, media_id, media.c.stored_at.is_not(None), last_used_at=NOW, **found)

    def get(self, tenant_id: UUID, media_id: UUID) -> Media | None:
        """Return the tenant's file, also one that is not stored yet."""
        row = self._sql.execute(select(*COLUMNS).where(_this(tenant_id, media_id))).one_or_none()
        return None if row is None else Media(*row)

    def of_content(self, tenant_id: UUID, sha256: bytes) -> Media | None:
        """Return the tenant's file of this content, also one that is not stored yet."""
        this = (media.c.tenant_id == tenant_id) & (media.c.sha256 == sha256)
        row = self._sql.execute(select(*COLUMNS).where(this)).one_or_none()
        return None if row is None else Media(*row)

    def stored(self, tenant_id: UUID, *, limit: int, after: MediaCursor | None = None) -> Sequence[Media]:
        """Return the tenant's files that are stored, newest first, `limit` at most."""
        query = select(*COLUMNS).where(media.c.tenant_id == tenant_id, media.c.stored_at.is_not(None))
        if after is not None:
            query = query.where(tuple_(media.c.created_at, media.c.id) < after)
        newest_first = query.order_by(media.c.created_at.desc(), media.c.id.desc()).limit(limit)
        return [Media(*row) for row in self._sql.execute(newest_first)]

    def recent(self, *, tenant_id: UUID | None, limit: int) -> list[dict[str, Any]]:
        """Return the newest files of one tenant or of all, for people, and whether a video uses them."""
        query = select(*COLUMNS, _is_used(media).label("used")).order_by(media.c.created_at.desc()).limit(limit)
        if tenant_id is not None:
            query = query.where(media.c.tenant_id == tenant_id)
        return [dict(row) for row in self._sql.execute(query).mappings()]

    def newest(self, limit: int) -> Sequence[Media]:
        """Return the newest stored files of all tenants."""
        query = select(*COLUMNS).where(media.c.stored_at.is_not(None)).order_by(media.c.created_at.desc()).limit(limit)
        return [Media(*row) for row in self._sql.execute(query)]

    def bytes_of(self, tenant_id: UUID) -> int:
        """Return how many bytes the tenant's files have together, with those that are on their way."""
        query = select(func.coalesce(func.sum(media.c.bytes), 0)).where(media.c.tenant_id == tenant_id)
        return int(self._sql.execute(query).scalar_one())

    def totals(self) -> tuple[int, int]:
        """Return how many files are stored, and their bytes."""
        query = select(func.count(), func.coalesce(func.sum(media.c.bytes), 0)).where(media.c.stored_at.is_not(None))
        row = self._sql.execute(query).one()
        return row[0], int(row[1])

    def unused(
        self, *, before: datetime, unfinished_before: datetime, limit: int, after: UUID | None = None
    ) -> Sequence[tuple[UUID, UUID]]:
        """List files that nothing has used since `before`, or that never got to the store, as tenant and id, by id."""
        old = or_(
            media.c.last_used_at < before, media.c.stored_at.is_(None) & (media.c.last_used_at < unfinished_before)
        )
        query = select(media.c.tenant_id, media.c.id).where(old, ~_is_used(media)).order_by(media.c.id).limit(limit)
        if after is not None:
            query = query.where(media.c.id > after)
        return [(row[0], row[1]) for row in self._sql.execute(query)]

    def withdraw(
        self,
        tenant_id: UUID,
        media_id: UUID,
        *,
        before: datetime | None = None,
        unfinished_before: datetime | None = None,
    ) -> Withdrawn | None:
        """Make a file unusable, so that it can be deleted. None if there is none, or it has been used since `before`;
        one that is on its way to the store is withdrawn only if it has been so since `unfinished_before`.

        Raises:
            StillUsed: a video uses it, or is made from it.
        """
        found = self._sql.execute(_locked(_this(tenant_id, media_id))).one_or_none()
        if found is None:
            return None
        file = Media(*found)
        if before is not None and file.stored_at is not None and file.last_used_at >= before:
            return None
        if file.stored_at is None and (unfinished_before is None or file.last_used_at >= unfinished_before):
            return None
        this = (media.c.tenant_id == tenant_id) & (media.c.id == media_id)
        # A statement of its own, after the lock: it sees what was added while the lock was waited for.
        if self._sql.execute(select(_is_used(media)).where(this)).scalar_one():
            raise StillUsed(f"a video uses the file {media_id}")
        clips = (provider_jobs.c.tenant_id == tenant_id) & (provider_jobs.c.media_id == media_id)
        self._sql.execute(update(provider_jobs).where(clips).values(media_id=None))
        ended = (videos.c.tenant_id == tenant_id) & (videos.c.media_id == media_id)
        self._sql.execute(update(videos).where(ended).values(media_id=None))
        values = {"id": func.gen_random_uuid(), "stored_at": None, "last_used_at": NOW}
        try:
            row = self._sql.execute(update(media).where(this).values(values).returning(*COLUMNS)).one()
        except IntegrityError as error:
            raise StillUsed(f"something refers to the file {media_id}") from error
        return Withdrawn(Media(*row), row.last_used_at)

    def lock_withdrawn(self, withdrawn: Withdrawn) -> bool:
        """Lock the row, so that its object can be deleted; False if somebody has begun to store it again."""
        file = withdrawn.media
        unchanged = media.c.stored_at.is_(None) & (media.c.last_used_at == withdrawn.at)
        return self._sql.execute(_locked(_this(file.tenant_id, file.id) & unchanged)).one_or_none() is not None

    def forget(self, withdrawn: Withdrawn) -> None:
        """Delete the row, whose object is deleted."""
        self._sql.execute(delete_from(media).where(_this(withdrawn.media.tenant_id, withdrawn.media.id)))

    def _change(
        self, tenant_id: UUID, media_id: UUID, condition: ColumnElement[bool] | None = None, **values: Any
    ) -> Media | None:
        these = _this(tenant_id, media_id) if condition is None else _this(tenant_id, media_id) & condition
        row = self._sql.execute(update(media).where(these).values(values).returning(*COLUMNS)).one_or_none()
        return None if row is None else Media(*row)


def _this(tenant_id: UUID, media_id: UUID) -> ColumnElement[bool]:
    return (media.c.tenant_id == tenant_id) & (media.c.id == media_id)


def _locked(these: ColumnElement[bool]) -> Select[Any]:
    return against_references(select(*COLUMNS).where(these))


def _is_used(of: Table) -> ColumnElement[bool]:
    """Say whether a video shows the file, or one that is being made has a clip of it."""
    wanted = literal_column(f"(videos.{LIVE} OR videos.status = 'completed')", Boolean)
    shown = [
        exists().where(videos.c.tenant_id == of.c.tenant_id, column == of.c.id, wanted)
        for column in (videos.c.media_id, videos.c.thumbnail_id)
    ]
    clips = provider_jobs.join(videos, provider_jobs.c.video_id == videos.c.id)
    of_it = (provider_jobs.c.tenant_id == of.c.tenant_id) & (provider_jobs.c.media_id == of.c.id)
    in_the_making = exists().select_from(clips).where(of_it, literal_column(f"videos.{LIVE}", Boolean))
    return or_(*shown, in_the_making)
