"""What others write to take Stripe's webhooks: `webhooks.py fastapi|by-hand|by-hand-no-push PORT`.

    fastapi          FastAPI, the SDK's construct_event, one insert, one push
    by-hand          Starlette, HMAC by hand, orjson, one insert, one push
    by-hand-no-push  the same without the push

Each request has its insert committed before it is answered. uvicorn with uvloop and httptools, a pool of 8 connections.
"""

# mypy: ignore-errors
import contextlib
import hmac
import os
import sys

import orjson
import psycopg
import redis.asyncio as redis
import stripe
import uvicorn
from fastapi import FastAPI, Request
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]
URL = os.environ["DATABASE_URL"]

TABLE = """
CREATE TABLE IF NOT EXISTS webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL UNIQUE, type text NOT NULL,
    payload jsonb NOT NULL, received_at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT = """
INSERT INTO webhook_events (event_id, type, payload) VALUES (%s, %s, %s::jsonb) ON CONFLICT (event_id) DO NOTHING
RETURNING id
"""

pool = AsyncConnectionPool(URL, min_size=8, max_size=8, open=False, kwargs={"autocommit": True})
cache = redis.Redis.from_url(os.environ["REDIS_URL"], max_connections=256)


@contextlib.asynccontextmanager
async def lifespan(app):
    async with pool:
        yield


async def store(event, body, push):
    async with pool.connection() as connection:
        row = await (await connection.execute(INSERT, (event["id"], event["type"], body.decode()))).fetchone()
    if row is not None and push:
        await cache.rpush("events", str(row[0]))
    return Response(b'{"received":true}', media_type="application/json")


def by_hand(push):
    async def hook(request):
        body = await request.body()
        parts = dict(part.split("=", 1) for part in request.headers["stripe-signature"].split(","))
        expected = hmac.digest(SECRET.encode(), b"%s.%s" % (parts["t"].encode(), body), "sha256").hex()
        if not hmac.compare_digest(expected, parts["v1"]):
            return Response(status_code=400)
        return await store(orjson.loads(body), body, push)

    return Starlette(routes=[Route("/webhooks/stripe", hook, methods=["POST"])], lifespan=lifespan)


def fastapi():
    app = FastAPI(lifespan=lifespan)

    @app.post("/webhooks/stripe")
    async def hook(request: Request):
        body = await request.body()
        try:
            event = stripe.Webhook.construct_event(body, request.headers["stripe-signature"], SECRET)
        except (ValueError, stripe.SignatureVerificationError):
            return Response(status_code=400)
        return await store(event, body, True)

    return app


FORMS = {"fastapi": fastapi, "by-hand": lambda: by_hand(True), "by-hand-no-push": lambda: by_hand(False)}

if __name__ == "__main__":
    with psycopg.connect(URL) as owner:
        owner.execute(TABLE)
    app = FORMS[sys.argv[1]]()
    uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False, log_level="error")
