"""Tenants' own programs are told of their posts: no event lost, none made twice, each signed, at least once."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert
from standardwebhooks import Webhook

from db.ops.notices import CLAIM as CLAIM_OF_NOTICES
from db.posting import outgoing as queries
from db.schema.posting import social_accounts, social_posts
from db.schema.videos import videos
from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected, UnknownEndpoint
from domain.posting.outgoing import DISABLED_AFTER, WAITS, Answer, check_endpoint, judge
from domain.posting.posts import PostStatus
from integrations.standard_webhooks import headers, new_secret
from integrations.vault import FernetVault
from simulators.loopback import Loopback, Reply, Request
from tests.builders import a_tenant
from tests.drain import drain
from tests.raw_server import PATIENCE, RawServer, answering
from tests.web.api.test_api import Api, a_key, refused
from workers.adapters.outgoing import SignedWebhooks
from workers.app import App, build
from workers.jobs.outgoing import find_due
from workers.ops import outgoing
from workers.ops.account_checks import UNSIGNED, check_keys
from workers.ops.accounts import rotate_keys
from workers.settings import Settings

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = Fernet.generate_key().decode()


class Shop:
    """A tenant with posts on their way, and a program of its own that is told of them."""

    def __init__(self, app: App, receiver: Loopback, posts: int = 2) -> None:
        self.app = app
        self.receiver = receiver
        self.id = a_tenant(app)
        self.endpoint, self.secret = outgoing.create(app, self.id, f"{receiver.url}/{self.id}")
        with app.db.transaction(SYSTEM) as tx:
            account = {"tenant_id": self.id, "platform": "tiktok", "external_id": str(self.id), "username": "ada"}
            account_id = tx.sql.execute(
                insert(social_accounts).values(account).returning(social_accounts.c.id)
            ).scalar_one()
            self.posts: list[UUID] = []
            for number in range(posts):
                video = {"tenant_id": self.id, "title": f"v{number}"}
                video_id = tx.sql.execute(insert(videos).values(video).returning(videos.c.id)).scalar_one()
                post = {"tenant_id": self.id, "video_id": video_id, "account_id": account_id, "status": "submitted"}
                found = insert(social_posts).values(post | {"submitted_at": NOW}).returning(social_posts.c.id)
                self.posts.append(tx.sql.execute(found).scalar_one())

    def publish(self, post_id: UUID) -> str | None:
        with self.app.db.transaction(self.id) as tx:
            return tx.posts.published(
                self.id, post_id, external_id=f"x{post_id}", permalink="https://tiktok.com/x", now=tx.now()
            )

    def fail(self, post_id: UUID) -> None:
        with self.app.db.transaction(self.id) as tx:
            post = tx.posts.get(self.id, post_id)
            assert post is not None
            tx.posts.not_there(post, PostStatus.FAILED, certain=True, code="spam", message="It was refused.")

    def deliveries(self) -> list[dict[str, Any]]:
        return outgoing.deliveries(self.app, self.id, limit=1000)[::-1]

    def arrived(self) -> list[Request]:
        return [each for each in self.receiver.requests if each.path == f"/{self.id}"]

    def verified(self) -> list[Any]:
        """The bodies, each verified with the tenant's secret by the library that receivers use."""
        return [Webhook(self.secret).verify(each.body, dict(each.headers)) for each in self.arrived()]


def run(app: App) -> int:
    """What a minute brings: the schedule's job, and those that it enqueues."""
    with app.db.transaction(SYSTEM) as tx:
        find_due.enqueue(tx)
    return drain(app)


def bring_forward(app: App) -> None:
    """Let the time go by until all that waits is due, and leases are over."""
    with app.db.transaction(SYSTEM) as tx:
        tx.driver.execute("UPDATE webhook_deliveries SET next_at = now() WHERE next_at IS NOT NULL")


@pytest.fixture
def receiver() -> Iterator[Loopback]:
    with Loopback(lambda request: Reply()) as server:
        yield server


@pytest.fixture
def telling(settings: Settings, receiver: Loopback) -> Iterator[App]:
    changed = {"token_encryption_keys": KEY, "webhook_receiver_base_url": receiver.url}
    app = build(Settings.model_validate(settings.model_dump() | changed), name="tests", pool_size=10)
    yield app
    app.close()


@pytest.fixture
def shop(telling: App, receiver: Loopback) -> Shop:
    return Shop(telling, receiver)


def test_a_post_that_is_published_or_fails_is_told_once_signed_and_as_it_was(shop: Shop) -> None:
    live, dead = shop.posts
    shop.publish(live)
    shop.fail(dead)
    run(shop.app)
    assert run(shop.app) == 1  # nothing is left but to find that out
    published, failed = sorted(shop.verified(), key=lambda body: body["type"], reverse=True)
    assert (published["type"], published["data"]["post_id"]) == ("post.published", str(live))
    assert published["data"]["permalink"] == "https://tiktok.com/x"
    assert (failed["type"], failed["data"]["post_id"]) == ("post.failed", str(dead))
    assert (failed["data"]["error_code"], failed["data"]["error_message"]) == ("spam", "It was refused.")
    assert {each["status_code"] for each in shop.deliveries()} == {200}
    assert all(each["delivered_at"] and not each["next_at"] for each in shop.deliveries())


def test_an_event_is_of_the_transaction_that_made_it_and_happens_once(shop: Shop) -> None:
    with suppress(ZeroDivisionError), shop.app.db.transaction(shop.id) as tx:
        tx.posts.published(shop.id, shop.posts[0], external_id="x", permalink=None, now=tx.now())
        raise ZeroDivisionError
    assert shop.deliveries() == []
    with ThreadPoolExecutor(8) as threads:
        assert len([each for each in threads.map(shop.publish, [shop.posts[0]] * 8) if each]) == 1
    assert len(shop.deliveries()) == 1


def test_other_tenants_and_other_events_are_told_to_nobody(shop: Shop, receiver: Loopback) -> None:
    other = Shop(shop.app, receiver)
    outgoing.create(shop.app, shop.id, f"{receiver.url}/failures", ["post.failed"])
    shop.publish(shop.posts[0])
    run(shop.app)
    assert [each.path for each in receiver.requests] == [f"/{shop.id}"]
    assert other.deliveries() == []


def test_many_threads_deliver_each_event_of_a_tenant_once(telling: App, receiver: Loopback) -> None:
    shop = Shop(telling, receiver, posts=24)
    for post_id in shop.posts:
        shop.publish(post_id)
    with ThreadPoolExecutor(6) as threads:
        [*threads.map(lambda _: run(telling), range(6))]
    ids = [each.headers["webhook-id"] for each in shop.arrived()]
    assert len(ids) == len(set(ids)) == 24
    assert all(each["delivered_at"] and each["attempts"] == 1 for each in shop.deliveries())


def test_a_worker_that_dies_after_it_has_sent_lets_it_be_sent_again_with_the_same_id(shop: Shop) -> None:
    shop.publish(shop.posts[0])
    [delivery] = shop.deliveries()
    with shop.app.db.transaction(shop.id) as tx:
        begun = tx.outgoing.begin(shop.id, delivery["id"], timedelta(minutes=10))
    assert begun is not None
    sender = shop.app.ports.webhooks
    assert sender is not None
    message_id, secret = f"msg_{delivery['event_id'].hex}", bytes(begun["secret"])
    sender.send(begun["url"], begun["body"].encode(), secret=secret, message_id=message_id, at=datetime.now(UTC))
    # Here it is killed. Until its lease is over, nobody sends it.
    run(shop.app)
    assert len(shop.arrived()) == 1
    bring_forward(shop.app)
    run(shop.app)
    first, second = shop.arrived()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    with shop.app.db.transaction(shop.id) as tx:  # it was only slow
        late = {"delivered": False, "status": 500, "error": "late", "next_at": None}
        assert not tx.outgoing.settle(shop.id, delivery["id"], begun["attempts"], **late)
    assert shop.deliveries()[0]["delivered_at"]


def test_what_is_not_taken_is_tried_again_and_given_up_at_last(shop: Shop, receiver: Loopback) -> None:
    receiver.fail(Reply(status=500), times=len(WAITS) + 1)
    shop.publish(shop.posts[0])
    for attempt in range(len(WAITS) + 1):
        run(shop.app)
        [delivery] = shop.deliveries()
        assert (delivery["attempts"], delivery["error"]) == (attempt + 1, "it answered 500")
        bring_forward(shop.app)
    assert delivery["given_up_at"]
    assert outgoing.listed(shop.app, shop.id)[0]["failing_since"]
    replayed = outgoing.replay(shop.app, None, delivery["id"])
    assert replayed["event_id"] == delivery["event_id"]
    run(shop.app)
    assert shop.deliveries()[0]["delivered_at"]
    assert outgoing.listed(shop.app, shop.id)[0]["failing_since"] is None
    assert len({(each.headers["webhook-id"], each.body) for each in shop.arrived()}) == 1


def test_a_receiver_that_wants_no_more_gets_no_more(shop: Shop, receiver: Loopback) -> None:
    receiver.fail(Reply(status=410))
    shop.publish(shop.posts[0])
    shop.publish(shop.posts[1])
    run(shop.app)
    run(shop.app)
    assert len(shop.arrived()) == 1
    [endpoint] = outgoing.listed(shop.app, shop.id)
    assert endpoint["disabled_reason"] == "it answered 410: it wants no more"
    assert all(each["given_up_at"] and not each["next_at"] for each in shop.deliveries())
    with pytest.raises(Conflict):
        outgoing.replay(shop.app, shop.id, shop.deliveries()[0]["id"])


def test_a_receiver_that_redirects_or_hangs_has_not_taken_it(shop: Shop, receiver: Loopback) -> None:
    receiver.fail(Reply(status=302, headers={"Location": f"{receiver.url}/elsewhere"}))
    shop.publish(shop.posts[0])
    run(shop.app)
    assert (shop.deliveries()[0]["status_code"], shop.deliveries()[0]["next_at"] is not None) == (302, True)
    assert [each.path for each in receiver.requests] == [f"/{shop.id}"]
    vault = FernetVault([KEY])
    impatient = SignedWebhooks(vault, home=receiver.url, within=0.2)
    receiver.fail(Reply(after=60))
    secret = vault.seal(shop.secret)
    answer = impatient.send(f"{receiver.url}/x", b"{}", secret=secret, message_id="msg_1", at=NOW)
    assert (answer.taken, answer.status) == (False, None)
    assert "did not finish its answer" in (answer.says or "")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def _nothing(server: RawServer) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 5\r\n\r\n"
    server.over.wait(PATIENCE)


def _drips(server: RawServer) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while not server.over.wait(0.02):
        yield b"1\r\nx\r\n"


def _floods(server: RawServer) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 10000000000\r\n\r\n"
    while True:
        yield b"x" * 65_536


def _half_a_head(server: RawServer) -> Iterator[bytes]:
    yield HEAD
    while not server.over.wait(0.02):
        yield b"X-More: 1\r\n"


@pytest.mark.parametrize(
    ("pieces", "status"),
    [(_nothing, 200), (_drips, 200), (_floods, 200), (_half_a_head, None)],
    ids=["nothing", "drips", "floods", "half a head"],
)
def test_only_the_status_of_an_answer_counts_however_long_the_rest_takes(
    pieces: Callable[[RawServer], Iterator[bytes]], status: int | None
) -> None:
    """Nothing more is read of it, so that no receiver holds a thread or memory; without a status it has not taken it
    when its time is over."""
    vault, before = FernetVault([KEY]), time.monotonic()
    with answering(pieces) as server:
        sender = SignedWebhooks(vault, home=server.url, within=60 if status else 1.5)
        sealed = vault.seal(new_secret())
        answer = sender.send(f"{server.url}/x", b"{}", secret=sealed, message_id="msg_1", at=NOW)
        assert server.sent < 20_000_000
    assert (answer.status, answer.taken) == (status, status is not None)
    assert time.monotonic() - before < 40  # the rest takes longer


def test_a_key_that_is_lost_is_our_failure_and_not_the_receivers(shop: Shop, receiver: Loopback) -> None:
    """Nothing is counted against the endpoint, the doctor says so, and it goes on when the key is back."""
    other = FernetVault([Fernet.generate_key().decode()])
    for vault in (other, None):
        ports = replace(shop.app.ports, vault=vault, webhooks=SignedWebhooks(vault, home=receiver.url))
        keyless = replace(shop.app, ports=ports)
        shop.publish(shop.posts[0])
        for _ in range(3):
            run(keyless)
            [delivery] = shop.deliveries()
            assert (delivery["attempts"], delivery["given_up_at"]) == (0, None)
            assert "it cannot be signed" in delivery["error"]
            assert delivery["next_at"] > datetime.now(UTC) + timedelta(minutes=5)
            with shop.app.db.transaction(shop.id) as tx:  # it would be disabled at the next failure of its own
                tx.driver.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '9 days'")
            bring_forward(shop.app)
        with shop.app.db.transaction(SYSTEM) as tx:
            verdict, says = check_keys(keyless, tx)
        assert (verdict, UNSIGNED in says) == ("fail", True)
        [endpoint] = outgoing.listed(shop.app, shop.id)
        assert endpoint["disabled_at"] is None
    assert shop.arrived() == []
    run(shop.app)
    assert len(shop.verified()) == 1
    assert outgoing.listed(shop.app, shop.id)[0]["failing_since"] is None


def test_an_endpoint_that_is_enabled_again_gets_what_it_missed(telling: App, receiver: Loopback) -> None:
    shop, other = Shop(telling, receiver, posts=4), Shop(telling, receiver)
    shop.publish(shop.posts[0])
    run(telling)
    receiver.fail(Reply(status=410))
    shop.publish(shop.posts[1])
    shop.publish(shop.posts[2])
    run(telling)
    run(telling)
    before = len(shop.arrived())
    shop.publish(shop.posts[3])  # while it is disabled
    run(telling)
    assert len(shop.arrived()) == before
    assert [each["error"] for each in shop.deliveries()][-1] == "its endpoint is disabled"
    with pytest.raises(UnknownEndpoint):
        outgoing.enable(telling, other.id, shop.endpoint["id"])
    api = Api(telling)
    key = a_key(telling, shop.id, "webhooks:write")
    enabled = api("POST", f"/webhooks/{shop.endpoint['id']}/enable", key).json()
    assert (enabled["replayed"], enabled["disabled_at"], enabled["disabled_reason"]) == (3, None, None)
    assert refused(api("POST", f"/webhooks/{shop.endpoint['id']}/enable", key)) == (409, "NOT_DISABLED")
    run(telling)
    assert all(each["delivered_at"] for each in shop.deliveries())
    posts_of = {body["data"]["post_id"] for body in shop.verified()}
    assert posts_of == {str(post_id) for post_id in shop.posts}


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/x",
        "https://10.1.2.3/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "http://1.1.1.1/",
    ],
)
def test_no_address_of_our_own_network_is_asked(url: str) -> None:
    vault = FernetVault([KEY])
    answer = SignedWebhooks(vault).send(url, b"{}", secret=vault.seal("whsec_YWJj"), message_id="msg_1", at=NOW)
    assert not answer.taken
    assert not any(part in (answer.says or "") for part in ("127.", "10.", "::", "169."))


def test_the_secret_is_sealed_and_goes_on_with_a_new_key(shop: Shop) -> None:
    with shop.app.db.transaction(SYSTEM) as tx:
        row = tx.driver.execute("SELECT secret FROM webhook_endpoints").fetchone()
    assert row is not None
    assert shop.secret.encode() not in bytes(row[0])
    other = Fernet.generate_key().decode()
    ports = replace(shop.app.ports, vault=FernetVault([other, KEY]), webhooks=None)
    [*_, last] = rotate_keys(replace(shop.app, ports=ports))
    assert (last.what, last.changed) == ("webhooks", 1)
    sender = SignedWebhooks(FernetVault([other]), home=shop.receiver.url)
    renewed = replace(shop.app, ports=replace(ports, webhooks=sender))
    shop.publish(shop.posts[0])
    run(renewed)
    assert len(shop.verified()) == 1


# --- the rules --------------------------------------------------------------------------------------------------


def test_an_endpoint_that_takes_nothing_for_days_is_disabled() -> None:
    no = Answer(503)
    first = judge(no, attempts=1, failing_since=None, now=NOW)
    assert (first.next_at, first.disable) == (NOW + WAITS[0], None)
    assert judge(no, attempts=3, failing_since=NOW - DISABLED_AFTER, now=NOW).disable is not None
    assert judge(no, attempts=len(WAITS) + 1, failing_since=NOW, now=NOW).next_at is None
    assert judge(Answer(204), attempts=9, failing_since=NOW - 2 * DISABLED_AFTER, now=NOW).delivered


@pytest.mark.parametrize(
    ("url", "events"),
    [
        ("http://example.com/hook", ()),
        ("https://", ()),
        ("https://user:password@example.com/", ()),
        ("https://example.com/a b", ()),
        ("https://example.com:99999/", ()),
        ("https://exämple.com/", ()),
        ("https://127.0.0.1/x", ()),
        ("https://10.0.0.1/", ()),
        ("https://[::1]/", ()),
        ("https://localhost/x", ()),
        ("https://example.com/", ("post.deleted",)),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(url: str, events: tuple[str, ...]) -> None:
    with pytest.raises(Rejected):
        check_endpoint(url, events, others=0, home="http://127.0.0.1:9")


# --- the API ----------------------------------------------------------------------------------------------------


def test_a_program_sets_it_up_by_the_api_and_sees_what_was_sent(telling: App, receiver: Loopback) -> None:
    shop, api = Shop(telling, receiver), Api(telling)
    key = a_key(telling, shop.id, "webhooks:read", "webhooks:write")
    made = api("POST", "/webhooks", key, json={"url": f"{receiver.url}/more", "events": ["post.failed"]})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    assert made.json()["secret"].startswith("whsec_")
    listed = api("GET", "/webhooks", key).json()
    assert [each["events"] for each in listed] == [["post.published", "post.failed"], ["post.failed"]]
    assert "secret" not in listed[1]
    shop.publish(shop.posts[0])
    shop.publish(shop.posts[1])
    page = api("GET", "/webhooks/deliveries", key, params={"limit": 1}).json()
    rest = api("GET", "/webhooks/deliveries", key, params={"limit": 1, "cursor": page["next"]}).json()
    assert page["deliveries"][0]["post_id"] != rest["deliveries"][0]["post_id"]
    path = f"/webhooks/deliveries/{page['deliveries'][0]['id']}/replay"
    assert refused(api("POST", path, key)) == (409, "NOT_NOW")
    run(telling)
    assert api("POST", path, key).status_code == 202
    run(telling)
    assert len(shop.arrived()) == 3
    assert api("DELETE", f"/webhooks/{made.json()['id']}", key).status_code == 204
    assert refused(api("DELETE", f"/webhooks/{made.json()['id']}", key)) == (404, "NOT_FOUND")
    assert refused(api("POST", f"/webhooks/deliveries/{uuid4()}/replay", key)) == (404, "NOT_FOUND")
    assert refused(api("POST", "/webhooks", key, json={"url": "http://example.com"}))[0] == 422
    reader = a_key(telling, shop.id, "webhooks:read")
    assert refused(api("POST", "/webhooks", reader, json={"url": "https://example.com"}))[0] == 403


def test_a_tenant_has_ten_endpoints_at_most_however_many_ask_at_once(telling: App, receiver: Loopback) -> None:
    tenant_id = a_tenant(telling)

    def create(number: int) -> bool:
        try:
            outgoing.create(telling, tenant_id, f"{receiver.url}/{number}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create, range(14))) == 10


# --- what the documentation says --------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parents[3] / "docs" / "notices.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_lines_of_the_documentation_verify_what_is_sent_and_nothing_else(tmp_path: Path) -> None:
    secret, body = new_secret(), b'{"type":"post.published"}'
    sent = headers(body, [new_secret(), secret], "msg_1", int(time.time()))
    names: dict[str, Any] = {}
    exec(block("python"), names)
    names["verify"](body, sent, secret)
    with pytest.raises(ValueError, match="not ours"):
        names["verify"](body + b" ", sent, secret)
    with pytest.raises(ValueError, match="too old"):
        names["verify"](body, headers(body, [secret], "msg_1", int(time.time()) - 400), secret)
    if node := shutil.which("node"):
        script = tmp_path / "verify.mjs"
        tries = [
            f"const [body, headers, secret] = {json.dumps([body.decode(), sent, secret])};",
            "verify(Buffer.from(body), headers, secret);",
            "try { verify(Buffer.from(body + ' '), headers, secret); } catch { console.log('good'); }",
        ]
        script.write_text("\n".join([block("js"), *tries]))
        done = subprocess.run([node, script], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("good\n", "")


def test_what_is_due_and_what_was_sent_are_found_by_indexes(telling: App) -> None:
    values = {"now": NOW, "lease": timedelta(minutes=1), "limit": 5, "tenant_id": uuid4(), "endpoint_id": None}
    values |= {"at": NOW, "before": uuid4()}
    with telling.db.transaction(SYSTEM) as tx:
        tx.driver.execute("SET LOCAL enable_seqscan = off")
        tx.driver.execute("SET LOCAL enable_bitmapscan = off")  # so that a plan names its index in one way
        for query in (queries.CLAIM, queries.DELIVERIES, queries.ANY_DUE.replace("%s", "%(now)s"), CLAIM_OF_NOTICES):
            plan = "\n".join(row[0] for row in tx.driver.execute(f"EXPLAIN {query}".encode(), values))
            assert "Seq Scan" not in plan, plan
            assert re.search(r"Index (Only )?Scan (Backward )?using (webhook|notice)_deliveries", plan), plan
