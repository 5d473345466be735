"""A replay: posts of the past in their order, each predicted by the production's models before its outcome is there.

A stream is what a file calls one `source`. Its tenants are its accounts, or it is one tenant. A tenant has `window`
posts at most; those that follow are another one's, which has learned nothing of its own. What all tenants of all
streams have learned so far is pooled, as in production, so a tenant that begins later begins with more.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from domain.learning.learner import CHAMPION, Learner, LearnerKey
from domain.learning.models.shrinkage import Shrinkage
from domain.learning.outcomes import SHOWN, Outcome, Prior
from domain.learning.pool import Contribution, built_in, contributions, pooled
from domain.learning.replay.figures import Figures, Hit, by_range, mean
from domain.learning.replay.rows import Post
from domain.learning.replay.yardsticks import Median, OriginalRule, original_weights
from domain.learning.scale import score_of

OURS = "champion"
YARDSTICKS = ("original_weights", "original_rule", "running_median")
FIRST_POOL, POOL_GROWS = 20, 50
"""The pool is made anew after so many posts at first, and then whenever one in so many has come since."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Options:
    """`delay`: after so many further posts of its stream the outcome of one is there. `window` 0: a tenant has all of
    its posts."""

    per_account: bool = False
    delay: int = 10
    window: int = 1210


@dataclass(frozen=True, slots=True)
class Stream:
    """What became of a stream: the predictions of each rule in the order of its posts, ours as `OURS`."""

    name: str
    hits: dict[str, list[Hit]]

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


Tenant = tuple[str, str, int]
"""A stream, an account or "", and which of its windows."""


@dataclass(slots=True)
class Pending:
    """A post that is out, and whose outcome is to come."""

    post: Post
    key: LearnerKey
    tenant: Tenant
    outcome: Outcome
    by_rule: float


@dataclass(slots=True)
class Playing:
    """A stream while it is played."""

    pending: deque[Pending] = field(default_factory=deque)
    rules: dict[Tenant, OriginalRule] = field(default_factory=dict)
    medians: dict[Tenant, Median] = field(default_factory=dict)
    hits: dict[str, list[Hit]] = field(default_factory=lambda: {name: [] for name in (OURS, *YARDSTICKS)})


class Replay:
    """`champion` chooses the model whose forecast counts, by the learner; production's rule is the default's."""

    def __init__(self, options: Options, *, champion: Callable[[Learner], str] = lambda learner: CHAMPION) -> None:
        self._options = options
        self._champion = champion
        self._streams: dict[str, Playing] = {}
        self._learners: dict[tuple[Tenant, LearnerKey], Learner] = {}
        self._posts: dict[tuple[str, str], int] = {}
        self._pool: dict[LearnerKey, dict[Tenant, list[Contribution]]] = {}
        self._priors: dict[LearnerKey, Prior] = {}
        self._touched: set[tuple[Tenant, LearnerKey]] = set()
        self._played = self._pooled_at = 0

    def play(self, post: Post) -> None:
        """Predict the post; then let the outcome come whose time it is. Posts come in their order."""
        options = self._options
        stream = self._streams.setdefault(post.source, Playing())
        owner = (post.source, post.features.account if options.per_account else "")
        count = self._posts.get(owner, 0)
        self._posts[owner] = count + 1
        number = count % options.window if options.window else count
        tenant = (*owner, count // options.window if options.window else 0)
        self._predict(stream, post, tenant, number + 1)
        self._played += 1
        while len(stream.pending) > options.delay:
            self._learn(stream, stream.pending.popleft())
        if self._played - self._pooled_at >= max(FIRST_POOL, self._played // POOL_GROWS):
            self._pool_anew()

    def report(self) -> Report:
        return Report([Stream(name, playing.hits) for name, playing in self._streams.items()])

    def _predict(self, stream: Playing, post: Post, tenant: Tenant, number: int) -> None:
        value, features, platform = post.judged.value, post.features, post.platform
        if value is None:
            raise ValueError(f"line {post.line} has no outcome")
        key = LearnerKey(platform, SHOWN, post.judged.definition)
        learner = self._learners.get((tenant, key)) or Learner()
        prior = self._priors.get(key) or built_in(platform)
        forecasts = learner.predict(features, prior)
        shown = forecasts.get(self._champion(learner)) or forecasts[CHAMPION]
        rule = stream.rules.setdefault(tenant, OriginalRule())
        # The median is the stream's, also where its accounts are the tenants: it is the harder one to beat.
        whole = (tenant[0], "", tenant[2] if not self._options.per_account else 0)
        median = stream.medians.setdefault(whole, Median(score_of(built_in(platform).platform)))
        by_rule, actual = rule.predict(features.category, platform), score_of(value)
        stream.hits[OURS].append(Hit(number, shown.score, actual, score_of(shown.low), score_of(shown.high)))
        yardsticks = (original_weights(features.category, platform), by_rule, median.predict())
        for name, predicted in zip(YARDSTICKS, yardsticks, strict=True):
            stream.hits[name].append(Hit(number, predicted, actual))
        values = {name: forecast.value for name, forecast in forecasts.items()}
        # The moment is the place in the order, so that outcomes follow each other as they do in production.
        at = BEGINNING + timedelta(seconds=self._played)
        outcome = Outcome(f"{self._played:012}", at, features, value, prior, values)
        stream.pending.append(Pending(post, key, tenant, outcome, by_rule))

    def _learn(self, stream: Playing, pending: Pending) -> None:
        place, actual = (pending.tenant, pending.key), score_of(pending.outcome.value)
        self._learners.setdefault(place, Learner()).learn(pending.outcome)
        self._touched.add(place)
        features, platform = pending.post.features, pending.post.platform
        stream.rules[pending.tenant].learn(features.category, platform, pending.by_rule, actual)
        whole = (pending.tenant[0], "", pending.tenant[2] if not self._options.per_account else 0)
        stream.medians[whole].learn(actual)

    def _pool_anew(self) -> None:
        """Make the pooled priors of what all tenants have learned by now."""
        for tenant, key in self._touched:
            model = self._learners[tenant, key].models[CHAMPION]
            if isinstance(model, Shrinkage):
                self._pool.setdefault(key, {})[tenant] = contributions(model)
        for key in {key for _, key in self._touched}:
            self._priors[key] = pooled(key.platform, self._pool[key].values())
        self._touched.clear()
        self._pooled_at = self._played


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
