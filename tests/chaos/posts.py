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
from domain.errors import Conflict
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
from workers.ops.post_stories import resolve
from workers.settings import load

HELD = 0.1
"""Seconds for which a simulator holds an answer back before it hangs up."""
MOST_ATTEMPTS = 500
DOUBLED = "posted more than once"
DEAD, ALIVE = timedelta(seconds=-1), timedelta(days=1)
LIVE = """
SELECT id, greatest(extract(epoch FROM scheduled_for - now()), 0)::float FROM job_queue
WHERE status IN ('pending', 'running') ORDER BY scheduled_for, id
"""
DUE = "UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE id = %s AND status = 'pending'"
STATUSES = "SELECT status FROM social_posts WHERE account_id = %s"
IN_DOUBT = "SELECT tenant_id, id FROM social_posts WHERE status = 'unconfirmed'"
LOOKING = "SELECT 1 FROM job_queue WHERE status IN ('pending', 'running') AND job_type = 'posting.reconcile' LIMIT 1"
RECONNECT = "SELECT tenant_id, platform, external_id FROM social_accounts WHERE status = 'needs_reconnect'"
FORGET = """
UPDATE social_posts SET status = 'claimed', handle = NULL, handle_secrets = NULL, submitted_at = NULL
WHERE status IN ('claimed', 'submitting', 'submitted', 'processing')
"""
BACKED_UP = {
    "social_posts": "id",
    "post_events": "post_id",
    "post_submissions": "post_id",
    "post_reservations": "post_id",
}
"""What a backup has of a post, and by which column it is the post's."""
ROW = """
SELECT p.id, a.platform, a.external_id, encode(m.sha256, 'hex'), p.status, p.external_id, p.error_message,
       (SELECT count(*) FROM post_submissions s WHERE s.post_id = p.id)
FROM social_posts p JOIN social_accounts a ON a.id = p.account_id
JOIN videos v ON v.id = p.video_id JOIN media m ON m.id = v.media_id WHERE p.id = %s
"""
HURRY = (
    "UPDATE job_queue SET scheduled_for = now(), wake_at = now() WHERE status = 'pending'"
    " AND starts_with(job_type, 'posting.') AND scheduled_for > now() + interval '0.3 s'",
    "UPDATE rate_buckets SET used_until = used_until - interval '1 min',"
    " promised_until = promised_until - interval '1 min', closed_until = closed_until - interval '1 min'",
    "UPDATE social_posts p SET submitted_at = submitted_at - interval '70 min'"
    " WHERE status IN ('submitting', 'submitted', 'processing')"
    " AND submitted_at BETWEEN now() - interval '60 min' AND now() - interval '5 s'"
    " AND NOT EXISTS (SELECT 1 FROM job_queue q WHERE q.id = p.job_id AND q.status = 'running')",
    "UPDATE social_posts p SET look_after = now() WHERE look_after > now()"
    " AND NOT EXISTS (SELECT 1 FROM job_queue q WHERE q.id = p.job_id AND q.status IN ('pending', 'running'))",
)
"""What lets real processes wait for seconds instead of minutes. A request whose sender was killed arrives within five
seconds, if at all."""
OPEN = "SELECT id FROM social_posts WHERE NOT status = ANY(%s)"


@dataclass(frozen=True)
class Fault:
    """What must not be. `kind` is how such are counted, `text` all that is known of this one."""

    kind: str
    text: str


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
        self.faults: list[Fault] = []
        self.doubts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.played = Counter[str]()
        self._sabotage = sabotage
        self._clock = [datetime.now(UTC)]
        # The marks that are kept outside of a database are of this one.
        redis_url = f"{system.environment['REDIS_URL'].rpartition('/')[0]}/{number}"
        settings = load(system.environment | {"REDIS_URL": redis_url})
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
        self.environment = {name.upper(): str(value) for name, value in values.items()} | {"REDIS_URL": redis_url}
        """What another process needs to work for this player."""
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
        simulator = self.stage.platforms[run.platform]
        calm(run.platform, simulator)
        account_id, text, asked = self._ask(run)
        taken_at = self._clock[0]
        if run.restored:
            self._copy(asked)
        self._befall(run)
        owner = self._external_id(account_id)
        acts: dict[Moment, Callable[[], object]] = {}
        for moment, act in run.acts:
            acts[moment] = self._act(act, run.platform, owner, text)
        moments = Moments(acts | dict.fromkeys(run.cuts, cut))
        self._drive(moments)
        self.struck += moments.struck
        calm(run.platform, simulator)
        if run.restored:
            self._put_back(taken_at, asked)
        self._reconcile()
        self.judge(run, asked)
        if decided := self._decide(asked):
            self._drive(Moments({}))
            self._hold(run, decided, "after a person has decided, ")

    def hand_over(self, run: Run) -> list[UUID]:
        """Ask for the posts, which other processes make; return their ids."""
        self._befall(run)
        return self._ask(run)[2]

    def judge(self, run: Run, asked: list[UUID]) -> None:
        """Hold the rows against what people see."""
        self.played[run.platform] += 1
        for post_id in asked:
            _, platform, _, _, status, _, message, _ = self._row(post_id)
            self.statuses[f"{platform} {status}"] += 1
            if status in (PostStatus.FAILED, PostStatus.MISSED):
                self.reasons[f"{platform} {status}: {message}"[:160]] += 1
            elif status == PostStatus.UNCONFIRMED:
                self.doubts[f"{platform}: {message}"[:160]] += 1
        self._hold(run, asked)

    def open(self) -> int:
        """Return how many posts have not ended."""
        return len(self._rows(OPEN, list(map(str, ENDED))))

    def hurry(self) -> None:
        """Let what other processes wait for be over, and the time in which a request may still arrive. What they wait
        for is not waited for by what runs now."""
        self._keep_pace()
        for query in HURRY:
            self._rows(query)
        self._reconnect()

    def ask_again(self) -> int:
        """Let other processes look what became of the posts that are in doubt. Return how many there are."""
        doubts = self._rows(IN_DOUBT)
        with self.app.db.transaction(SYSTEM) as tx:
            for tenant_id, post_id in doubts:
                reconcile.enqueue(tx, tenant_id=tenant_id, post_id=post_id)
        return len(doubts)

    def close(self) -> None:
        self.app.close()
        self._web.__exit__(None, None, None)

    def _file(self, request: Request) -> Reply:
        """A file of the store, as Instagram fetches it."""
        key = request.path.removeprefix("/media/")
        size = (self.system.folder / "media" / key).stat().st_size
        return Reply(b"".join(self.app.ports.media.read(key, 0, size)), headers={"Content-Type": "video/mp4"})

    def _ask(self, run: Run) -> tuple[UUID, str, list[UUID]]:
        """Schedule what the run is about, for an account of its own; return that, the text and the posts."""
        self._keep_pace()
        account_id = self.stage.account(self._tenant, run.platform)
        text = f"A fox in the snow, take {run.platform} {run.number}"
        options = dict(PLATFORMS[run.platform].options)
        asked = [
            self.stage.ask(self._tenant, account_id, caption=text, options=options, title="A fox")
            for _ in range(2 if run.twins else 1)
        ]
        return account_id, text, asked

    def _befall(self, run: Run) -> None:
        simulator = self.stage.platforms[run.platform]
        if run.trick is not None:
            run.trick.play(simulator)
        for call, fault in run.faults:
            simulator.fault(call, fault)

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
            self.faults.append(Fault("not delivered again", f"a job: {failed or 'no answer in 30 s'}"))

    def looking(self) -> bool:
        """Whether another process looks, or is to look, what became of a post in doubt."""
        return bool(self._rows(LOOKING))

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
        self.faults.append(Fault("no end", f"jobs are live after {MOST_ATTEMPTS} attempts: {self.stage.live()}"))
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
        return not self.open()

    def _reconnect(self) -> None:
        """The owners of accounts that ask for it connect them again."""
        for tenant_id, platform, external_id in self._rows(RECONNECT):
            self.struck["account connected again"] += 1
            self.stage.platforms[platform].accounts[external_id].revoked = False
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

    def _copy(self, asked: list[UUID]) -> None:
        """Copy what a backup would have of these posts; nothing befalls the others any more."""
        for table, column in BACKED_UP.items():
            self.system.rows(f"DROP TABLE IF EXISTS backup_{table}")
            self.system.rows(f"CREATE TABLE backup_{table} AS SELECT * FROM {table} WHERE {column} = ANY(%s)", [asked])

    def _put_back(self, taken_at: datetime, asked: list[UUID]) -> None:
        """Let the database be as it was, notice it, and let a person say what is to be done about it."""
        for table, column in reversed(BACKED_UP.items()):
            self.system.rows(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [asked])
        for table in BACKED_UP:
            self.system.rows(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup_{table}")
        self.system.rows("DELETE FROM job_queue WHERE status IN ('pending', 'running')")
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

    def _hold(self, run: Run, asked: list[UUID], when: str = "") -> None:
        for post_id in asked:
            row = self._row(post_id)
            fault = self._fault(run, row)
            if fault is not None:
                events = self._rows("SELECT kind, message FROM post_events WHERE post_id = %s ORDER BY id", post_id)
                text = f"{when}{fault.text} ({row[-1]} submissions). {run.words}. {events}"
                self.faults.append(Fault(f"{run.platform}: {when}{fault.kind}", text))

    def _fault(self, run: Run, row: tuple[Any, ...]) -> Fault | None:
        """Return what is wrong with a post."""
        _, platform, account, digest, status, external_id, message, _ = row
        there = self._there(platform, account, digest)
        if len(there) > 1:
            return Fault(DOUBLED, f"its video was posted {len(there)} times")
        if status == PostStatus.PUBLISHED and not there:
            if run.may_be_taken and self._is_the_owners(platform, account, external_id):
                self.struck["an owner's post of the same words was taken for ours"] += 1
                return None
            return Fault("published, and not there", "it is published, and nobody can see it")
        if status == PostStatus.PUBLISHED and external_id not in (None, there[0].id):
            return Fault("another one's id", f"it is published as {external_id}, and is {there[0].id}")
        if status == PostStatus.UNCONFIRMED and not run.may_be_lost:
            return Fault("in doubt for nothing", f"it is unconfirmed, and could be found: {message}")
        ended = (PostStatus.FAILED, PostStatus.MISSED, PostStatus.CANCELLED)
        if status in ended and any(not post.removed for post in there):
            return Fault(f"{status}, and there", f"it is {status} ({message}), and is there")
        if status not in map(str, ENDED):
            return Fault(f"left {status}", f"it is {status}: {message}")
        return None

    def _decide(self, asked: list[UUID]) -> list[UUID]:
        """Say of the posts that are in doubt what people see, as a person would. Return those that are decided."""
        decided = []
        for post_id, platform, account, digest, status, *_ in map(self._row, asked):
            if status != PostStatus.UNCONFIRMED:
                continue
            there = self._there(platform, account, digest)
            try:
                resolve(self.app, post_id, "found" if there else "lost", there[0].id if there else None)
                self.struck["a person found it" if there else "a person said that it is lost"] += 1
                decided.append(post_id)
            except Conflict as error:
                # TikTok shows nobody a post whose id it does not name.
                self.struck[f"a person was refused: {error.code}"] += 1
                self._rows("UPDATE social_posts SET status = 'cancelled', look_after = NULL WHERE id = %s", post_id)
        return decided

    def _row(self, post_id: UUID) -> tuple[Any, ...]:
        return self._rows(ROW, post_id)[0]

    def _there(self, platform: str, account: str, digest: str) -> list[Any]:
        posts = self.stage.platforms[platform].posts
        return [post for post in posts if (post.account, post.sha256, post.foreign) == (account, digest, False)]

    def _is_the_owners(self, platform: str, account: str, external_id: str | None) -> bool:
        posts = self.stage.platforms[platform].posts
        return any((post.id, post.account, post.foreign) == (external_id, account, True) for post in posts)

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
    faults: list[Fault] = field(default_factory=list)

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
