"""Tenants with an autopilot: real Postgres, simulated platforms and a simulated provider, a studio that draws nothing.

The clock stands unless somebody puts it forward; the rules and the jobs read it, so a month goes by in seconds without
a row being changed behind their back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.autopilot.chains import Mode
from domain.autopilot.settings import Settings as Allowed
from simulators.video.clips import ClipSimulator
from simulators.video.runway import runway_simulator
from tests.post_stage import PostStage, post_stage
from tests.video_stage import MP4, PaperStudio
from workers.app import App
from workers.jobs.autopilot import anything_due, find_due
from workers.ops import videos
from workers.settings import Settings

OPTIONS = {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}, "youtube-shorts": {"privacy": "public"}}


@dataclass
class AutopilotStage:
    """What the autopilot works with. `posts` is the stage of the posts, with its clock."""

    posts: PostStage
    studio: PaperStudio
    runway: ClipSimulator
    accounts: dict[UUID, list[UUID]] = field(default_factory=dict)

    @property
    def app(self) -> App:
        return self.posts.app

    @property
    def now(self) -> datetime:
        return self.posts.clock[0]

    def tenant(
        self,
        mode: Mode = Mode.AUTO,
        *,
        platforms: Sequence[str] = ("bluesky",),
        usd: Decimal | int = 0,
        columns: dict[str, Any] | None = None,
        **allowed: Any,
    ) -> UUID:
        """A tenant whose autopilot is in this mode, with an account on each platform, whose owner consents. Its day
        has begun already, and its one video a day is posted in two hours, unless something else is `allowed`. `usd` is
        what the tenant may spend on clips, whoever asks for them."""
        hour = {"daily_hour": self.now.hour, "daily_enabled": False}
        row = {"monthly_quota": 100_000, "subscription_tier": "AGENCY"} | hour | (columns or {})
        tenant_id = self.posts.tenant(**row)
        self.accounts[tenant_id] = []
        for platform in platforms:
            account_id = self.posts.account(tenant_id, platform)
            self.accounts[tenant_id].append(account_id)
            with self.app.db.transaction(tenant_id) as tx:
                tx.social_accounts.change(tenant_id, account_id, settings=OPTIONS.get(platform, {}))
                tx.autopilot.consent(tenant_id, account_id, "its owner", self.now)
        if usd:
            videos.set_budget(self.app, tenant_id, Decimal(usd), self.now.date())
        times = () if "videos_a_day" in allowed else (f"{self.now + timedelta(hours=2):%H}:00",)
        self.allow(tenant_id, mode=mode, **({"least_score": 0, "times": times} | allowed))
        return tenant_id

    def allow(self, tenant_id: UUID, **changes: Any) -> list[UUID]:
        with self.app.db.transaction(tenant_id) as tx:
            now = tx.autopilot.settings(tenant_id)
            wanted: Allowed = replace(now, **changes)
            return tx.autopilot.save(tenant_id, wanted, self.now)

    def withdraw(self, tenant_id: UUID, account_id: UUID) -> list[UUID] | None:
        with self.app.db.transaction(tenant_id) as tx:
            return tx.autopilot.withdraw(tenant_id, account_id, self.now)

    def minute(self, minutes: int = 1) -> None:
        """Let the schedule's minute come, run all that is due, and put the clocks forward."""
        self.look()
        self.posts.due()
        self.posts.turn()
        self.posts.later(minutes=minutes)

    def look(self) -> None:
        with self.app.db.transaction(SYSTEM) as tx:
            if anything_due(tx, self.posts.clock[0]):
                find_due.enqueue(tx)

    def until(self, tenant_id: UUID, *stages: str, minutes: int = 30, minutes_a_step: int = 1) -> list[dict[str, Any]]:
        """Go on until all chains of the tenant's first day are in one of these stages; return them."""
        chains: list[dict[str, Any]] = []
        for _ in range(minutes):
            self.minute(minutes=minutes_a_step)
            chains = self.chains(tenant_id)
            chains = [each for each in chains if each["day"] == chains[-1]["day"]]
            if chains and all(each["stage"] in stages for each in chains):
                return chains
        raise AssertionError(f"not {stages}: {[(each['stage'], each['reason']) for each in chains]}")

    def chains(self, tenant_id: UUID) -> list[dict[str, Any]]:
        with self.app.db.transaction(tenant_id) as tx:
            return tx.autopilot.chains(tenant_id, 100)

    def events(self, chain: dict[str, Any]) -> list[tuple[str, str]]:
        with self.app.db.transaction(chain["tenant_id"]) as tx:
            rows = tx.autopilot.events(chain["tenant_id"], chain["id"])
        return [(each["kind"], each["message"]) for each in rows]

    def rows(self, query: str, *values: Any) -> list[Any]:
        with self.app.db.transaction(SYSTEM) as tx:
            return tx.driver.execute(query, values).fetchall()

    def made(self, tenant_id: UUID) -> list[tuple[str, str]]:
        """Return the platforms and states of the tenant's posts."""
        query = """
            SELECT a.platform, p.status FROM social_posts p JOIN social_accounts a ON a.id = p.account_id
            WHERE p.tenant_id = %s ORDER BY p.id
        """
        return self.rows(query, tenant_id)


@contextmanager
def autopilot_stage(settings: Settings, folder: Path, *platforms: str, **options: Any) -> Iterator[AutopilotStage]:
    """These platforms, or Bluesky, and one provider of clips with its key; no source of trends is asked."""
    with runway_simulator(MP4) as runway:
        values: dict[str, Any] = {"runwayml_api_secret": runway.key, "runwayml_base_url": runway.url}
        values |= {"trend_sources": (), **options}
        with post_stage(settings, folder, *(platforms or ("bluesky",)), **values) as posts:
            studio = PaperStudio()
            posts.app = replace(posts.app, ports=replace(posts.app.ports, studio=studio))
            posts.later(seconds=_to_the_hour(posts.clock[0]))
            yield AutopilotStage(posts, studio, runway)


def _to_the_hour(now: datetime) -> float:
    return (now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1, minutes=10) - now).total_seconds()
