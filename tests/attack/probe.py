"""python -m tests.attack.probe HOST PORT: signed webhooks, twenty a second, until the standard input ends.

The signing secret is the first line of the input. What it prints: `ms` of the answered ones, connecting included, and
what became of the others.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from select import select
from uuid import uuid4

from integrations.stripe import webhooks as stripe
from tests.attack.wire import CLOSED, Wire, post

EVERY = 0.05
PATIENCE = 30.0
MOST_AT_ONCE = 64


def main() -> int:
    host, port = sys.argv[1], int(sys.argv[2])
    secret = sys.stdin.readline().strip()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        sent = []
        while True:
            sent.append(threads.submit(deliver, host, port, secret))
            if select([sys.stdin], [], [], EVERY)[0]:
                break
        found = [each.result() for each in sent]
    good = [ms for status, ms in found if status == "200"]
    sys.stdout.write(json.dumps({"ms": good, "failed": [status for status, _ in found if status != "200"]}) + "\n")
    return 0


def deliver(host: str, port: int, secret: str) -> tuple[str, float]:
    """What became of an event that means nothing to us, and how many milliseconds that took."""
    event = {
        "id": f"evt_attack_{uuid4().hex}",
        "object": "event",
        "type": "product.created",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "prod_attack", "object": "product"}},
    }
    body = json.dumps(event).encode()
    signature = stripe.sign(body, secret, int(time.time()))
    began = time.monotonic()
    try:
        with Wire(host, port, PATIENCE) as wire:
            wire.send(post("/webhooks/stripe", body, f"Stripe-Signature: {signature}", "Connection: close"))
            status = wire.answer()
    except OSError:
        status = CLOSED
    return status, (time.monotonic() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
