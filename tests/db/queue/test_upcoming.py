"""What a page shows as the next jobs of a queue is what a dispatcher would dispatch next."""

from itertools import product

import psycopg

from db.security import seeing_all_tenants
from db.transaction import SYSTEM
from domain.billing.tiers import TENANT_WEIGHTS
from tests.builders import a_tenant
from workers.app import App

# Of each tenant and of nobody 12 jobs, in two priorities, of different costs and ages.
JOBS = """
INSERT INTO job_queue (tenant_id, job_type, queue, priority, cost, scheduled_for)
SELECT nullif(tenant, 'nobody')::uuid, 'testing.noop', 'llm', 3 + n %% 2, 1 + n %% 3,
       now() - interval '1 second' * ((n * 7 + place * 5) %% 60)
FROM unnest(%s::text[]) WITH ORDINALITY AS t (tenant, place), generate_series(1, 12) AS n
"""
RUNNING = """
INSERT INTO job_queue (tenant_id, job_type, queue, status, cost, worker_id, lease_token)
SELECT %s, 'testing.noop', 'llm', 'running', n, gen_random_uuid(), n FROM generate_series(1, 2) AS n
"""
POLICY = "INSERT INTO queue_policies (queue, tenant_id, paused_at, max_running, max_running_per_tenant) VALUES "
POLICIES: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "nothing was decided": [],
    "tenants have limits": [("('llm', NULL, NULL, NULL, 4)", ()), ("('llm', %s, NULL, 1, NULL)", (1,))],
    "one tenant is paused, another has room for few": [
        ("('llm', NULL, NULL, 9, NULL)", ()),
        ("('llm', %s, now(), NULL, NULL)", (2,)),
        ("('llm', %s, NULL, 3, NULL)", (0,)),
    ],
    "the queue is at its limit": [("('llm', NULL, NULL, 2, NULL)", ())],
    "the queue is paused": [("('llm', NULL, now(), NULL, NULL)", ())],
}


def test_it_is_the_dispatch_order(app: App) -> None:
    tenants = [a_tenant(app, subscription_tier=tier) for tier in ("FREE", "AGENCY", "PRO", "FREE", "STARTER")]
    with psycopg.connect(seeing_all_tenants(app.settings.owner_url), autocommit=True) as owner:
        owner.execute(JOBS, ([*map(str, tenants), "nobody"],))
        owner.execute(RUNNING, (tenants[0],))
        for decided, policies in POLICIES.items():
            owner.execute("DELETE FROM queue_policies")
            for policy, of in policies:
                owner.execute((POLICY + policy).encode(), [tenants[place] for place in of])
            for limit, most in product((5, 20), (30_000, 7)):
                with app.db.transaction(SYSTEM) as tx:
                    dispatched = [ready.job_id for ready in tx.dispatch.next("llm", limit, TENANT_WEIGHTS)]
                    shown = [str(job_id) for job_id in tx.dispatch.upcoming("llm", limit, TENANT_WEIGHTS, most=most)]
                assert shown == dispatched, decided
                assert bool(shown) == ("the queue is" not in decided)
