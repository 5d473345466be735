"""The generation storage of the old app, for one tenant and in their scope. Saving consumes no quota: the job that
generates holds and settles it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from functools import reduce
from operator import add
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Date,
    FromClause,
    Select,
    Subquery,
    Text,
    cast,
    column,
    delete,
    func,
    not_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError

from db.postgres.locks import against_deletion
from db.postgres.rows import put
from db.schema.concepts import generations
from domain.concepts.generation import Generation
from domain.errors import StillUsed
from domain.text.storable import storable_text


class PageCursor(NamedTuple):
    """The last generation of a page of the history."""

    date: datetime
    id: UUID


class Page(NamedTuple):
    """The next page begins after `next`, which is None on the last one."""

    generations: list[Generation]
    next: PageCursor | None


@dataclass(frozen=True, slots=True)
class Analytics:
    """Counts. `categories` and `trends` hold the most frequent ones only, `days` (UTC) the last ones."""

    generations: int
    concepts: int
    categories: Mapping[str, int]
    trends: Mapping[str, int]
    days: Mapping[date, int]


MOST_CATEGORIES = 100
MOST_DAYS = 3660
LONGEST_NAME = 200
"""How many characters of a category or a topic tell it from others when they are counted."""

PAGE_BYTES = 2 * 1024 * 1024
"""The limit of a page's concepts and trends, in bytes of JSON text, unless the first generation alone has more. In
memory, JSON takes up to thirty times as much."""

COLUMNS = tuple(generations.c[each.name] for each in fields(Generation))


class _Counts(NamedTuple):
    """`total` counts also what is not among `counts`."""

    counts: dict[Any, int]
    total: int


class Generations:
    """Query group."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    def save(self, tenant_id: UUID, generation: Generation) -> None:
        """Add it, or change the tenant's own of this id.

        Raises:
            IdTaken: another tenant has the id, or the job has another generation.
        """
        values = {"tenant_id": tenant_id, **asdict(generation)}
        put(self._sql, generations, values, generations.c.id == generation.id)

    def get(self, tenant_id: UUID, generation_id: UUID, *, keep: bool = False) -> Generation | None:
        """With `keep` it cannot be deleted before this transaction ends, so a row that refers to it can be added."""
        query = select(*COLUMNS).where(_this(tenant_id, generation_id))
        row = self._sql.execute(against_deletion(query) if keep else query).one_or_none()
        return None if row is None else Generation(*row)

    def by_source(self, tenant_id: UUID, source_id: str) -> Generation | None:
        """Return the generation that had this id in the old app."""
        this = (generations.c.tenant_id == tenant_id) & (generations.c.source_id == source_id)
        row = self._sql.execute(select(*COLUMNS).where(this)).one_or_none()
        return None if row is None else Generation(*row)

    def delete(self, tenant_id: UUID, generation_id: UUID) -> bool:
        """Delete it, and return whether there was one.

        Raises:
            StillUsed: videos or feedback refer to it.
        """
        try:
            return bool(self._sql.execute(delete(generations).where(_this(tenant_id, generation_id))).rowcount)
        except IntegrityError as error:
            raise StillUsed(f"videos or feedback refer to the generation {generation_id}") from error

    def toggle_favorite(self, tenant_id: UUID, generation_id: UUID) -> bool | None:
        """Return whether it is a favourite now; None if there is no such generation."""
        return self._favorite(tenant_id, generation_id, not_(generations.c.is_favorite))

    def set_favorite(self, tenant_id: UUID, generation_id: UUID, favorite: bool) -> bool | None:
        """`toggle_favorite` for callers that say what they want, and may say it twice."""
        return self._favorite(tenant_id, generation_id, favorite)

    def history(
        self,
        tenant_id: UUID,
        *,
        limit: int = 50,
        after: PageCursor | None = None,
        favorites: bool = False,
        search: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page:
        """Return a page of the history, newest first: at most `limit`, and fewer if they are large (`PAGE_BYTES`).
        `search` is part of a title, caption, hashtag, trend source or trend topic, in any case of letters; `since` and
        `until` are both within."""
        query = select(*COLUMNS).where(generations.c.tenant_id == tenant_id, *_between(since, until))
        if favorites:
            query = query.where(generations.c.is_favorite)
        if search:
            query = query.where(generations.c.searched.contains(func.lower(_like_in_json(search)), escape="/"))
        if after is not None:
            query = query.where(tuple_(generations.c.date, generations.c.id) < after)
        ordered = query.order_by(generations.c.date.desc(), generations.c.id.desc()).limit(limit + 1)
        found = self._sql.execute(_fitting(ordered)).all()
        page = [Generation(*row[:-1]) for row in found[:limit]]
        more = bool(found) and found[0].found > len(page)
        return Page(page, PageCursor(page[-1].date, page[-1].id) if more else None)

    def analytics(
        self, tenant_id: UUID, *, since: datetime | None = None, until: datetime | None = None, trends: int = 100
    ) -> Analytics:
        """Count all generations and concepts, the concepts of the most frequent categories, the `trends` most frequent
        topics, and the generations of the last `MOST_DAYS` days that have any."""
        mine = (generations.c.tenant_id == tenant_id, *_between(since, until))
        concepts, category = _each(generations.c.concepts, "category")
        topics, topic = _each(generations.c.trends, "topic")
        day = cast(func.timezone("UTC", generations.c.date), Date)
        of_concepts = self._counts(category, concepts, mine, most=MOST_CATEGORIES)
        of_days = self._counts(day, generations, mine, most=MOST_DAYS, by=day.desc())
        return Analytics(
            generations=of_days.total,
            concepts=of_concepts.total,
            categories={name: count for name, count in of_concepts.counts.items() if name is not None},
            trends=self._counts(topic, topics, (*mine, topic.is_not(None)), most=trends).counts,
            days=dict(sorted(of_days.counts.items())),
        )

    def _counts(
        self,
        what: ColumnElement[Any],
        among: FromClause,
        where: Sequence[ColumnElement[bool]],
        *,
        most: int,
        by: ColumnElement[Any] | None = None,
    ) -> _Counts:
        """Count how often each occurs, of `most` of them: the most frequent, or the first in the order of `by`."""
        count = func.count()
        query = select(what, count, func.sum(count).over()).select_from(among).where(*where).group_by(what)
        first = query.order_by(count.desc(), what) if by is None else query.order_by(by)
        rows = self._sql.execute(first.limit(most)).all()
        return _Counts({row[0]: row[1] for row in rows}, int(rows[0][2]) if rows else 0)

    def _favorite(self, tenant_id: UUID, generation_id: UUID, value: Any) -> bool | None:
        statement = (
            update(generations)
            .where(_this(tenant_id, generation_id))
            .values(is_favorite=value)
            .returning(generations.c.is_favorite)
        )
        return self._sql.execute(statement).scalar_one_or_none()


def _this(tenant_id: UUID, generation_id: UUID) -> ColumnElement[bool]:
    return (generations.c.tenant_id == tenant_id) & (generations.c.id == generation_id)


def _between(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    bounds = []
    if since is not None:
        bounds.append(generations.c.date >= since)
    if until is not None:
        bounds.append(generations.c.date <= until)
    return bounds


def _fitting(ordered: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Select the first rows that have no more than `PAGE_BYTES` together, but one at least; `found` counts all rows.

    The size of a row on disk, perhaps compressed, is known without reading it, so few large rows are read twice.
    """
    rows = ordered.subquery()
    on_disk = _running(_in_total(func.pg_column_size(each) for each in _sized(rows)), rows)
    place, found = _running(1, rows).label("place"), func.count().over().label("found")
    near = select(rows, on_disk.label("bytes"), place, found).subquery()
    as_text = _running(_in_total(func.octet_length(cast(each, Text)) for each in _sized(near)), near)
    columns = (*(near.c[each.name] for each in COLUMNS), near.c.found, near.c.place)
    exact = select(*columns, as_text.label("bytes")).where(_fits(near)).subquery()
    return select(*(exact.c[each.name] for each in COLUMNS), exact.c.found).where(_fits(exact)).order_by(exact.c.place)


def _sized(rows: Subquery) -> list[ColumnElement[Any]]:
    return [rows.c[name] for name in ("concepts", "trends", "sources")]


def _in_total(sizes: Iterable[ColumnElement[int]]) -> ColumnElement[int]:
    return reduce(add, sizes)


def _running(counted: Any, rows: Subquery) -> ColumnElement[int]:
    """Sum up to each row."""
    return func.sum(counted).over(order_by=(rows.c.date.desc(), rows.c.id.desc()), rows=(None, 0))


def _fits(rows: Subquery) -> ColumnElement[bool]:
    return (rows.c.bytes <= PAGE_BYTES) | (rows.c.place == 1)


def _each(listed: Column[Any], field: str) -> tuple[FromClause, ColumnElement[str]]:
    """Join generations to each object in a list of theirs, and return this field of it."""
    objects = func.jsonb_path_query(listed, text("'$[*]'")).table_valued(column("value", JSONB))
    each = objects.render_derived(name="each").lateral()
    return generations.join(each, true()), func.left(each.c.value[field].astext, LONGEST_NAME)


def _like_in_json(search: str) -> str:
    """Return the text as jsonb writes it, escaped for LIKE."""
    text = json.dumps(storable_text(search), ensure_ascii=False)[1:-1]
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")
