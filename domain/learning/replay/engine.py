"""A replay: posts of the past in their order, each predicted by the production's models before its outcome is there.

A stream is what a file calls one `source`. It is cut into windows of so many posts, which are counted from 1 in each. A
window begins with nothing learned of its own; its tenants are its accounts, or all of it is one tenant. What all
tenants of all streams have learned so far is pooled, as in production, so a window that begins later begins with more
(docs/decisions/0043); or each stream has a pool of its own.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import SHOWN, Outcome, Prior
from domain.learning.pool import Contribution, built_in, contributions, pooled
from domain.learning.promotion import BACKTESTED, WARM_UP, Office, Step, after, backtest, decide, is_due
from domain.learning.replay.figures import Figures, Hit, by_range, mean
from domain.learning.replay.rows import Post
from domain.learning.replay.yardsticks import Median, OriginalRule, original_weights
from domain.learning.scale import score_of

OURS = "champion"
YARDSTICKS = ("original_weights", "original_rule", "running_median")
USUAL_DELAY, USUAL_WINDOW = 10, 1210
FIRST_POOL, POOL_GROWS = 20, 20
"""The pool is made anew after so many outcomes at first, and then whenever one in so many has come since."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Options:
    """`delay`: after so many further posts of its stream the outcome of one is there. `window` 0: a stream is one
    window. `pool_per_source`: streams see nothing of each other."""

    per_account: bool = False
    delay: int = USUAL_DELAY
    window: int = USUAL_WINDOW
    pool_per_source: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """What became of a stream: the predictions of each rule in the order of its posts, ours as `OURS`. `models` says of
    how many posts each model was the champion."""

    name: str
    hits: dict[str, list[Hit]]
    models: dict[str, int]

    @property
    def count(self) -> int:
        return len(self.hits[OURS])

    def ranges(self, rule: str) -> dict[str, Figures | None]:
        return by_range(self.hits[rule])


@dataclass(frozen=True, slots=True)
class Report:
    streams: Sequence[Stream]

    def ranges(self, rule: str) -> dict[str, Figures | None]:
        """Return the mean of all streams' figures for each range."""
        found = [stream.ranges(rule) for stream in self.streams]
        return {name: mean(each[name] for each in found) for name in (found[0] if found else by_range([]))}


@dataclass(slots=True)
class Pool:
    """What the tenants of one platform and definition have learned, by their numbers, and the prior of it."""

    prior: Prior
    seen: dict[int, list[Contribution]] = field(default_factory=dict)
    changed: dict[int, Learner] = field(default_factory=dict)
    outcomes: int = 0
    due: int = FIRST_POOL

    def note(self, tenant: "Tenant") -> None:
        """Take note that the tenant has learned an outcome; make the prior anew if it is time."""
        self.changed[tenant.number] = tenant.learner
        self.outcomes += 1
        if self.outcomes < self.due:
            return
        for number, learner in self.changed.items():
            model = learner.models[CHAMPION]
            if isinstance(model, Shrinkage):
                self.seen[number] = contributions(model)
        self.changed.clear()
        self.prior = pooled(tenant.key.platform, self.seen.values())
        self.due = self.outcomes + max(FIRST_POOL, self.outcomes // POOL_GROWS)


@dataclass(slots=True)
class Tenant:
    """One learner of a tenant in one window, its last outcomes, and who scores for it."""

    number: int
    key: LearnerKey
    pool: Pool
    learner: Learner = field(default_factory=Learner)
    log: deque[Outcome] = field(default_factory=lambda: deque(maxlen=WARM_UP + BACKTESTED))
    office: Office = field(default_factory=Office)

    def learn(self, outcome: Outcome) -> None:
        """Take in an outcome; then ask whether another model should score, as production does, but for the panel of
        other tenants in the backtest."""
        self.learner.learn(outcome)
        self.log.append(outcome)
        count, office = self.learner.count, replace(self.office, resolved=self.office.resolved + 1)
        if is_due(count, office.checked):
            verdict = decide(self.learner, office)
            office = replace(office, checked=count)
            if verdict is not None:
                tested = verdict.step == Step.PROMOTION
                passed = not tested or backtest(self.log, [], verdict.champion, verdict.model).passed
                office = after(office, verdict, count, passed=passed)
        self.office = office


@dataclass(slots=True)
class Window:
    """`tenants` by account, or "" for all of them, and learner. The rule and the median are those of the stream, also
    where its accounts are the tenants: that median is the harder one to beat."""

    tenants: dict[tuple[str, LearnerKey], Tenant] = field(default_factory=dict)
    rule: OriginalRule = field(default_factory=OriginalRule)
    medians: dict[LearnerKey, Median] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """A post that is out, and whose outcome is to come."""

    window: Window
    tenant: Tenant
    outcome: Outcome
    by_rule: float


@dataclass(slots=True)
class Playing:
    """A stream while it is played."""

    window: Window = field(default_factory=Window)
    pending: deque[Pending] = field(default_factory=deque)
    hits: dict[str, list[Hit]] = field(default_factory=lambda: {name: [] for name in (OURS, *YARDSTICKS)})
    models: dict[str, int] = field(default_factory=dict)


class Replay:
    """The forecast that counts is that of the tenant's champion when the post is predicted."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._streams: dict[str, Playing] = {}
        self._pools: dict[tuple[str, LearnerKey], Pool] = {}
        self._played = self._tenants = 0

    def play(self, post: Post) -> None:
        """Predict the post; then let the outcome come whose time it is. Posts come in their order."""
        stream = self._streams.setdefault(post.source, Playing())
        if stream.window.count == self._options.window > 0:
            stream.window = Window()
        stream.window.count += 1
        self._played += 1
        self._predict(stream, post)
        if len(stream.pending) > self._options.delay:
            _learn(stream.pending.popleft())

    def report(self) -> Report:
        """Return the streams in the order of their names."""
        return Report([Stream(name, each.hits, each.models) for name, each in sorted(self._streams.items())])

    def _predict(self, stream: Playing, post: Post) -> None:
        value, features, platform, window = post.judged.value, post.features, post.platform, stream.window
        if value is None:
            raise ValueError(f"line {post.line} has no outcome")
        tenant = self._tenant(window, post)
        prior = tenant.pool.prior
        forecasts = tenant.learner.predict(features, prior)
        shown = forecasts.get(tenant.office.champion) or forecasts[CHAMPION]
        stream.models[shown.model] = stream.models.get(shown.model, 0) + 1
        by_rule = window.rule.predict(features.category, platform)
        median = window.medians.setdefault(tenant.key, Median(score_of(built_in(platform).platform))).predict()
        # Nothing above looks at the outcome. What follows holds it against the predictions and keeps it for later.
        actual = score_of(value)
        stream.hits[OURS].append(Hit(window.count, shown.score, actual, score_of(shown.low), score_of(shown.high)))
        yardsticks = (original_weights(features.category, platform), by_rule, median)
        for name, predicted in zip(YARDSTICKS, yardsticks, strict=True):
            stream.hits[name].append(Hit(window.count, predicted, actual))
        values = {name: forecast.value for name, forecast in forecasts.items()}
        # The moment is the place in the order, so that outcomes follow each other as they do in production.
        at = BEGINNING + timedelta(seconds=self._played)
        outcome = Outcome(f"{self._played:012}", at, features, value, prior, values)
        stream.pending.append(Pending(window, tenant, outcome, by_rule))

    def _tenant(self, window: Window, post: Post) -> Tenant:
        key = LearnerKey(post.platform, SHOWN, post.judged.definition)
        place = (post.features.account if self._options.per_account else "", key)
        if place not in window.tenants:
            whose = post.source if self._options.pool_per_source else ""
            pool = self._pools.setdefault((whose, key), Pool(built_in(post.platform)))
            self._tenants += 1
            window.tenants[place] = Tenant(self._tenants, key, pool)
        return window.tenants[place]


def _learn(pending: Pending) -> None:
    tenant, outcome, window = pending.tenant, pending.outcome, pending.window
    actual = score_of(outcome.value)
    tenant.learn(outcome)
    tenant.pool.note(tenant)
    window.rule.learn(outcome.features.category, tenant.key.platform, pending.by_rule, actual)
    window.medians[tenant.key].learn(actual)


def replay(posts: Sequence[Post], options: Options) -> Report:
    """Play posts that are in their order."""
    played = Replay(options)
    for post in posts:
        played.play(post)
    return played.report()


def trailing_gaps(hits: Sequence[Hit], width: int) -> Iterator[float]:
    """Yield the mean distance of the last `width` predictions, from the first on that has so many."""
    total = 0.0
    for place, hit in enumerate(hits):
        total += abs(hit.actual - hit.predicted)
        if place >= width:
            total -= abs(hits[place - width].actual - hits[place - width].predicted)
        if place >= width - 1:
            yield total / width
