"""Months of a past that never was, as rows of our tables: what the demo's tenants generated, rendered and posted, what
came of it, and what failed.

It is a function of a seed, a moment and the tenants, and it breaks nothing that `viral doctor` looks at but what
`ON_PURPOSE` names: a tenant's ledger ends with what it has used, holds are settled, and numbers of posts are those that
the simulated platforms give at that age.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID, uuid5

from domain.billing.tiers import PLANS, Tier
from domain.concepts import trends
from domain.concepts.generation import ConceptRequest, ConceptResponse, PastConcept, compose
from domain.concepts.grammar import drafts_of
from domain.concepts.timing import zone_of
from domain.ids import uuid7
from domain.learning.counts import numbers_of
from domain.learning.learner import Learner, LearnerKey
from domain.learning.metrics import asked
from domain.learning.numbers import Horizon, Numbers
from domain.learning.outcomes import LEARNED, Features, Outcome, judge
from domain.learning.pool import built_in
from domain.learning.scoring import Predicted, Scoring, Standing, features_of, shown_of, shown_row
from domain.queue.error_groups import error_group
from domain.quota.quota import add_months
from simulators.demo.tenants import LEAST, Tenant
from simulators.platforms.growth import numbers_at

ON_PURPOSE = ("no job waits for a person", "no clip is in doubt", "no event is parked for over 15 minutes")
"""The invariants of `viral doctor` that the demo breaks, so that there is something to mend."""

RELEASES = ("0.0.4", "0.0.5", "0.0.6", "0.0.7", "0.0.8", "0.0.9")
LIVE_FOR = timedelta(days=2)
"""Jobs that ended longer ago are in the archive."""
ARCHIVED_FOR = timedelta(weeks=15)
POSTED_FOR = timedelta(days=100)
"""Nothing was rendered or posted before."""
MODEL = "anthropic/claude-sonnet-5"
IDEAS, OF_ONE = 40, 10
HOST = uuid5(UUID(int=0), "a worker of the past")

Row = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """An account that is connected now; `external_id` is the platform's."""

    id: UUID
    platform: str
    external_id: str
    username: str


@dataclass(frozen=True)
class Resident:
    """A tenant as our system knows it by now: its quota, the month that it is in, and its accounts."""

    of: Tenant
    quota: int
    period_start: datetime
    resets_at: datetime
    accounts: tuple[Account, ...] = ()

    @property
    def id(self) -> UUID:
        return self.of.who.tenant_id


@dataclass(frozen=True)
class OldPost:
    """A post as its platform has it."""

    platform: str
    id: str
    account: str
    text: str
    published_at: datetime


@dataclass
class Past:
    """`tables` are rows by table, in an order in which they may be inserted; `used` is what each tenant has used of its
    month; `posts` have to be on the simulated platforms too."""

    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    used: dict[UUID, int] = field(default_factory=dict)
    posts: list[OldPost] = field(default_factory=list)

    def add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)


def past(seed: int, now: datetime, residents: Sequence[Resident]) -> Past:
    """Return the past of these tenants until now."""
    found, ideas = Past(), _ideas(Random(f"{seed}:ideas"), now)  # noqa: S311
    for each in residents:
        _Written(found, ideas, each, now, Random(f"{seed}:{each.of.number}")).write()  # noqa: S311
    _failures(found, residents, now, Random(f"{seed}:failures"))  # noqa: S311
    for rows in found.tables.values():
        _complete(rows)
    # Ledgers are read in the order of their ids, and so are attempts.
    found.tables["quota_ledger"].sort(key=lambda row: row["at"])
    found.tables["job_attempts"].sort(key=lambda row: row["ended_at"])
    return found


def _complete(rows: list[Row]) -> None:
    """Give all rows of a table the same columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    rows[:] = [{name: row.get(name) for name in names} for row in rows]


Idea = tuple[Row, Row]
"""A concept and its trend, as generations keep them."""


def _ideas(rng: Random, now: datetime) -> list[Idea]:
    """Return what tenants have concepts of. Each is written once, and many have it: to write all takes too long."""
    topics = trends.evergreens(region="US", rng=rng, now=now)
    found: list[Idea] = []
    had: tuple[PastConcept, ...] = ()
    for _ in range(IDEAS // OF_ONE):
        job = UUID(int=rng.getrandbits(128), version=4)
        request = ConceptRequest(OF_ONE, tuple(topics), had, "US", job.int, now)
        response = ConceptResponse(MODEL, tuple(drafts_of(request)))
        had += tuple(PastConcept(each.title, each.topic, each.format) for each in response.drafts)
        rows = {each.topic: trends.as_row(each) for each in topics}
        concepts = compose(response, request, Scoring(), job_id=job, timezone="UTC")
        found += [(each, rows[each["topic"]]) for each in concepts]
    return found


# --- one tenant -----------------------------------------------------------------------------------------------------


@dataclass
class _Written:
    """Writes what one tenant did, in the order in which it did it, since what was learned decides what is predicted."""

    past: Past
    ideas: Sequence[Idea]
    resident: Resident
    now: datetime
    rng: Random
    learners: dict[LearnerKey, Learner] = field(default_factory=dict)
    to_learn: list[tuple[LearnerKey, Outcome]] = field(default_factory=list)
    used: int = 0

    def write(self) -> None:
        for begins, ends in _months(self.resident):
            self._month(begins, min(ends, self.now - LEAST))
        self.past.used[self.resident.id] = self.used

    def _month(self, begins: datetime, ends: datetime) -> None:
        plan = PLANS[self.resident.of.tier_at(begins)]
        limit = self.resident.quota if begins == self.resident.period_start else plan.monthly_quota
        self._entry("reset", -self.used, begins, begins, limit, "schedule:quota.reset_due")
        days = max((ends - begins) / timedelta(days=31), 0.0)
        often = {Tier.FREE: 3, Tier.STARTER: 5, Tier.PRO: 7, Tier.AGENCY: 12}[plan.tier]
        times = sorted(
            begins + timedelta(minutes=2) + (ends - begins) * self.rng.random() for _ in range(round(often * days))
        )
        for at in times:
            count = self.rng.randint(1, 5 if plan.tier >= Tier.PRO else 3)
            if at < ends and self.used + count <= limit:
                self._generation(at, count, begins, limit)

    def _entry(self, kind: str, amount: int, at: datetime, month: datetime, limit: int, cause: str) -> None:
        self.used += amount
        values = {"used_after": self.used, "quota_after": limit, "period_start": month, "cause": cause}
        self.past.add(
            "quota_ledger", tenant_id=self.resident.id, kind=kind, amount=amount, at=at, taken_at=at, **values
        )

    def _generation(self, at: datetime, count: int, month: datetime, limit: int) -> None:
        took = timedelta(seconds=self.rng.uniform(2, 14))
        cause = f"api:{self.resident.id}"
        job = self._job("generation.generate_concepts", "llm", at, took, {"count": count}, cause)
        self._entry("hold", count, at, month, limit, f"job:{job}")
        hold: Row = {"job_id": job, "tenant_id": self.resident.id, "count": count, "taken_at": at, "created_at": at}
        if self.rng.random() < 0.04:  # nothing was made, and nothing is counted
            self._entry("release", -count, at + took, month, limit, f"job:{job}")
            self.past.tables["quota_ledger"][-1]["taken_at"] = at
            self.past.add("quota_holds", **hold, status="released", closed_at=at + took)
            return
        self._entry("settle", 0, at + took, month, limit, f"job:{job}")
        self.past.tables["quota_ledger"][-1]["taken_at"] = at
        self.past.add("quota_holds", **hold, status="settled", closed_at=at + took)
        usage = {"tokens_in": 1800 + self.rng.randrange(900), "tokens_out": 700 * count + self.rng.randrange(900)}
        cost = round((3 * usage["tokens_in"] + 15 * usage["tokens_out"]) / 1e6, 6)
        took_ms = int(took.total_seconds() * 1000)
        self.past.add(
            "api_usage", tenant_id=self.resident.id, kind="llm", name=MODEL, status_code=200, duration_ms=took_ms,
            **usage, cost_usd=cost, job_id=job, created_at=at + took,
        )  # fmt: skip
        if at < self.now - POSTED_FOR:
            return
        chosen = self.rng.sample(self.ideas, count)
        concepts = [concept | {"id": str(uuid5(job, f"concept {n}"))} for n, (concept, _) in enumerate(chosen)]
        listed = [trend for _, trend in chosen]
        generation = uuid5(job, "generation")
        self.past.add(
            "generations", id=generation, tenant_id=self.resident.id, date=at, concepts=concepts, trends=listed,
            generator=MODEL, job_id=job, created_at=at + took, is_favorite=self.rng.random() < 0.1,
        )  # fmt: skip
        if self.rng.random() < 0.75:
            self._video(generation, concepts[0], job, at + timedelta(minutes=self.rng.uniform(1, 50)))

    def _video(self, generation: UUID, concept: Mapping[str, Any], cause: UUID, at: datetime) -> None:
        took = timedelta(seconds=self.rng.uniform(15, 80))
        if at + took > self.now - LEAST:
            return
        video = uuid7(int(at.timestamp() * 1000), self.rng.getrandbits(74))
        job = self._job("videos.render", "media", at, took, {"video_id": str(video)}, f"job:{cause}")
        seconds = self.rng.randint(14, 40)
        self.past.add(
            "videos", id=video, tenant_id=self.resident.id, generation_id=generation, concept_id=concept["id"],
            status="completed", provider="storyboard", title=concept["title"], layout="storyboard", stage="done",
            estimated_usd=0, cost_usd=0, duration_seconds=seconds, created_at=at, completed_at=at + took,
            updated_at=at + took, job_id=job, percent=100,
        )  # fmt: skip
        for account in self.resident.accounts:
            if self.rng.random() < 0.85:
                self._post(video, account, concept, generation, at + took, seconds)

    def _post(
        self,
        video: UUID,
        account: Account,
        concept: Mapping[str, Any],
        generation: UUID,
        asked_at: datetime,
        seconds: int,
    ) -> None:
        at = asked_at + timedelta(minutes=self.rng.choice((3, 20, 90, 300, 1100)) * self.rng.uniform(0.7, 1.3))
        if at > self.now - LEAST:
            return
        post = uuid7(int(asked_at.timestamp() * 1000), self.rng.getrandbits(74))
        took = timedelta(seconds=self.rng.uniform(1, 9))
        job = self._job("posting.publish", "social", at, took, {"post_id": str(post)}, "schedule:posting.due")
        out = at + took
        outside = outside_id(account.platform, post)
        caption, tags = concept["caption"], [*concept["hashtags"]]
        features = features_of(
            account=str(account.id), category=concept["category"], at=at, zone=zone_of("UTC"), caption=caption,
            hashtags=tags, seconds=float(seconds),
        )  # fmt: skip
        self._learn_until(asked_at)
        predicted = self._scoring().predict(account.platform, features, at.date())
        shown = shown_of(predicted)
        due = [each for each in Horizon if out + each.age <= self.now - LEAST]
        coming = [each for each in Horizon if each not in due]
        self.past.add(
            "social_posts", id=post, tenant_id=self.resident.id, video_id=video, account_id=account.id,
            status="published",
            caption=caption, title=concept["title"][:100], hashtags=tags, scheduled_for=at, external_id=outside,
            permalink=f"https://{account.platform}.simulated.example/@{account.username}/{outside}", claimed_at=at,
            submitted_at=out, published_at=out, created_at=asked_at, updated_at=out, approved_at=asked_at, job_id=job,
            measure_at=out + coming[0].age if coming else None, prediction=shown_row(shown) if shown else None,
        )  # fmt: skip
        self.past.posts.append(OldPost(account.platform, outside, account.external_id, caption, out))
        steps = ((asked_at, "scheduled", "asked for by its owner"), (at, "claimed", "it is time"))
        for when, kind, says in (*steps, (out, "published", "the platform has it (simulated)")):
            values = {"post_id": post, "kind": kind, "message": says, "job_id": job, "at": when}
            self.past.add("post_events", tenant_id=self.resident.id, **values)
        self.past.add(
            "post_submissions", id=uuid5(post, "submission"), tenant_id=self.resident.id, post_id=post, created_at=out
        )
        for each in predicted:
            self._prediction(post, each, asked_at)
        for horizon in due:
            self._measured(post, outside, account, horizon, out, (generation, concept["id"], features), predicted)

    def _prediction(self, post: UUID, each: Predicted, at: datetime) -> None:
        self.past.add(
            "post_predictions", tenant_id=self.resident.id, post_id=post, horizon=each.key.horizon, made_at=at,
            model=each.forecast.model, platform=each.key.platform, definition=each.key.definition, shown=each.shown,
            value=each.forecast.value, score=each.score, low=each.low, high=each.high, parts=dict(each.forecast.parts),
            features=each.features.row(),
        )  # fmt: skip

    def _measured(
        self,
        post: UUID,
        outside: str,
        account: Account,
        horizon: Horizon,
        out: datetime,
        about: tuple[UUID, str, Features],
        predicted: Sequence[Predicted],
    ) -> None:
        generation, concept, features = about
        age = horizon.age + timedelta(seconds=30)
        at = out + age
        numbers = grown(account.platform, outside, age, at)
        counts = {name: getattr(numbers, name) for name in ("views", "likes", "comments", "shares")}
        outcome = judge(numbers)
        self.past.add(
            "analytics_snapshots", id=uuid5(post, horizon), tenant_id=self.resident.id, post_id=post, captured_at=at,
            horizon=horizon, age=f"{int(age.total_seconds())} seconds", source="simulated", **counts,
            details=dict(numbers.details), definition=numbers.definition or None,
        )  # fmt: skip
        shown = next((each.score for each in predicted if each.shown), None)
        feedback = uuid5(post, f"feedback {horizon}")
        self.past.add(
            "performance_feedback", id=feedback, tenant_id=self.resident.id, generation_id=generation,
            concept_id=concept, post_id=post, platform=account.platform,
            horizon=horizon, **counts, observed_at=at, created_at=at,
            definition=outcome.definition or None, predicted_score=shown,
        )  # fmt: skip
        if horizon in LEARNED and outcome.value is not None:
            key = LearnerKey(account.platform, horizon, outcome.definition)
            expected = {each.forecast.model: each.forecast.value for each in predicted if each.key == key}
            prior = built_in(account.platform)
            self.to_learn.append((key, Outcome(str(feedback), at, features, outcome.value, prior, expected)))

    def _learn_until(self, at: datetime) -> None:
        ready = sorted((each for each in self.to_learn if each[1].at <= at), key=lambda each: each[1].position)
        self.to_learn = [each for each in self.to_learn if each[1].at > at]
        for key, outcome in ready:
            learner = self.learners.setdefault(key, Learner())
            if learner.follows(outcome):
                learner.learn(outcome)

    def _scoring(self) -> Scoring:
        return Scoring({key: Standing(learner) for key, learner in self.learners.items()})

    def _job(self, job_type: str, queue: str, at: datetime, took: timedelta, payload: Row, cause: str) -> UUID:
        return add_job(
            self.past, self.now, self.rng, job_type=job_type, queue=queue, tenant_id=self.resident.id, at=at, took=took,
            payload=payload, cause=cause,
        )  # fmt: skip


def _months(resident: Resident) -> Iterator[tuple[datetime, datetime]]:
    """The months of a tenant's quota, oldest first; the last one is the one that it is in."""
    starts = [resident.period_start]
    while (before := add_months(resident.period_start, -len(starts))) > resident.of.born:
        starts.append(before)
    if resident.of.born < starts[-1]:
        starts.append(resident.of.born)
    starts.reverse()
    yield from zip(starts, [*starts[1:], resident.resets_at], strict=True)


def add_job(
    past: Past,
    now: datetime,
    rng: Random,
    *,
    job_type: str,
    queue: str,
    tenant_id: UUID | None,
    at: datetime,
    took: timedelta,
    payload: Row,
    cause: str,
) -> UUID:
    """Add a job that completed, to the queue or to the archive; one that is older than the archive is not kept."""
    id = uuid7(int(at.timestamp() * 1000), rng.getrandbits(74))
    began = at + timedelta(seconds=rng.expovariate(4) + 0.01)
    values: Row = {
        **{"id": id, "tenant_id": tenant_id, "job_type": job_type, "queue": queue, "status": "completed"},
        **{"priority": 5, "payload": payload, "attempts": 1, "max_attempts": 3, "cause": cause},
        **{"scheduled_for": at, "created_at": at, "started_at": began, "completed_at": began + took},
    }
    if began + took > now - LIVE_FOR:
        past.add("job_queue", **values)
    elif at > now - ARCHIVED_FOR:
        past.add("job_archive", **values, attempt_history=[], steps=[])
    return id


def grown(platform: str, outside: str, age: timedelta, at: datetime) -> Numbers:
    """Return the numbers that the simulated platform gives of a post of this age, as our system reads them."""
    counts = numbers_at(outside, age.total_seconds())
    values = {each.name: getattr(counts, each.kept, None) for each in asked(platform, at.date())}
    return numbers_of(platform, values, at.date())


def outside_id(platform: str, post: UUID) -> str:
    """Return the id that the platform gave the post, which looks as its ids do."""
    digest = sha256(post.bytes).digest()
    number = int.from_bytes(digest[:6])
    match platform:
        case "tiktok":
            return str(7_300_000_000_000_000_000 + number)
        case "instagram-reels":
            return str(17_600_000_000_000_000 + number)
        case _:
            return digest.hex()[:11]


# --- what failed ----------------------------------------------------------------------------------------------------

ERRORS = (
    ("generation.generate_concepts", "llm", "ProviderUnavailable", "anthropic answered 500: internal server error", 6),
    ("posting.publish", "social", "PlatformRefused", "the account may not post: its token was revoked", 4),
    ("videos.draw", "render", "StudioError", "ffmpeg ended with 234: Invalid data found when processing input", 3),
    ("analytics.collect", "social", "RateLimited", "quota exceeded for today, again at midnight", 3),
)
RECOVERED = 40
"""Attempts that failed, and whose job completed in the next one."""


def _failures(past: Past, residents: Sequence[Resident], now: datetime, rng: Random) -> None:
    paying = [each for each in residents if each.of.tier is not Tier.FREE]
    for job_type, queue, error, says, count in ERRORS:
        for _ in range(count):
            at = now - timedelta(hours=rng.uniform(0.2, 30) if rng.random() < 0.6 else rng.uniform(30, 200))
            tenant = rng.choice(paying if rng.random() < 0.7 else residents).id
            id = uuid7(int(at.timestamp() * 1000), rng.getrandbits(74))
            ended = at + timedelta(minutes=6)
            past.add(
                "job_queue", id=id, tenant_id=tenant, job_type=job_type, queue=queue, status="failed", attempts=3,
                priority=5, max_attempts=3, error_message=f"{error}: {says}", payload=_payload(job_type, rng),
                cause=f"api:{tenant}",
                scheduled_for=at, created_at=at, started_at=ended - timedelta(seconds=2), completed_at=min(ended, now),
            )  # fmt: skip
            for attempt in (1, 2, 3):
                _attempt(past, id, attempt, error, says, min(at + timedelta(minutes=2 * attempt), now))
    jobs = [row for row in past.tables["job_queue"] if row["status"] == "completed"]
    for row in rng.sample(jobs, min(RECOVERED, len(jobs))):
        fitting = next((each for each in ERRORS if each[1] == row["queue"]), ERRORS[0])
        row["attempts"] = 2
        _attempt(past, row["id"], 1, fitting[2], fitting[3], row["created_at"] + timedelta(seconds=1))
        row["started_at"] = max(row["started_at"], row["created_at"] + timedelta(seconds=1))
        row["completed_at"] = max(row["completed_at"], row["started_at"])
    _in_doubt(past, residents, now, rng)


def _payload(job_type: str, rng: Random) -> Row:
    what = {"videos.draw": "video_id", "posting.publish": "post_id", "analytics.collect": "account_id"}.get(job_type)
    return {what: str(UUID(int=rng.getrandbits(128), version=4))} if what else {"count": 3}


def _attempt(past: Past, job: UUID, attempt: int, error: str, says: str, ended: datetime) -> None:
    past.add(
        "job_attempts", job_id=job, attempt=attempt, worker_id=HOST, outcome="failed", error_class=error,
        error_message=says, release=RELEASES[-1], error_group=error_group(error, says),
        started_at=ended - timedelta(seconds=1), ended_at=ended,
    )  # fmt: skip


def _in_doubt(past: Past, residents: Sequence[Resident], now: datetime, rng: Random) -> None:
    """Let the newest posts of some accounts have failed, one be unconfirmed, and a paid clip be in doubt."""
    with_accounts = [each for each in residents if each.accounts and each.of.tier is not Tier.FREE]
    posts = sorted(past.tables["social_posts"], key=lambda row: row["published_at"])
    lately = [row for row in posts if row["published_at"] > now - timedelta(days=5)]
    fates = ["unconfirmed", "failed", "failed", "failed", "missed"]
    chosen = rng.sample(lately, min(len(fates), len(lately)))
    for row, status in zip(chosen, fates, strict=False):
        _undo(past, row, status)
    if with_accounts:
        owner = rng.choice(with_accounts)
        _clip_in_doubt(past, owner, now - timedelta(hours=rng.uniform(2, 20)), rng)


def _undo(past: Past, row: Row, status: str) -> None:
    """Let a post not have appeared: with all that follows from its having done so."""
    says, code = {
        "unconfirmed": ("the platform did not answer when it was asked to publish: it may be live", "no_answer"),
        "failed": ("the platform refuses the video: its sound is not licensed for this account", "refused"),
        "missed": ("it could not be begun within two hours of its time", "missed"),
    }[status]
    gone = row["external_id"]
    past.posts[:] = [each for each in past.posts if each.id != gone]
    for table in ("analytics_snapshots", "performance_feedback"):
        past.tables[table][:] = [each for each in past.tables[table] if each["post_id"] != row["id"]]
    row |= {"status": status, "external_id": None, "permalink": None, "published_at": None, "measure_at": None}
    row |= {"error_message": says, "error_code": code, "updated_at": row["submitted_at"]}
    last = next(each for each in reversed(past.tables["post_events"]) if each["post_id"] == row["id"])
    last |= {"kind": status, "message": says}
    if status == "missed":
        row |= {"submitted_at": None, "claimed_at": None}
        kept = past.tables["post_submissions"]
        kept[:] = [each for each in kept if each["post_id"] != row["id"]]


def _clip_in_doubt(past: Past, owner: Resident, at: datetime, rng: Random) -> None:
    video = uuid7(int(at.timestamp() * 1000), rng.getrandbits(74))
    month = at.date().replace(day=1)
    says = "runway did not answer, and what it lists has no such order yet"
    past.add(
        "videos", id=video, tenant_id=owner.id, status="unconfirmed", provider="runway", layout="clips",
        title="Three things nobody tells you about knives", estimated_usd=1.5, stage="waiting", created_at=at,
        updated_at=at, error_message=says,
    )  # fmt: skip
    past.add(
        "provider_jobs", id=uuid5(video, "order"), tenant_id=owner.id, video_id=video, scene=0, attempt=1,
        provider="runway", model="gen4.5", resolution="720p", prompt="A knife, slowly, on a board", seconds=5,
        state="unconfirmed", month=month, estimated_usd=1.5, created_at=at, submitted_at=at, error_message=says,
    )  # fmt: skip
    past.add("video_budgets", tenant_id=owner.id, month=month, reserved_usd=1.5, spent_usd=0)


# --- what was changed -----------------------------------------------------------------------------------------------


def changes(seed: int, now: datetime) -> list[Row]:
    """Return what was changed, oldest first. It is listed by the order in which it was written: before the processes
    start, which write down what they run with."""
    rng, rows = Random(f"{seed}:changes"), list[Row]()  # noqa: S311
    for place, release in enumerate(RELEASES):
        at = now - timedelta(days=88 - 16.5 * place, hours=rng.uniform(1, 9))
        ran = {"release": RELEASES[place - 1]} if place else None
        for n, role in enumerate(("web", "worker", "scheduler")):
            values: Row = {"before": ran, "after": {"release": release}, "cause": "person:ada"}
            rows.append({"at": at + timedelta(seconds=9 * n), "kind": "deploy", "subject": role, **values})
    others: tuple[tuple[float, str, str, Row, Row], ...] = (
        (41, "limit", "llm", {"max_running": 4}, {"max_running": 8}),
        (27, "limit", "llm", {"max_running": 8}, {"max_running": None}),
        (12, "pause", "social", {"paused": False}, {"paused": True}),
        (11.9, "pause", "social", {"paused": True}, {"paused": False}),
        (0.07, "pause", "media", {"paused": False}, {"paused": True}),
        (0.065, "pause", "media", {"paused": True}, {"paused": False}),
    )
    for days, kind, subject, before, after in others:
        change: Row = {"before": before, "after": after, "cause": "person:grace"}
        rows.append({"at": now - timedelta(days=days), "kind": kind, "subject": subject, **change})
    return sorted(rows, key=lambda row: row["at"])
