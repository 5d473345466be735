"""`viral up` as a newcomer runs it: real servers, real processes, and nothing left of them afterwards."""

import contextlib
import getpass
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from cli.configuration import embedded_environment
from db.security import seeing_all_tenants
from local.home import read_state
from local.spawn import answers
from tests.builders import a_tenant
from tests.cli.shell import PYTHONPATH, ROOT, Shell, a_process
from tests.wait import until
from tests.web.api.test_generations import a_generation
from tests.web.api.test_videos import CONCEPT
from workers.adapters import platforms
from workers.app import build
from workers.settings import Settings, load

NOBODY = 65534
SMALL = {"WORKER_PROCESSES": "1", "WORKER_THREADS": "2"}


class Up:
    """One home, and every `viral up` that a test starts on it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.person: dict[str, Any] = {}  # who runs it and by which Python, if not we by ours
        self.folder = folder
        self.name = name
        self.home = folder / name
        self.log = folder / "log"
        self._runs: list[subprocess.Popen[str]] = []
        self._seen: set[psutil.Process] = set()

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """As a person does: in some folder, with a home relative to it."""
        with self.log.open("w") as log:
            run = a_process(
                SMALL | environment,
                *("up", "--home", self.name, *words),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.person,
            )
        self._runs.append(run)
        return run

    def started(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        run = self.start(*words, **environment)
        wanted = ("are up", "worker.ready", "scheduler.ready")
        until(lambda: all(each in self.written() for each in wanted) or run.poll() is not None, "all to be up")
        assert run.poll() is None, self.written()
        self.processes()
        return run

    def written(self) -> str:
        return self.log.read_text()

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.home / "state.json").read_text())
        return state

    def ports(self) -> list[int]:
        """Of the web server, Postgres and Redis."""
        state = self.state()
        urls = [state["web_url"], state["urls"]["database_url"], state["urls"]["redis_url"]]
        return [int(re.findall(r":(\d+)", url)[-1]) for url in urls]

    def processes(self) -> set[psutil.Process]:
        """All that run here: by descent, and by this home in their words or environment. Remembered for `left`."""
        found = {each for each in psutil.process_iter() if each.pid != os.getpid() and self._is_mentioned_by(each)}
        for run in self._runs:
            with contextlib.suppress(psutil.Error):
                found |= set(psutil.Process(run.pid).children(recursive=True))
        self._seen |= found
        return found

    def left(self) -> list[str]:
        """What runs still of all that was ever seen here."""
        self.processes()
        return [f"{each.pid} {words_of(each)}" for each in self._seen if is_alive(each)]

    def end(self) -> None:
        """Whatever a test did: no process and no file stays."""
        self.processes()
        for run in self._runs:
            run.kill()
            run.wait()
        for each in self._seen:
            with contextlib.suppress(psutil.Error):
                each.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_mentioned_by(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            if any(str(self.home) in word for word in process.cmdline()):
                return True
            return process.environ().get("VIRAL_HOME") == str(self.home)
        return False


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def words_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "(gone)"


def interrupted(run: subprocess.Popen[str]) -> int:
    run.send_signal(signal.SIGINT)
    return run.wait(timeout=90)


@contextlib.contextmanager
def a_home(name: str) -> Iterator[Up]:
    """In a folder that others may pass through, as most are; pytest's own are closed to Postgres, if we are root."""
    folder = Path(tempfile.mkdtemp(prefix="viral-up-")).resolve()
    folder.chmod(0o755)
    up = Up(folder, name)
    try:
        yield up
    finally:
        up.end()


@pytest.fixture
def up() -> Iterator[Up]:
    with a_home("home") as up:
        yield up


@pytest.fixture(scope="module")
def running() -> Iterator[Up]:
    """A system that several tests visit. Its home has a space in its name, the port of PORT was taken, and the
    platforms are simulated."""
    with a_home("a home") as up, socket.create_server(("127.0.0.1", 0)) as taken:
        up.started("--simulators", PORT=str(taken.getsockname()[1]), META_APP_ID="theirs", META_APP_SECRET="planted")
        yield up


def shell(up: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Another shell, which is told nothing but where the home is."""
    return Shell({"VIRAL_HOME": str(up.home)}, monkeypatch, capsys)


@pytest.fixture
def viral(running: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return shell(running, monkeypatch, capsys)


def signs_up(viral: Shell, email: str) -> str:
    """The id of the tenant that Clerk's event makes."""
    assert '200 {"received":true}' in viral.done("dev", "send-event", "clerk", "user.created", "--email", email).out
    until(lambda: viral.json("tenants", "list", "--search", email), "the tenant to be made", every=0.2)
    [row] = viral.json("tenants", "list", "--search", email)
    tenant_id: str = row["id"]
    return tenant_id


def all_is_applied(viral: Shell) -> bool:
    """One that came before what it is about is parked for a moment."""
    statuses = {event["status"].partition(":")[0] for event in viral.json("events", "list")}
    return not statuses & {"received", "parked"}


def test_a_taken_port_is_replaced_and_the_start_says_where_everything_is(running: Up) -> None:
    web, _, _ = running.ports()
    result = running.written()
    assert re.search(rf"^port \d+ is taken; the web server listens on {web}$", result, re.MULTILINE)
    assert f"  web        http://127.0.0.1:{web}  (" in result
    assert f"  data       {running.home}\n" in result
    assert f"  export VIRAL_HOME='{running.home}'\n" in result
    assert "Traceback" not in result
    passwords = json.loads((running.home / "secrets.json").read_text()).values()
    assert not any(password in result for password in passwords)


OF_OTHERS = ["CLERK_JWKS_URL or CLERK_JWT_KEY", "people are notified"]
"""What nobody has without a Clerk account, and a channel."""


def complaints(viral: Shell) -> list[str]:
    return [finding["check"] for finding in viral.json("doctor") if finding["state"] != "ok"]


def test_the_first_five_minutes(viral: Shell, tmp_path: Path) -> None:
    assert complaints(viral) == OF_OTHERS
    tenant_id = signs_up(viral, "ada@example.com")
    shown = viral.json("tenants", "show", tenant_id)
    assert (shown["subscription_tier"], shown["monthly_quota"], shown["used_quota"]) == ("FREE", 10, 0)
    assert [user["email"] for user in shown["users"]] == ["ada@example.com"]

    body = tmp_path / "paid.json"
    viral.done("dev", "send-event", "stripe", "checkout", "--tenant", tenant_id, "--save", body)
    until(lambda: all_is_applied(viral), "the purchase to be applied", every=0.2)
    paid = viral.json("tenants", "show", tenant_id)
    assert (paid["subscription_tier"], paid["subscription_status"], paid["monthly_quota"]) == ("PRO", "active", 50)

    events, jobs = viral.json("events", "list"), viral.json("jobs", "list", "--queue", "events")
    assert len(events) == len(jobs) == 4
    assert {event["status"] for event in events} == {"applied"}
    viral.done("dev", "send-event", "stripe", body)
    last, *others = viral.json("events", "list")
    assert last["duplicates"] == 1
    once = {name: events[0][name] for name in ("duplicates", "duplicate_at", "became")}
    assert [last | once, *others] == events
    assert viral.json("jobs", "list", "--queue", "events") == jobs
    assert viral.json("tenants", "show", tenant_id) == paid

    assert viral.json("quota", "reset", tenant_id)["used"] == 0
    ledger = viral.json("quota", "show", tenant_id)["ledger"]
    assert (ledger[0]["kind"], ledger[0]["cause"]) == ("reset", f"person:{getpass.getuser()}")
    job = viral.json("jobs", "enqueue", "quota.reset_due", "--wait")
    assert (job["status"], job["result"]) == ("completed", {"reset": 0})
    assert complaints(viral) == OF_OTHERS


def test_info_says_where_everything_is(running: Up, viral: Shell) -> None:
    output = viral.json("info")
    state = running.state()
    # Row-level security binds the owner as well: the URL that people are given names its scope.
    urls = state["urls"] | {"database_url": seeing_all_tenants(state["urls"]["database_url"])}
    assert output == {**urls, "web_url": state["web_url"], "version": output["version"]}


def test_simulated_platforms_are_what_every_process_and_every_other_shell_meets(running: Up) -> None:
    result = running.written()
    assert "The platforms are simulated: tiktok, " in result
    assert "Nobody sees what is posted" in result
    page = re.findall(r"posts and accounts   (http://127\.0\.0\.1:\d+)", result)[0]
    with urllib.request.urlopen(f"{page}/posts", timeout=10) as response:
        assert json.load(response) == {"simulated": True, "posts": []}
    simulated = running.state()["simulated"]
    [worker] = [each for each in running.processes() if "workers" in words_of(each).split() and each.children()]
    assert worker.environ().items() >= simulated.items()
    assert "planted" not in worker.environ().values()
    settings = resolve_in(running.home)
    assert (settings.meta_base_url, settings.meta_app_id) == (simulated["META_BASE_URL"], simulated["META_APP_ID"])
    login = platforms.logins(settings)["bluesky"]
    grant = login.log_in("ada.simulated.example", "app-password", "")
    log = running.home / "simulators.log"
    until(lambda: "createSession" in log.read_text(), "the login to be written down")
    assert grant.access_token not in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.proof
def test_five_commands_from_an_account_to_what_became_of_a_post(
    running: Up, viral: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that stand in docs/posting.md, each with what the one before printed."""
    commands = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/posting.md").read_text("utf-8"), re.DOTALL)[0].splitlines()
    app = build(resolve_in(running.home), name="tests", pool_size=1)
    tenant_id = a_tenant(app)
    ids = {"TENANT": str(tenant_id), "GENERATION": str(a_generation(app, tenant_id, concepts=[CONCEPT]).id)}
    app.close()
    printed = ""
    for line, named in zip(commands, ("ACCOUNT", "VIDEO", "POST", "POST", ""), strict=True):
        *before, command = line.split(" | ")
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(each.removeprefix("printf ") for each in before)))
        printed = viral.done(*shlex.split(Template(command).substitute(ids).removeprefix("viral "))).out
        if named:
            ids[named] = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", printed)[0]
    assert printed.startswith(
        "Bluesky, ada.simulated.example: published\nCertain: Bluesky published it as at://did:plc:"
    )
    assert "Next: its numbers are collected (at " in printed
    posted = [post for post in simulated_posts(running) if post["platform"] == "bluesky"]
    assert len(posted) == 1


def simulated_posts(running: Up) -> list[dict[str, Any]]:
    page = re.findall(r"posts and accounts   (http://127\.0\.0\.1:\d+)", running.written())[0]
    with urllib.request.urlopen(f"{page}/posts", timeout=10) as response:
        posts: list[dict[str, Any]] = json.load(response)["posts"]
    return posts


def resolve_in(home: Path) -> Settings:
    """Return the settings of another shell."""
    state = read_state(home)
    assert state is not None
    settings = load({"VIRAL_HOME": str(home)})
    return load({**embedded_environment(settings, state.urls), **state.simulated})


def test_a_second_start_on_the_same_home_is_refused(running: Up, viral: Shell) -> None:
    state = running.state()
    line = viral.refused("up")
    assert line.startswith(f"viral: `viral up` is already running on {running.home} (pid {state['pid']})")
    assert f"at {state['web_url']}: " in line
    assert running.state() == state


@pytest.mark.proof
def test_a_worker_started_beside_it_finds_the_servers(running: Up, viral: Shell, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with (
        log.open("w") as file,
        a_process(SMALL | {"VIRAL_HOME": str(running.home)}, "worker", "-q", "social", stderr=file) as worker,
    ):
        try:
            until(lambda: "worker.ready" in log.read_text(), "the worker to be ready")
            findings = {finding["check"]: finding["says"] for finding in viral.json("doctor")}
            assert findings["workers"] == "2 processes are alive"
            owner = urlsplit(running.state()["urls"]["database_url"]).password
            assert owner not in "\0".join(psutil.Process(worker.pid).environ().values())
            worker.terminate()
            assert worker.wait(timeout=90) == 0
        finally:
            worker.kill()


PLANTED = {
    "STRIPE_SECRET_KEY": "sk_test_planted1",
    "STRIPE_WEBHOOK_SECRET": "whsec_planted2",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_cGxhbnRlZDM0NTY3ODkwYWJjZGVm",
    "CLERK_SECRET_KEY": "sk_test_planted4",
    "ANTHROPIC_API_KEY": "sk-ant-planted5",
    "OPENAI_API_KEY": "sk-proj-planted5",
    "YOUTUBE_API_KEY": "planted6",
    "REDDIT_CLIENT_ID": "reddit",
    "REDDIT_CLIENT_SECRET": "planted7",
    "GITHUB_TOKEN": "planted8",
    "PGPASSWORD": "planted9",
    "AWS_SECRET_ACCESS_KEY": "planted10",
    "RUNWAYML_API_SECRET": "key_" + "1" * 60,
    "GEMINI_API_KEY": "planted12",
    "LUMA_AGENTS_API_KEY": "planted13",
    "TIKTOK_CLIENT_KEY": "tiktok",
    "TIKTOK_CLIENT_SECRET": "planted14",
    "GOOGLE_CLIENT_ID": "google",
    "GOOGLE_CLIENT_SECRET": "planted15",
    "META_APP_ID": "meta",
    "META_APP_SECRET": "planted16",
    "TOKEN_ENCRYPTION_KEYS": "cGxhbnRlZDE3cGxhbnRlZDE3cGxhbnRlZDE3cGxhbnQ=",
}


@pytest.mark.proof
def test_ctrl_c_stops_all_in_order_and_the_next_start_has_the_data_also_after_a_kill(
    up: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last start knows a secret of each kind."""
    viral = shell(up, monkeypatch, capsys)
    run = up.started(PORT="0")
    tenant_id = signs_up(viral, "ada@example.com")
    secrets = (up.home / "development.json").read_text()
    ports = up.ports()
    assert interrupted(run) == 0
    assert up.left() == []
    assert not any(answers(port) for port in ports)
    assert not (up.home / "state.json").exists()
    result = up.written()
    assert re.findall(r"^viral     \| stopping (\w+) …$", result, re.MULTILINE) == ["scheduler", "worker", "web"]
    assert "Traceback" not in result
    assert "nothing runs under" in viral.refused("tenants", "list")

    run = up.started(PORT="0")
    assert "schema: already at " in up.written()
    assert viral.json("tenants", "show", tenant_id)["name"] == "ada@example.com"
    assert (up.home / "development.json").read_text() == secrets
    second = up.processes()
    assert len(second) > 5
    run.kill()
    run.wait()

    run = up.started("--port", "0", **PLANTED)
    assert [words_of(each) for each in second if is_alive(each)] == []
    assert viral.json("tenants", "show", tenant_id)["name"] == "ada@example.com"
    assert viral.done("jobs", "enqueue", "quota.reset_due", "--wait").code == 0
    assert_each_process_knows_what_it_uses(up, run)
    assert interrupted(run) == 0
    assert up.left() == []


def assert_each_process_knows_what_it_uses(up: Up, run: subprocess.Popen[str]) -> None:
    """And no other secret; also on its command line: whoever may trace a process reads both."""
    urls = up.state()["urls"]
    of = {name: urlsplit(urls[name]).password or "" for name in ("database_url", "app_database_url", "redis_url")}
    secrets = PLANTED | {"owner": of["database_url"], "app": of["app_database_url"], "redis": of["redis_url"]}
    for name in ("REDDIT_CLIENT_ID", "TIKTOK_CLIENT_KEY", "GOOGLE_CLIENT_ID", "META_APP_ID"):
        del secrets[name]
    superuser = json.loads((up.home / "secrets.json").read_text())["postgres"]
    state: dict[str, set[str]] = {}
    for process in psutil.Process(run.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            text = "\0".join([*words, *(f"{name}={value}" for name, value in process.environ().items())])
            kind = next((each for each in ("web", "workers", "scheduler") if each in words), "server")
            state.setdefault(kind, set()).update(name for name, secret in secrets.items() if secret in text)
            assert superuser not in text, words
    shared = {"app", "redis"}
    stored = shared | {"AWS_SECRET_ACCESS_KEY", "TOKEN_ENCRYPTION_KEYS"}
    stored |= {"TIKTOK_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET", "META_APP_SECRET"}
    assert state == {
        "server": set(),
        "scheduler": shared,
        "web": stored | {"STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "CLERK_WEBHOOK_SIGNING_SECRET"},
        "workers": stored
        | {"STRIPE_SECRET_KEY", "CLERK_SECRET_KEY", "ANTHROPIC_API_KEY", "YOUTUBE_API_KEY", "REDDIT_CLIENT_SECRET"}
        | {"OPENAI_API_KEY", "RUNWAYML_API_SECRET", "GEMINI_API_KEY", "LUMA_AGENTS_API_KEY"},
    }


@pytest.mark.proof
def test_a_port_that_was_asked_for_and_is_taken_ends_the_start(up: Up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert up.start("--port", str(port)).wait(timeout=90) == 1
    assert (
        up.written() == f"viral: port {port} is taken: stop what listens there, or choose another with --port or PORT\n"
    )
    assert up.left() == []
    assert not (up.home / "state.json").exists()


def a_python_for(person: dict[str, Any]) -> str:
    """This one; or, if it is closed to that person, another of the same version."""
    refused = []
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        look = [python, "-c", "import cli.commands.up, web.main, scheduler.main, dramatiq"]
        environment = {"PYTHONPATH": PYTHONPATH}
        try:
            subprocess.run(look, cwd="/", env=environment, capture_output=True, check=True, **person)
        except (OSError, subprocess.CalledProcessError) as error:
            refused.append(str(error))
        else:
            return python
    pytest.skip(f"no Python here can be run by an ordinary user: {'; '.join(refused)}")


@pytest.mark.proof
@pytest.mark.skipif(os.geteuid() != 0, reason="all other tests have run it as an ordinary user")
def test_an_ordinary_user_can_run_it(
    up: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    up.person = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    up.person |= {"python": a_python_for(up.person)}
    os.chown(up.folder, NOBODY, NOBODY)
    run = up.started(PORT="0", HOME=str(up.folder))
    assert {process.uids().real for process in up.processes()} == {NOBODY}
    signs_up(shell(up, monkeypatch, capsys), "ada@example.com")
    assert interrupted(run) == 0
    assert up.left() == []
