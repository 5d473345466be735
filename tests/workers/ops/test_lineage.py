"""From anything up to its root, and down to all that came of it; bounded, by indexes, without circles."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from db.ops.lineage import CAUSED, GENERATIONS_OF, JOBS, LEDGER_OF, POSTS_OF, VIDEOS_OF
from db.queue.enqueue import NewJob, Origin
from db.transaction import SYSTEM
from simulators.stripe.events import stripe_event
from tests.builders import NOV_22, a_stripe_event, a_tenant, event_row
from workers.app import App
from workers.ops.lineage import MOST_ROWS, Lineage, Node, UnknownNode, lineage

BY_TENANT = ("(tenant_id =", "Index Cond")
"""Which of several indexes is best, the sizes of the tables decide."""


def of(app: App, kind: str, id_: object) -> Lineage:
    with app.db.transaction(SYSTEM) as tx:
        return lineage(tx, kind, str(id_))


def a_job(app: App, cause: str | None, tenant_id: UUID | None = None, **payload: Any) -> UUID:
    job_id = uuid4()
    with app.db.transaction(SYSTEM) as tx:
        tx.enqueue(NewJob(job_id, "t", "default", tenant_id, payload, origin=Origin(cause)))
    return job_id


def archive(app: App, job_id: UUID) -> None:
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET status = 'completed', completed_at = now() WHERE id = %s", (job_id,))
    with app.db.transaction(SYSTEM) as tx:
        assert tx.archive.move("completed", NOV_22 - timedelta(days=9000), tx.now() + timedelta(hours=1), 10).count == 1


def shape(node: Node) -> Any:
    return (node.kind, node.id, [shape(each) for each in node.children])


def way(found: Lineage) -> list[tuple[str, str]]:
    return [(each.kind, each.id) for each in found.above]


def test_from_an_event_to_a_post_and_back(app: App) -> None:
    tenant_id = a_tenant(app)
    first = a_stripe_event(app, stripe_event("product.updated", {"id": "prod_1", "object": "product"}, at=NOV_22))
    event_id = event_row(app, first)["id"]
    making = a_job(app, f"job:{first}", tenant_id)
    rendering = a_job(app, f"job:{making}", tenant_id)
    generation, video, post, account = uuid4(), uuid4(), uuid4(), uuid4()
    with psycopg.connect(app.settings.owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute(
            "INSERT INTO generations (id, tenant_id, job_id) VALUES (%s, %s, %s)", (generation, tenant_id, making)
        )
        owner.execute(
            "INSERT INTO videos (id, tenant_id, generation_id, concept_id, job_id) VALUES (%s, %s, %s, 'c1', %s)",
            (video, tenant_id, generation, rendering),
        )
        owner.execute(
            "INSERT INTO social_accounts (id, tenant_id, platform, external_id) VALUES (%s, %s, 'tiktok', 'x')",
            (account, tenant_id),
        )
        owner.execute(
            "INSERT INTO social_posts (id, tenant_id, video_id, account_id) VALUES (%s, %s, %s, %s)",
            (post, tenant_id, video, account),
        )
        [(entry,)] = owner.execute(
            "INSERT INTO quota_ledger (tenant_id, kind, amount, used_after, quota_after, period_start, cause)"
            " VALUES (%s, 'grant', 1, 0, 10, now(), %s) RETURNING id",
            (tenant_id, f"job:{making}"),
        ).fetchall()
    archive(app, making)

    found = of(app, "event", event_id)
    posts = [("post", str(post), [])]
    expected = ("event", str(event_id), [("job", str(first), [("job", str(making), [])])])
    below = found.node.children[0].children[0]
    assert shape(found.node)[:2] == expected[:2]
    assert {(each.kind, each.id) for each in below.children} == {
        ("job", str(rendering)),
        ("generation", str(generation)),
        ("ledger", str(entry)),
    }
    [made] = [each for each in below.children if each.kind == "generation"]
    assert shape(made) == ("generation", str(generation), [("video", str(video), posts)])
    assert (found.above, found.more) == ((), False)

    root = [("event", str(event_id)), ("job", str(first)), ("job", str(making))]
    assert way(of(app, "ledger", entry)) == root
    assert way(of(app, "generation", generation)) == root
    assert way(of(app, "post", post)) == [*root, ("job", str(rendering)), ("video", str(video))]
    assert [(each.kind, each.id) for each in of(app, "video", video).beside] == [("generation", str(generation))]


@pytest.mark.parametrize(
    ("cause", "root"),
    [
        (None, ("unknown", "")),
        ("<script>", ("unknown", "")),
        ("person:ada", ("person", "ada")),
        ("schedule:x@2026-12-01T12:00:00+00:00", ("schedule", "x@2026-12-01T12:00:00+00:00")),
        (f"job:{UUID(int=7)}", ("job", str(UUID(int=7)))),
    ],
)
def test_a_root_that_is_no_row_is_named_all_the_same(app: App, cause: str | None, root: tuple[str, str]) -> None:
    job_id = a_job(app, cause)
    assert way(of(app, "job", a_job(app, f"job:{job_id}"))) == [root, ("job", str(job_id))]


def test_a_run_of_a_schedule_leads_to_its_job(app: App) -> None:
    at = NOV_22.isoformat()
    job_id = a_job(app, f"schedule:x@{at}")
    with app.db.transaction(SYSTEM) as tx:
        assert tx.schedule_runs.fire("x", NOV_22, lambda: job_id)
    found = of(app, "schedule", f"x@{at}")
    assert [(each.kind, each.id) for each in found.node.children] == [("job", str(job_id))]
    assert way(of(app, "job", job_id)) == [("schedule", f"x@{at}")]


def test_a_circle_that_somebody_wrote_ends(app: App) -> None:
    one = a_job(app, None)
    two = a_job(app, f"job:{one}")
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE job_queue SET cause = %s WHERE id = %s", (f"job:{two}", one))
    found = of(app, "job", one)
    assert way(found) == [("job", str(two))]
    assert shape(found.node) == ("job", str(one), [])


def test_it_is_bounded_in_rows_and_depth_and_says_so(app: App) -> None:
    wide, deep = a_job(app, None), a_job(app, None)
    with app.db.transaction(SYSTEM) as tx:
        origin = Origin(f"job:{wide}")
        tx.enqueue_many([NewJob(uuid4(), "t", "default", origin=origin) for _ in range(MOST_ROWS + 50)])
    found = of(app, "job", wide)
    assert (len(found.node.children), found.node.more, found.more) == (MOST_ROWS, True, True)
    last = deep
    for _ in range(25):
        last = a_job(app, f"job:{last}")
    assert of(app, "job", deep).more
    up = of(app, "job", last)
    assert (len(up.above), up.more) == (20, True)


@pytest.mark.parametrize(
    ("kind", "id_"), [("job", "x"), ("job", str(UUID(int=1))), ("ledger", "9" * 30), ("ledger", "-1"), ("cat", "1")]
)
def test_what_is_not_there_is_said(app: App, kind: str, id_: str) -> None:
    with pytest.raises(UnknownNode):
        of(app, kind, id_)


def test_every_query_finds_its_rows_by_an_index(app: App) -> None:
    tenant_id = a_tenant(app)
    with psycopg.connect(app.settings.owner_url) as owner:
        owner.execute("SET app.tenant_id = '*'")
        owner.execute(
            "INSERT INTO job_queue (job_type, cause) SELECT 't', 'job:' || gen_random_uuid() "
            "FROM generate_series(1, 20000)"
        )
        owner.execute("ANALYZE job_queue")
    causes = [f"job:{uuid4()}"]
    values = {"ids": [uuid4()], "causes": causes, "tenants": [tenant_id], "since": [NOV_22], "until": [NOV_22]}
    expected = {
        CAUSED: ("job_queue_cause_idx",),
        JOBS: ("job_queue_pkey",),
        GENERATIONS_OF: BY_TENANT,
        LEDGER_OF: BY_TENANT,
        VIDEOS_OF: BY_TENANT,
        POSTS_OF: BY_TENANT,
    }
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        for query, indexes in expected.items():
            rows = tx.driver.execute(f"EXPLAIN {query}".encode(), values | {"most": 10}).fetchall()
            read = "\n".join(row[0] for row in rows)
            assert "Seq Scan" not in read.replace("Seq Scan on job_archive", ""), read
            assert all(index in read for index in indexes), read
