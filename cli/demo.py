"""A world to look at: tenants on every plan with months behind them, that goes on living, in a home of its own.

What Stripe and Clerk say comes by their webhooks, signed; what tenants made in the past is written by sets and made up
(`simulators/demo`), and so is what was counted. From then on everything is the product's own work: it is only played
who asks for it, and what the outside answers.
"""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from cli.delivery import courier
from cli.own_system import OwnSystem, RunFailed, RunStopped, own_system, since
from db.ops import past as written
from db.transaction import SYSTEM
from domain.billing.tiers import PLANS, Tier
from domain.errors import ViralError
from domain.learning.numbers import Horizon
from domain.posting.posts import PostStatus
from domain.quota.quota import Quota, first_period, reset
from domain.videos.profiles import NAMES
from local.home import mark_simulated
from simulators.clerk.events import clerk_event, clerk_user
from simulators.demo.director import Kind, acts
from simulators.demo.past import Account, OldPost, Resident, changes, past
from simulators.demo.series import HOURS, MINUTES, gauges, series
from simulators.demo.tenants import (
    Course,
    Tenant,
    clerk_events,
    stranger_pays,
    stripe_events,
    tenants,
    whole,
)
from simulators.loopback import json_reply
from simulators.outside import Outside
from simulators.personas import Body, named_persona
from simulators.platforms.platform import SimulatedPost
from simulators.stripe.scenarios import Scenario
from workers.app import App
from workers.jobs.generation import generate_concepts
from workers.jobs.post_plans import ForAccount, PostRequest
from workers.ops import jobs, operators, posts, videos
from workers.ops.backdating import backdate
from workers.ops.connecting import begin_connect, connected
from workers.runtime import logs

Say = Callable[[str], object]
Ready = Callable[[str, str, float], object]

OPTIONS = {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}, "youtube-shorts": {"privacy": "public"}}
VISITOR = "visitor"
COURIERS = 4
PATIENCE = 60.0
EACH = 0.05
"""Seconds."""
REPORTED_WITHIN = 25.0
"""Seconds."""
LOST = 2
"""Accounts that wait for their owners from the beginning."""
PAUSED = "render"
TRIED_AGAIN = timedelta(minutes=1)
"""What somebody paid late for is a minute old."""


def play(home: Path, *, seed: int, port: int, seconds: float | None, say: Say, ready: Ready, durable: bool) -> bool:
    """Play in this home until so many seconds after it is ready (None: without an end). `say` has a line for each thing
    that happens, `ready` the address of the page, a token to act with, and the seconds that it took, once. False: a
    signal stopped it. For the main thread (see `local.spawn`); it changes this process's environment.

    Raises:
        RunFailed: a process does not keep running, or the past could not be written.
        EmbeddedError: the servers cannot run here.
        PortTaken: another program listens on the port.
    """
    logs.configure("console", "CRITICAL")
    began = time.monotonic()
    mark_simulated(home)
    with own_system(home, seed=seed, durable=durable, port=port, inhabited=True) as system:
        say(f"Postgres, Redis, simulated platforms and models run ({since(began)} s)")
        with closing(written.connect(system.settings.owner_url)) as connection:
            written.write_rows(connection, "changes", changes(seed, datetime.now(UTC)))
            connection.commit()

        def live(app: App, stopped: threading.Event) -> None:
            stage = Stage(app, system.played, seed, say, stopped)
            token = operators.create_token(app, VISITOR, "act").text
            beginning = datetime.now(UTC)
            stage.write_past(system)
            stage.calm(system, beginning)
            ready(f"{app.settings.web_url}/ops", token, since(began))
            # Processes report what they have counted a while later.
            until = None if seconds is None else time.monotonic() + seconds
            soon = time.monotonic() + REPORTED_WITHIN
            stage.go_on(soon if until is None else min(soon, until))
            stage.calm(system, beginning)
            stage.go_on(until)

        return system.run("viral dev demo", live, pool_size=4)


@dataclass
class Stage:
    """Everybody who plays, and what they play with."""

    app: App
    played: Outside
    seed: int
    say: Say
    stopped: threading.Event
    residents: list[Resident] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    following: dict[UUID, str] = field(default_factory=dict)
    """Jobs whose end is payments, and in which words."""
    made: list[tuple[Resident, UUID]] = field(default_factory=list)
    """Generations whose first concept nobody has filmed yet."""
    filming: list[tuple[Resident, UUID]] = field(default_factory=list)
    posted: list[tuple[Resident, dict[str, Any]]] = field(default_factory=list)
    poisoned: list[UUID] = field(default_factory=list)
    overdue: list[tuple[Resident, Scenario]] = field(default_factory=list)
    revoked: list[tuple[Resident, Account]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(f"{self.seed}:stage")  # noqa: S311 - a play
        self.coming = acts(self.seed)
        self.prices: dict[Tier, str] = {
            tier: next(price for price, sold in self.app.ports.prices.items() if sold is tier)
            for tier in Tier
            if tier is not Tier.FREE
        }

    # --- what there is at the beginning -----------------------------------------------------------------------------

    def write_past(self, system: OwnSystem) -> None:
        """Let everybody sign up and pay as long ago as they did, connect their accounts, and write what they did since.

        Raises:
            RunFailed: it does not come to an end.
            RunStopped: somebody has stopped it.
        """
        began, now = time.monotonic(), datetime.now(UTC)
        drafted = tenants(self.seed, now)
        self.taken |= {each.who.email.partition("@")[2] for each in drafted}
        with closing(written.connect(system.settings.owner_url)) as connection:
            counting = threading.Thread(target=self._count, args=[system.settings.owner_url], name="series")
            counting.start()
            self._deliver("clerk", [event for each in drafted for event in clerk_events(each, now)])
            ids = {each.who.user_id: each for each in drafted}
            found = self._until(lambda: _all(written.tenants_of(connection, [*ids]), len(ids)), "the sign-ups")
            people = [each.with_id(found[each.who.user_id]["id"]) for each in drafted]
            self.say(f"{len(people)} tenants have signed up, by Clerk's webhooks ({since(began)} s)")
            payments = [event for each in people for event in stripe_events(each, now, self.prices)]
            payments += [stranger_pays(self.rng, whole(now - timedelta(hours=30)), self.prices[Tier.PRO])]
            accounts = self._connect_all(people)
            self._deliver("stripe", payments)
            self._until(lambda: written.waiting(connection) == 0, "the payments")
            self.say(
                f"{len(payments)} events of Stripe are applied, {sum(map(len, accounts.values()))} accounts connected"
            )
            counting.join()
            self._write(connection, people, accounts, now)
        self.say(f"months of past are written: simulated, and it says so ({since(began)} s)")
        self._learn()

    def calm(self, system: OwnSystem, beginning: datetime) -> None:
        """Let charts not show the rush in which the past was made, but a time like those before it."""
        with closing(written.connect(system.settings.owner_url)) as connection:
            written.forget_counts(connection, beginning)
            minutes = int((datetime.now(UTC) - beginning) / timedelta(minutes=1)) + 2
            written.write_series(connection, series(), gauges(), seed=self.seed, minutes=minutes, hours=1)
            connection.commit()

    def _count(self, url: str) -> None:
        with closing(written.connect(url)) as connection:
            written.write_series(connection, series(), gauges(), seed=self.seed, minutes=MINUTES, hours=HOURS)
            connection.commit()

    def _write(
        self,
        connection: psycopg.Connection[Any],
        people: Sequence[Tenant],
        accounts: dict[UUID, tuple[Account, ...]],
        now: datetime,
    ) -> None:
        found = written.tenants_of(connection, [each.who.user_id for each in people])
        older = []
        for each in people:
            row = found[each.who.user_id]
            quota = _months_of(each, row, now)
            resident = Resident(each, quota.limit, quota.period_start, quota.resets_at, accounts.get(row["id"], ()))
            self.residents.append(resident)
            dates = {"period_start": quota.period_start, "resets_at": quota.resets_at, "anchor": quota.anchor}
            older.append({"id": resident.id, "born": each.born, **dates})
        made_up = past(self.seed, now, self.residents)
        written.make_older(connection, older)
        written.write(connection, made_up.tables, made_up.used)
        lost = [(each, each.accounts[0]) for each in self.residents if each.accounts and each.of.tier is not Tier.FREE]
        for owner, account in self.rng.sample(lost, min(LOST, len(lost))):
            self.played.platforms[account.platform].accounts[account.external_id].revoked = True
            written.lose_account(connection, account.id, "the platform says that its owner took the access away")
            self.revoked.append((owner, account))
        connection.commit()
        self._show_outside(made_up.posts)
        with self.app.db.transaction(SYSTEM) as tx:
            tx.queues.pause(PAUSED)

    def _show_outside(self, old: Iterable[OldPost]) -> None:
        for each in old:
            simulator = self.played.platforms[each.platform]
            there = SimulatedPost(each.id, each.account, each.text, "0" * 64, each.published_at.timestamp())
            with simulator.lock:
                simulator.posts.append(there)

    def _learn(self) -> None:
        """Have the past learned: which model scores follows from it."""
        jobs.enqueue(self.app, self.app.job_types["reflexion.due"], {})

    def _connect_all(self, people: Sequence[Tenant]) -> dict[UUID, tuple[Account, ...]]:
        """Connect the accounts of everybody, one after another at each platform: one person sits at its browser."""
        wanted: dict[str, list[Tenant]] = {}
        for each in people:
            for platform in each.platforms:
                wanted.setdefault(platform, []).append(each)

        def at(platform: str) -> list[tuple[UUID, Account]]:
            return [(each.who.tenant_id, self._connect(each, platform)) for each in wanted[platform]]

        found: dict[UUID, tuple[Account, ...]] = {}
        with ThreadPoolExecutor(len(wanted)) as threads:
            for some in threads.map(at, wanted):
                for tenant_id, account in some:
                    found[tenant_id] = (*found.get(tenant_id, ()), account)
        return found

    def _connect(self, each: Tenant, platform: str) -> Account:
        simulator = self.played.platforms[platform]
        number = {"tiktok": "simulated-", "youtube-shorts": "UCsimulated", "instagram-reels": "1784150000000"}[platform]
        external_id = f"{number}{each.number:04}"
        if external_id not in simulator.accounts:
            simulator.add_account(external_id, each.handle)
        simulator.accounts[external_id].revoked = False
        self.played.sign_in(platform, external_id)
        begun = begin_connect(self.app, each.who.tenant_id, platform)
        with urllib.request.urlopen(begun.address, timeout=30) as page:  # noqa: S310 - of a simulator, by http
            page.read()
        account_id: UUID = self._until(lambda: connected(self.app, begun), f"the account on {NAMES[platform]}")
        return Account(account_id, platform, external_id, each.handle)

    def _deliver(self, source: str, events: Sequence[Body]) -> None:
        """Post events to the endpoint, several at once: their order does not matter."""

        settings = self.app.settings
        with courier(settings, settings.web_url) as post, ThreadPoolExecutor(COURIERS) as threads:

            def one(event: Body) -> None:
                if not self.stopped.is_set():
                    post(source, event)

            list(threads.map(one, events))

    def _until(self, look: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if self.stopped.wait(EACH):
                raise RunStopped
            if time.monotonic() > deadline:
                raise RunFailed(f"waited {PATIENCE:g} s in vain for {what}")
        return found

    # --- what goes on -----------------------------------------------------------------------------------------------

    def go_on(self, until: float | None) -> None:
        """Let something happen every few seconds until then, by the monotonic clock.

        Raises:
            RunStopped: somebody has stopped it.
        """
        for act in self.coming:
            left = act.after if until is None else min(act.after, until - time.monotonic())
            if self.stopped.wait(max(0.0, left)):
                raise RunStopped
            if until is not None and time.monotonic() >= until:
                return
            try:
                self._tell_ends()
                says = PLAYED[act.kind](self)
            except ViralError as error:
                says = f"{act.kind.replace('_', ' ')}: not possible now ({error})"
            if self.stopped.is_set():
                raise RunStopped
            if says:
                self.say(says)

    def _tell_ends(self) -> None:
        """Say what became of what was asked for, and what people were notified of."""
        while self.played.notified:
            self.say(f"people are notified: {self.played.notified.pop(0)}")
        for job_id, what in list(self.following.items()):
            row = jobs.find(self.app, job_id)
            if row["status"] in ("completed", "failed", "cancelled"):
                del self.following[job_id]
                error = f": {row['error_message']}" if row["error_message"] else ""
                self.say(f"{what}: {row['status']}{error}")
                result = row["result"] or {}
                if row["status"] == "completed" and "generation_id" in result:
                    owner = next((each for each in self.residents if each.id == row["tenant_id"]), None)
                    if owner is not None:
                        self.made.append((owner, UUID(result["generation_id"])))

    def sign_up(self) -> str:
        who, name = named_persona(self.rng, self.taken)
        now = whole(datetime.now(UTC))
        first, last = name.split(" ", 1)
        user = clerk_user(who, created_at=now, first_name=first, last_name=last)
        self._deliver("clerk", [clerk_event("user.created", user, at=now)])

        def there() -> UUID | None:
            with self.app.db.transaction(SYSTEM) as tx:
                found = tx.tenants.recent(limit=5)
            return next((row["id"] for row in found if row["name"] == who.email), None)

        tenant_id = self._until(there, "the tenant")
        quota = first_period(PLANS[Tier.FREE].monthly_quota, now)
        each = Tenant(1000 + len(self.residents), who, name, Course.FREE, Tier.FREE, now, None, ()).with_id(tenant_id)
        self.residents.append(Resident(each, quota.limit, quota.period_start, quota.resets_at))
        return f"sign-up: {who.email}, on FREE"

    def buy(self) -> str | None:
        free = [each for each in self.residents if each.of.tier is Tier.FREE and each.of.course is Course.FREE]
        if not free:
            return None
        each, tier = free[-1], self.rng.choice([Tier.STARTER, Tier.PRO, Tier.AGENCY])
        now = whole(datetime.now(UTC)) - timedelta(seconds=4)
        scenario = Scenario(each.of.who, now, self.prices)
        scenario.buys(scenario.on(tier), scenario.span(0))
        self._deliver("stripe", scenario.events)
        self._change(each, tier=tier, course=Course.PAYS, paying_since=now)
        return f"payment: {each.of.who.email} buys {tier} for ${PLANS[tier].usd_per_month}"

    def decline(self) -> str | None:
        each = self._one(lambda resident: resident.of.course is Course.PAYS and resident.of.paying_since is not None)
        if each is None:
            return None
        scenario, period = self._renewed(each)
        now = whole(datetime.now(UTC))
        who = scenario.on(each.of.tier)
        scenario.fails(who, period, now)
        scenario.changes(who, now, period, status="past_due", was="active")
        self._deliver("stripe", scenario.events)
        self.overdue.append((each, scenario))
        return f"payment declined: {each.of.who.email} is past due with {each.of.tier}"

    def settle(self) -> str | None:
        if not self.overdue:
            return None
        each, _ = self.overdue.pop(0)
        scenario, period = self._renewed(each)
        now, who = whole(datetime.now(UTC)), scenario.on(each.of.tier)
        scenario.pays(who, period, at=now)
        scenario.changes(who, now, period, was="past_due")
        self._deliver("stripe", scenario.events)
        return f"recovered: {each.of.who.email} has paid after all"

    def cancel(self) -> str | None:
        each = self._one(lambda resident: resident.of.course is Course.PAYS)
        if each is None:
            return None
        scenario, period = self._renewed(each)
        now, who = whole(datetime.now(UTC)), scenario.on(each.of.tier)
        scenario.changes(who, now, period, cancel_at=period[1], asked_to_end_at=now)
        self._deliver("stripe", scenario.events)
        self._change(each, course=Course.LEAVES)
        return f"cancelled: {each.of.who.email} leaves {each.of.tier} at the end of the month"

    def generate(self) -> str | None:
        each = self._one(lambda resident: bool(resident.accounts))
        if each is None:
            return None
        count = self.rng.randint(1, 3)
        job_id = jobs.enqueue(self.app, generate_concepts, {"tenant_id": each.id, "count": count})
        self.following[job_id] = f"concepts of {each.of.who.email}"
        return f"generation: {each.of.who.email} asks for {count} concept{'s' if count > 1 else ''}"

    def render(self) -> str | None:
        if not self.made:
            return self.generate()
        each, generation_id = self.made.pop()
        place = videos.concepts_of(self.app, each.id, generation_id)[0]
        row = videos.request(self.app, each.id, generation_id=generation_id, concept_id=place)
        self.filming.append((each, row["id"]))
        return f"video: {each.of.who.email} has “{row['title']}” drawn"

    def post(self) -> str | None:
        for each, video_id in list(self.filming):
            row = videos.show(self.app, each.id, video_id)
            if row["status"] in ("pending", "rendering"):
                continue
            self.filming.remove((each, video_id))
            if row["status"] != "completed":
                return f"video of {each.of.who.email}: {row['status']}"
            request = PostRequest(video_id, [ForAccount(account.id) for account in each.accounts], options=OPTIONS)
            made = posts.create(self.app, each.id, request)
            self.posted += [(each, post) for post in made]
            where = ", ".join(NAMES[post["platform"]] for post in made)
            return f"posts: {each.of.who.email} posts “{row['title']}” to {where} (simulated)"
        return self.generate()

    def grow_older(self) -> str | None:
        for each, post in self.posted:
            row = posts.show(self.app, each.id, post["id"])
            if row["status"] != PostStatus.PUBLISHED or not row["external_id"]:
                continue
            with self.app.db.transaction(SYSTEM) as tx:
                age = tx.now() - row["published_at"]
            horizon = next((one for one in Horizon if one.age > age), None)
            if horizon is None:
                continue
            by = horizon.age + timedelta(seconds=30) - age
            self.played.platforms[row["platform"]].backdate(row["external_id"], by.total_seconds())
            backdate(self.app, each.id, post["id"], by)
            jobs.enqueue(self.app, self.app.job_types["analytics.due"], {})
            return (
                f"numbers: the post of {each.of.who.email} to {NAMES[row['platform']]} is {horizon} old, and measured"
            )
        return self.generate()

    def learn(self) -> str:
        self._learn()
        return "learning: what was measured is learned"

    def provider_fails(self) -> str | None:
        error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error (simulated)"}}
        self.played.servers["language models"].fail(json_reply(error, 500), times=5)
        self.generate()
        return "fault: the language model answers 500 for a while; jobs are tried again"

    def revoke(self) -> str | None:
        each = self._one(
            lambda resident: bool(resident.accounts) and resident.id not in {owner.id for owner, _ in self.revoked}
        )
        if each is None:
            return None
        account = self.rng.choice(each.accounts)
        simulator = self.played.platforms[account.platform].accounts[account.external_id]
        simulator.revoked = True
        simulator.access_tokens.clear()
        self.revoked.append((each, account))
        return (
            f"fault: {NAMES[account.platform]} has revoked the access to {account.username}: it has to be reconnected"
        )

    def reconnect(self) -> str | None:
        if not self.revoked:
            return None
        each, account = self.revoked.pop(0)
        self._connect(each.of, account.platform)
        return f"recovered: {account.username} is connected to {NAMES[account.platform]} again"

    def poison(self) -> str:
        arguments = {"tenant_id": self.rng.choice(self.residents).id, "count": 0}
        job_id = jobs.enqueue(self.app, generate_concepts, arguments)
        self.poisoned.append(job_id)
        self.following[job_id] = "the poison job"
        return "fault: a job is enqueued of which nothing can come"

    def retry(self) -> str | None:
        if not self.poisoned:
            return None
        job_id = self.poisoned.pop(0)
        jobs.retry(self.app, [job_id])
        self.following[job_id] = "the poison job, tried again"
        return "operator: retries the poison job"

    def stranger(self) -> str:
        self._deliver("stripe", [stranger_pays(self.rng, whole(datetime.now(UTC)), self.prices[Tier.PRO])])
        return "fault: Stripe tells of a payment of a customer whom no tenant is: the event is parked"

    def pause(self) -> str:
        with self.app.db.transaction(SYSTEM) as tx:
            tx.queues.pause(PAUSED)
        return f"operator: pauses the queue {PAUSED}"

    def resume(self) -> str:
        with self.app.db.transaction(SYSTEM) as tx:
            tx.queues.resume(PAUSED)
        return f"operator: lets the queue {PAUSED} go on"

    def _one(self, fits: Callable[[Resident], bool]) -> Resident | None:
        found = [each for each in self.residents if fits(each)]
        return self.rng.choice(found) if found else None

    def _change(self, each: Resident, **changes: Any) -> None:
        self.residents[self.residents.index(each)] = replace(each, of=replace(each.of, **changes))

    def _renewed(self, each: Resident) -> tuple[Scenario, tuple[datetime, datetime]]:
        """Return a scenario to go on with, and the month that its subscription is in."""
        start = each.of.paying_since or each.of.born
        scenario = Scenario(each.of.who, start, self.prices)
        now, month = datetime.now(UTC), 0
        while scenario.month(month + 1) <= now:
            month += 1
        return scenario, scenario.span(month)


def _all(found: dict[str, Any], count: int) -> dict[str, Any] | None:
    return found if len(found) == count else None


def _months_of(each: Tenant, row: dict[str, Any], now: datetime) -> Quota:
    """Return the month that a tenant is in: who pays has the one that Stripe's events began, others one by the day on
    which they signed up."""
    if each.tier_at(now) is not Tier.FREE:
        start, end = row["quota_period_start"], row["quota_reset_at"]
        return Quota(row["monthly_quota"], 0, each.paying_since or each.born, start, end)
    return reset(first_period(row["monthly_quota"], each.born), now)


PLAYED: dict[Kind, Callable[[Stage], str | None]] = {kind: getattr(Stage, kind.value) for kind in Kind}
