"""Money before logins: a purchase does not wait behind the thousands of logins that came before it."""

import json
import threading
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from db.events.writer import NewEvent, Stored, store_and_commit
from db.transaction import SYSTEM
from domain.events.outcomes import Priority
from integrations.clerk import webhooks as clerk
from integrations.stripe import webhooks as stripe
from scheduler.dispatcher import Dispatcher
from simulators.clerk.events import clerk_event, clerk_user
from simulators.personas import Body, Persona
from simulators.stripe.scenarios import SCENARIOS
from tests.builders import NOV_22, a_tenant, new_id
from tests.wait import until
from web.webhooks import new_event
from workers.app import App
from workers.jobs.billing import apply_stripe_event
from workers.jobs.identity import apply_clerk_event
from workers.main import WorkerProcess
from workers.settings import Settings

LOGINS = 3000
FEW = 100
"""Jobs that the threads of one process have begun, or are about to begin, at one time."""

SOLD = {"STARTER": "price_starter", "PRO": "price_pro", "AGENCY": "price_agency"}


def clerk_delivery(body: Body) -> NewEvent:
    envelope = clerk.parse_event(json.dumps(body).encode(), f"msg_{uuid4().hex}")
    return new_event("clerk", envelope, apply_clerk_event, new_id)


def stripe_delivery(body: Body) -> NewEvent:
    return new_event("stripe", stripe.parse_event(json.dumps(body).encode()), apply_stripe_event, new_id)


def store(app: App, events: list[NewEvent]) -> list[Stored]:
    with app.db.connect(autocommit=True) as connection:
        return [
            stored
            for first in range(0, len(events), 500)
            for stored in store_and_commit(connection, events[first : first + 500])
        ]


def ask(app: App, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute(query.encode(), values or None).fetchall()


def test_a_purchase_goes_before_the_logins_that_came_before_it(app: App, settings: Settings) -> None:
    who = Persona(a_tenant(app), "cus_1", "sub_1", "user_ada", "ada@example.com")
    login = {"user_id": who.user_id, "created_at": int(NOV_22.timestamp() * 1000)}
    logins = [
        clerk_delivery(clerk_event("session.created", {"id": f"sess_{n}", **login}, at=NOV_22)) for n in range(LOGINS)
    ]
    store(app, logins)
    dispatcher = Dispatcher(app.db, app.notifier)
    assert dispatcher.dispatch() == LOGINS, "all of them wait in Redis before the others come"

    signed_up = clerk_delivery(clerk_event("user.created", clerk_user(who, created_at=NOV_22), at=NOV_22))
    purchase = [stripe_delivery(body) for body in SCENARIOS["a_checkout"](who, NOV_22, SOLD)]
    urgent = [stored.job_id for stored in store(app, [signed_up, *purchase])]
    app.notifier.notify({"events": {event.job_id: event.priority for event in (signed_up, *purchase)}})
    dispatcher.dispatch()
    assert [priority for (priority,) in ask(app, "SELECT DISTINCT priority FROM job_queue ORDER BY 1")] == sorted(
        Priority
    )

    asked_to_stop: SimpleQueue[Any] = SimpleQueue()
    worker = threading.Thread(target=WorkerProcess(settings).run, args=(asked_to_stop,))
    worker.start()
    try:
        of_them = "FROM job_queue WHERE id = ANY(%s)"
        until(lambda: ask(app, f"SELECT bool_and(status = 'completed') {of_them}", urgent) == [(True,)], "the purchase")
    finally:
        asked_to_stop.put(None)
        worker.join()
    assert ask(app, "SELECT subscription_tier FROM tenants WHERE id = %s", who.tenant_id) == [("PRO",)]
    before = f"started_at < (SELECT max(started_at) {of_them})"
    [(overtaken,)] = ask(
        app, f"SELECT count(*) FROM job_queue WHERE priority = %s AND {before}", Priority.SESSION, urgent
    )
    assert overtaken < FEW
