"""Posts that are made under faults: how they are driven to their end, and the judgement by what people see on the
platforms."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet

from db.transaction import SYSTEM
from domain.posting.posts import PostStatus
from domain.posting.publishing import Commit, Unknown
from simulators.loopback import Loopback, Reply, Request
from tests.chaos.cuts import Cut, Moment, Moments, Watched, counting, cut
from tests.chaos.post_runs import Run, calm
from tests.chaos.servers import System
from tests.post_stage import ENDED, PLATFORMS, PostStage, on_this_clock
from workers.app import App, build
from workers.engine.outcomes import rescue
from workers.engine.runner import Runner
from workers.jobs.posting import find_due
from workers.jobs.reconcile_posts import reconcile
from workers.ops import restore
from workers.settings import load

HELD = 0.1
"""Seconds for which a simulator holds an answer back before it hangs up."""
MOST_ATTEMPTS = 500
DEAD, ALIVE = timedelta(seconds=-1), timedelta(days=1)
LIVE = """
SELECT id, greatest(extract(epoch FROM scheduled_for - now()), 0)::float FROM job_queue
WHERE status IN ('pending', 'running') ORDER BY scheduled_for, id
"""
DUE = "UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s AND status = 'pending'"
STATUSES = "SELECT status FROM social_posts WHERE account_id = %s"
IN_DOUBT = "SELECT tenant_id, id FROM social_posts WHERE status = 'unconfirmed'"
RECONNECT = "SELECT tenant_id, platform, external_id FROM social_accounts WHERE status = 'needs_reconnect'"
FORGET = """
UPDATE social_posts SET status = 'claimed', handle = NULL, handle_secrets = NULL, submitted_at = NULL
WHERE status IN ('claimed', 'submitting', 'submitted', 'processing')
"""
BACKED_UP = ("social_posts", "post_events", "post_submissions", "post_reservations")
ROWS = """
SELECT p.id, a.platform, a.external_id, encode(m.sha256, 'hex'), p.status, p.external_id, p.error_message,
       (SELECT count(*) FROM post_submissions s WHERE s.post_id = p.id)
FROM social_posts p JOIN social_accounts a ON a.id = p.account_id
JOIN videos v ON v.id = p.video_id JOIN media m ON m.id = v.media_id
"""


# --- one process, whose attempts can be cut ----------------------------------------------------------------------


class Retrying:
    """A platform whose client begins again when it cannot tell what became of a post: what must never be."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)

    def commit(self, credential: Any, handle: Any, content: Any, video: Any, **how: Any) -> Commit:
        outcome: Commit = self._publisher.commit(credential, handle, content, video, **how)
        if isinstance(outcome, Unknown):
            handle = self._publisher.open(credential, content, video, how["watch"])
            handle = self._publisher.ready(credential, handle, content, video, how["watch"])
            return self._publisher.commit(credential, handle, content, video, **how)  # type: ignore[no-any-return]
        return outcome


class Player:
    """Plays runs one after another, in the calling thread, with a database, platforms and a clock of its own."""

    def __init__(self, system: System, platforms: Mapping[str, Any], number: int, sabotage: str = "") -> None:
        self.system = system
        self.struck: Counter[str] = Counter()
        self.faults: list[str] = []
        self.doubts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.played = Counter[str]()
        self._sabotage = sabotage
        self._clock = [datetime.now(UTC)]
        # The marks that are kept outside of a database are of this one.
        settings = load(
            system.environment | {"REDIS_URL": f"{system.environment['REDIS_URL'].rpartition('/')[0]}/{number}"}
        )
        self._web = Loopback(lambda request: self._file(request))
        self._web.__enter__()
        values: dict[str, Any] = {
            "cdn_base_url": self._web.url,
            "media_dir": system.folder / "media",
            "viral_home": system.folder / "home",
            "token_encryption_keys": Fernet.generate_key().decode(),
        }
        (system.folder / "home").mkdir(parents=True, exist_ok=True)
        for name, each in platforms.items():
            values |= PLATFORMS[name].settings(each)
        changed = type(settings).model_validate(settings.model_dump() | values)
        app = build(changed, name="chaos posts", pool_size=3, clock=lambda: self._clock[0])
        self.app: App = on_this_clock(app, platforms, self._clock)
        self.stage = PostStage(self.app, platforms, self._clock)
        ports = self.app.ports
        asked = {n: Retrying(each) if sabotage == "retry" else each for n, each in ports.publishers.items()}
        watched: dict[str, Any] = {
            "publishers": {name: Watched(each, "platform") for name, each in asked.items()},
            "logins": {name: Watched(each, "login") for name, each in ports.logins.items()},
            "marks": None if ports.marks is None else Watched(ports.marks, "marks"),
        }
        self._watched = replace(self.app, ports=replace(ports, **watched))
        self._tenant = self.stage.tenant(subscription_tier="AGENCY")
        self._runner: Runner
        self._boot()

    def play(self, run: Run) -> None:
        """Ask for the post, and drive its jobs until none is left, whatever befalls them; then judge."""
        self._keep_pace()
        simulator = self.stage.platforms[run.platform]
        calm(run.platform, simulator)
        account_id = self.stage.account(self._tenant, run.platform)
        text = f"A fox in the snow, take {run.platform} {run.number}"
        asked = [self._ask(run, account_id, text) for _ in range(2 if run.twins else 1)]
        taken_at = self._clock[0]
        if run.restored:
            self._copy()
        if run.trick is not None:
            run.trick.play(simulator)
        for call, fault in run.faults:
            simulator.fault(call, fault)
        owner = self._external_id(account_id)
        acts: dict[Moment, Callable[[], object]] = {}
        for moment, act in run.acts:
            acts[moment] = self._act(act, run.platform, owner, text)
        moments = Moments(acts | dict.fromkeys(run.cuts, cut))
        self._drive(moments)
        self.struck += moments.struck
        calm(run.platform, simulator)
        if run.restored:
            self._put_back(taken_at)
        self._reconcile()
        self.played[run.platform] += 1
        for post_id in asked:
            self._judge(run, post_id)

    def close(self) -> None:
        self.app.close()
        self._web.__exit__(None, None, None)

    def _file(self, request: Request) -> Reply:
        """A file of the store, as Instagram fetches it."""
        key = request.path.removeprefix("/media/")
        size = (self.system.folder / "media" / key).stat().st_size
        return Reply(b"".join(self.app.ports.media.read(key, 0, size)), headers={"Content-Type": "video/mp4"})

    def _ask(self, run: Run, account_id: UUID, text: str) -> UUID:
        options = dict(PLATFORMS[run.platform].options)
        return self.stage.ask(self._tenant, account_id, caption=text, options=options, title="A fox")

    def _act(self, act: str, platform: str, owner: str, text: str) -> Callable[[], object]:
        simulator = self.stage.platforms[platform]
        elsewhere = getattr(simulator, "post_elsewhere", None) or simulator.foreign_post
        match act:
            case "foreign":
                return lambda: elsewhere(owner, "something else altogether")
            case "same":
                return lambda: elsewhere(owner, text)
            case "expire":
                return lambda: simulator.accounts[owner].access_tokens.clear()
        return self._deliver_again

    def _deliver_again(self) -> None:
        """A second notification of the job that runs: another thread takes it, and finds it taken."""
        failed: list[BaseException] = []

        def deliver() -> None:
            try:
                for (job_id,) in self._rows("SELECT id FROM job_queue WHERE status = 'running'"):
                    self._runner.run_one(job_id)
            except BaseException as error:
                failed.append(error)

        delivering = threading.Thread(target=deliver)
        delivering.start()
        delivering.join(30)
        if delivering.is_alive() or failed:
            self.faults.append(f"a job could not be delivered again: {failed or 'no answer in 30 s'}")

    # --- time ---------------------------------------------------------------------------------------------------------

    def _drive(self, moments: Moments) -> None:
        self._enqueue_due()
        for attempt in range(MOST_ATTEMPTS):
            jobs = self._rows(LIVE)
            if not jobs:
                if self._all_ended():
                    return
                self.stage.later(minutes=1)
                self._enqueue_due()
                continue
            job_id, wait = jobs[0]
            if wait:
                self.stage.later(seconds=wait)
            self._keep_pace()
            self._rows(DUE, job_id)
            try:
                with counting(moments):
                    self._runner.run_one(job_id)
            except Cut:
                self._beat(DEAD)
                rescue(self.app.db, self.app.job_types)
                if self._sabotage == "no-handle":
                    self._rows(FORGET)
                self._boot()
            if attempt % 5 == 4:
                self._reconnect()
        self.faults.append(f"jobs are live after {MOST_ATTEMPTS} attempts: {self.stage.live()}")
        self._rows("DELETE FROM job_queue WHERE status IN ('pending', 'running')")
        self._rows("UPDATE social_posts SET status = 'cancelled' WHERE status NOT IN ('published', 'failed')")

    def _keep_pace(self) -> None:
        """Let the clock go with the platforms' clocks, which go on by themselves."""
        ahead = next(iter(self.stage.platforms.values())).ahead
        self._clock[0] = datetime.now(UTC) + timedelta(seconds=ahead)

    def _enqueue_due(self) -> None:
        self._keep_pace()
        with self.app.db.transaction(SYSTEM) as tx:
            find_due.enqueue(tx)

    def _all_ended(self) -> bool:
        self._reconnect()
        return not self._rows("SELECT 1 FROM social_posts WHERE NOT status = ANY(%s)", list(map(str, ENDED)))

    def _reconnect(self) -> None:
        """The owners of accounts that ask for it connect them again."""
        for tenant_id, platform, external_id in self._rows(RECONNECT):
            self.struck["account connected again"] += 1
            grant = PLATFORMS[platform].grant(self.stage.platforms[platform], external_id)
            self.stage.connect(tenant_id, platform, grant)

    def _reconcile(self) -> None:
        for _ in range(3):
            doubts = self._rows(IN_DOUBT)
            if not doubts:
                return
            self.stage.later(minutes=10)
            with self.app.db.transaction(SYSTEM) as tx:
                for tenant_id, post_id in doubts:
                    reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
            self._drive(Moments({}))

    # --- a backup ----------------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        """Copy what a backup would have."""
        for table in BACKED_UP:
            self.system.rows(f"DROP TABLE IF EXISTS backup_{table}")
            self.system.rows(f"CREATE TABLE backup_{table} AS SELECT * FROM {table}")

    def _put_back(self, taken_at: datetime) -> None:
        """Let the database be as it was, notice it, and let a person say what is to be done about it."""
        self.system.rows(
            "; ".join(
                [
                    *(f"DELETE FROM {table}" for table in reversed(BACKED_UP)),
                    *(
                        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup_{table}"
                        for table in BACKED_UP
                    ),
                    "DELETE FROM job_queue WHERE status IN ('pending', 'running')",
                ]
            )
        )
        self.struck["database put back"] += 1
        self._enqueue_due()
        for job_id, _ in self._rows(LIVE):
            self._rows(DUE, job_id)
            self._runner.run_one(job_id)
        if restore.status(self.app).open:
            self.struck["put back, and noticed"] += 1
        restore.begin(self.app, min(taken_at, self._clock[0]))
        for _ in range(4):
            for job_id, wait in self._rows(LIVE):
                self.stage.later(seconds=wait)
                self._rows(DUE, job_id)
                self._runner.run_one(job_id)
        restore.end(self.app, although_undecided=True)
        self._drive(Moments({}))

    # --- the judgement -----------------------------------------------------------------------------------------------

    def _judge(self, run: Run, post_id: UUID) -> None:
        """Hold the row against what people see."""
        [row] = [row for row in self._rows(ROWS) if row[0] == post_id]
        _, platform, account, digest, status, external_id, message, submissions = row
        there = [
            post
            for post in self.stage.platforms[platform].posts
            if (post.account, post.sha256) == (account, digest) and not post.foreign
        ]
        shown = [post for post in there if not post.removed]
        self.statuses[f"{platform} {status}"] += 1
        if status in (PostStatus.FAILED, PostStatus.MISSED):
            self.reasons[f"{platform} {status}: {message}"[:160]] += 1
        fault = None
        if len(there) > 1:
            fault = f"its video was posted {len(there)} times"
        elif status == PostStatus.PUBLISHED and not there:
            fault = "it is published, and nobody can see it"
        elif status == PostStatus.PUBLISHED and external_id not in (None, there[0].id):
            fault = f"it is published as {external_id}, and is {there[0].id}"
        elif status == PostStatus.UNCONFIRMED:
            self.doubts[f"{platform}: {message}"[:160]] += 1
            fault = None if run.may_be_lost else f"it is unconfirmed, and could be found: {message}"
        elif status in (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED) and shown:
            fault = f"it is {status} ({message}), and is there"
        elif status not in map(str, ENDED):
            fault = f"it is {status}: {message}"
        if fault:
            events = self._rows("SELECT kind, message FROM post_events WHERE post_id = %s ORDER BY id", post_id)
            self.faults.append(f"{fault} ({submissions} submissions). {run.words}. {events}")

    # --- the process -------------------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.app.db.transaction(SYSTEM) as tx:
            cursor = tx.driver.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def _external_id(self, account_id: UUID) -> str:
        return str(self._rows("SELECT external_id FROM social_accounts WHERE id = %s", account_id)[0][0])

    def _boot(self) -> None:
        self._runner = self._watched.runner()
        self._beat(ALIVE)

    def _beat(self, lease: timedelta) -> None:
        with self.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(self._runner.worker_id, hostname="chaos", pid=0, queues=(), version="", lease=lease)


@dataclass
class Books:
    """What all players found."""

    played: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, player: Player) -> None:
        self.played += player.played
        self.statuses += player.statuses
        self.doubts += player.doubts
        self.reasons += player.reasons
        self.struck += player.struck
        self.faults += player.faults


@contextmanager
def platforms() -> Iterator[dict[str, Any]]:
    """One simulator of each platform."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(each.simulator()) for name, each in PLATFORMS.items()}
        for simulator in found.values():
            simulator.held_seconds = HELD
        yield found
