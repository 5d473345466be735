"""The whole loop on this machine: trends, a concept, its video, three platforms, the numbers that come back, and
what is learned from them.

All of it is the product's own, in a home of its own: Postgres and Redis, web, worker and scheduler as processes, real
requests between them. What is outside is simulated: the sources of trends and the platforms, on loopback sockets, and
the person who connects the accounts. The database's clock decides when a post is measured and cannot be put forward, so
the posts are made older, here and at the platforms alike, whose numbers grow with the age of a post.
"""

import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from cli.delivery import deliver
from cli.own_system import RunFailed, RunStopped, own_system, since
from db.transaction import SYSTEM
from domain.learning.numbers import Horizon
from domain.learning.outcomes import LEARNED, SHOWN, Features
from domain.learning.performance import HorizonState
from domain.posting.posts import OVER, PostStatus
from domain.videos.profiles import NAMES
from simulators.kinds import KINDS
from simulators.outside import Outside
from simulators.personas import random_persona
from workers.app import App
from workers.jobs.generation import generate_concepts
from workers.jobs.post_plans import ForAccount, PostRequest
from workers.ops import accuracy, analytics, jobs, posts, videos
from workers.ops.backdating import backdate
from workers.ops.connecting import begin_connect, connected
from workers.ops.video_files import addresses
from workers.runtime import logs

Event = dict[str, Any]
Say = Callable[[Event], object]

PLATFORMS = ("tiktok", "youtube-shorts", "instagram-reels")
OPTIONS = {"tiktok": {"privacy_level": "PUBLIC_TO_EVERYONE"}, "youtube-shorts": {"privacy": "public"}}
"""What a person has to choose: seen by everybody."""
MOST_ROUNDS = 10
MOST_SEED = 999_999
OF_A_ROUND = 5
MONTH = 10
"""Concepts of a round, of which the one with the best prediction is filmed; and those of a month on the free plan."""
PAST = timedelta(seconds=30)
"""A post is made so much older than a horizon: in the middle of the minute by which its numbers grow, so that they are
those of the age that is written down with them."""
PATIENCE = 300.0
EACH = 0.05
"""Seconds: the longest that anything is waited for, and between two looks."""


def play(home: Path, *, seed: int, rounds: int, say: Say, durable: bool) -> bool:
    """Play so many rounds in this home, and let `say` have an event for all that happens, from another thread. False:
    it was stopped by a signal. For the main thread (see `local.spawn`); it changes this process's environment.

    Raises:
        RunFailed: it came to no end; the text says where, and what the processes said last.
        EmbeddedError: the servers cannot run here.
    """
    logs.configure("console", "ERROR")
    began = time.monotonic()
    with own_system(home, seed=seed, durable=durable) as system:
        say(
            {
                "event": "servers",
                "simulated": True,
                "home": str(home),
                "page": system.played.page,
                "took_s": since(began),
            }
        )
        started = time.monotonic()

        def rounds_of(app: App, stopped: threading.Event) -> None:
            Loop(app, system.played, Plan(seed, rounds), say, stopped).run(started)

        return system.run("viral dev loop", rounds_of)


@dataclass(frozen=True)
class Plan:
    seed: int
    rounds: int

    @property
    def concepts(self) -> int:
        """How many are made in each round."""
        return min(OF_A_ROUND, MONTH // self.rounds)

    def job_id(self, number: int) -> UUID:
        """Return the id of the job that makes the concepts of a round: it is what they are drawn by."""
        return uuid5(NAMESPACE_URL, f"viral-dev-loop:{self.seed}:{number}")


@dataclass
class Loop:
    """The rounds, as a tenant and its accounts' owner would do them."""

    app: App
    played: Outside
    plan: Plan
    say: Say
    stopped: threading.Event
    accounts: dict[str, UUID] = field(default_factory=dict)

    def run(self, began: float) -> None:
        tenant_id = self._tenant()
        for platform in PLATFORMS:
            self.accounts[platform] = self._account(tenant_id, platform)
        self._say("accounts", began, tenant_id=tenant_id, accounts=dict(self.accounts))
        for number in range(1, self.plan.rounds + 1):
            self._round(tenant_id, number)

    def _round(self, tenant_id: UUID, number: int) -> None:
        began = time.monotonic()
        generation_id, place, concept = self._concept(tenant_id, number)
        self._say("concept", began, round=number, concept=concept, of=self.plan.concepts)
        began = time.monotonic()
        video = self._video(tenant_id, generation_id, place)
        self._say("video", began, round=number, **video)
        began = time.monotonic()
        made = self._posts(tenant_id, video["video_id"])
        self._say("posts", began, round=number, posts=made)
        began = time.monotonic()
        rows = [{"round": number} | row for each in Horizon for row in self._numbers(tenant_id, made, each)]
        self._say("numbers", began, round=number, rows=rows)
        began = time.monotonic()
        self._say("learning", began, round=number, **self._learning(tenant_id, made, concept))

    def _say(self, event: str, began: float, **values: Any) -> None:
        self.say({"event": event, "simulated": True, **values, "took_s": since(began)})

    def _until(self, look: Callable[[], Any], what: str) -> Any:
        """Return what a look finds as soon as it finds something.

        Raises:
            RunFailed: it takes too long.
            RunStopped: somebody has stopped it.
        """
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            if self.stopped.wait(EACH):
                raise RunStopped
            if time.monotonic() > deadline:
                raise RunFailed(f"waited {PATIENCE:g} s in vain for {what}")
        return found

    # --- before the first round -------------------------------------------------------------------------------------

    def _tenant(self) -> UUID:
        """Sign somebody up, as Clerk says it: a tenant follows."""
        settings = self.app.settings
        person = random_persona(Random(self.plan.seed), email="ada@example.com")  # noqa: S311 - a make-believe person
        body = KINDS["clerk"]["user.created"].build(person, datetime.now(UTC))
        deliver("clerk", body, settings, settings.web_url)
        tenant_id: UUID = self._until(self._newest_tenant, "the tenant of whoever signed up")
        return tenant_id

    def _newest_tenant(self) -> UUID | None:
        with self.app.db.transaction(SYSTEM) as tx:
            found = tx.tenants.recent(limit=1)
        return found[0]["id"] if found else None

    def _account(self, tenant_id: UUID, platform: str) -> UUID:
        """Connect the account of whoever is signed in at the platform, as a browser does: by way of its page, which
        agrees at once, and back to the callback of our web server."""
        begun = begin_connect(self.app, tenant_id, platform)
        with urllib.request.urlopen(begun.address, timeout=30) as page:  # noqa: S310 - of a simulator, by http
            page.read()
        account_id: UUID = self._until(lambda: connected(self.app, begun), f"the account on {NAMES[platform]}")
        return account_id

    # --- a round ----------------------------------------------------------------------------------------------------

    def _concept(self, tenant_id: UUID, number: int) -> tuple[UUID, str, Mapping[str, Any]]:
        """Make concepts of what the sources of trends say, and return the generation, and of the concept with the best
        prediction its address and itself."""
        job_id = self.plan.job_id(number)
        asked = {"tenant_id": tenant_id, "count": self.plan.concepts}
        jobs.enqueue(self.app, generate_concepts, asked, id=job_id)
        generation_id = UUID(self._ended(job_id)["generation_id"])
        places = videos.concepts_of(self.app, tenant_id, generation_id)
        with self.app.db.transaction(tenant_id) as tx:
            generation = tx.generations.get(tenant_id, generation_id)
        concepts = generation.concepts if generation else []
        # `max` takes the first of equals, so the same seed films the same one.
        at = max(range(len(concepts)), key=lambda n: _score(concepts[n]))
        return generation_id, places[at], concepts[at]

    def _ended(self, job_id: UUID) -> Mapping[str, Any]:
        """Wait for a job, and return its result.

        Raises:
            RunFailed: it has failed.
        """
        row = self._until(lambda: _over(jobs.find(self.app, job_id)), f"the job {job_id}")
        if row["status"] != "completed":
            raise RunFailed(f"the job {row['job_type']} is {row['status']}: {row['error_message']}")
        result: Mapping[str, Any] = row["result"] or {}
        return result

    def _video(self, tenant_id: UUID, generation_id: UUID, concept_id: str) -> Event:
        row = videos.request(self.app, tenant_id, generation_id=generation_id, concept_id=concept_id)

        def ended() -> Mapping[str, Any] | None:
            found = videos.show(self.app, tenant_id, row["id"])
            return found if found["status"] in ("completed", "failed", "unconfirmed", "cancelled") else None

        video = self._until(ended, "the video")
        if video["status"] != "completed":
            raise RunFailed(f"the video is {video['status']}: {video['error_message']}")
        file = addresses(self.app, video, timedelta(hours=1))
        shown = {"path": str(file["path"]), "sha256": file["sha256"], "seconds": (file["probe"] or {}).get("seconds")}
        return {"video_id": video["id"], **shown}

    def _posts(self, tenant_id: UUID, video_id: UUID) -> list[Event]:
        """Post the video to all accounts, and wait until it is on each, with its address."""
        accounts = [ForAccount(account_id) for account_id in self.accounts.values()]
        request = PostRequest(video_id, accounts, options=OPTIONS)
        ids = [row["id"] for row in posts.create(self.app, tenant_id, request)]

        def published() -> list[Event] | None:
            rows = [posts.show(self.app, tenant_id, post_id) for post_id in ids]
            for row in rows:
                if row["status"] in (*OVER, PostStatus.UNCONFIRMED):
                    raise RunFailed(f"the post to {NAMES[row['platform']]} is {row['status']}: {row['error_message']}")
            there = all(
                row["status"] == PostStatus.PUBLISHED and row["external_id"] and row["permalink"] for row in rows
            )
            return rows if there else None

        rows: Iterable[Mapping[str, Any]] = self._until(published, "the posts to be published")
        names = ("platform", "external_id", "permalink", "username", "published_at")
        return [{"post_id": row["id"], **{name: row[name] for name in names}} for row in rows]

    def _numbers(self, tenant_id: UUID, made: Sequence[Event], horizon: Horizon) -> list[Event]:
        """Make the posts as old as the horizon, let what is due be collected, and return what came."""
        for post in made:
            self._make_older(tenant_id, post, horizon.age + PAST)
        jobs.enqueue(self.app, self.app.job_types["analytics.due"], {})

        def settled() -> list[Event] | None:
            rows = [self._at(tenant_id, post, horizon) for post in made]
            return [row for row in rows if row is not None] if None not in rows else None

        rows: list[Event] = self._until(settled, f"the numbers of {horizon}")
        return rows

    def _learning(self, tenant_id: UUID, made: Sequence[Event], concept: Mapping[str, Any]) -> Event:
        """Let what is due be learned, and return what became of the predictions and what the next one would be."""
        jobs.enqueue(self.app, self.app.job_types["reflexion.due"], {})

        def learned() -> bool:
            evidence = [accuracy.accuracy(self.app, tenant_id, horizon=each).evidence for each in LEARNED]
            return all(each.waiting == 0 for each in evidence)

        self._until(learned, "the outcomes to be learned")
        with self.app.db.transaction(tenant_id) as tx:
            scoring, today = tx.learners.scoring(tenant_id), tx.now().date()
            rows = []
            for post in made:
                settled = tx.accuracy.of_post(tenant_id, post["post_id"])[SHOWN]
                features = Features(str(self.accounts[post["platform"]]), concept["category"])
                rows.append(
                    {
                        **{name: post[name] for name in ("post_id", "platform")},
                        **{"predicted": settled.score, "low": settled.low, "high": settled.high},
                        **{"actual": settled.actual_score, "set_aside": settled.set_aside},
                        "next": found.score if (found := scoring.shown(post["platform"], features, today)) else None,
                    }
                )
            critiques = tx.learning.critiques(tenant_id, limit=1).found
        text = critiques[0].critique if critiques else None
        return {"rows": rows, "critique": text, "critic": critiques[0].model if critiques else None}

    def _make_older(self, tenant_id: UUID, post: Event, age: timedelta) -> None:
        simulator = self.played.platforms[post["platform"]]
        with self.app.db.transaction(SYSTEM) as tx:
            by = post["published_at"] + age - tx.now()
        post["published_at"] -= by
        aged = datetime.fromtimestamp(simulator.post(post["external_id"]).published_at, UTC)
        simulator.backdate(post["external_id"], (aged - post["published_at"]).total_seconds())
        backdate(self.app, tenant_id, post["post_id"], by)

    def _at(self, tenant_id: UUID, post: Event, horizon: Horizon) -> Event | None:
        """Return what came of a post at this horizon; None: nothing yet."""
        found = analytics.metrics(self.app, tenant_id, post["post_id"])
        [at] = [each for each in found.horizons if each.horizon == horizon]
        if at.state == HorizonState.TO_COME:
            return None
        names = ("views", "likes", "comments", "shares")
        numbers = {name: getattr(at.look.numbers, name) if at.look else None for name in names}
        age = at.look.age if at.look else None
        return {
            **{name: post[name] for name in ("post_id", "platform", "external_id")},
            **{"horizon": str(horizon), "age_s": age and age.total_seconds(), **numbers, "missed": at.reason},
            "simulated": True,
        }


def _over(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return row if row["status"] in ("completed", "failed", "cancelled") else None


def _score(concept: Mapping[str, Any]) -> float:
    """Return how it is predicted to do on all platforms together."""
    return float(sum(each["score"] for each in concept["platformVirality"].values()))
