"""Jobs that wait for somebody outside, for as long as a test in the same process holds them."""

import threading
from uuid import UUID

from workers.engine.job import Context, job

go_on = threading.Event()


@job("chaos.answered", queue="llm")
def answered(ctx: Context, tenant_id: UUID) -> None:
    with ctx.begin() as tx:
        tx.now()
    go_on.wait(60)
    with ctx.finish() as tx:
        tx.now()
