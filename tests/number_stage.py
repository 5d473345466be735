"""Published posts of any age for tests of numbers, on the stage of `tests/post_stage.py`.

Time passes by making posts older, in the database and at the platform alike.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from db.transaction import SYSTEM
from domain.learning.numbers import Horizon
from simulators.platforms.growth import STEP_SECONDS, Grown, numbers_at
from tests.post_stage import PostStage
from workers.jobs.analytics import anything_due, find_due

SNAPSHOTS = """
SELECT horizon, age, views, likes, comments, shares, details, source, definition FROM analytics_snapshots
WHERE post_id = %s ORDER BY captured_at
"""
FEEDBACK = """
SELECT horizon, views, likes, comments, shares, predicted_score, generation_id, concept_id, platform, observed_at,
    definition
FROM performance_feedback WHERE post_id = %s ORDER BY observed_at
"""


def live(stage: PostStage, tenant_id: UUID, account_id: UUID, age: timedelta = timedelta(0), **columns: Any) -> UUID:
    """A post that was published so long ago by whatever way, on TikTok or YouTube; return its id."""
    with stage.app.db.transaction(tenant_id) as tx:
        account = tx.social_accounts.get(tenant_id, account_id)
        assert account is not None
        platform = stage.platforms[account["platform"]]
        post = platform.post_elsewhere(account["external_id"], "A fox", before=STEP_SECONDS / 2)
        post_id, video_id, published_at = uuid4(), uuid4(), stage.clock[0]
        tx.driver.execute(
            "INSERT INTO videos (id, tenant_id, status, source, concept_id) VALUES (%s, %s, 'completed', 'file', %s)",
            (video_id, tenant_id, columns.pop("concept_id", None)),
        )
        values = {"id": post_id, "tenant_id": tenant_id, "video_id": video_id, "account_id": account_id}
        values |= {"status": "published", "external_id": post.id, "published_at": published_at}
        values |= {"measure_at": published_at + Horizon.H1.age} | columns
        names = ", ".join(values)
        places = ", ".join(f"%({name})s" for name in values)
        tx.driver.execute(f"INSERT INTO social_posts ({names}) VALUES ({places})".encode(), values)
    if age:
        older(stage, post_id, age)
    return post_id


def older(stage: PostStage, post_id: UUID, by: timedelta) -> None:
    """Let a post be so much older."""
    with stage.app.db.transaction(SYSTEM) as tx:
        [(platform, external_id)] = tx.driver.execute(
            "UPDATE social_posts p SET published_at = published_at - %(by)s, measure_at = measure_at - %(by)s,"
            " gone_at = gone_at - %(by)s FROM social_accounts a WHERE p.id = %(id)s AND a.id = p.account_id"
            " RETURNING a.platform, p.external_id",
            {"by": by, "id": post_id},
        ).fetchall()
        tx.driver.execute(
            "UPDATE analytics_snapshots SET captured_at = captured_at - %(by)s WHERE post_id = %(id)s",
            {"by": by, "id": post_id},
        )
    if external_id is not None:
        stage.platforms[platform].backdate(external_id, by.total_seconds())


def aged(stage: PostStage, post_id: UUID, age: timedelta) -> None:
    """Let a post be of this age."""
    published_at = stage.show(post_id).published_at
    assert published_at is not None
    older(stage, post_id, age - (stage.clock[0] - published_at))


def collect(stage: PostStage) -> int:
    """Let a minute's schedule come, and what it enqueues; return how many attempts there were."""
    with stage.app.db.transaction(SYSTEM) as tx:
        if anything_due(tx, stage.clock[0]):
            find_due.enqueue(tx)
    return stage.turn()


def snapshots(stage: PostStage, post_id: UUID) -> list[dict[str, Any]]:
    return _rows(stage, SNAPSHOTS, post_id)


def feedback(stage: PostStage, post_id: UUID) -> list[dict[str, Any]]:
    return _rows(stage, FEEDBACK, post_id)


def missed(stage: PostStage, post_id: UUID) -> dict[str, str]:
    """Return the reasons of the horizons that were missed."""
    rows = _rows(stage, "SELECT horizon, reason FROM missed_horizons WHERE post_id = %s", post_id)
    return {row["horizon"]: row["reason"] for row in rows}


def waits(stage: PostStage, post_id: UUID) -> timedelta | None:
    """Return of which age the post is measured next."""
    query = "SELECT measure_at - published_at AS age FROM social_posts WHERE id = %s"
    found: timedelta | None = _rows(stage, query, post_id)[0]["age"]
    return found


def curve(stage: PostStage, post_id: UUID, age: timedelta) -> Grown:
    """Return what the platform must have said of a post of this age."""
    return numbers_at(stage.show(post_id).external_id or "", age.total_seconds())


def _rows(stage: PostStage, query: str, post_id: UUID) -> list[dict[str, Any]]:
    with stage.app.db.transaction(SYSTEM) as tx:
        cursor = tx.driver.execute(query.encode(), (post_id,))
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
