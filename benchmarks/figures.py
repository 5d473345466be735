"""The figures of each measure, with the systems that they are compared with, and the bars.

The one place for bars: whoever moves one changes its line here. docs/performance.md has a line for each figure (a test
compares them; `python -m benchmarks --figures` prints those lines).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """A figure of ours beside a peer's, or alone. The bar is a multiple of the peer's figure; without a peer, a value
    in the figure's own unit. `figure` names the peer's figure where it is another one of the same measure."""

    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    figure: str | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def bar(self) -> str | None:
        times = " x" if self.peer else ""
        if self.at_least is not None:
            return f">= {self.at_least:g}{times}"
        return None if self.at_most is None else f"<= {self.at_most:g}{times}"


@dataclass(frozen=True)
class Figure:
    """A number that a measure finds; `meaning` completes the sentence "The figure is …"."""

    name: str
    unit: str
    meaning: str
    comparisons: tuple[Comparison, ...]

    @property
    def documented(self) -> str:
        """Its line in docs/performance.md."""
        return f"| `{self.name}` | {self.unit} | {self.meaning} |"


def figure(name: str, unit: str, meaning: str, *comparisons: Comparison) -> Figure:
    return Figure(name, unit, meaning, comparisons or (Comparison(),))


def alone(*, at_least: float | None = None, at_most: float | None = None) -> Comparison:
    return Comparison(None, at_least, at_most)


Beside = Comparison

FIGURES: dict[str, tuple[Figure, ...]] = {
    "drain": (
        figure(
            "drain",
            "jobs/s",
            "no-op jobs completed from a full queue that was filled in bulk, counted in the database",
            Beside("pgqueuer", at_least=1.5),
            Beside("graphile-worker", at_least=0.9),
            Beside("procrastinate"),
            Beside("celery"),
            Beside("dramatiq"),
        ),
    ),
    "effect": (
        figure(
            "effect",
            "jobs/s",
            "jobs completed that insert a row in the commit of their completion, and have opted in to sharing that "
            "commit; procrastinate's jobs do nothing",
            Beside("procrastinate", at_least=5),
        ),
        figure(
            "effect-alone",
            "jobs/s",
            "the same without opting in: a commit for each job",
            Beside("procrastinate", figure="effect"),
        ),
    ),
    "enqueue": (
        figure(
            "enqueue-single",
            "jobs/s",
            "jobs enqueued by one thread, each in a transaction of its own",
            Beside("pgqueuer", at_least=1.1),
            Beside("graphile-worker"),
            Beside("procrastinate"),
            Beside("celery"),
            Beside("dramatiq"),
        ),
        figure(
            "enqueue-bulk",
            "jobs/s",
            "jobs enqueued by one thread, a thousand in a call; `copy` is COPY of the very same rows",
            Beside("copy", at_least=0.8),
            Beside("pgqueuer"),
            Beside("graphile-worker"),
            Beside("procrastinate"),
        ),
    ),
    "latency": (
        figure(
            "latency-p50",
            "ms",
            "from asking for the commit that enqueues a job to the start of its handler, median; jobs come 0.5 to 1 s "
            "apart",
            alone(at_most=4),
            Beside("graphile-worker"),
            Beside("procrastinate"),
            Beside("dramatiq"),
        ),
        figure(
            "latency-p99",
            "ms",
            "the same, 99th percentile",
            alone(at_most=20),
            Beside("graphile-worker"),
            Beside("procrastinate"),
            Beside("dramatiq"),
        ),
        figure("latency-call-p50", "ms", "the same from the beginning of the call that enqueues, median"),
        figure("latency-call-p99", "ms", "the same, 99th percentile"),
    ),
    "idle": (
        figure(
            "idle-redis",
            "commands/min",
            "the Redis commands of web, a worker dyno and a scheduler with nothing to do",
            alone(at_most=40),
        ),
        figure("idle-postgres", "transactions/min", "their transactions", alone(at_most=30)),
        figure("idle-redis-long", "commands/min", "the same with `IDLE_INTERVAL=300`", alone(at_most=40)),
        figure("idle-postgres-long", "transactions/min", "the transactions with that", alone(at_most=3)),
        figure("idle-cpu-worker", "% of a core", "the processor time of the worker dyno meanwhile", alone(at_most=1)),
        figure("idle-cpu-scheduler", "% of a core", "that of the scheduler"),
        figure("idle-cpu-web", "% of a core", "that of web"),
        figure("idle-memory", "MB", "the memory (PSS) of all of them"),
    ),
    "memory": (
        figure("memory-started", "MB", "the memory (PSS) of a worker dyno that has just started", alone(at_most=120)),
        figure("memory-worked", "MB", "the same after a thousand jobs", alone(at_most=120)),
        figure("memory-scheduler", "MB", "the memory (PSS) of a scheduler"),
    ),
    "ingest": (
        figure(
            "ingest",
            "webhooks/s",
            "signed webhooks stored durably and answered by one web process over 64 connections; `fastapi` is FastAPI "
            "with the SDK's `construct_event`, `by-hand` Starlette with an HMAC, each with an insert and a push; "
            "`by-hand-no-push` is without the push",
            Beside("fastapi", at_least=6),
            Beside("by-hand", at_least=1.8),
            Beside("by-hand-no-push"),
        ),
        figure(
            "ingest-p50", "ms", "how long a sender waits for that answer, median", Beside("fastapi"), Beside("by-hand")
        ),
        figure(
            "ingest-p99",
            "ms",
            "the same, 99th percentile",
            alone(at_most=50),
            Beside("fastapi"),
            Beside("by-hand"),
        ),
        figure("ingest-cpu-web", "us/webhook", "the processor time of the web process", Beside("by-hand")),
        figure("ingest-cpu-postgres", "us/webhook", "the processor time of Postgres", Beside("by-hand")),
    ),
    "api-history": (
        figure(
            "api-history-p95",
            "ms",
            "how long `GET /api/history` takes a tenant of 100,000 generations, first page, 95th percentile",
            alone(at_most=50),
        ),
        figure("api-history-deep-p95", "ms", "the same, page after page from the middle", alone(at_most=50)),
        figure("api-history-favorites-p95", "ms", "the same, favorites only"),
        figure("api-history-search-p95", "ms", "the same with a search"),
    ),
    "api-generate": (
        figure(
            "api-generate-p50",
            "ms",
            "how long `POST /api/generate` takes, one after another and each of another tenant, median; the offline "
            "generator looks whether it has enough that is new",
        ),
        figure("api-generate-p95", "ms", "the same, 95th percentile"),
        figure("api-generate-cpu-web", "us/request", "the processor time of the web process"),
        figure("api-generate-cpu-postgres", "us/request", "the processor time of Postgres"),
    ),
    "up": (
        figure("up-cold", "s", "from `viral up` in an empty folder to the first accepted webhook", alone(at_most=5)),
        figure("up-warm", "s", "the same where it has run before", alone(at_most=3)),
        figure("walk-accepted-p50", "ms", "from sending a webhook to its answer on that quiet system, median"),
        figure("walk-accepted-p95", "ms", "the same, 95th percentile"),
        figure(
            "walk-changed-p50",
            "ms",
            "from sending a webhook to the changed plan of its tenant, median",
            alone(at_most=10),
        ),
        figure("walk-changed-p95", "ms", "the same, 95th percentile", alone(at_most=20)),
    ),
    "growth": (
        figure(
            "growth",
            "us/job",
            "the processor time of worker, scheduler and Postgres for a job beside 10 million finished ones; `little` "
            "is beside 10,000",
            Beside("little", at_most=1.2),
        ),
    ),
    "quota": (
        figure(
            "hold",
            "holds/s",
            "concepts of one tenant held and settled one after another, two commits each",
            alone(at_least=300),
        ),
        figure(
            "hold-many",
            "holds/s",
            "concepts held for 200 tenants in a transaction, as the daily ones are",
            alone(at_least=2000),
        ),
        figure(
            "hold-threads", "holds/s", "concepts of many tenants held and settled on eight threads, two commits each"
        ),
        figure(
            "reset",
            "tenants/s",
            "the quota reset of a million tenants that are due at once",
            alone(at_least=20_000),
        ),
        figure(
            "hold-p99-beside-reset",
            "ms",
            "how long a hold and its settlement take during that reset, 99th percentile",
            alone(at_most=20),
        ),
    ),
    "apply": (
        figure(
            "apply",
            "events/s",
            "stored events of Stripe applied to tenants' plans by one worker dyno, three of each purchase; "
            "`stripe-sync-engine` takes the same signed events from memory, copies their objects and decides nothing",
            alone(at_least=2000),
            Beside("stripe-sync-engine"),
        ),
        figure(
            "apply-cpu",
            "ms/event",
            "the processor time of worker, scheduler and Postgres",
            alone(at_most=0.7),
            Beside("stripe-sync-engine"),
        ),
        figure("apply-cpu-postgres", "ms/event", "that of Postgres alone", Beside("stripe-sync-engine")),
    ),
    "burst": (
        figure(
            "burst",
            "s",
            "20,001 events of 6,667 purchases are sent as fast as a web process takes them, beside a worker dyno: from "
            "the last answer until the last tenant is right",
            alone(at_most=10),
        ),
        figure("burst-accepted", "webhooks/s", "the webhooks that the web process takes meanwhile"),
        figure("burst-cpu-web", "ms/event", "the processor time of the web process, from webhook to changed tenant"),
        figure("burst-cpu-worker", "ms/event", "that of worker dyno and scheduler"),
        figure("burst-cpu-postgres", "ms/event", "that of Postgres"),
        figure("burst-wal", "bytes/event", "what Postgres writes to its log, full pages included"),
        figure("burst-transactions", "transactions/event", "the transactions of all three processes"),
    ),
    "scale": (
        figure(
            "scale",
            "jobs/s",
            "jobs that wait half a second each, worked off by four worker dynos of one process on the same Postgres "
            "and Redis; `one` and `two` are fewer dynos, with as many jobs for each",
            Beside("one", at_least=3),
            Beside("two"),
        ),
        figure(
            "scale-cpu-worker",
            "ms/job",
            "the processor time of dynos and scheduler for a job, from notification to completion",
            Beside("one"),
            Beside("two"),
        ),
        figure("scale-cpu-postgres", "ms/job", "that of Postgres", Beside("one"), Beside("two")),
        figure("scale-wal", "bytes/job", "what Postgres writes to its log for it, full pages included"),
        figure("scale-transactions", "transactions/job", "the transactions of dynos and scheduler"),
        figure(
            "scale-behind",
            "%",
            "of the jobs of a crowd, how many had begun when the last one of ten other tenants had, which were "
            "enqueued behind all of them",
            alone(at_most=50),
        ),
    ),
    "storm": (
        figure(
            "storm",
            "events/s",
            "logins (`session.created` of Clerk) applied by one worker dyno, five of each person, all stored at once",
        ),
        figure("storm-cpu", "us/event", "the processor time of worker, scheduler and Postgres for one of them"),
        figure(
            "storm-checkout",
            "s",
            "from the first webhook of a purchase amid those logins to the changed plan of its tenant, the longest",
            alone(at_most=2),
        ),
    ),
    "render": (
        figure(
            "render",
            "s",
            "a storyboard of 15 s with movement, 1080x1920 at 30 frames a second, from script to file in a process "
            "that has drawn nothing before; `static-slides` are five pictures that do not move, by plain ffmpeg",
            alone(at_most=10),
            Beside("static-slides"),
        ),
        figure(
            "render-memory",
            "MB",
            "the most memory of that process, and of those together that it starts, at any time",
            alone(at_most=400),
            Beside("static-slides"),
        ),
        figure(
            "render-beside-p50",
            "ms",
            "from asking for the commit that enqueues a job of another queue to the start of its handler, while both "
            "processes of the worker dyno draw, median",
        ),
        figure("render-beside-p99", "ms", "the same, 99th percentile", alone(at_most=50)),
    ),
    "posts": (
        figure(
            "posts",
            "posts/s",
            "posts of 500 accounts on five simulated platforms, due at once, published by one worker dyno; 10,000 an "
            "hour are 2.8",
            alone(at_least=2.8),
        ),
        figure("posts-cpu", "ms/post", "the processor time of workers, scheduler and Postgres for one of them"),
        figure("posts-cpu-outside", "ms/post", "that of the simulated platforms, which is not ours"),
        figure("posts-late-p50", "s", "from the time of such a post to the call that publishes it, median"),
        figure("posts-late-p99", "s", "the same, 99th percentile", alone(at_most=60)),
        figure(
            "posts-late-p99-beside",
            "s",
            "the same while another tenant has 2,000 posts due at once, the platform of 20 accounts does not answer, "
            "that of 4 takes no more, and 4 are disconnected",
            alone(at_most=60),
        ),
        figure(
            "posts-over",
            "windows",
            "accounts and platforms that were asked more, in any window, than the platform allows",
            alone(at_most=0),
        ),
        figure(
            "posts-due",
            "ms",
            "one run of `posting.due` beside 100,000 scheduled posts of which none is due; `little` is beside 10,000",
            alone(at_most=100),
            Beside("little"),
        ),
    ),
    "collect": (
        figure(
            "collect",
            "posts/s",
            "numbers of posts that one worker dyno collects from five simulated platforms, on a day of 50 accounts "
            "that is played in steps of 12 minutes; they post 20 times a day each, as 10,000 posts of 500 accounts: "
            "50,000 numbers a day are 0.6",
            alone(at_least=6),
        ),
        figure("collect-cpu", "ms/post", "the processor time of workers, scheduler and Postgres for one of them"),
        figure("collect-missed", "horizons", "horizons that were missed on that day", alone(at_most=0)),
        figure(
            "collect-tiktok",
            "%",
            "the most that was asked in any window of that day, of what TikTok allows an account: 600 a minute",
            alone(at_most=100),
        ),
        figure(
            "collect-youtube",
            "%",
            "the same of YouTube: 10,000 a day for all accounts of an installation, which make no more than 100 posts",
            alone(at_most=100),
        ),
        figure("collect-instagram", "%", "the same of Instagram: 200 an hour and account", alone(at_most=100)),
        figure("collect-bluesky", "%", "the same of Bluesky: 5,000 points an hour and account", alone(at_most=100)),
        figure("collect-mastodon", "%", "the same of Mastodon: 300 in five minutes and account", alone(at_most=100)),
    ),
    "learn": (
        figure(
            "learn",
            "outcomes/s",
            "outcomes that one worker dyno learns from a full log of 2,000 tenants with 100 each, all models beside "
            "one another; a million in ten minutes are 1,667 (`--learn-tenants 10000` is that size)",
            alone(at_least=1667),
        ),
        figure(
            "learn-memory",
            "MB",
            "the most memory (PSS) of the dyno's processes meanwhile",
            alone(at_most=600),
        ),
        figure(
            "learn-one",
            "ms",
            "a job that learns one outcome which has just come in, beside 100 earlier ones, from claim to completion",
            alone(at_most=50),
        ),
        figure("learn-one-p99", "ms", "the 99th percentile of it", alone(at_most=150)),
    ),
    "waiting": (
        figure(
            "waiting",
            "jobs",
            "jobs that wait at once for a model that takes 20 s to answer, of 200 generations of 200 tenants given to "
            "one worker dyno",
            alone(at_least=200),
        ),
        figure("waiting-seconds", "s", "from enqueueing them to the last concept, 20 of which are the model's"),
        figure("waiting-held", "MB", "memory (PSS) of the dyno while all of them wait"),
        figure("waiting-memory", "MB", "the most of it, also when they are answered", alone(at_most=250)),
        figure(
            "waiting-beside-p50",
            "ms",
            "from asking for the commit that enqueues a job of another queue to the start of its handler, meanwhile",
            alone(at_most=20),
        ),
    ),
    "ops": (
        figure(
            "ops-p95",
            "ms",
            "the 95th percentile of the slowest page of `/ops`: each page with all that can be clicked on it, asked of "
            "one web process, with 1,000,000 finished and 100,000 pending jobs, 1,000,000 events and 10,000 tenants",
            alone(at_most=300),
        ),
        figure("ops-p50", "ms", "the median of all of them"),
        figure("ops-viewer", "transactions/min", "Postgres's while one browser has the start page open"),
        figure("ops-viewers", "times", "how many times as many they are with 50", alone(at_most=1.1)),
    ),
}
