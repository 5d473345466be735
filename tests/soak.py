"""A crowd at the API: many clients at once on one web process, over every route of its description.

python -m tests.soak --seconds 60 [--tenants 50] [--clients 200]

First the clients belong to many tenants, under the usual rate limits; then all to one, with the limits raised by
setting. Whatever they do to each other, no answer is a 5xx but 503 with `Retry-After`, Postgres counts no deadlock, and
the process does not grow.
"""

import argparse
import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from cryptography.fernet import Fernet

from db.migrate import upgrade as migrate
from db.transaction import SYSTEM, Database, Tx
from domain.concepts.generation import Generation
from domain.identity.access import KEY_BYTES, ApiScope, new_key
from domain.posting.accounts import Grant, SealedTokens
from domain.posting.posts import NewPost, PostStatus
from domain.quota import quota
from integrations.stripe.api import StripeApi
from integrations.vault import FernetVault
from local.postgres import APP, DATABASE, OWNER, EmbeddedPostgres
from local.spawn import end, free_port
from local.valkey import EmbeddedRedis
from simulators.platforms.bluesky import BlueskySimulator, bluesky_simulator
from simulators.stripe.api import StripeSimulator
from tests.wait import until
from workers.jobs.generation import generate_concepts
from workers.runtime.ids import Ids
from workers.settings import Settings, load

PAGE = "https://app.example.com"
KEYS_OF_A_TENANT, SPARE = 6, 2
"""Of which some are there to be revoked."""
GENERATIONS = 200
"""Of all tenants together, to be read, liked and deleted."""
ACCOUNTS_OF_A_TENANT = 4
"""Of which all but the first, which has the posts, are there to be disconnected."""
FILMS = 200
"""Videos of all tenants together, to be posted."""
POSTS_OF_A_TENANT = (PostStatus.DRAFT, PostStatus.SCHEDULED, PostStatus.FAILED, PostStatus.DRAFT, PostStatus.MISSED) * 4
"""To be shown, changed, approved, cancelled and tried again."""
HANDLE, APP_PASSWORD = "ada.bsky.social", "abcd-efgh-ijkl-mnop"
"""The account that everybody connects, as the description's example says."""
MOST_LATE = 60.0
"""Seconds that the crowd may stay longer, until everything has succeeded."""
MOST_GROWTH = 48 * 1024
"""KiB that the process may grow by between the first third of a stage and its end."""
UNLIMITED = 1_000_000
KEY = Fernet.generate_key().decode()

VALUES: Mapping[str, Any] = {
    "concept_id": "c1",
    "scopes": ["account:read"],
    "name": "a key of the crowd",
    "tier": "PRO",
    "success_url": f"{PAGE}/thanks",
    "cancel_url": f"{PAGE}/plans",
    "return_url": f"{PAGE}/plans",
    "is_favorite": True,
    "platform": "tiktok",
    "settings": {},
    "options": {},
    "daily_limit": 5,
    "caption": "Bread does not sleep.",
    "url": "https://receiver.example.com/hook",
    "events": ["post.published"],
}
"""What fields are sent as, where the description has no example, or one that is not for everybody."""

LEARNED = {
    "POST /generate": "job_id",
    "POST /keys": "key_id",
    "POST /videos": "video_id",
    "POST /media": "media_id",
    "POST /import": "import_id",
    "POST /webhooks": "endpoint_id",
    "PUT /reflexion/critiques/{critique_id}": "critique_id",
    "PUT /reflexion/insights/{insight_id}": "insight_id",
    "PUT /reflexion/adjustments/{adjustment_id}": "adjustment_id",
}
"""Which ids answers tell."""
MAKERS = 10
"""Clients that first make what others ask for."""
ALWAYS_SOME = ("generation_id", "account_id", "import_id")
"""Of these, one is never deleted."""
DELETES_NOTHING = "/autopilot/accounts/"
"""What is deleted there is a consent: the account stays."""


NEED_A_BUCKET = {"POST /media/{media_id}/complete"}
"""They cannot succeed where media are kept in a folder."""
PICTURE = b"\x89PNG\r\n\x1a\n"
"""A picture begins like this; what follows makes it another one."""


@dataclass
class Member:
    """A tenant of the crowd: a key for each of some clients, and the ids that they have learned."""

    id: UUID
    keys: list[str]
    ids: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Stage:
    """What was seen while the crowd was there."""

    name: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """KiB, once a second."""

    @property
    def growth(self) -> int:
        return self.memory[-1] - max(self.memory[: max(1, len(self.memory) // 3)])

    def note(self, name: str, answer: httpx.Response) -> None:
        status = answer.status_code
        self.answers[name, status] += 1
        if status >= 500 and not (status == 503 and "retry-after" in answer.headers):
            self.broken.append(f"{name}: {status} {answer.text[:200]}")

    def never(self, operations: set[str]) -> list[str]:
        """Those that have not succeeded yet, but can."""
        succeeded = {name for (name, status) in self.answers if status < 300}
        return sorted(operations - succeeded - NEED_A_BUCKET)

    def judge(self, operations: set[str], deadlocks: int) -> None:
        if never := self.never(operations):
            self.broken.append(f"never succeeded: {', '.join(never)}")
        if deadlocks:
            self.broken.append(f"Postgres counts {deadlocks} deadlocks")
        if self.growth > MOST_GROWTH:
            self.broken.append(f"the web process grew by {self.growth // 1024} MiB")

    def __str__(self) -> str:
        by_status = Counter[int]()
        for (_, status), count in self.answers.items():
            by_status[status] += count
        ordered = sorted(self.seconds)
        lines = [
            f"{self.name}: {len(ordered)} answers: "
            + ", ".join(f"{count} × {status}" for status, count in sorted(by_status.items())),
            f"  p50 {_at(ordered, 0.5):.0f} ms, p99 {_at(ordered, 0.99):.0f} ms, slowest {_at(ordered, 1):.0f} ms; "
            f"memory {self.memory[0] // 1024} MiB at first, {self.memory[-1] // 1024} MiB at last",
        ]
        return "\n".join([*lines, *(f"  BROKEN: {each}" for each in (*self.broken[:20], *self.broken[20:][-3:]))])


def soak(urls: "Urls", *, stripe: str, folder: Path, seconds: float, clients: int, tenants: int, raised: bool) -> Stage:
    """Let a crowd loose for so long, on a web process of its own that asks the account at `stripe`.

    `raised`: without the usual rate limits.
    """
    stage = Stage(f"{clients} clients of {tenants} tenant{'s' if tenants > 1 else ''} for {seconds:g} s")
    before = deadlocks(urls)
    limits = {"RATE_LIMIT_PER_CALLER": str(UNLIMITED), "RATE_LIMIT_PER_TENANT": str(UNLIMITED)} if raised else {}
    environment = urls.environment | limits | {"STRIPE_API_BASE": stripe, "MEDIA_DIR": str(folder / "media")}
    log = folder / f"web-{tenants}.log"
    with bluesky_simulator() as bluesky:
        bluesky.add_account("did:plc:ada", HANDLE).password = APP_PASSWORD
        environment |= {"BLUESKY_BASE_URL": bluesky.url}
        members = make_members(load(environment), tenants, bluesky)
        with web(environment, log) as (base, process):
            operations = asyncio.run(_crowd(stage, members, base, process.pid, seconds, clients))
    until(lambda: not connected(urls), "the web process's connections to end")
    stage.judge(operations, deadlocks(urls) - before)
    if stage.broken:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
        stage.broken += [f"in the log: {line}" for line in errors[-3:]]
    return stage


@dataclass(frozen=True)
class Urls:
    """`superuser` may count deadlocks."""

    superuser: str
    app: str
    redis: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.app,
            "REDIS_URL": self.redis,
            "STRIPE_SECRET_KEY": "sk_test_fake",
            "STRIPE_PRO_PRICE_ID": "price_pro",
            "CLERK_AUTHORIZED_PARTIES": PAGE,
            "TOKEN_ENCRYPTION_KEYS": KEY,
            "TIKTOK_CLIENT_KEY": "crowd",
            "TIKTOK_CLIENT_SECRET": "secret-of-the-crowd",
            "TREND_SOURCES": "none",
            "LOG_LEVEL": "WARNING",
        }


@contextmanager
def web(environment: Mapping[str, str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`viral web` on a port of its own."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("viral")), "web"],
            env={**inherited, **environment, "PORT": str(port)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: _ready(base, process), "the web process to be ready", seconds=60, every=0.1)
        yield base, process
    finally:
        end(process, (signal.SIGTERM, 20.0))


def _ready(base: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"the web process ended with {process.returncode}"
    try:
        return httpx.get(f"{base}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def make_members(settings: Settings, count: int, bluesky: BlueskySimulator) -> list[Member]:
    db = Database(settings.database_url, pool_size=1, new_id=Ids(), application_name="soak")
    stripe = StripeApi(settings.stripe_secret_key.get_secret_value(), base=settings.stripe_api_base)
    now = datetime.now(UTC)
    members = []
    for number in range(count):
        tenant_id = uuid4()
        with db.transaction(SYSTEM) as tx:
            tx.tenants.create(tenant_id, f"member {number} of the crowd", quota.first_period(UNLIMITED, now))
            if count > 1 and number % 2:  # the others become customers by their first checkout
                tx.tenants.link_customer(tenant_id, stripe.add_customer(tenant_id, key=str(tenant_id)))
            made = [
                new_key(os.urandom(KEY_BYTES), name="crowd", scopes=list(ApiScope), expires_at=None, now=now, others=0)
                for _ in range(KEYS_OF_A_TENANT)
            ]
            added = [str(tx.access.add_key(uuid4(), tenant_id, key)["id"]) for key in made]
            member = Member(tenant_id, [key.text for key in made[SPARE:]])
            member.ids["key_id"] = added[:SPARE]
            member.ids["job_id"] = [str(generate_concepts.enqueue(tx, tenant_id=tenant_id))]
            for _ in range(max(2, GENERATIONS // count)):
                script = [{"timeRange": "0-5s", "onScreenText": "Bread", "visual": "bread"}]
                concept = {"id": "c1", "title": "Bread", "caption": "x" * 500, "script": script}
                generation = Generation(uuid4(), now, [concept], [])
                tx.generations.save(tenant_id, generation)
                member.ids["generation_id"].append(str(generation.id))
            _make_accounts(tx, member, bluesky, now)
            _make_posts(tx, member, max(5, FILMS // count), now)
            _make_the_rest(tx, member, now)
            members.append(member)
    db.close()
    return members


def _make_accounts(tx: Tx, member: Member, bluesky: BlueskySimulator, now: datetime) -> None:
    vault = FernetVault([KEY])
    for _ in range(ACCOUNTS_OF_A_TENANT):
        account_id = uuid4()
        external_id = f"did:plc:{account_id.hex}"
        bluesky.add_account(external_id)
        access, refresh = bluesky.tokens(external_id)
        grant = Grant(access, refresh, now + timedelta(hours=2), external_id=external_id, server=bluesky.url)
        tokens = SealedTokens(vault.seal(access), vault.seal(refresh))
        tx.social_accounts.connect(account_id, member.id, "bluesky", grant=grant, tokens=tokens, now=now)
        member.ids["account_id"].append(str(account_id))


def _make_posts(tx: Tx, member: Member, films: int, now: datetime) -> None:
    """Videos, of which the first ones have a post each; and one that is not made yet."""
    film = "INSERT INTO videos (id, tenant_id, status, source, title) VALUES (%s, %s, %s, 'file', 'Bread')"
    member.ids["video_id"] = [str(waiting := uuid4())]
    tx.driver.execute(film, (waiting, member.id, "pending"))
    for number in range(films + len(POSTS_OF_A_TENANT)):
        video_id = uuid4()
        tx.driver.execute(film, (video_id, member.id, "completed"))
        if number >= len(POSTS_OF_A_TENANT):
            member.ids["film"].append(str(video_id))
            continue
        post = NewPost(
            id=uuid4(),
            video_id=video_id,
            account_id=UUID(member.ids["account_id"][0]),
            status=POSTS_OF_A_TENANT[number],
            scheduled_for=now + timedelta(days=1),
            caption="Bread does not sleep.",
        )
        assert tx.planned_posts.add(member.id, post)
        member.ids["post_id"].append(str(post.id))


def _make_the_rest(tx: Tx, member: Member, now: datetime) -> None:
    """What only jobs and schedules make: a checked import, a chain of the autopilot, deliveries of webhooks, endpoints
    that were disabled; and competitors' videos."""
    endpoint = "INSERT INTO webhook_endpoints (id, tenant_id, url, events, secret) VALUES (%s, %s, %s, %s, %s)"
    tx.driver.execute(endpoint, (receiver := uuid4(), member.id, VALUES["url"], VALUES["events"], b"sealed"))
    for _ in range(6):
        tx.driver.execute(endpoint, (disabled := uuid4(), member.id, VALUES["url"], VALUES["events"], b"sealed"))
        tx.driver.execute("UPDATE webhook_endpoints SET disabled_at = now() WHERE id = %s", (disabled,))
        member.ids["endpoint_id"].append(str(disabled))
    delivery = (
        "INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, event_id, event, body, attempts, delivered_at)"
        " VALUES (%s, %s, %s, %s, 'post.published', '{}', 1, now())"
    )
    for _ in range(20):
        member.ids["delivery_id"].append(str(delivery_id := uuid4()))
        tx.driver.execute(delivery, (delivery_id, member.id, receiver, uuid4()))
    imported = "INSERT INTO imports (id, tenant_id, status, object_key, bytes, sha256, report, expires_at)"
    member.ids["import_id"] = [str(import_id := uuid4())]
    report = json.dumps({"tables": {}, "records": [], "left_out": 0})
    values = (import_id, member.id, "x/imports/x.json", b"x" * 32, report, now + timedelta(days=1))
    tx.driver.execute(f"{imported} VALUES (%s, %s, 'checked', %s, 2, %s, %s, %s)", values)
    chain = "INSERT INTO autopilot_chains (id, tenant_id, day, place, mode) VALUES (%s, %s, %s, 1, 'auto')"
    member.ids["chain_id"] = [str(chain_id := uuid4())]
    tx.driver.execute(chain, (chain_id, member.id, now.date()))
    for number in range(5):
        member.ids["competitor_id"].append(str(competitor_id := uuid4()))
        video = "INSERT INTO competitor_videos (id, tenant_id, platform, external_id) VALUES (%s, %s, 'tiktok', %s)"
        tx.driver.execute(video, (competitor_id, member.id, str(number)))


async def _crowd(stage: Stage, members: list[Member], base: str, pid: int, seconds: float, clients: int) -> set[str]:
    async with httpx.AsyncClient(base_url=base) as client:
        described = (await client.get("/api/openapi.json")).json()
    operations = list(walk(described))
    ends_at = time.monotonic() + seconds
    watching = asyncio.create_task(_watch(stage, pid))
    visits = (_visit(stage, members[n % len(members)], n, operations, described, base, ends_at) for n in range(clients))
    await asyncio.gather(*visits)
    watching.cancel()
    stage.memory.append(_resident(pid))
    return {name for name, _, _, _ in operations}


def walk(described: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Every operation of an OpenAPI document: its name, method and path, and itself."""
    [server] = described["servers"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", method.upper(), server["url"] + path, operation


async def _visit(
    stage: Stage,
    member: Member,
    number: int,
    operations: list[tuple[str, str, str, Mapping[str, Any]]],
    described: Mapping[str, Any],
    base: str,
    ends_at: float,
) -> None:
    """One client, with a connection of its own: every operation, in an order of its own, again and again."""
    rng = Random(number)
    headers = {"Authorization": f"Bearer {member.keys[number % len(member.keys)]}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, verify=False) as client:
        while True:
            order = rng.sample(operations, len(operations))
            if number < MAKERS:
                order.sort(key=lambda each: each[0] not in LEARNED)
            for name, method, path, operation in order:
                if _is_over(stage, operations, ends_at):
                    return
                options: dict[str, Any] = {"params": _required(operation, member, rng)}
                if name == "POST /media":
                    options |= {"content": PICTURE + rng.randbytes(100), "headers": {"Content-Type": "image/png"}}
                elif name == "POST /import":
                    options |= {"json": {"generations": []}}
                elif "requestBody" in operation:
                    schema = operation["requestBody"]["content"]["application/json"]["schema"]
                    schema = next(each for each in (schema, *schema.get("anyOf", ())) if "$ref" in each)
                    options |= {"json": body(schema, described, member, rng)}
                began = time.monotonic()
                try:
                    answer = await client.request(method, _filled(path, method, member, rng), **options)
                except httpx.HTTPError as error:
                    stage.broken.append(f"{name}: {type(error).__name__} {error}")
                    continue
                stage.seconds.append(time.monotonic() - began)
                stage.note(name, answer)
                if answer.status_code in (200, 201, 202) and name in LEARNED:
                    member.ids[LEARNED[name]].append(answer.json()["id"])


def _is_over(stage: Stage, operations: list[tuple[str, str, str, Mapping[str, Any]]], ends_at: float) -> bool:
    """On a busy machine a crowd that is there for a moment stays until everything was answered once."""
    late = time.monotonic() - ends_at
    return late > 0 and (late > MOST_LATE or not stage.never({name for name, _, _, _ in operations}))


def _filled(path: str, method: str, member: Member, rng: Random) -> str:
    """The path with ids of this tenant. One that is deleted is not known any more; of some things, one always is."""
    while "{" in path:
        name = path[path.index("{") + 1 : path.index("}")]
        ids = member.ids[name]
        if name in VALUES:
            found = VALUES[name]
        elif method == "DELETE" and DELETES_NOTHING not in path and ids and (name not in ALWAYS_SOME or len(ids) > 1):
            found = ids.pop()
        else:
            there = ids and (method != "DELETE" or DELETES_NOTHING in path)
            found = rng.choice(ids[:20]) if there else str(uuid4())
        path = path.replace(f"{{{name}}}", found)
    return path


def _required(operation: Mapping[str, Any], member: Member, rng: Random) -> dict[str, str]:
    """What has to stand in the query, with ids of this tenant."""
    names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query" and each["required"]]
    now = datetime.now(UTC)
    range_of_a_calendar = {"from": now.isoformat(), "to": (now + timedelta(days=30)).isoformat()}
    return {name: range_of_a_calendar.get(name) or rng.choice(member.ids[name][:20]) for name in names}


def body(schema: Mapping[str, Any], described: Mapping[str, Any], member: Member, rng: Random) -> dict[str, Any]:
    """What the description gives as an example, or else what it requires; with ids of this tenant."""
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    made = dict(schema.get("examples", [{}])[0])
    made |= {name: VALUES[name] for name in schema["properties"] if name in VALUES}
    if "at" in schema["properties"]:
        made["at"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    if "accounts" in made:
        made |= {"video_id": rng.choice(member.ids["film"]), "draft": rng.random() < 0.5}
        made["accounts"] = [{"account_id": rng.choice(member.ids["account_id"])}]
    if "generation_id" in made:
        made["generation_id"] = rng.choice(member.ids["generation_id"][:20])
    missing = set(schema.get("required", ())) - made.keys()
    assert not missing, f"say in KNOWN what {', '.join(sorted(missing))} may be"
    return made


async def _watch(stage: Stage, pid: int) -> None:
    while True:
        stage.memory.append(_resident(pid))
        await asyncio.sleep(1)


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no memory")


def deadlocks(urls: Urls) -> int:
    with psycopg.connect(urls.superuser) as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(query).fetchall()[0][0])


def connected(urls: Urls) -> bool:
    with psycopg.connect(urls.superuser) as connection:
        query = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'viral web%'"
        return connection.execute(f"{query} AND datname = current_database()").fetchone() is not None


def _at(ordered: list[float], share: float) -> float:
    """Milliseconds at this share of all."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000 if ordered else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each of the two crowds (60)")
    parser.add_argument("--tenants", type=int, default=50, help="of the first crowd (50); the second is of one")
    parser.add_argument("--clients", type=int, default=200, help="at once (200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viral-soak-") as name:
        home = Path(name)
        with (
            EmbeddedPostgres(home) as postgres,
            EmbeddedRedis(home, persist=False) as cache,
            StripeSimulator(datetime.now(UTC).replace(microsecond=0)).serving() as stripe,
        ):
            migrate.upgrade(postgres.url(OWNER))
            urls = Urls(postgres.url("postgres", DATABASE), postgres.url(APP), cache.url())
            failed = False
            for tenants, raised in ((options.tenants, False), (1, True)):
                stage = soak(
                    urls,
                    stripe=stripe,
                    folder=home,
                    seconds=options.seconds,
                    clients=options.clients,
                    tenants=tenants,
                    raised=raised,
                )
                sys.stdout.write(f"{stage}\n")
                sys.stdout.flush()
                failed = failed or bool(stage.broken)
            if "deadlock detected" in (home / "postgres.log").read_text(errors="replace"):
                sys.stdout.write("BROKEN: the log of Postgres tells of deadlocks\n")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
