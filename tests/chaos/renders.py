"""Videos that are bought and drawn under faults: what is asked for, how it is driven to its end, and the judgement by
the providers' own books."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.errors import ViralError
from domain.ports import Studio, Watch
from domain.videos.media import Drawn, Probe, object_key
from domain.videos.script import Script
from domain.videos.submissions import OPEN
from integrations.studio import ffmpeg
from integrations.studio.studio import FfmpegStudio
from simulators.video.clips import TRICKS, ClipSimulator, Order, Trick
from simulators.video.google import google_simulator
from simulators.video.luma import luma_simulator
from simulators.video.runway import runway_simulator
from tests.chaos.cuts import Cut, Moment, Moments, counting, cut, watched
from tests.chaos.servers import System
from workers.app import App, build
from workers.engine.outcomes import rescue
from workers.engine.runner import Runner
from workers.ops import videos
from workers.settings import load

PROVIDERS = ("runway", "google", "luma")
KEYS = {"runway": "RUNWAYML_API_SECRET", "google": "GEMINI_API_KEY", "luma": "LUMA_AGENTS_API_KEY"}
BASES = {"runway": "RUNWAYML_BASE_URL", "google": "GEMINI_BASE_URL", "luma": "LUMA_AGENTS_BASE_URL"}
SIMULATORS = {"runway": runway_simulator, "google": google_simulator, "luma": luma_simulator}
HELD = 0.2
"""Seconds for which a simulator holds an answer back before it hangs up."""

CALLS = {
    "provider": ("submit", "submit", "look", "poll", "fetch", "cancel"),
    "store": ("put", "get"),
    "studio": ("storyboard", "probe", "thumbnail"),
}
NAMED = tuple(
    f"{port}.{call}:{when}" for port, calls in CALLS.items() for call in calls for when in ("before", "after")
)
MARK = re.compile(r"\[run ([0-9a-f-]{36})\]")
MOST_ATTEMPTS = 400
DEAD, ALIVE = timedelta(seconds=-1), timedelta(days=1)

LIVE_JOBS = """
SELECT id, greatest(extract(epoch FROM scheduled_for - now()), 0)::float FROM job_queue
WHERE tenant_id = %s AND payload ->> 'video_id' = %s AND status IN ('pending', 'running') ORDER BY scheduled_for
"""
DUE = "UPDATE job_queue SET scheduled_for = now() WHERE id = %s AND status = 'pending'"
GENERATION = "INSERT INTO generations (tenant_id, concepts) VALUES (%s, %s) RETURNING id"
SUBMISSIONS = """
SELECT id, video_id, tenant_id, provider, state, provider_job_id, estimated_usd, final_usd, error_message
FROM provider_jobs
"""
VIDEOS = """
SELECT v.id, v.status, v.stage, v.error_message, v.tenant_id, m.sha256, m.extension,
       (SELECT count(*) FROM job_queue q WHERE q.payload ->> 'video_id' = v.id::text
        AND q.status IN ('pending', 'running'))
FROM videos v LEFT JOIN media m ON m.id = v.media_id
"""
BUDGETS = "SELECT tenant_id, sum(reserved_usd), sum(spent_usd) FROM video_budgets GROUP BY 1"


@dataclass(frozen=True)
class Run:
    """One video that is asked for. `tricks` are what its provider does, order by order; `cuts` the moments at which its
    process dies, `stops` the one at which its owner cancels it."""

    id: UUID
    tenant_id: UUID
    provider: str
    layout: str
    tricks: tuple[Trick | None, ...]
    cuts: tuple[Moment, ...]
    stops: Moment | None

    @property
    def concept(self) -> Mapping[str, Any]:
        mark, half = f"[run {self.id}]", 2.5
        parts = [(0, half), (half, 2 * half)]
        return {
            "id": str(self.id),
            "title": "Two cups of tea",
            "category": "lifestyle",
            "soraPrompt": f"{mark} Two cups of tea on a table",
            "script": [
                {
                    "timeRange": f"{start:g}-{end:g}s",
                    "onScreenText": f"Cup {number}",
                    "visual": f"{mark} Cup {number} of tea",
                    "camera": "slow pan",
                }
                for number, (start, end) in enumerate(parts, 1)
            ],
            "hashtags": ["#tea"],
        }


def runs(rng: Random, tenants: Sequence[UUID], provider: str, count: int) -> list[Run]:
    """Make up so many runs with one provider: each trick equally often, and cuts and cancellations at every moment."""
    made = []
    for number in range(count):
        tricks: tuple[Trick | None, ...] = (TRICKS[number % len(TRICKS)] if number % 4 else None, _some(rng))
        cuts = tuple(_moment(rng) for _ in range(rng.choice((0, 0, 1, 1, 1, 2))))
        made.append(
            Run(
                id=UUID(int=rng.getrandbits(128), version=4),
                tenant_id=rng.choice(tenants),
                provider=provider if rng.random() < 0.9 else "auto",
                layout=rng.choice(("clip", "clip", "clip", "hook", "scenes")),
                tricks=tricks if rng.random() < 0.9 else (None,),
                cuts=cuts,
                stops=_moment(rng) if rng.random() < 0.3 else None,
            )
        )
    # However few there are, a process dies with an order just taken, and somebody cancels: at first, with a clip that
    # is finished, and with one whose provider does not stop.
    made[0] = replace(made[0], provider=provider, tricks=(None,), cuts=("provider.submit:after",), stops=None)
    made[1] = replace(made[1], provider=provider, cuts=(), stops="COMMIT:after")
    made[2] = replace(made[2], provider=provider, tricks=(None,), cuts=(), stops="provider.fetch:before")
    made[3] = replace(made[3], provider=provider, tricks=("cancels fail",), cuts=(), stops="provider.poll:after")
    return made


def _moment(rng: Random) -> Moment:
    return rng.choice(NAMED) if rng.random() < 0.6 else rng.randrange(1, 45)


def _some(rng: Random) -> Trick | None:
    return rng.choice(TRICKS) if rng.random() < 0.3 else None


# --- the outside -------------------------------------------------------------------------------------------------


def a_clip(folder: Path) -> bytes:
    """Five seconds of a real film, made once."""
    path = folder / "clip.mp4"
    pictures = ["-f", "lavfi", "-i", "testsrc2=size=720x1280:rate=30:duration=5"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=220:sample_rate=48000:duration=5"]
    encoded = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "45", "-pix_fmt", "yuv420p", "-bf", "0"]
    moved = ["-c:a", "aac", "-use_editlist", "0", "-movflags", "+faststart", str(path)]
    ffmpeg.run(ffmpeg.find("ffmpeg"), [*pictures, *sound, *encoded, *moved], watch=lambda: None, limit=60)
    return path.read_bytes()


class QuickStudio(Studio):
    """Draws nothing and gives the same film each time; what it looks at, it looks at in earnest, each content once."""

    def __init__(self, film: bytes) -> None:
        self._film = film
        self._real = FfmpegStudio()
        self._probes: dict[tuple[bytes, bool], Probe | ViralError] = {}
        self._lock = threading.Lock()

    def storyboard(self, script: Script, target: Path, *, watch: Watch, clips: Mapping[int, Path] = {}) -> Drawn:
        watch(0.5)
        target.write_bytes(self._film)
        return Drawn(self.probe(target, watch=watch), cover_at=1.0)

    def probe(self, path: Path, *, watch: Watch, deep: bool = False) -> Probe:
        watch(0.0)
        key = sha256(path.read_bytes()).digest(), deep
        with self._lock:
            if key not in self._probes:
                try:
                    self._probes[key] = self._real.probe(path, watch=lambda fraction: None, deep=deep)
                except ViralError as error:
                    self._probes[key] = error
        found = self._probes[key]
        if isinstance(found, ViralError):
            raise found
        return found

    def thumbnail(self, path: Path, target: Path, *, at: float, watch: Watch) -> None:
        watch(0.5)
        target.write_bytes(b"\xff\xd8\xff\xd9")


@dataclass
class Providers:
    """One simulator of each provider."""

    simulators: Mapping[str, ClipSimulator]

    @property
    def environment(self) -> dict[str, str]:
        keys = {KEYS[name]: simulator.key for name, simulator in self.simulators.items()}
        return keys | {BASES[name]: simulator.url for name, simulator in self.simulators.items()}

    @property
    def posts(self) -> int:
        return sum(simulator.posts for simulator in self.simulators.values())

    def orders(self) -> Iterator[Order]:
        for simulator in self.simulators.values():
            yield from simulator.orders


@contextmanager
def providers(film: bytes) -> Iterator[Providers]:
    with ExitStack() as stack:
        yield Providers({name: stack.enter_context(make(film, held_seconds=HELD)) for name, make in SIMULATORS.items()})


# --- one process, whose attempts can be cut ----------------------------------------------------------------------


@dataclass
class Clock:
    """Real time, and as much more as jobs have snoozed."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Player:
    """Plays runs one after another, in the calling thread, with providers, an application and a clock of its own."""

    def __init__(self, system: System, outside: Providers, studio: Studio, media: Path, sabotage: str = "") -> None:
        self.system = system
        self.outside = outside
        self.struck: Counter[str] = Counter()
        self.posts: dict[UUID, int] = {}
        self.videos: dict[UUID, UUID] = {}
        self.stuck: list[str] = []
        self._clock = Clock()
        settings = load(system.environment | outside.environment | {"MEDIA_DIR": str(media)})
        self.app: App = build(settings, name="chaos renders", pool_size=3, clock=self._clock)
        self._user = replace(self.app, clock=None)
        ports = replace(self.app.ports, studio=studio)
        self._watched = watched(replace(self.app, ports=ports), resending=sabotage == "resend")
        self._runner: Runner
        self._boot()

    def play(self, run: Run) -> None:
        """Ask for the video, and drive its jobs until none is left, whatever befalls them."""
        before = self.outside.posts
        for simulator in self.outside.simulators.values():
            simulator.tricks.clear()
            simulator.misbehave(*run.tricks)
        video_id = self.request(run)
        acts: dict[Moment, Callable[[], object]] = dict.fromkeys(run.cuts, cut)
        if run.stops is not None and run.stops not in acts:
            acts[run.stops] = lambda: self._cancel(run.tenant_id, video_id)
        moments = Moments(acts)
        self.drive(run.tenant_id, video_id, moments)
        self.struck += moments.struck
        self.posts[run.id] = self.outside.posts - before

    def request(self, run: Run) -> UUID:
        """Ask for the video, as the API does."""
        generation = self.system_value(GENERATION, run.tenant_id, json.dumps([run.concept]))
        asked = videos.request(
            self._user,
            run.tenant_id,
            generation_id=generation,
            concept_id=str(run.id),
            provider=run.provider,
            layout=run.layout,
        )
        video_id: UUID = asked["id"]
        self.videos[run.id] = video_id
        return video_id

    def drive(self, tenant_id: UUID, video_id: UUID, moments: Moments) -> None:
        self._clock.ahead = timedelta(0)
        for _ in range(MOST_ATTEMPTS):
            jobs = self.rows(LIVE_JOBS, tenant_id, str(video_id))
            if not jobs:
                return
            job_id, wait = jobs[0]
            self._clock.ahead += timedelta(seconds=wait)
            self.rows(DUE, job_id)
            try:
                with counting(moments):
                    self._runner.run_one(job_id)
            except Cut:
                self._beat(DEAD)
                rescue(self.app.db, self.app.job_types)
                self._boot()
        self.stuck.append(f"video {video_id} of {tenant_id} has a live job after {MOST_ATTEMPTS} attempts")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._user.db.transaction(SYSTEM) as tx:
            cursor = tx.driver.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def system_value(self, query: str, *values: Any) -> Any:
        return self.rows(query, *values)[0][0]

    def close(self) -> None:
        self.app.close()

    def _boot(self) -> None:
        self._runner = self._watched.runner()
        self._beat(ALIVE)

    def _beat(self, lease: timedelta) -> None:
        with self._user.db.transaction(SYSTEM) as tx:
            tx.workers.beat(self._runner.worker_id, hostname="chaos", pid=0, queues=(), version="", lease=lease)

    def _cancel(self, tenant_id: UUID, video_id: UUID) -> None:
        """As the API does it: another thread, with its own connection."""
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                videos.cancel(self._user, tenant_id, video_id)
            except ViralError as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(30)
        if asking.is_alive() or failed:
            self.stuck.append(f"video {video_id} could not be cancelled: {failed or 'no answer in 30 s'}")


# --- the judgement ----------------------------------------------------------------------------------------------


@dataclass
class Books:
    """What the providers have taken and charged, beside what our tables say. `faults` is what does not agree."""

    runs: int = 0
    orders: int = 0
    states: Counter[str] = field(default_factory=Counter)
    open: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def compare(
    system: System, played: Mapping[UUID, UUID], posts: Mapping[UUID, int], orders: Sequence[Order], media: Path
) -> Books:
    """Compare them. `played` are the videos by the run's id, `posts` the orders that were sent, taken or not."""
    books = Books(runs=len(played), orders=len(orders))
    fault = books.faults.append
    video_of = {video: run for run, video in played.items()}
    by_run: dict[UUID, list[Order]] = {run: [] for run in played}
    for order in orders:
        found = MARK.search(order.prompt)
        if found is None or UUID(found[1]) not in by_run:
            fault(f"{order.id} was ordered for no run: {order.prompt[:60]}")
        else:
            by_run[UUID(found[1])].append(order)
    rows: dict[UUID, list[Any]] = {run: [] for run in played}
    for row in system.rows(SUBMISSIONS):
        rows[video_of[row[1]]].append(row)
    owed: Counter[UUID] = Counter()
    spent: Counter[UUID] = Counter()
    for run, submissions in rows.items():
        _compare_run(run, submissions, by_run[run], posts.get(run), books, owed, spent)
    for tenant_id, reserved_usd, spent_usd in system.rows(BUDGETS):
        if reserved_usd != owed[tenant_id]:
            fault(f"tenant {tenant_id}: {reserved_usd} reserved, {owed[tenant_id]} are open")
        if spent_usd != spent[tenant_id]:
            fault(f"tenant {tenant_id}: {spent_usd} spent, {spent[tenant_id]} were charged")
    for video in system.rows(VIDEOS):
        unknown = any(row[4] in OPEN for row in rows[video_of[video[0]]])
        _compare_video(video, unknown, media, books)
    return books


def _compare_video(video: Sequence[Any], unknown: bool, media: Path, books: Books) -> None:
    video_id, status, stage, error, tenant_id, digest, extension, live = video
    fault = books.faults.append
    books.statuses[status] += 1
    if status in ("pending", "rendering") and not live:
        fault(f"video {video_id} is {status} ({stage}), and no job is at it")
    if (status == "unconfirmed") != unknown and status != "cancelled":
        fault(f"video {video_id} is {status}: {error}; open submissions: {unknown}")
    if status == "failed" and not error:
        fault(f"video {video_id} failed without a reason")
    if status == "completed" and not (digest and (media / object_key(tenant_id, digest, extension)).is_file()):
        fault(f"video {video_id} is complete, and its file is not kept")


def _compare_run(
    run: UUID,
    rows: Sequence[Any],
    orders: Sequence[Order],
    posts: int | None,
    books: Books,
    owed: Counter[UUID],
    spent: Counter[UUID],
) -> None:
    fault = books.faults.append
    unclaimed = {order.id: order for order in orders}
    for _, _, tenant_id, provider, state, provider_job_id, estimated_usd, final_usd, message in rows:
        books.states[state] += 1
        order = unclaimed.pop(provider_job_id, None) if provider_job_id else None
        if provider_job_id and order is None:
            fault(f"run {run}: {provider} has no order {provider_job_id} for it, or two submissions have it")
        if order is not None and order.state == "deleted":
            fault(f"run {run}: the finished clip {order.id} was deleted at {provider}")
        if order is not None and "after a day" in (message or "") and state in OPEN and order.trick != "never ends":
            fault(f"run {run}: {provider} was not looked at for a day: {message} ({order.trick}, {order.state})")
        if state in OPEN:
            owed[tenant_id] += estimated_usd
            books.open[f"{provider} {state}: {message}"[:150]] += 1
            if state == "intended":
                fault(f"run {run}: a submission to {provider} is intended still, and no job is at it")
        elif order is not None:
            spent[tenant_id] += order.charged_usd  # type: ignore[assignment]
            if final_usd != order.charged_usd:
                how = f"{order.trick or 'no trick'}, {order.state} after {order.polls} polls"
                fault(f"run {run}: {provider} charged {order.charged_usd}, {final_usd} booked as {state} ({how})")
        elif state not in ("refused", "failed"):
            fault(f"run {run}: {provider} never took what is {state}")
    unknown = sum(state == "unconfirmed" and not named for _, _, _, _, state, named, *_ in rows)
    if len(unclaimed) > unknown:
        fault(
            f"run {run}: {len(unclaimed)} orders were taken that no submission knows of, {unknown} are unconfirmed: "
            f"{[(order.trick, order.state) for order in unclaimed.values()]}; {[row[3:6] for row in rows]}"
        )
    if posts is not None and posts > len(rows):
        fault(f"run {run}: {posts} orders were sent for {len(rows)} submissions")


def decide(player: Player, orders: Sequence[Order]) -> Counter[str]:
    """Do what a person does who has the provider's bill before them: find what was taken, and give up the rest."""
    decisions: Counter[str] = Counter()
    for simulator in player.outside.simulators.values():
        simulator.tricks.clear()
    taken = {order.id: order for order in orders}
    by_run: dict[UUID, list[Order]] = {}
    for order in orders:
        if (found := MARK.search(order.prompt)) is not None:
            by_run.setdefault(UUID(found[1]), []).append(order)
    rows = player.system.rows(SUBMISSIONS)
    bound = {row[5] for row in rows if row[5]}
    run_of = {video: run for run, video in player.videos.items()}
    for _, video_id, tenant_id, _, state, provider_job_id, *_ in rows:
        if state not in OPEN or video_id not in run_of:
            continue
        of_run = by_run.get(run_of[video_id], [])
        order = taken.get(provider_job_id) or next((each for each in of_run if each.id not in bound), None)
        if order is None:
            videos.resolve(player.app, video_id, "lost")
            decisions["lost"] += 1
        else:
            bound.add(order.id)
            order.trick = None
            videos.resolve(player.app, video_id, "found", order.id)
            decisions["found"] += 1
        player.drive(tenant_id, video_id, Moments({}))
    return decisions
