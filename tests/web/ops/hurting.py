"""An installation in which everything hurts, with markup in every name that comes from outside."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import insert

from db.schema.events import webhook_events
from db.schema.ops import changes, system_metrics
from db.schema.posting import social_accounts, social_posts
from db.schema.videos import provider_jobs, videos
from db.transaction import SYSTEM
from tests.builders import a_tenant, an_ended_job
from workers.app import App

EVIL = "<img src=x onerror=alert(1)>'\"{{7*7}}"


def make_it_hurt(app: App) -> UUID:
    """Returns the tenant that pays most."""
    now = datetime.now(UTC)
    agency = a_tenant(app, name=f"Ada's {EVIL}", subscription_tier="AGENCY")
    pro = a_tenant(app, name="Grace's films", subscription_tier="PRO")
    free = a_tenant(app, name="Free of charge")
    for number, tenant_id in enumerate([agency, pro, pro, pro, free, None]):
        job_type = f"gone.{EVIL}" if tenant_id == agency else "videos.render"
        an_ended_job(app, "failed", ended=now - timedelta(minutes=7 * number), tenant_id=tenant_id, job_type=job_type)
    with app.db.transaction(SYSTEM) as tx:
        for number, status in enumerate(["parked:unknown_price", "parked:unknown_price", "parked:thin"]):
            row = {"source": "stripe", "external_id": f"evt_{number}", "type": "invoice.paid", "status": status}
            tx.sql.execute(insert(webhook_events).values(row | {"received_at": now - timedelta(hours=number + 1)}))
        row = {"source": "stripe", "external_id": "evt_flagged", "type": "charge.dispute.created", "flag": "dispute"}
        tx.sql.execute(insert(webhook_events).values(row | {"status": "applied"}))
        video = {"tenant_id": agency, "title": EVIL}
        video_id = tx.sql.execute(insert(videos).values(video).returning(videos.c.id)).scalar_one()
        account = {"tenant_id": agency, "platform": "tiktok", "external_id": EVIL, "status": "needs_reconnect"}
        account_id = tx.sql.execute(
            insert(social_accounts).values(account).returning(social_accounts.c.id)
        ).scalar_one()
        for number, status in enumerate(["failed", "unconfirmed"]):
            post = {"tenant_id": agency, "video_id": video_id, "account_id": account_id, "status": status}
            post |= {"attempt_group": number + 1, "error_code": EVIL}
            tx.sql.execute(insert(social_posts).values(post))
        clip = {"tenant_id": agency, "video_id": video_id, "scene": 0, "attempt": 1, "provider": "luma", "model": "ray"}
        clip |= {"resolution": "720p", "prompt": EVIL, "seconds": 5, "state": "unconfirmed", "estimated_usd": "1.25"}
        clip["month"] = now.date().replace(day=1)
        tx.sql.execute(insert(provider_jobs).values(clip))
        for hours, kind, subject, after in [
            (0.4, "deploy", "web", {"release": f"1.4.0{EVIL}"}),
            (1.2, "pause", "social", {"paused": True}),
        ]:
            row = {"at": now - timedelta(hours=hours), "kind": kind, "subject": subject, "after": after}
            tx.sql.execute(insert(changes).values(row | {"cause": f"person:{EVIL}"}))
    return agency


def measure(app: App) -> None:
    """Three hours of figures, with a gap."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    rows = []
    for minute in range(180):
        at = now - timedelta(minutes=minute)
        if 60 < minute < 80:
            continue
        wave = minute % 40
        rows.append({"name": "sampled", "value": 60, "labels": {}, "at": at, "buckets": None})
        for outcome, value in (("completed", 300 + 5 * wave), ("failed", wave // 15), ("retried", wave // 8)):
            labels = {"job_type": "videos.render", "outcome": outcome}
            rows.append({"name": "viral_attempts_total", "value": value, "labels": labels, "at": at, "buckets": None})
        buckets = [wave, 40, 30, 10, 5, wave // 10]
        labels = {"queue": "llm"}
        rows.append({"name": "viral_job_wait_seconds", "value": 9, "labels": labels, "at": at, "buckets": buckets})
        name = "viral_queue_oldest_due_age_seconds"
        rows.append({"name": name, "value": wave / 7, "labels": labels, "at": at, "buckets": None})
    with app.db.transaction(SYSTEM) as tx:
        tx.sql.execute(insert(system_metrics), rows)
        tx.driver.execute(
            "INSERT INTO process_metrics (id, role, hostname, pid, release) VALUES (%s, 'web', 'a', 1, '1')", (uuid4(),)
        )
