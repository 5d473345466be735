"""Videos, from the request to the file.

    pending ──begin──▶ rendering ──complete──▶ completed
       │                 │ └──end──▶ failed, unconfirmed ──begin──▶ rendering
       │                 │                └──hand_on──▶ pending
       └──end──▶ failed, cancelled

Every change is a compare-and-set on the status, so of two that race one wins.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from db.postgres.rows import row_of, rows_of
from db.schema.videos import LIVE
from domain.text.storable import to_json

COLUMNS = """id, tenant_id, generation_id, concept_id, title, source, status, provider, layout, stage, percent,
    estimated_usd, cost_usd, error_message, details, duration_seconds, cover_at, media_id, thumbnail_id, job_id,
    created_at, updated_at, completed_at"""

GET = f"SELECT {COLUMNS} FROM videos WHERE tenant_id = %s AND id = %s"

LOCK = f"{GET} FOR NO KEY UPDATE"

OWNER = "SELECT tenant_id FROM videos WHERE id = %s"

OF_CONCEPT = f"""
SELECT {COLUMNS} FROM videos
WHERE tenant_id = %(tenant_id)s AND generation_id = %(generation_id)s AND concept_id = %(concept_id)s
    AND ({LIVE} OR status = 'completed') AND id IS DISTINCT FROM %(but)s
ORDER BY ({LIVE}) DESC, created_at DESC LIMIT 1
"""

OF_MEDIA = f"""
SELECT {COLUMNS} FROM videos
WHERE tenant_id = %(tenant_id)s AND source = 'own' AND concept_id IS NULL AND ({LIVE} OR status = 'completed')
    AND media_id = %(media_id)s
ORDER BY ({LIVE}) DESC, created_at DESC LIMIT 1
"""

# What is being drawn orders nothing any more.
PROMISED = f"""
SELECT coalesce(sum(greatest(estimated_usd - coalesce((
    SELECT sum(coalesce(final_usd, CASE WHEN p.state <> 'refused' THEN p.estimated_usd END)) FROM provider_jobs p
    WHERE p.tenant_id = videos.tenant_id AND p.video_id = videos.id
), 0), 0)), 0)
FROM videos WHERE tenant_id = %s AND {LIVE} AND estimated_usd > 0 AND NOT EXISTS (
    SELECT FROM job_queue j WHERE j.id = videos.job_id AND j.tenant_id = videos.tenant_id AND j.job_type = 'videos.draw'
)
"""

IN_DOUBT = """EXISTS (
    SELECT FROM provider_jobs p WHERE p.tenant_id = videos.tenant_id AND p.video_id = videos.id
    AND p.state = 'unconfirmed'
)"""

OF_KEY = f"""
SELECT {COLUMNS} FROM videos
WHERE tenant_id = %s AND created_at > now() - interval '24 hours' AND details -> 'asked' ->> 'key' = %s
ORDER BY created_at DESC LIMIT 1
"""

ADD = f"""
INSERT INTO videos (id, tenant_id, generation_id, concept_id, title, source, provider, layout, estimated_usd, prompt,
    media_id, details)
VALUES (%(id)s, %(tenant_id)s, %(generation_id)s, %(concept_id)s, %(title)s, %(source)s, %(provider)s, %(layout)s,
    %(estimated_usd)s, %(prompt)s, %(media_id)s, %(details)s)
ON CONFLICT (tenant_id, generation_id, concept_id) WHERE {LIVE} AND concept_id IS NOT NULL DO NOTHING
RETURNING id
"""

SETTLED = """
SELECT sum(final_usd) FROM provider_jobs WHERE tenant_id = %(tenant_id)s AND video_id = %(id)s
"""

BEGIN = f"""
UPDATE videos SET status = 'rendering', job_id = %(job_id)s, error_message = NULL, completed_at = NULL,
    cost_usd = ({SETTLED}), updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ('pending', 'rendering', 'unconfirmed', 'failed')
RETURNING {COLUMNS}
"""

PROGRESS = """
UPDATE videos SET stage = %(stage)s, percent = %(percent)s, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'rendering'
    AND (stage, percent) IS DISTINCT FROM (%(stage)s, %(percent)s)
"""

END = f"""
UPDATE videos SET status = %(status)s, error_message = %(message)s, percent = NULL, stage = %(stage)s,
    cost_usd = coalesce(({SETTLED}), 0),
    updated_at = now(), completed_at = CASE WHEN %(status)s <> 'unconfirmed' THEN now() END
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ('pending', 'rendering', 'unconfirmed')
RETURNING id
"""

WANT_NO_MORE = """
UPDATE videos SET details = details || '{"cancel": true}', updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ('pending', 'rendering')
RETURNING id
"""

RECOUNT = f"""
UPDATE videos SET updated_at = now(), cost_usd = coalesce(({SETTLED}), 0),
    error_message = CASE status WHEN 'cancelled' THEN %(message)s ELSE error_message END
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status IN ('completed', 'failed', 'cancelled')
"""

COMPLETE = f"""
UPDATE videos SET status = 'completed', stage = 'completed', percent = 100, error_message = NULL,
    media_id = %(media_id)s, thumbnail_id = %(thumbnail_id)s, cover_at = %(cover_at)s,
    duration_seconds = %(seconds)s, details = details || %(details)s::jsonb,
    cost_usd = coalesce(({SETTLED}), 0),
    updated_at = now(), completed_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s AND status = 'rendering'
RETURNING id
"""

HAND_ON = """
UPDATE videos SET job_id = %(job_id)s, updated_at = now(),
    status = CASE status WHEN 'unconfirmed' THEN 'pending' ELSE status END,
    error_message = CASE WHEN status <> 'unconfirmed' THEN error_message END
WHERE tenant_id = %(tenant_id)s AND id = %(id)s
"""

NOTE = """
UPDATE videos SET details = details || %(details)s::jsonb, updated_at = now()
WHERE tenant_id = %(tenant_id)s AND id = %(id)s
"""

ABANDONED = """
SELECT v.tenant_id, v.id FROM videos v
WHERE (
    v.status IN ('pending', 'rendering')
    OR EXISTS (
        SELECT FROM provider_jobs p
        WHERE p.tenant_id = v.tenant_id AND p.video_id = v.id AND p.state IN ('intended', 'submitted', 'running')
    ) AND v.status <> 'unconfirmed'
) AND NOT EXISTS (
    SELECT FROM job_queue j
    WHERE j.tenant_id = v.tenant_id AND j.status IN ('pending', 'running')
        AND (j.id = v.job_id OR j.job_type = 'videos.withdraw' AND j.payload ->> 'video_id' = v.id::text)
) ORDER BY v.created_at
"""

CONCEPT = """
SELECT tenant_id, id FROM generations
WHERE jsonb_typeof(concepts) = 'array' AND concepts @> jsonb_build_array(jsonb_build_object('id', %s::text)) LIMIT 2
"""


class Videos:
    """Query group."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def add(
        self,
        tenant_id: UUID,
        *,
        id: UUID,
        generation_id: UUID | None,
        concept_id: str | None,
        title: str,
        source: str,
        provider: str,
        layout: str,
        estimated_usd: Decimal,
        prompt: str | None,
        media_id: UUID | None,
        details: Mapping[str, Any],
    ) -> bool:
        """Add a pending video. False if one of the same concept is live already."""
        values: dict[str, Any] = {"id": id, "tenant_id": tenant_id, "generation_id": generation_id}
        values |= {
            "concept_id": concept_id,
            "title": title,
            "source": source,
            "provider": provider,
            "layout": layout,
            "prompt": prompt,
        }
        values |= {"estimated_usd": estimated_usd, "media_id": media_id, "details": to_json(details)}
        return self._driver.execute(ADD, values).fetchone() is not None

    def discard(self, tenant_id: UUID, video_id: UUID) -> None:
        """Take back a video that this transaction has added."""
        query = "DELETE FROM videos WHERE tenant_id = %s AND id = %s AND status = 'pending' AND job_id IS NULL"
        self._driver.execute(query, (tenant_id, video_id))

    def get(self, tenant_id: UUID, video_id: UUID) -> dict[str, Any] | None:
        """Return one video."""
        return row_of(self._driver, GET, (tenant_id, video_id))

    def lock(self, tenant_id: UUID, video_id: UUID) -> dict[str, Any] | None:
        """`get`, and nobody else changes it before the transaction ends."""
        return row_of(self._driver, LOCK, (tenant_id, video_id))

    def owner(self, video_id: UUID) -> UUID | None:
        """Return the tenant of a video in scope."""
        row = self._driver.execute(OWNER, (video_id,)).fetchone()
        return None if row is None else row[0]

    def of_concept(
        self, tenant_id: UUID, generation_id: UUID, concept_id: str, *, but: UUID | None = None
    ) -> dict[str, Any] | None:
        """Return the live video of a concept, or else its last complete one; not the one with the id `but`."""
        values = {"tenant_id": tenant_id, "generation_id": generation_id, "concept_id": concept_id, "but": but}
        return row_of(self._driver, OF_CONCEPT, values)

    def of_media(self, tenant_id: UUID, media_id: UUID) -> dict[str, Any] | None:
        """Return the live or complete video that was made of this file of the tenant's own, and of no concept."""
        return row_of(self._driver, OF_MEDIA, {"tenant_id": tenant_id, "media_id": media_id})

    def of_key(self, tenant_id: UUID, key: str) -> dict[str, Any] | None:
        """Return the video that was asked for with this idempotency key in the last 24 hours."""
        return row_of(self._driver, OF_KEY, (tenant_id, key))

    def promised(self, tenant_id: UUID) -> Decimal:
        """Return what the tenant's live videos may still order: their prices, without what is reserved or spent for
        them. Who promises more holds the lock of the month's budget."""
        [(usd,)] = self._driver.execute(PROMISED, (tenant_id,)).fetchall()
        return Decimal(usd)

    def listed(
        self,
        tenant_id: UUID | None,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None = None,
        status: str | None = None,
        generation_id: UUID | None = None,
    ) -> list[dict[str, Any]]:
        """Return videos in scope, newest first: those of one tenant, or of all. With the status "unconfirmed" come also
        those that were cancelled, and of which a clip is in doubt."""
        conditions = {
            "tenant_id = %(tenant_id)s": tenant_id,
            f"(status = %(status)s OR %(status)s = 'unconfirmed' AND {IN_DOUBT})": status,
            "generation_id = %(generation_id)s": generation_id,
            "(created_at, id) < (%(created_at)s, %(id)s)": after,
        }
        where = " AND ".join(condition for condition, value in conditions.items() if value is not None) or "true"
        created_at, last = after or (None, None)
        values: dict[str, Any] = {"tenant_id": tenant_id, "status": status, "generation_id": generation_id}
        values |= {"created_at": created_at, "id": last, "limit": limit}
        query = f"SELECT {COLUMNS} FROM videos WHERE {where} ORDER BY created_at DESC, id DESC LIMIT %(limit)s"
        return rows_of(self._driver, query, values)

    def begin(self, tenant_id: UUID, video_id: UUID, job_id: UUID) -> dict[str, Any] | None:
        """Let this job make the video; None if it is complete or cancelled. One that failed is made after all.

        Raises:
            UniqueViolation: another video of the concept has become live.
        """
        return row_of(self._driver, BEGIN, {"tenant_id": tenant_id, "id": video_id, "job_id": job_id})

    def progress(self, tenant_id: UUID, video_id: UUID, stage: str, percent: int | None) -> None:
        """Show how far it is. Nothing is written if nothing has changed."""
        values = {"tenant_id": tenant_id, "id": video_id, "stage": stage, "percent": percent}
        self._driver.execute(PROGRESS, values)

    def hand_on(self, tenant_id: UUID, video_id: UUID, job_id: UUID) -> None:
        """Name the job that goes on with it; what was unconfirmed waits for that job."""
        self._driver.execute(HAND_ON, {"tenant_id": tenant_id, "id": video_id, "job_id": job_id})

    def note(self, tenant_id: UUID, video_id: UUID, details: Mapping[str, Any]) -> None:
        """Add to the details."""
        self._driver.execute(NOTE, {"tenant_id": tenant_id, "id": video_id, "details": to_json(details)})

    def want_no_more(self, tenant_id: UUID, video_id: UUID) -> bool:
        """Write down that a video that waits or is being made is to be cancelled (`details.cancel`); False if it does
        neither. Whichever job comes to it next ends it."""
        return self._driver.execute(WANT_NO_MORE, {"tenant_id": tenant_id, "id": video_id}).fetchone() is not None

    def recount(self, tenant_id: UUID, video_id: UUID, message: str | None) -> None:
        """Add up what an ended video cost; `message` is what is left to decide of a cancelled one."""
        self._driver.execute(RECOUNT, {"tenant_id": tenant_id, "id": video_id, "message": message})

    def end(self, tenant_id: UUID, video_id: UUID, status: str, message: str | None) -> bool:
        """End it without a file: "failed", "cancelled", or "unconfirmed" until a person decides. False if it has ended
        already."""
        values = {"tenant_id": tenant_id, "id": video_id, "status": status, "message": message}
        return self._driver.execute(END, values | {"stage": status}).fetchone() is not None

    def complete(
        self,
        tenant_id: UUID,
        video_id: UUID,
        *,
        media_id: UUID,
        thumbnail_id: UUID,
        cover_at: float,
        seconds: float,
        details: Mapping[str, Any],
    ) -> bool:
        """Give it its file. False if it is not being made any more."""
        values: dict[str, Any] = {"tenant_id": tenant_id, "id": video_id, "media_id": media_id}
        values |= {"thumbnail_id": thumbnail_id}
        values |= {"cover_at": cover_at, "seconds": seconds, "details": to_json(details)}
        return self._driver.execute(COMPLETE, values).fetchone() is not None

    def abandoned(self) -> list[tuple[UUID, UUID]]:
        """Return videos, as tenant and id, that wait, are being made or have a submission under way, and of which no
        live job takes care. System scope."""
        return [(row[0], row[1]) for row in self._driver.execute(ABANDONED)]

    def find_concept(self, concept_id: str) -> list[tuple[UUID, UUID]]:
        """Return the first two generations, as tenant and id, that have a concept of this id. System scope."""
        return [(row[0], row[1]) for row in self._driver.execute(CONCEPT, (concept_id,))]
