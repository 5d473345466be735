"""A Redis that answers and refuses, on real servers: demoted, full, alone, in cluster mode, behind TLS."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis._parsers.base import BaseParser
from structlog.testing import capture_logs

from db.transaction import SYSTEM, Database
from tests.builders import new_id
from tests.proxy import Proxy, proxied
from tests.redis_servers import RedisServer, a_redis
from tests.wait import until
from tests.workers.engine.test_broker import Listener
from web.api.rate_limit import Policy, RateLimiter
from workers.engine.job import Context, job
from workers.engine.notifier import Notifier
from workers.runtime import logs
from workers.runtime.ids import Ids
from workers.runtime.redis_client import (
    CALM,
    REOPEN_EVERY,
    RedisUnusable,
    Trouble,
    connect,
    describe,
    diagnose,
    reason,
    refuse_cluster,
)
from workers.settings import Settings, SettingsInvalid, load

MANY = Policy("key", 10_000, 10_000)

PATIENCE = 10.0
"""Seconds: what is tried here is not how fast a busy machine is."""


@pytest.fixture(autouse=True)
def _heard() -> None:
    logs.configure("console", "INFO")


@job("testing.notified", system=True)
def notified(ctx: Context) -> None:
    with ctx.finish():
        pass


# --- the one classification

ANSWERS = {
    Trouble.REFUSES_WRITES: (
        "READONLY You can't write against a read only replica.",
        f"READONLY You can't write against a read only replica. script: {'a' * 40}, on @user_script:6.",
        "ERR Error running script (call to f_1): @user_script:6: -READONLY You can't write against a read only replica",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots, but it is currently not able to persist on disk.",
        "NOREPLICAS Not enough good replicas to write.",
    ),
    Trouble.NOT_READY: (
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN Hash slot not served",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "ERR max number of clients reached",
    ),
    Trouble.REFUSES_US: (
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "NOPERM this user has no permissions to run the 'zadd' command",
        "ERR invalid password",
        "ERR DB index is out of range",
    ),
    Trouble.IS_CLUSTER: (
        "MOVED 12182 127.0.0.1:7001",
        "ASK 12182 127.0.0.1:7001",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "ERR SELECT is not allowed in cluster mode",
    ),
    Trouble.REFUSES: ("ERR unknown command 'BZPOPMIN'",),
}


@pytest.mark.parametrize(("trouble", "answer"), [(kind, each) for kind, many in ANSWERS.items() for each in many])
def test_what_a_server_answers_is_classified_in_one_place(trouble: Trouble, answer: str) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert diagnose(error) is trouble
    events = reason(error)
    error.args = (f"Command # 1 (EVAL 'local\nBUSY') of pipeline caused error: {error.args[0]}", *error.args[1:])
    assert (diagnose(error), reason(error)) == (trouble, events), "also as an answer within a pipeline"
    assert "\n" not in describe(error)


# --- promotion


@contextmanager
def pair(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, Proxy]]:
    """A primary, its replica, and a name that leads to the primary."""
    with ExitStack() as held:
        old, new = (held.enter_context(a_redis(folder)) for _ in range(2))
        new.follow(old)
        yield old, new, held.enter_context(proxied("127.0.0.1", old.port))


def promote(old: RedisServer, new: RedisServer, name: Proxy) -> None:
    """What was connected stays connected, to what is now a replica."""
    new.promote()
    old.ask("REPLICAOF", "127.0.0.1", new.port)
    name.target = ("127.0.0.1", new.port)


def events(lines: Sequence[Mapping[str, Any]], used_for: str = "notifications") -> list[str]:
    """What clients of this kind have logged."""
    return [line["event"] for line in lines if line.get("used_for") == used_for]


def in_threads(number: int, act: Any) -> list[Any]:
    """The answers of `number` threads that begin together."""
    together, answers = threading.Barrier(number), []

    def one() -> None:
        together.wait()
        answers.append(act())

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_after_a_promotion_nobody_stays_with_the_demoted_server(tmp_path: Path) -> None:
    """Every thread has an idle connection to it; the first call of each already reaches the new primary."""
    with pair(tmp_path) as (old, new, name):
        notifier = Notifier(connect(name.url(old.url), patience=PATIENCE))
        limiter = RateLimiter(connect(name.url(old.url), patience=PATIENCE, used_for="the limits of requests"))

        def notify() -> bool:
            return notifier.notify({"default": {new_id(): 5}})

        def take() -> bool:
            return limiter.take([(MANY, "ada")]) is not None

        for _ in range(3):
            assert in_threads(8, notify) == in_threads(8, take) == [True] * 8
        with Listener(name.url(old.url)).listening() as listener:
            until(lambda: len(listener.received) == 24, "all ids to be received")
            promote(old, new, name)
            with capture_logs() as lines:
                assert in_threads(8, notify) == in_threads(8, take) == [True] * 8
                until(lambda: len(listener.received) == 32, "the consumers to be with the new primary")
        for used_for in ("notifications", "the limits of requests"):
            assert events(lines, used_for) == ["redis.refuses_writes"]
        workers_events = events(lines, "taking jobs")
        assert len(workers_events) == len(set(workers_events)), "each kind once"
        [bucket] = new.ask("KEYS", "*:rate:*")
        assert float(new.ask("HGET", bucket, "tokens")) < MANY.requests - 8, "the limit is counted"
        notifier.close()
        limiter.close()


def test_a_connection_in_use_while_another_call_fails_serves_nobody_afterwards(tmp_path: Path) -> None:
    """It is released between the failure of the other call and its second attempt, which takes it up."""
    with pair(tmp_path) as (old, new, name):
        client = connect(name.url(old.url), patience=PATIENCE)
        pool = client.connection_pool
        in_use = pool.get_connection()
        attempts = 0

        def act() -> bytes:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                promote(old, new, name)
                raise redis.ReadOnlyError("READONLY You can't write against a read only replica.")
            pool.release(in_use)
            connection = pool.get_connection()
            assert connection is in_use
            connection.send_command("ROLE")
            role: bytes = connection.read_response()[0]
            pool.release(connection)
            return role

        assert client.attempt(act) == b"master"
        client.close()


def test_a_demoted_server_that_nobody_replaces_is_told_once_and_left_for_the_new_one(tmp_path: Path) -> None:
    with pair(tmp_path) as (old, new, name):
        notifier = Notifier(connect(name.url(old.url), patience=PATIENCE), rest=0)
        assert notifier.notify({"default": {new_id(): 5}})
        old.ask("REPLICAOF", "127.0.0.1", new.port)
        with capture_logs() as lines:
            assert not any(in_threads(8, lambda: notifier.notify({"default": {new_id(): 5}})))
            assert not any(notifier.notify({"default": {new_id(): 5}}) for _ in range(20))
        assert events(lines) == ["redis.refuses_writes"]
        assert lines[0]["reason"] == "READONLY You can't write against a read only replica."
        promote(old, new, name)
        assert notifier.notify({"default": {new_id(): 5}})
        notifier.close()


class Stopwatch:
    """The usual one, on which more time may have gone by."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return monotonic() + self._ahead

    def later(self, seconds: float) -> None:
        self._ahead += seconds


def test_an_address_that_changes_is_found_though_the_old_server_lives_on(tmp_path: Path) -> None:
    with pair(tmp_path) as (old, new, name):
        clock = Stopwatch()
        notifier = Notifier(connect(name.url(old.url), patience=PATIENCE, stopwatch=clock))
        notifier.probe()
        new.promote()
        name.target = ("127.0.0.1", new.port)
        old.ask("FLUSHALL")
        new.ask("FLUSHALL")
        notifier.probe()
        assert (old.ask("DBSIZE"), new.ask("DBSIZE")) == (1, 0)
        clock.later(REOPEN_EVERY + 1)
        notifier.probe()
        assert new.ask("DBSIZE") == 1
        notifier.close()


def test_a_connection_that_broke_is_replaced_within_the_call(tmp_path: Path) -> None:
    with a_redis(tmp_path) as server:
        client = connect(server.url, patience=PATIENCE)
        until(lambda: client.set("a", "1"), "a first answer")
        assert not any(in_threads(4, lambda: client.blpop(["empty"], timeout=0.05)))
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        assert in_threads(4, lambda: client.get("a")) == [b"1"] * 4
        client.close()


# --- full, loading, alone


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    with a_redis(tmp_path) as server:
        yield server


def test_a_full_redis_is_told_once_and_enqueueing_goes_on(own: RedisServer, settings: Settings) -> None:
    """And what only reads, and works in between, does not make the log say that all is well."""
    clock = Stopwatch()
    notifier = Notifier(connect(own.url, stopwatch=clock), rest=0)
    db = Database(settings.database_url, pool_size=1, new_id=Ids(), on_commit=notifier.notify)
    own.ask("CONFIG", "SET", "maxmemory", "1")
    with capture_logs() as lines:
        for _ in range(10):
            with db.transaction(SYSTEM) as tx:
                notified.enqueue(tx)
            notifier.waiting(["default"])
        own.ask("CONFIG", "SET", "maxmemory", "0")
        notifier.probe()
        clock.later(CALM)
        notifier.probe()
    assert events(lines) == ["redis.refuses_writes", "redis.back"]
    assert next(line["reason"] for line in lines if "reason" in line).startswith("OOM ")
    with db.transaction(SYSTEM) as tx:
        assert tx.driver.execute("SELECT count(*) FROM job_queue").fetchone() == (10,)
    db.close()
    notifier.close()


def test_a_replica_that_has_lost_its_primary_is_not_ready(own: RedisServer) -> None:
    own.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    own.ask("REPLICAOF", "127.0.0.1", "1")
    with connect(own.url) as client, pytest.raises(redis.RedisError) as caught:
        Notifier(client).waiting(["default"])
    assert diagnose(caught.value) is Trouble.NOT_READY


def test_a_wrong_password_and_a_wrong_database_are_ours_to_mend(own: RedisServer) -> None:
    for url in (own.url.replace("sekret", "seckret"), own.url.replace(":sekret@", ""), own.url[:-1] + "99"):
        with connect(url) as client, pytest.raises(redis.RedisError) as caught:
            client.ping()
        assert diagnose(caught.value) is Trouble.REFUSES_US
        assert "kret" not in describe(caught.value)


def test_requests_that_nobody_can_count_are_counted_at_least_in_all(own: RedisServer) -> None:
    limiter = RateLimiter(connect(own.url, patience=PATIENCE))
    assert limiter.take([(MANY, "ada")]) is not None
    own.ask("CONFIG", "SET", "maxmemory", "1")
    with capture_logs() as lines:
        assert in_threads(8, lambda: limiter.take([(MANY, "ada")])) == [None] * 8
    assert limiter.uncounted == 8
    assert [line for line in lines if line["event"] == "rate_limit.uncounted"] == [
        {"event": "rate_limit.uncounted", "log_level": "warning", "requests": 1, "in_all": 1}
    ], "the next line comes a minute later, with the others"
    limiter.close()


# --- cluster mode


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisServer]:
    """The only node of a cluster: it has all slots, and refuses a command whose keys are of two."""
    with a_redis(tmp_path, "--cluster-enabled", "yes") as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: "cluster_state:ok" in str(server.ask("CLUSTER", "INFO")), "the cluster to be up")
        yield server


def test_all_keys_of_a_command_are_in_one_slot(cluster: RedisServer) -> None:
    """For hosts that speak for a cluster as a plain Redis."""
    notifier, limiter = Notifier(connect(cluster.url)), RateLimiter(connect(cluster.url, patience=PATIENCE))
    queues = ("default", "llm", "events")
    assert notifier.notify({queue: {new_id(): 5} for queue in queues})
    assert notifier.waiting(queues) == dict.fromkeys(queues, 1)
    sent, new = str(new_id()), str(new_id())
    assert notifier.dispatch("default", {new: 1.0}, {sent: 2.0}) == {sent}
    assert notifier.epoch("a") == "a"
    notifier.probe()
    few = [(Policy("key", 3, 3600), "ada"), (Policy("tenant", 100, 3600), "acme")]
    assert [taken.wait > 0 for _ in range(5) if (taken := limiter.take(few))] == [False, False, False, True, True]
    with Listener(cluster.url).listening() as listener:
        until(lambda: UUID(new) in listener.received, "the notification to be received")
    notifier.close()
    limiter.close()


def test_a_real_cluster_is_refused_in_one_line_that_says_what_to_use(cluster: RedisServer, own: RedisServer) -> None:
    with pytest.raises(RedisUnusable, match=r"^REDIS_URL: this Redis is in cluster mode: use one without .*[^.]$"):
        refuse_cluster(cluster.url)
    refuse_cluster(own.url)
    refuse_cluster("redis://127.0.0.1:1/0")


# --- URLs, and TLS


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://:sekret@h/zero", "its path is the number of a database"),
        ("redis://:sekret@h/0?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS: begin the URL with rediss://"),
        ("redis://:sekret@h/0?socket_timeout=60", "'socket_timeout' is not one of db, protocol"),
        ("redis://:sekret@h/0?db=sekret", "its parameter db is the number of a database"),
        ("rediss://:sekret@h/0?ssl_cert_reqs=sekret", "ssl_cert_reqs is one of none, optional, required"),
        ("rediss://:sekret@h/0?ssl_ca_certs=/no/sekret", "ssl_ca_certs names a file that cannot be read"),
        ("redis://:sekret@a..b/0", "should look like redis://"),
        ("redis://:sekret@h/0?sekret", "should look like redis://"),
    ],
)
def test_a_url_that_nobody_could_use_is_refused_before_anybody_does(url: str, fault: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load({"REDIS_URL": url})
    assert str(caught.value).startswith("REDIS_URL: ")
    assert fault in str(caught.value)
    assert "sekret" not in str(caught.value)


def test_other_spellings_mean_the_same() -> None:
    for spelled, meant in (("CERT_NONE", "none"), ("None", "none"), ("CERT_REQUIRED", "required")):
        url = load({"REDIS_URL": f"rediss://:a%40b@h:1/0?ssl_cert_reqs={spelled}"}).redis_url
        assert url == f"rediss://:a%40b@h:1/0?ssl_cert_reqs={meant}"


def test_a_socket_of_this_machine_works(tmp_path: Path) -> None:
    with a_redis(tmp_path, "--unixsocket", str(tmp_path / "redis.sock")):
        notifier = Notifier(
            connect(load({"REDIS_URL": f"unix://{tmp_path}/redis.sock?db=1&password=sekret"}).redis_url)
        )
        notifier.probe()
        notifier.close()


def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    binary = which("redis-server")
    if binary is None:
        pytest.skip("not run: no redis-server on PATH, and the embedded one speaks no TLS")
    a_certificate(tmp_path)
    options = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-auth-clients", "no")
    try:
        server = RedisServer(tmp_path, *options, binary=binary, tls=True)
    except AssertionError:
        pytest.skip("not run: the redis-server on PATH was built without TLS")
    try:
        for query in ("ssl_cert_reqs=none", f"ssl_cert_reqs=required&ssl_ca_certs={tmp_path}/cert.pem"):
            url = load({"REDIS_URL": f"{server.url}?{query}"}).redis_url
            notifier, limiter = Notifier(connect(url, patience=PATIENCE)), RateLimiter(connect(url, patience=PATIENCE))
            assert notifier.notify({"default": {new_id(): 5}})
            assert limiter.take([(MANY, "ada")]) is not None
            notifier.close()
            limiter.close()
        with Listener(url).listening() as listener:
            until(lambda: len(listener.received) == 2, "both ids to be received")
        with connect(server.url) as client, pytest.raises(redis.RedisError) as caught:
            client.ping()
        assert diagnose(caught.value) is Trouble.REFUSES_US
        assert "certificate verify failed" in describe(caught.value)
    finally:
        server.stop()


def a_certificate(folder: Path) -> None:
    """Self-signed, for this machine: `cert.pem` and `key.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
