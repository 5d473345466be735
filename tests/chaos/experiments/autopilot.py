"""`autopilot`: a month of tenants that are left alone, while attempts die, a provider is down for a day, platforms
refuse what is to be published, a restore is begun and ended, accounts are lost and their owners change their minds,
also while a post waits to be sent again; then what the platforms show, what the provider charged and what the rows say
are held against what was allowed.

The month is simulated by the clock that every job and rule reads (`build(clock=…)`): it stands, and is put forward by
minutes while a day begins and by an hour after that; the simulators' clocks go with it. No row is changed behind the
product's back. Columns that only Postgres fills (`created_at` of a job) keep the machine's time, and no rule of the
autopilot reads them. A death is an attempt that is cut off before or after one of its commits, in this process; real
processes have a real clock, in which a month is a month (R1, R16 and R17 kill them).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from db.transaction import SYSTEM
from domain.autopilot.chains import Mode
from domain.errors import Rejected
from simulators.platforms.platform import Fault
from tests.autopilot_stage import AutopilotStage, autopilot_stage
from tests.chaos.cuts import Cut, Moments, counting, cut, installed
from tests.chaos.report import Finding
from tests.chaos.servers import System
from tests.chaos.stage import Stage
from workers.engine.outcomes import rescue
from workers.engine.runner import Runner
from workers.jobs.autopilot import find_due
from workers.jobs.posting import find_due as posts_due
from workers.ops import posts, restore
from workers.ops.accounts import disconnect

TENANTS, SLICE_TENANTS = 50, 3
DAYS, SLICE_DAYS = 30, 2
PLATFORMS = ("bluesky", "tiktok")
BUDGETS = (Decimal("1.50"), Decimal("6.00"))
"""Dollars a month: money for two clips, and for ten."""
DEATHS, SLICE_DEATHS = 0.03, 0.15
"""The part of attempts that die."""
HOUR = 9
"""When the days begin, by everybody's clock."""
ROUNDS = (1, 1, 1, 1, 120, 60, 15, 15, 270, 15, 15, 15)
"""Minutes from one round of a day to the next: the day begins, then its posts of 12:00 and of 17:00 are made."""
DUE = (6, 9)
"""The rounds in which the posts of 12:00 and of 17:00 are sent."""
RESTORED, ENDED = 6, 8
"""After this round of one day a restore is begun, and after that one it is ended."""
COMMITS = {"bluesky": "putRecord", "tiktok": "upload"}
COMMIT_ERRORS: tuple[Fault, ...] = ("429", "500 before")
REFUSED, SLICE_REFUSED = 6, 1
"""So many commits of a platform are refused as posts come due."""
SPARE = 60
"""Seconds that are left for judging."""
ALIVE, DEAD = timedelta(hours=1), timedelta(seconds=-1)


@dataclass
class Owner:
    """A tenant, what its owner allows and when that ended. `silent` is an account that never had consent."""

    id: UUID
    mode: Mode
    budget: Decimal
    accounts: list[UUID]
    silent: UUID
    ended: dict[UUID, datetime] = field(default_factory=dict)
    modes: list[tuple[datetime, Mode]] = field(default_factory=list)
    on_days: set[date] = field(default_factory=set)


@dataclass
class Month:
    """The month as it is played."""

    here: AutopilotStage
    rng: Random
    finding: Finding
    deadly: float
    refused: int
    owners: list[Owner] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    thinking_twice: dict[UUID, Mode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._boot()

    # --- what owners do ---------------------------------------------------------------------------------------------

    def move_in(self, number: int) -> None:
        """Add a tenant: the three modes, the two budgets, and clips or storyboards, in turn."""
        mode = (Mode.AUTO, Mode.APPROVE, Mode.AUTO, Mode.OFF)[number % 4]
        budget = BUDGETS[number // 4 % 2]
        platforms = PLATFORMS if number % 3 else PLATFORMS[:1]
        how: dict[str, Any] = {"provider": "runway" if number % 2 == 0 else "storyboard", "budget_usd": budget}
        how |= {"videos_a_day": 2 if number % 5 == 0 else 1, "concepts_a_day": 3, "times": ("12:00", "17:00")}
        tenant_id = self.here.tenant(mode, platforms=platforms, usd=1000, **how)
        silent = self.here.posts.account(tenant_id, "bluesky")
        owner = Owner(tenant_id, mode, budget, self.here.accounts[tenant_id], silent)
        owner.modes.append((self.here.now, mode))
        self.owners.append(owner)

    def change_minds(self, day: int) -> None:
        """Now and then an owner withdraws a consent, loses or disconnects an account, or sets another mode."""
        for owner in self.rng.sample(self.owners, max(1, len(self.owners) // 12)):
            live = [each for each in owner.accounts if each not in owner.ended]
            what = self.rng.choice(("withdraw", "disconnect", "lose", "mode", "mode"))
            if what == "mode":
                self.set_mode(owner, self.rng.choice(list(Mode)))
            elif len(live) > 1:
                account_id = self.rng.choice(live)
                owner.ended[account_id] = self.here.now
                if what == "withdraw":
                    self.here.withdraw(owner.id, account_id)
                elif what == "disconnect":
                    disconnect(self.here.app, owner.id, account_id)
                else:
                    says = "UPDATE social_accounts SET status = 'needs_reconnect', reason = 'revoked' WHERE id = %s"
                    self.here.rows(f"{says} RETURNING id", account_id)
            self._hit(what)

    def set_mode(self, owner: Owner, mode: Mode) -> None:
        owner.mode = mode
        self.here.allow(owner.id, mode=mode)
        owner.modes.append((self.here.now, mode))

    def refuse_some(self) -> None:
        """Let the platforms refuse what is to be published next: such posts wait, and are sent again."""
        for name, call in COMMITS.items():
            self.here.posts.platforms[name].fault(
                call, self.rng.choice(COMMIT_ERRORS), times=self.rng.randint(1, self.refused)
            )

    def change_a_mind_about_what_waits(self) -> None:
        """An owner whose post was refused by its platform, and waits, does not want it any more; in the evening it is
        as before."""
        query = """
            SELECT DISTINCT tenant_id, account_id FROM social_posts
            WHERE status = 'claimed' AND submitted_at IS NOT NULL ORDER BY 1, 2
        """
        waiting = dict(self.here.rows(query))
        owners = [each for each in self.owners if each.id in waiting and each.id not in self.thinking_twice]
        for owner in self.rng.sample(owners, min(1, len(owners))):
            if self.rng.random() < 0.3 and len(owner.accounts) - len(owner.ended) > 1:
                owner.ended[waiting[owner.id]] = self.here.now
                self.here.withdraw(owner.id, waiting[owner.id])
            else:
                self.thinking_twice[owner.id] = owner.mode
                self.set_mode(owner, self.rng.choice((Mode.OFF, Mode.APPROVE)))
            self._hit("minds changed about what waited")

    def evening(self) -> None:
        """Who thought twice has it as before; and most switch to auto again what a restore has set to approve."""
        for owner in self.owners:
            if (mode := self.thinking_twice.pop(owner.id, None)) is not None:
                self.set_mode(owner, mode)

    def put_back(self) -> None:
        """A person says that the database went back half an hour; since then each post waits for a person."""
        restore.begin(self.here.app, self.here.now - timedelta(minutes=30))
        for owner in self.owners:
            if owner.mode is Mode.AUTO:
                if self.rng.random() < 0.8:
                    self.thinking_twice.setdefault(owner.id, owner.mode)
                owner.mode = Mode.APPROVE
                owner.modes.append((self.here.now, Mode.APPROVE))
        self._hit("restores")

    def _hit(self, what: str) -> None:
        self.finding.hit[what] = self.finding.hit.get(what, 0) + 1

    def approve_some(self) -> None:
        for tenant_id, post_id in self.here.rows(
            "SELECT tenant_id, id FROM social_posts WHERE status = 'needs_approval' AND random() < 0.3"
        ):
            try:
                posts.approve(self.here.app, tenant_id, post_id)
            except Rejected:  # its account is lost
                self._hit("approvals that were refused")

    # --- how a day goes by ------------------------------------------------------------------------------------------

    def day(self, number: int, *, restored: bool) -> None:
        """A day from the morning until its last posts are out."""
        for owner in self.owners:
            if owner.mode is not Mode.OFF:
                owner.on_days.add(self.here.now.date())
        minds = self.rng.randrange(len(ROUNDS))
        for place, minutes in enumerate(ROUNDS):
            if place in DUE:
                self.refuse_some()
            self.round(timedelta(minutes=minutes))
            if restored and place == RESTORED:
                self.put_back()
            if restored and place == ENDED:
                restore.end(self.here.app, although_undecided=True)
            if place in DUE:
                self.change_a_mind_about_what_waits()
            if place == minds:
                self.change_minds(number)
            if place % 4 == 3:
                self.approve_some()
        self.evening()

    def settle(self) -> None:
        """Nothing goes wrong any more, and what is under way comes to its end."""
        self.deadly = 0
        for each in self.here.posts.platforms.values():
            each.heal()
        for _ in range(5):
            self.round(timedelta(hours=1))

    def night(self) -> None:
        self.here.posts.later(seconds=_to_the_morning(self.here.now))

    def round(self, step: timedelta) -> None:
        """Let the schedule's minute come and run what is due; some attempts die."""
        with self.here.app.db.transaction(SYSTEM) as tx:
            find_due.enqueue(tx)
            posts_due.enqueue(tx)
            tx.driver.execute("UPDATE job_queue SET scheduled_for = now(), wake_at = NULL WHERE status = 'pending'")
        before: Sequence[UUID] = ()
        for _ in range(40):
            with self.here.app.db.transaction(SYSTEM) as tx:
                due = tx.jobs.due_now(limit=500)
            if not due or due == before:  # those of a paused queue stay
                break
            before = due
            for job_id in due:
                self.attempt(job_id)
        self.here.posts.later(seconds=step.total_seconds())

    def attempt(self, job_id: UUID) -> None:
        dies = self.rng.random() < self.deadly
        moments = Moments({self.rng.choice((1, 2, 3, 4, 6)): cut} if dies else {})
        try:
            with counting(moments):
                self._runner.run_one(job_id)
        except Cut:
            self._beat(DEAD)
            rescue(self.here.app.db, self.here.app.job_types)
            self._boot()
        self.deaths += moments.struck

    def _boot(self) -> None:
        self._runner: Runner = self.here.app.runner()
        self._beat(ALIVE)

    def _beat(self, lease: timedelta) -> None:
        with self.here.app.db.transaction(SYSTEM) as tx:
            tx.workers.beat(self._runner.worker_id, hostname="chaos", pid=0, queues=(), version="", lease=lease)


def autopilot(stage: Stage, finding: Finding) -> None:
    """The month, and the judgement."""
    with (
        TemporaryDirectory() as folder,
        stage.servers.system(stage.name) as system,
        forgetful(stage, system),
        autopilot_stage(system.settings, Path(folder), *PLATFORMS) as here,
        installed(),
    ):
        here.posts.later(seconds=_to_the_morning(here.now))
        month = Month(
            here,
            stage.rng(),
            finding,
            deadly=stage.size(DEATHS, SLICE_DEATHS),
            refused=stage.size(REFUSED, SLICE_REFUSED),
        )
        for number in range(stage.size(TENANTS, SLICE_TENANTS)):
            month.move_in(number)
        days, down, played = stage.size(DAYS, SLICE_DAYS), stage.size(9, 1), 0
        works = here.runway.order
        for number in range(days):
            if stage.left() < SPARE:
                break
            if number == down:
                here.runway.order = lambda asked: here.runway.error(503, "unavailable", "down")  # type: ignore[method-assign]
            if number:
                month.night()
            month.day(number, restored=number == days // 2)
            here.runway.order = works  # type: ignore[method-assign]
            played += 1
            for owner in month.owners:
                keeps_to_its_budget(month, owner)
        month.settle()
        finding.trials = len(month.owners) * played
        finding.figures["days"] = played
        finding.expect(played == days or not stage.full, f"only {played} of {days} days were played in the time")
        judge(month, finding, stage)


@contextmanager
def forgetful(stage: Stage, system: System) -> Iterator[None]:
    """Processes die here, and Postgres does not: its commits need not reach the disk."""
    with stage.servers.admin() as connection:
        connection.execute(f"ALTER DATABASE {system.name} SET synchronous_commit = off")
    yield


def _to_the_morning(now: datetime) -> float:
    return ((now + timedelta(days=1)).replace(hour=HOUR, minute=10, second=0, microsecond=0) - now).total_seconds()


# --- the judgement ----------------------------------------------------------------------------------------------------


def judge(month: Month, finding: Finding, stage: Stage) -> None:
    here = month.here
    died = sum(month.deaths.values())
    finding.saw("attempts that died", died, least=stage.size(300, 1))
    there = here.posts.posts()
    finding.figures |= {"posts": len(there), "charged_usd": str(here.runway.charged_usd)}
    finding.saw("posts on the platforms", len(there), least=stage.size(500, 1))
    minds = finding.hit.get("minds changed about what waited", 0)
    finding.expect(minds >= stage.size(20, 0), f"only {minds} owners changed their minds while a post waited")
    try:
        here.posts.assert_once(unconfirmed=len(there))
        finding.doubled = 0
    except AssertionError as error:
        finding.doubled = 1
        finding.expect(False, f"doubled or not ours: {error}")
    for owner in month.owners:
        has_consent(month, owner, finding)
        is_explained(month, owner, finding)
        keeps_to_its_budget(month, owner)
    is_linked_once(month, finding)
    charged = here.rows("SELECT coalesce(sum(final_usd), 0) FROM provider_jobs")[0][0]
    finding.expect(charged == here.runway.charged_usd, f"the bill is {here.runway.charged_usd}, the rows say {charged}")
    stages = Counter(dict(here.rows("SELECT stage, count(*) FROM autopilot_chains GROUP BY 1")))
    finding.figures["chains"] = dict(stages)
    query = "SELECT reason, count(*) FROM autopilot_chains WHERE stage = 'stopped' GROUP BY 1 ORDER BY 2 DESC LIMIT 8"
    finding.figures["stopped"] = [f"{count} × {reason[:90]}" for reason, count in here.rows(query)]
    finding.lost = 0 if finding.lost is None else finding.lost


SENT = """
SELECT p.id, p.account_id, p.status, s.created_at, coalesce(p.approved_at <= s.created_at, false), c.mode
FROM post_submissions s JOIN social_posts p ON p.tenant_id = s.tenant_id AND p.id = s.post_id
LEFT JOIN autopilot_chains c ON c.tenant_id = p.tenant_id AND c.id = p.group_id
WHERE p.tenant_id = %s
"""


def has_consent(month: Month, owner: Owner, finding: Finding) -> None:
    """No post is sent, for the first time or again, to an account without consent at that moment, nor where the mode,
    when it began or then, says that somebody has to approve it; but for what a person had approved. The clock stands
    while a round goes by, and minds change between rounds: what has the moment of a change comes after it."""
    for post_id, account_id, status, sent_at, approved, mode in month.here.rows(SENT, owner.id):
        finding.expect(account_id in owner.accounts, f"the post {post_id} is on an account that never had consent")
        if approved:
            continue
        ended = owner.ended.get(account_id)
        finding.expect(ended is None or sent_at < ended, f"the post {post_id} ({status}) was sent after consent")
        finding.expect(mode != Mode.APPROVE, f"the post {post_id} was sent and nobody approved it")
        last = next(mode for at, mode in reversed(owner.modes) if at <= sent_at)
        finding.expect(last is Mode.AUTO, f"the post {post_id} was sent in mode {last}, and nobody approved it")


def keeps_to_its_budget(month: Month, owner: Owner) -> None:
    query = """
        SELECT to_char(month, 'YYYY-MM'), sum(CASE WHEN state IN ('intended', 'submitted', 'running', 'unconfirmed')
            THEN estimated_usd ELSE coalesce(final_usd, 0) END)
        FROM provider_jobs WHERE tenant_id = %s GROUP BY 1
    """
    for name, usd in month.here.rows(query, owner.id):
        month.finding.expect(usd <= owner.budget, f"{owner.id} spent {usd} of {owner.budget} in {name}")
    query = """
        SELECT month, sum(reserved_usd + spent_usd) FROM autopilot_chains
        WHERE tenant_id = %s AND month IS NOT NULL GROUP BY 1
    """
    for name, usd in month.here.rows(query, owner.id):
        month.finding.expect(usd <= owner.budget, f"{owner.id} reserved {usd} of {owner.budget} in {name}")


def is_explained(month: Month, owner: Owner, finding: Finding) -> None:
    """Each day on which the autopilot was on as it began has its chains, each done, under way, or stopped with a
    reason; and each chain's last event says the same as the chain."""
    chains = month.here.rows(
        "SELECT id, day, stage, reason FROM autopilot_chains WHERE tenant_id = %s ORDER BY day, place", owner.id
    )
    days = {day for _, day, _, _ in chains}
    finding.expect(owner.on_days <= days, f"{owner.id}: no chain on {sorted(owner.on_days - days)[:3]}")
    for chain_id, day, stage, reason in chains:
        finding.expect(reason, f"the chain {chain_id} of {day} is {stage} and says nothing")
        if stage in ("done", "stopped"):
            query = "SELECT kind FROM autopilot_events WHERE chain_id = %s AND kind = %s"
            found = month.here.rows(query, chain_id, stage)
            finding.expect(len(found) == 1, f"the chain {chain_id} ended {len(found)} times")
        else:
            recent = (month.here.now.date() - day).days < 2
            waits = stage == "posts" or (stage == "video" and recent)
            finding.expect(waits, f"the chain {chain_id} of {day} still waits: {stage}, {reason}")


def is_linked_once(month: Month, finding: Finding) -> None:
    """A day of a tenant has one job that makes concepts, a chain one video, a concept one chain, an account one post of
    a chain."""
    for what, query in {
        "concept of two chains": """
            SELECT tenant_id, generation_id, concept_id FROM autopilot_chains WHERE concept_id IS NOT NULL
            GROUP BY 1, 2, 3 HAVING count(*) > 1""",
        "day with two jobs for concepts": """
            SELECT tenant_id, unique_key FROM job_queue WHERE job_type = 'generation.generate_concepts'
            GROUP BY 1, 2 HAVING count(*) > 1""",
        "video that no chain has": """
            SELECT v.id FROM videos v WHERE NOT EXISTS (SELECT FROM autopilot_chains c WHERE c.video_id = v.id)""",
        "account with two posts of a chain": """
            SELECT group_id, account_id FROM social_posts GROUP BY 1, 2 HAVING count(*) > 1""",
        "post that no chain has": """
            SELECT p.id FROM social_posts p
            WHERE NOT EXISTS (SELECT FROM autopilot_chains c WHERE c.id = p.group_id)""",
    }.items():
        found = month.here.rows(query)
        finding.expect(not found, f"{len(found)} times a {what}: {found[:2]}")
