"""Generating through the API, and what came of it: real rows, real jobs, real buckets."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import pairwise
from tempfile import TemporaryFile
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from sqlalchemy import func, select

from db.postgres.errors import DatabaseUnavailable
from db.schema.learning import performance_feedback
from db.schema.ops import api_usage
from db.transaction import SYSTEM
from domain.concepts.generation import ConceptRequest, ConceptResponse, Generation
from domain.errors import Unavailable
from domain.videos.media import StoreUnavailable
from tests.builders import a_tenant, tenant
from tests.drain import drain
from tests.past_concepts import all_past_concepts
from tests.wait import until
from tests.web.api.test_api import NOW, Api, a_key, refused
from web.api.rate_limit import Policy, RateLimiter
from web.api.usage import UsageLog
from web.error_responses import INTERNAL_ERROR
from workers.app import App
from workers.runtime.redis_client import connect

LOCAL = {"count": 2, "generator": "local-grammar/v1"}
READ, WRITE = "generations:read", "generations:write"


class Tenant:
    """Somebody with a key of every scope, and their way into the API."""

    def __init__(self, app: App, **options: Any) -> None:
        self.id = a_tenant(app)
        self.key = a_key(app, self.id, READ, WRITE, "account:read")
        self._api = Api(app, **options)

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._api(method, path, self.key, **options)


@pytest.fixture
def ada(app: App) -> Tenant:
    return Tenant(app)


def a_generation(app: App, tenant_id: UUID, days_ago: int = 0, **fields: Any) -> Generation:
    concept = {"id": "c1", "title": "Bread", "category": "Food", "platformVirality": {"tiktok": {"score": 61.5}}}
    defaults: dict[str, Any] = {"concepts": [concept], "trends": [{"topic": "sourdough"}]} | fields
    generation = Generation(id=uuid4(), date=NOW - timedelta(days=days_ago), **defaults)
    with app.db.transaction(tenant_id) as tx:
        tx.generations.save(tenant_id, generation)
    return generation


def test_a_generation_that_was_made_elsewhere_is_kept_under_its_own_id(app: App, ada: Tenant) -> None:
    path = f"/generations/{uuid4()}"
    concepts = [{"id": f"c{n}", "title": "Bread", "script": [{"text": "x" * 200}] * 10} for n in range(40)]
    sent = {"concepts": concepts, "trends": [{"topic": "rye"}], "is_favorite": True, "date": "2025-01-15T10:00:00Z"}
    first, again = (ada("PUT", path, json=sent) for _ in range(2))
    assert (first.status_code, first.json()) == (200, again.json())
    assert sent.items() <= ada("GET", path).json().items()
    assert refused(Tenant(app)("PUT", path, json=sent)) == (409, "ID_TAKEN")
    assert refused(ada("PUT", path, json=sent | {"concepts": ["Bread"]})) == (422, "INVALID")
    assert refused(ada("PUT", path, json=sent | {"concepts": [{"x": "x" * 300_000}]})) == (413, "BODY_TOO_LARGE")
    made = a_generation(app, ada.id, job_id=uuid4())
    assert refused(ada("PUT", f"/generations/{made.id}", json=sent)) == (409, "MADE_HERE")
    assert [each["id"] for each in ada("GET", "/history", params={"favorites": "true"}).json()["generations"]] == [
        path.rpartition("/")[2]
    ]
    assert tenant(app, ada.id)["used_quota"] == 0


def test_concepts_are_asked_for_made_and_found(app: App, ada: Tenant) -> None:
    answer = ada("POST", "/generate", json=LOCAL)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["status"], answer.headers["location"]) == ("pending", f"/api/jobs/{job['id']}")
    assert ada("GET", "/user/usage").json()["used"] == 2
    drain(app)
    job = ada("GET", f"/jobs/{job['id']}").json()
    assert (job["status"], job["error"]) == ("completed", None)
    [made] = ada("GET", "/history").json()["generations"]
    assert (made["id"], len(made["concepts"])) == (job["result"]["generation_id"], 2)
    assert ada("GET", f"/generations/{made['id']}").json() == made
    assert ada("GET", "/analytics").json()["concepts"] == 2
    assert tenant(app, ada.id)["used_quota"] == 2


def test_whoever_has_had_everything_is_told_before_anything_is_held(app: App, ada: Tenant) -> None:
    a_generation(app, ada.id, concepts=[asdict(each) for each in all_past_concepts()[1:]])
    answer = ada("POST", "/generate", json=LOCAL)
    assert refused(answer) == (409, "TRENDS_TOO_FEW")
    assert answer.json()["error"].startswith("2 concepts asked for, and only 1 can be made from the present trends, ")
    assert ada("GET", "/user/usage").json()["used"] == 0
    assert ada("POST", "/generate", json=LOCAL | {"count": 1}).status_code == 202


def test_an_idempotency_key_brings_back_its_job_also_when_it_has_ended(app: App, ada: Tenant) -> None:
    def ask(body: dict[str, Any], key: str = "mine") -> httpx.Response:
        return ada("POST", "/generate", json=body, headers={"Idempotency-Key": key})

    first = ask(LOCAL).json()
    assert ask(LOCAL).json()["id"] == first["id"]
    drain(app)
    again = ask(LOCAL).json()
    assert (again["id"], again["status"]) == (first["id"], "completed")
    assert refused(ask(LOCAL | {"count": 3})) == (422, "IDEMPOTENCY_KEY_REUSED")
    with app.db.transaction(SYSTEM) as tx:
        moved = tx.archive.move("completed", NOW - timedelta(days=3650), NOW + timedelta(days=3650), 10)
    assert moved.count == 1
    assert ask(LOCAL).json()["id"] == first["id"]
    assert ada("GET", f"/jobs/{first['id']}").json()["status"] == "completed"
    assert ask(LOCAL, "another").json()["id"] != first["id"]
    assert Tenant(app)("POST", "/generate", json=LOCAL, headers={"Idempotency-Key": "mine"}).json()["id"] != first["id"]
    assert tenant(app, ada.id)["used_quota"] == 4


WAITED_FOR = ("Query", "Sync", "Flush")


@contextmanager
def counted_round_trips(app: App) -> Iterator[list[str]]:
    """What is sent to Postgres in the block and waited for, on the connection that the pool hands out first."""
    waits: list[str] = []
    with app.db.transaction(SYSTEM) as tx:
        connection = tx.driver.pgconn
    with TemporaryFile("r+") as trace:
        connection.trace(trace.fileno())
        yield waits
        connection.untrace()
        trace.seek(0)
        sent = [words[3].split()[0] for words in (line.split("\t") for line in trace) if words[1:2] == ["F"]]
        # What follows a Sync at once is waited for with it.
        waits += [word for before, word in pairwise(["", *sent]) if word in WAITED_FOR and before not in WAITED_FOR]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "mine"}])
def test_a_request_for_concepts_waits_for_postgres_three_times(app: App, ada: Tenant, headers: dict[str, str]) -> None:
    """For the caller; for the lock and all that the answer is decided from; for the commit."""
    assert ada("GET", "/user/usage").status_code == 200  # the use of the key has been noted
    with counted_round_trips(app) as waits:
        assert ada("POST", "/generate", json=LOCAL, headers=headers).status_code == 202
    assert waits == ["Sync", "Flush", "Sync"]


def test_requests_of_one_key_at_once_make_one_job(app: App, ada: Tenant) -> None:
    def ask(n: int) -> httpx.Response:
        return ada("POST", "/generate", json=LOCAL, headers={"Idempotency-Key": f"{n % 2}"})

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert (len({answer.json()["id"] for answer in answers}), tenant(app, ada.id)["used_quota"]) == (2, 4)


def test_who_has_too_few_left_is_told_how_many(app: App, ada: Tenant) -> None:
    assert ada("POST", "/generate", json=LOCAL | {"count": 9}).status_code == 202
    answer = ada("POST", "/generate", json=LOCAL)
    assert refused(answer) == (402, "QUOTA_EXCEEDED")
    resets_at = answer.json()["details"].pop("resets_at")
    assert resets_at.endswith("Z")
    assert answer.json()["details"] | {"resets_at": 0} == {"limit": 10, "used": 9, "remaining": 1, "resets_at": 0}


def test_who_is_overdue_and_has_used_the_new_month_already_is_told_so(app: App, ada: Tenant) -> None:
    """The month is due and has not begun; what another program has counted since its start counts in it."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET quota_reset_at = now() - interval '1 hour' WHERE id = %s", (ada.id,))
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE tenants SET used_quota = 9 WHERE id = %s", (ada.id,))
    answer = ada("POST", "/generate", json=LOCAL)
    assert refused(answer) == (402, "QUOTA_EXCEEDED")
    assert answer.json()["details"]["remaining"] == 1
    assert ada("POST", "/generate", json=LOCAL | {"count": 1}).status_code == 202


def test_of_an_ended_period_that_nothing_follows_nothing_is_left(app: App, ada: Tenant) -> None:
    ended = "quota_drawn_until = now() - interval '1 hour', quota_paid_until = now() - interval '1 hour'"
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute(f"UPDATE tenants SET {ended} WHERE id = %s", (ada.id,))  # type: ignore[arg-type]
    answer = ada("POST", "/generate", json=LOCAL)
    assert refused(answer) == (402, "QUOTA_EXCEEDED")
    assert (answer.json()["details"]["remaining"], answer.json()["details"]["used"]) == (0, 0)
    assert "more when the next invoice is paid" in answer.json()["error"]
    assert ada("GET", "/user/usage").json()["remaining"] == 0


def test_of_two_at_once_one_gets_the_last(app: App, ada: Tenant) -> None:
    answers: list[int] = []
    asking = [
        Thread(target=lambda: answers.append(ada("POST", "/generate", json=LOCAL | {"count": 6}).status_code))
        for _ in range(2)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sorted(answers) == [202, 402]


@pytest.mark.parametrize("body", [{"count": 0}, {"count": 21}, {"generator": "nobody"}, {"count": 1, "more": 1}])
def test_a_request_that_makes_no_sense_costs_nothing(app: App, ada: Tenant, body: dict[str, Any]) -> None:
    assert refused(ada("POST", "/generate", json=body)) == (422, "INVALID")
    assert tenant(app, ada.id)["used_quota"] == 0


def test_history_comes_in_pages_and_can_be_narrowed(app: App, ada: Tenant) -> None:
    made = [str(a_generation(app, ada.id, days_ago=n).id) for n in range(5)]
    seen, cursor = [], None
    while True:
        page = ada("GET", "/history", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [each["id"] for each in page["generations"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made

    def ids(**asked: Any) -> list[str]:
        return [each["id"] for each in ada("GET", "/history", params=asked).json()["generations"]]

    assert ids(since=(NOW - timedelta(days=1)).isoformat()) == made[:2]
    assert ids(until=(NOW - timedelta(days=3)).isoformat()) == made[3:]
    assert (ids(search="SOURD"), ids(search="rye")) == (made, [])
    for _ in range(2):
        assert ada("PUT", f"/generations/{made[2]}/favorite", json={"is_favorite": True}).json() == {
            "is_favorite": True
        }
    assert ids(favorites=True) == [made[2]]
    for cursor in ("x", "W10", "WzEsMl0", "é"):
        assert refused(ada("GET", "/history", params={"cursor": cursor})) == (422, "INVALID")


def test_feedback_is_kept_beside_what_was_predicted(app: App, ada: Tenant) -> None:
    made = a_generation(app, ada.id)
    seen = {"generation_id": str(made.id), "concept_id": "c1", "platform": "tiktok", "views": 5, "actual_score": 71.5}
    answer = ada("POST", "/feedback", json=seen)
    assert (answer.status_code, answer.json()["predicted_score"]) == (201, 61.5)
    with app.db.transaction(SYSTEM) as tx:
        [row] = tx.sql.execute(select(performance_feedback)).mappings()
    assert (row["tenant_id"], row["views"], float(row["actual_score"])) == (ada.id, 5, 71.5)
    nothing = {name: seen[name] for name in ("generation_id", "concept_id", "platform")}
    wrong = ada("POST", "/feedback", json=nothing | {"views": None})
    assert (wrong.status_code, wrong.json()["error"]) == (
        *(422, "body: say at least one of views, likes, shares, comments, actual_score"),
    )
    assert ada("POST", "/feedback", json=nothing | {"views": 0}).status_code == 201
    assert refused(ada("POST", "/feedback", json=seen | {"concept_id": "c2"})) == (404, "NOT_FOUND")
    assert refused(ada("DELETE", f"/generations/{made.id}")) == (409, "STILL_USED")
    other = a_generation(app, ada.id)
    assert ada("DELETE", f"/generations/{other.id}").status_code == 204
    assert refused(ada("GET", f"/generations/{other.id}")) == (404, "NOT_FOUND")


def test_a_key_gives_feedback_once_however_many_send_it(app: App, ada: Tenant) -> None:
    made = a_generation(app, ada.id)
    seen = {
        "generation_id": str(made.id),
        "concept_id": "c1",
        "platform": "tiktok",
        "likes": 5,
        "actual_score": 71.23456,
    }

    def give(number: int) -> tuple[int, str]:
        answer = ada("POST", "/feedback", json=seen, headers={"Idempotency-Key": f"k{number % 3}"})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(give, range(24)))
    assert Counter(status for status, _ in answers) == {201: 3, 200: 21}
    assert len({text for _, text in answers}) == 3
    with app.db.transaction(SYSTEM) as tx:
        assert len(tx.sql.execute(select(performance_feedback)).all()) == 3
    for other in (
        {"likes": 6},
        {"actual_score": 71.24},
        {"actual_score": None},
        {"observed_at": "2026-01-01T00:00:00Z"},
    ):
        again = ada("POST", "/feedback", json=seen | other, headers={"Idempotency-Key": "k1"})
        assert refused(again) == (422, "IDEMPOTENCY_KEY_REUSED")
    theirs = Tenant(app)
    own = seen | {"generation_id": str(a_generation(app, theirs.id).id)}
    assert theirs("POST", "/feedback", json=own, headers={"Idempotency-Key": "k1"}).status_code == 201


def test_what_is_anothers_is_not_there(app: App, ada: Tenant) -> None:
    theirs = Tenant(app)
    job_id = theirs("POST", "/generate", json=LOCAL).json()["id"]
    made = a_generation(app, theirs.id).id
    seen = {"generation_id": str(made), "concept_id": "c1", "platform": "tiktok", "views": 1}
    for method, path, body in [
        ("GET", f"/jobs/{job_id}", None),
        ("GET", f"/generations/{made}", None),
        ("DELETE", f"/generations/{made}", None),
        ("PUT", f"/generations/{made}/favorite", {"is_favorite": True}),
        ("POST", "/feedback", seen),
    ]:
        assert refused(ada(method, path, json=body)) == (404, "NOT_FOUND")
    assert ada("GET", "/history").json() == {"generations": [], "next": None}
    assert ada("GET", "/analytics").json()["generations"] == 0
    assert theirs("GET", f"/generations/{made}").json()["is_favorite"] is False


def test_a_key_that_may_only_read_changes_nothing(app: App) -> None:
    reader = a_key(app, a_tenant(app), READ)
    assert refused(Api(app)("POST", "/generate", reader, json=LOCAL)) == (403, "SCOPE_MISSING")
    assert Api(app)("GET", "/history", reader).status_code == 200


# --- limits and usage -----------------------------------------------------------------------------------------


@pytest.fixture
def rate_limiter(redis_url: str) -> Iterator[RateLimiter]:
    rate_limiter = RateLimiter(connect(redis_url))
    yield rate_limiter
    rate_limiter.close()


def test_answers_tell_what_is_left_and_too_many_are_refused(app: App, rate_limiter: RateLimiter) -> None:
    ada = Tenant(app, rate_limiter=rate_limiter)
    first = ada("GET", "/user")
    assert first.headers["ratelimit-policy"] == '"key";q=120;w=60, "tenant";q=600;w=60'
    assert first.headers["ratelimit"] == '"key";r=119;t=1, "tenant";r=599;t=1'
    per_caller = Policy("key", app.settings.rate_limit_per_caller, 60)
    caller = next(key for key in scan(app) if key.startswith("{viral}:rate:key:"))
    answer = first
    while answer.status_code == 200:  # a slow machine gets a token back in between
        while (
            not (taken := rate_limiter.take([(per_caller, caller.removeprefix("{viral}:rate:key:"))])) or not taken.wait
        ):
            pass
        answer = ada("GET", "/user")
    assert refused(answer) == (429, "RATE_LIMITED")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["ratelimit"].startswith('"key";r=0;t=60, "tenant";r=')
    assert Tenant(app, rate_limiter=rate_limiter)("GET", "/user").status_code == 200


def scan(app: App) -> list[str]:
    with redis.Redis.from_url(app.settings.redis_url, decode_responses=True) as client:
        return list(client.scan_iter())


def test_without_redis_nobody_is_refused(app: App) -> None:
    rate_limiter = RateLimiter(connect("redis://127.0.0.1:1/0"))
    ada = Tenant(app, rate_limiter=rate_limiter)
    answer = ada("GET", "/user")
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers
    assert answer.headers["ratelimit-status"] == "uncounted"
    assert rate_limiter.uncounted == 1
    rate_limiter.close()


def test_requests_are_recorded_without_being_waited_for(app: App) -> None:
    usage = UsageLog(app.db)
    usage.start()
    ada = Tenant(app, usage=usage)
    ada("GET", f"/generations/{uuid4()}")
    ada("GET", "/user", headers={})

    def written() -> int:
        with app.db.transaction(SYSTEM) as tx:
            return int(tx.sql.execute(select(func.count()).select_from(api_usage)).scalar_one())

    until(lambda: written() == 2, "both requests")
    Api(app, usage=usage)("GET", "/user")  # nobody's: it is not recorded
    ada("POST", "/generate", json=LOCAL)
    usage.stop()
    with app.db.transaction(SYSTEM) as tx:
        rows = tx.sql.execute(select(api_usage).order_by(api_usage.c.id)).mappings().all()
    assert [(row["kind"], row["name"], row["status_code"]) for row in rows] == [
        ("api", "GET /generations/{generation_id}", 404),
        ("api", "GET /user", 200),
        ("api", "POST /generate", 202),
    ]
    assert {row["tenant_id"] for row in rows} == {ada.id}
    assert all(row["duration_ms"] >= 0 for row in rows)


@dataclass
class Broken:
    """A generator that fails."""

    error: Exception
    runs_out = False

    def write(self, request: ConceptRequest) -> ConceptResponse:
        raise self.error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (Unavailable("claude did not answer"), "claude did not answer"),
        (DatabaseUnavailable("Postgres does not answer: 10.0.0.7, user viral_app"), INTERNAL_ERROR),
        (StoreUnavailable("the media store refuses our credentials: see AWS_SECRET_ACCESS_KEY"), INTERNAL_ERROR),
        (RuntimeError("SELECT * FROM tenants -- Bob's"), INTERNAL_ERROR),
    ],
)
def test_what_a_failed_job_says_was_written_for_people(app: App, error: Exception, shown: str) -> None:
    """The text of an error that nobody foresaw may quote anything: a query, an address, a row of somebody else."""
    app = replace(app, ports=replace(app.ports, writers={LOCAL["generator"]: Broken(error)}))
    ada = Tenant(app)
    job = ada("POST", "/generate", json=LOCAL).json()
    drain(app)
    assert ada("GET", f"/jobs/{job['id']}").json()["error"] == shown


def test_a_body_of_another_type_is_told_so(ada: Tenant) -> None:
    answer = ada("POST", "/generate", content='{"count": 2}', headers={"Content-Type": "text/plain"})
    assert refused(answer) == (415, "NOT_JSON")


def test_the_description_tells_the_headers(ada: Tenant) -> None:
    generate = ada("GET", "/openapi.json").json()["paths"]["/generate"]["post"]["responses"]
    assert "Location" in generate["202"]["headers"]
    assert "Retry-After" in generate["429"]["headers"]
    assert {"RateLimit", "RateLimit-Policy"} <= generate["402"]["headers"].keys()
