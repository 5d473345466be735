"""Lists of tenants by any filter, with as many as there may be: what is asked of each is found by its index."""

import psycopg
import pytest

from db.ops.tenants import HARM, LISTED
from db.transaction import SYSTEM
from domain.ops.tenant_filters import TenantFilter, tenant_filter
from tests.builders import a_tenant
from workers.app import App

# The oldest has nobody, the next only somebody who is banned; every fiftieth had a post that failed.
MANY = """
INSERT INTO tenants (name, created_at) SELECT 'many ' || n, '2026-01-01Z'::timestamptz + n * interval '1 minute'
FROM generate_series(1, 3000) AS n;
INSERT INTO users (email, tenant_id, role, banned) SELECT n || '@example.com', id, 'ADMIN', n = 2
FROM (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM tenants) AS t WHERE n > 1;
INSERT INTO social_accounts (tenant_id, platform, external_id, username, status)
SELECT id, 'tiktok', n::text, n::text, CASE WHEN n % 100 = 0 THEN 'needs_reconnect' ELSE 'active' END
FROM (SELECT id, row_number() OVER (ORDER BY created_at) AS n FROM tenants) AS t WHERE n % 50 = 0;
INSERT INTO videos (tenant_id, status, source)
SELECT tenant_id, 'completed', 'own' FROM social_accounts, generate_series(1, 20);
INSERT INTO social_posts (tenant_id, video_id, account_id, status, created_at, updated_at)
SELECT v.tenant_id, v.id, a.id, 'published', now() - interval '100 days', now() - interval '100 days'
FROM videos v JOIN social_accounts a ON a.tenant_id = v.tenant_id
"""

INDEXES = {
    "deserted": ("users_tenant_id_idx",),
    "needs_reconnect": ("social_accounts_reconnect_idx",),
    "failed_posts": ("social_posts_failed_idx",),
}
OF_EACH = ("job_queue_tenant_idx", "api_usage", "users_tenant_id_idx")


@pytest.fixture
def many(app: App) -> App:
    with psycopg.connect(app.settings.owner_url, autocommit=True, options="-c app.tenant_id=*") as owner:
        owner.execute(MANY)
        owner.execute("ANALYZE")
    return app


def test_what_is_asked_of_each_tenant_is_an_index(many: App) -> None:
    wheres = {harm: f"WHERE {condition}" for harm, condition in HARM.items()} | {"": "WHERE subscription_tier = 'PRO'"}
    with many.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        for harm, where in wheres.items():
            query = f"EXPLAIN {LISTED.format(where=where)}"
            plan = "\n".join(row[0] for row in tx.driver.execute(query.encode(), {"limit": 51}))
            assert [index for index in (*OF_EACH, *INDEXES.get(harm, ())) if index not in plan] == [], plan
            assert "social_posts_created_idx" not in plan, "it has the posts of all tenants"
        # Only those are looked at one by one of whom it can be true.
        for harm in ("deserted", "failed_posts"):
            query = f"EXPLAIN SELECT id FROM tenants WHERE {HARM[harm]}"
            plan = "\n".join(row[0] for row in tx.driver.execute(query.encode()))
            assert "tenants_pkey" in plan, plan


def test_each_harm_finds_its_tenants(many: App) -> None:
    def named(wanted: TenantFilter) -> tuple[list[str], int]:
        with many.db.transaction(SYSTEM) as tx:
            found = tx.tenant_views.page(wanted, limit=50)
        return [row["name"] for row in found.rows], found.count

    assert named(tenant_filter({"harm": "deserted"})) == (["many 2", "many 1"], 2)
    reconnect, count = named(tenant_filter({"harm": "needs_reconnect"}))
    assert (reconnect[0], count) == ("many 3000", 30)
    assert named(tenant_filter({"harm": "failed_posts"})) == ([], 0)
    a_tenant(many, name="new, and nobody came yet")
    assert named(tenant_filter({"harm": "deserted"}))[1] == 3
