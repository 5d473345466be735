"""Tenants, concepts and providers for tests of videos: real Postgres, simulated providers, a studio that draws nothing.

The studio stands in for seconds of ffmpeg where the point is who pays for what.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from db.transaction import SYSTEM
from domain.concepts.generation import Generation
from domain.ports import Watch
from domain.videos.budget import Budget, month_of
from domain.videos.media import Drawn, MediaUnusable, Probe
from domain.videos.script import Script
from domain.videos.submissions import OPEN, ProviderJob
from simulators.video.clips import ClipSimulator
from simulators.video.google import google_simulator
from simulators.video.luma import luma_simulator
from simulators.video.runway import runway_simulator
from tests.builders import NOV_22, a_tenant
from tests.drain import drain
from workers.app import App, build
from workers.ops import videos
from workers.settings import Settings


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


MP4 = box(b"ftyp", b"isom\0\0\2\0") + box(b"moov", bytes(500)) + box(b"mdat", bytes(50_000))
"""A whole MP4, as far as its boxes tell."""

PROBE = Probe(
    bytes=len(MP4),
    container="mp4",
    seconds=12.0,
    width=1080,
    height=1920,
    video_codec="h264",
    pixel_format="yuv420p",
    fps=30.0,
    constant_rate=True,
    rotation=0,
    video_streams=1,
    audio_streams=1,
)


@dataclass
class PaperStudio:
    """Writes down what it was asked for instead of drawing. `during` is called in the middle of each drawing."""

    drawn: list[tuple[Script, set[int]]] = field(default_factory=list)
    during: Callable[[Watch], object] = lambda watch: None
    fails: Exception | None = None

    def storyboard(self, script: Script, target: Path, *, watch: Watch, clips: Mapping[int, Path] = {}) -> Drawn:
        watch(0.0)
        self.during(watch)
        if self.fails is not None:
            raise self.fails
        self.drawn.append((script, set(clips)))
        text = json.dumps([script.title, script.seconds, sorted(clips)]).encode()
        target.write_bytes(MP4 + box(b"free", text))
        watch(1.0)
        return Drawn(replace(PROBE, seconds=script.seconds), 1.0)

    def probe(self, path: Path, *, watch: Watch, deep: bool = False) -> Probe:
        if b"broken" in path.read_bytes():
            raise MediaUnusable("it is no video that can be read")
        return replace(PROBE, audio_streams=0) if b"mute" in path.read_bytes() else PROBE

    def thumbnail(self, path: Path, target: Path, *, at: float, watch: Watch) -> None:
        target.write_bytes(b"\xff\xd8\xff" + path.read_bytes()[-20:])


def a_concept(*, segments: int = 3, seconds: int = 4, concept_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """A concept with a script of so many segments of so many seconds."""
    script = [
        {
            "timeRange": f"{n * seconds}-{(n + 1) * seconds}s",
            "onScreenText": f"line {n}",
            "visual": f"A fox in the snow, take {n}.",
            "camera": "slow pan",
        }
        for n in range(segments)
    ]
    return {"id": concept_id or str(uuid4()), "title": "A fox", "category": "news", "script": script} | fields


@dataclass
class Stage:
    """An application whose clock stands, with providers that send bills."""

    app: App
    studio: PaperStudio
    bills: Mapping[str, ClipSimulator]
    clock: list[datetime]

    def tenant(self, *, usd: Decimal | int | None = None, tier: str = "AGENCY") -> UUID:
        tenant_id = a_tenant(self.app, subscription_tier=tier)
        if usd is not None:
            videos.set_budget(self.app, tenant_id, Decimal(usd))
        return tenant_id

    def generation(self, tenant_id: UUID, *concepts: Mapping[str, Any]) -> UUID:
        generation_id = uuid4()
        made = Generation(
            id=generation_id,
            date=self.clock[0],
            concepts=list(concepts or [a_concept()]),
            trends=[],
            generator="tests",
            job_id=None,
            sources=[],
        )
        with self.app.db.transaction(tenant_id) as tx:
            tx.generations.save(tenant_id, made)
        return generation_id

    def ask(self, tenant_id: UUID, *concepts: Mapping[str, Any], **asked: Any) -> UUID:
        """Ask for a video of a new concept; return its id."""
        generation_id = self.generation(tenant_id, *concepts)
        video_id: UUID = videos.request(self.app, tenant_id, generation_id=generation_id, **asked)["id"]
        return video_id

    def later(self, **time: float) -> None:
        self.clock[0] += timedelta(**time)

    def turn(self) -> int:
        """Run what is due now, once round, as if every wait were over; return how many attempts there were."""
        with self.app.db.transaction(SYSTEM) as tx:
            tx.driver.execute(
                "UPDATE job_queue SET scheduled_for = now() - interval '1 s', wake_at = NULL WHERE status = 'pending'"
            )
        return drain(self.app)

    def run(self, turns: int = 60, *, step: timedelta = timedelta(seconds=20)) -> None:
        """Run until no job is live; between two turns the clock goes on by a step."""
        for _ in range(turns):
            if not self.live():
                return
            self.turn()
            self.clock[0] += step
        raise AssertionError(f"still live: {self.live()}")

    def live(self) -> list[Any]:
        with self.app.db.transaction(SYSTEM) as tx:
            query = "SELECT job_type, status, error_message FROM job_queue WHERE status IN ('pending', 'running')"
            return tx.driver.execute(query).fetchall()

    def show(self, video_id: UUID) -> dict[str, Any]:
        return videos.show(self.app, None, video_id)

    def submissions(self, tenant_id: UUID, video_id: UUID) -> list[ProviderJob]:
        with self.app.db.transaction(tenant_id) as tx:
            return tx.submissions.of_video(tenant_id, video_id)

    def budget(self, tenant_id: UUID, month: datetime | None = None) -> Budget:
        with self.app.db.transaction(tenant_id) as tx:
            return tx.video_budgets.read(tenant_id, month_of(month or self.clock[0]))[0]

    def usage(self, tenant_id: UUID) -> list[tuple[str, Decimal]]:
        with self.app.db.transaction(tenant_id) as tx:
            query = "SELECT name, cost_usd FROM api_usage WHERE kind = 'video' ORDER BY id"
            return tx.driver.execute(query).fetchall()

    def bill(self) -> Decimal:
        return sum((each.charged_usd for each in self.bills.values()), Decimal(0))

    def assert_books(self, *tenants: UUID) -> None:
        """Every order at a provider belongs to one submission, or to one in doubt (now, or until a person gave it up);
        and the money is what the rows say."""
        reserved = spent = Decimal(0)
        ids: list[str] = []
        doubted = 0
        with self.app.db.transaction(SYSTEM) as tx:
            rows = tx.driver.execute(
                "SELECT state, provider_job_id, estimated_usd, final_usd, error_code FROM provider_jobs"
            ).fetchall()
            budgets = tx.driver.execute("SELECT sum(reserved_usd), sum(spent_usd) FROM video_budgets").fetchall()
        for state, provider_job_id, estimated, final, code in rows:
            reserved += estimated if state in OPEN else 0
            spent += final or 0
            ids += [provider_job_id] if provider_job_id else []
            doubted += provider_job_id is None and (state in ("intended", "unconfirmed") or code == "lost")
        assert len(ids) == len(set(ids))
        ordered = {order.id for each in self.bills.values() for order in each.orders}
        assert set(ids) <= ordered
        assert len(ordered) <= len(ids) + doubted, "an order that no submission stands for"
        [(budget_reserved, budget_spent)] = budgets
        assert (budget_reserved or 0, budget_spent or 0) == (reserved, spent)


@contextmanager
def stage(settings: Settings, folder: Path, *, media: bytes = MP4, **options: Any) -> Iterator[Stage]:
    """The three providers with their keys, and a store in this folder."""
    clock = [NOV_22]
    with runway_simulator(media) as runway, google_simulator(media) as google, luma_simulator(media) as luma:
        values: dict[str, Any] = {
            "runwayml_api_secret": runway.key,
            "runwayml_base_url": runway.url,
            "gemini_api_key": google.key,
            "gemini_base_url": google.url,
            "luma_agents_api_key": luma.key,
            "luma_agents_base_url": luma.url,
            "media_dir": folder,
        }
        changed = Settings.model_validate(settings.model_dump() | values | options)
        app = build(changed, name="tests", clock=lambda: clock[0])
        studio = PaperStudio()
        app = replace(app, ports=replace(app.ports, studio=studio))
        yield Stage(app, studio, {"runway": runway, "google": google, "luma": luma}, clock)
        app.close()
