"""Outcomes are learned: each once, in the commit that changes what the tenant has learned.

    reflexion.due ──each minute──▶ reflexion.learn, one a tenant ──▶ learners, outcomes, adjustments: one commit a batch
                                          └▶ reflexion.review: which critiques are due (`workers/jobs/critiques.py`)
    reflexion.pool ──each hour──▶ the figures of all tenants together

What a learner has learned is a fold over its outcomes in the order of their positions (`domain/learning/learner.py`). A
batch that follows the last position is taken in; for one that comes before it the learner is folded anew from the log,
page by page with no transaction open, and the result replaces the old one in one commit. So whoever reads a learner
sees all of a fold or none of it, and no death, repetition or second job changes what it comes to.

After each ten outcomes of a learner it is asked whether another model should score (`domain/learning/promotion.py`).
The answer is acted upon before it goes on, in a commit of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.learning.adjustments import categories, scores_moved
from domain.learning.learner import Learner, LearnerKey
from domain.learning.log import Logged, Read, Settled, read
from domain.learning.outcomes import Outcome, definition_on
from domain.learning.pool import Contribution, built_in, pooled
from domain.learning.promotion import (
    BACKTESTED,
    PANEL_TENANTS,
    WARM_UP,
    Backtest,
    Office,
    Step,
    Verdict,
    backtest,
    decide,
    is_due,
)
from domain.learning.scale import score_of
from domain.learning.scoring import Standing
from workers.engine.job import SYSTEM, Context, Tx, elapsed, job
from workers.jobs.critiques import review

CHUNK = 1000
"""Tenants that are enqueued in one transaction."""
CHUNKS = 20
"""So many chunks one run of the schedule enqueues at most; the next one, a minute later, goes on."""
BATCH = 500
"""Outcomes that are learned in one transaction."""
MOST_NEW = 5000
"""New outcomes that one fold anew takes in, at most: so many ids are held, and written in one transaction."""
PAGE = 1000
"""Outcomes that are read at once for a fold anew."""
POOL_PAGE = 1000
"""Learners that are read at once for the pool."""
ROUND = 60.0
"""After so many seconds a job begins no further batch: the tenant gets another job, after those of the others."""
AFTER_AN_ERROR = timedelta(minutes=30)
"""So long a tenant waits whose job has failed, so that one error does not come back each minute."""
FIRST = UUID(int=0)


@job("reflexion.due", system=True, timeout=timedelta(minutes=5))
def find_due(ctx: Context) -> None:
    """Enqueue one job for each tenant with outcomes that nobody has learned. Each run begins at another tenant, so that
    none is always among the last."""
    ctx.count(tenants=0)
    after, wrapped = UUID(int=ctx.rng.getrandbits(128)), False
    failed_since = ctx.now() - AFTER_AN_ERROR
    for _ in range(CHUNKS):
        with ctx.begin() as tx:
            found = tx.outcomes.due_tenants(after=after, failed_since=failed_since, limit=CHUNK)
            learn.enqueue_many(tx, [{"tenant_id": tenant_id} for tenant_id in found])
        ctx.count(tenants=len(found))
        if len(found) == CHUNK:
            after = found[-1]
        elif not wrapped:
            after, wrapped = FIRST, True
        else:
            break
    with ctx.finish():
        pass


def anything_due(tx: Tx, now: datetime) -> bool:
    """Whether `find_due` would find a tenant."""
    return bool(tx.outcomes.due_tenants(after=FIRST, failed_since=now - AFTER_AN_ERROR, limit=1))


@job("reflexion.learn", unique=("tenant_id",), timeout=timedelta(minutes=30))
def learn(ctx: Context, tenant_id: UUID) -> None:
    """Learn the tenant's outcomes that nobody has learned, in their order. What comes meanwhile is found by the next
    `reflexion.due`."""
    until = elapsed() + ROUND
    ctx.count(learned=0, set_aside=0)
    with ctx.begin() as tx:
        anew = tx.learners.stale(tenant_id)
    taken = Taken(anew=anew)
    while taken.more and elapsed() <= until:
        for key in taken.anew:
            _fold_anew(ctx, tenant_id, key)
        taken = _take_in(ctx, tenant_id)
        for key, verdict in taken.verdicts:
            _act(ctx, tenant_id, key, verdict)
    with ctx.finish() as tx:
        review.enqueue(tx, tenant_id)


@dataclass(slots=True)
class Fold:
    """A learner on its way from one state to the next. Of what is new, `gaps` are outcome minus the champion's
    prediction, in points, by category. With a `verdict` it goes no further before that is acted upon: so what is
    decided about the champion does not depend on how many outcomes came together."""

    key: LearnerKey
    learner: Learner
    office: Office
    verdict: Verdict | None = None
    settled: list[Settled] = field(default_factory=list)
    gaps: dict[str, list[float]] = field(default_factory=dict)

    def take(self, logged: Logged, outcome: Outcome) -> None:
        """Take in an outcome that follows; write down that it is learned, if it was not."""
        self.learner.learn(outcome)
        if outcome.predicted:
            self.office = replace(self.office, resolved=self.office.resolved + 1)
        if logged.learned:
            return
        score, predicted = score_of(outcome.value), outcome.predicted.get(self.office.champion)
        self.settled.append(Settled(logged.id, self.key.definition, score))
        if predicted is not None:
            self.gaps.setdefault(outcome.features.category or "", []).append(score - score_of(predicted))

    def look(self) -> None:
        """Look whether another model should score, if it is time to."""
        if is_due(self.learner.count, self.office.checked):
            self.verdict = decide(self.learner, self.office)
            if self.verdict is None:
                self.office = replace(self.office, checked=self.learner.count)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch. `anew` are the learners that have to be folded anew for some of it: those stay as they
    were. `more`: there are, or may be, further outcomes."""

    more: bool = True
    anew: Sequence[LearnerKey] = ()
    verdicts: Sequence[tuple[LearnerKey, Verdict]] = ()


def _take_in(ctx: Context, tenant_id: UUID) -> Taken:
    """Learn a batch."""
    with ctx.begin() as tx:
        found = _read(tx, tx.outcomes.lock_unlearned(tenant_id, limit=BATCH))
        of_learners: dict[LearnerKey, list[tuple[Logged, Outcome]]] = {}
        for each in found:
            if each.outcome is not None:
                of_learners.setdefault(each.key, []).append((each.logged, each.outcome))
        settled = [Settled(each.logged.id, each.definition, reason=each.reason) for each in found if each.reason]
        ctx.count(set_aside=len(settled))
        anew, verdicts = [], []
        for locked in tx.learners.lock(tenant_id, of_learners):
            new = of_learners[locked.key]
            if locked.learner is None or not locked.learner.follows(new[0][1]):
                anew.append(locked.key)
                continue
            fold = Fold(locked.key, locked.learner, _office(tx, tenant_id, locked, len(new)))
            fold.look()
            for logged, outcome in new:
                if fold.verdict is None:
                    fold.take(logged, outcome)
                    fold.look()
            _keep(ctx, tx, tenant_id, fold)
            if fold.verdict is not None:
                verdicts.append((locked.key, fold.verdict))
        tx.outcomes.settle(tenant_id, settled)
    return Taken(len(found) == BATCH or bool(anew or verdicts), anew, verdicts)


def _office(tx: Tx, tenant_id: UUID, locked: Any, new: int) -> Office:
    """Return which model scores; the rest is asked for only if the learner is looked at amid the new ones."""
    if not is_due(locked.outcomes + new, locked.checked):
        return Office(locked.champion, locked.previous, checked=locked.checked)
    resolved = 0 if locked.previous is None else tx.guard_rails.resolved(tenant_id, locked.key)
    paused = tx.guard_rails.paused(tenant_id, locked.key)
    return Office(locked.champion, locked.previous, resolved, locked.checked, paused)


def _fold_anew(ctx: Context, tenant_id: UUID, key: LearnerKey) -> None:
    """Fold a learner from its log, with what is new in it; keep the result, unless somebody else has changed it
    meanwhile."""
    with ctx.begin() as tx:
        # A learner's outcomes only grow in number: if that is the same, they are the same.
        before, champion = tx.learners.standing(tenant_id, key)
    fold = Fold(key, Learner(), Office(champion))
    after, size = None, PAGE
    while size == PAGE:
        with ctx.begin() as tx:
            found = _read(tx, tx.outcomes.page(tenant_id, key, after=after, limit=PAGE))
        size = len(found)
        for each in found:
            after = each.logged.observed_at, each.logged.id
            new = not each.logged.learned
            if each.outcome is not None and each.key == key and not (new and len(fold.settled) >= MOST_NEW):
                fold.take(each.logged, each.outcome)
    with ctx.begin() as tx:
        free = tx.outcomes.lock_these(tenant_id, [each.id for each in fold.settled])
        [locked] = tx.learners.lock(tenant_id, [key])
        if free == len(fold.settled) and locked.outcomes == before:
            ctx.count(folded_anew=1)
            # It is looked at when the next outcomes are taken in.
            fold.office = Office(locked.champion, checked=locked.checked)
            _keep(ctx, tx, tenant_id, fold)


def _act(ctx: Context, tenant_id: UUID, key: LearnerKey, verdict: Verdict) -> None:
    """Do what a verdict asks for, if it is still the same once the learner is locked: an operator may have been there
    meanwhile. A backtest takes a second or so, and nothing is locked during it."""
    tested = None if verdict.step == Step.ROLLBACK else _backtest(ctx, tenant_id, key, verdict)
    with ctx.begin() as tx:
        [locked] = tx.learners.lock(tenant_id, [key])
        if not is_due(locked.outcomes, locked.checked):
            return  # somebody else has acted at these outcomes
        now = None if locked.learner is None else decide(locked.learner, _office(tx, tenant_id, locked, 0))
        if now is None or (now.step, now.model, now.champion) != (verdict.step, verdict.model, verdict.champion):
            return
        found: dict[str, Any] = {"model": verdict.model, "outcomes": locked.outcomes}
        trailing = {"trailing": verdict.compared.row()}
        if tested is None:
            found |= {"step": verdict.step, "champion": verdict.champion, "reason": verdict.reason, "report": trailing}
            tx.guard_rails.change(tenant_id, key, **found)
            ctx.count(rollbacks=1)
            return
        found["reason"], report = f"{verdict.reason}; {tested.reason}", trailing | {"backtest": tested.row()}
        if tested.passed:
            tx.guard_rails.change(tenant_id, key, **found, step=verdict.step, champion=verdict.champion, report=report)
            ctx.count(promotions=1)
        else:
            tx.guard_rails.decline(tenant_id, key, **found, report=report)


def _backtest(ctx: Context, tenant_id: UUID, key: LearnerKey, verdict: Verdict) -> Backtest:
    """Play both models over the tenant's last outcomes and those of others. Of these nothing but the mean is kept."""
    with ctx.begin() as tx:
        own = _outcomes(tx, tenant_id, key)
        tx.work_as(SYSTEM)
        others = tx.guard_rails.panel(tenant_id, key, limit=PANEL_TENANTS)
    panel = []
    for other in others:
        with ctx.begin() as tx:
            tx.work_as(SYSTEM)
            panel.append(_outcomes(tx, other, key))
    return backtest(own, panel, verdict.champion, verdict.model)


def _outcomes(tx: Tx, tenant_id: UUID, key: LearnerKey) -> list[Outcome]:
    rows = _read(tx, tx.outcomes.last(tenant_id, key, limit=WARM_UP + BACKTESTED))
    return [each.outcome for each in rows if each.outcome is not None]


def _read(tx: Tx, rows: Sequence[Logged]) -> list[Read]:
    priors = tx.outcomes.priors(sorted({each for row in rows for each in row.prior_ids if each is not None}))
    return [read(row, priors) for row in rows]


def _keep(ctx: Context, tx: Tx, tenant_id: UUID, fold: Fold) -> None:
    """Keep a learner's new state, the outcomes that are learned with it, and each displayed score that has moved."""
    ctx.count(learned=len(fold.settled))
    tx.learners.save(tenant_id, fold.key, fold.learner, checked=fold.office.checked)
    tx.outcomes.settle(tenant_id, fold.settled)
    key, learner = fold.key, fold.learner
    if key.definition != definition_on(key.platform, ctx.now().date()):
        return
    recorded = tx.learners.recorded(tenant_id, key, categories(learner))
    prior = tx.learners.newest_priors().get(key) or built_in(key.platform)
    moved = scores_moved(key, Standing(learner, fold.office.champion), prior, recorded, fold.gaps)
    tx.learners.record(tenant_id, key, moved)


@job("reflexion.pool", system=True)
def pool(ctx: Context) -> None:
    """Put together what all tenants have seen, and add the figures that have changed. Whoever's state is of another
    release is folded anew for the next time."""
    ctx.count(figures=0)
    with ctx.begin() as tx:
        keys, newest = tx.learners.keys(), tx.learners.newest_priors()
    for key in keys:
        prior = pooled(key.platform, _tenants(ctx, key))
        before = newest.get(key) or built_in(key.platform)
        if (prior.platform, dict(prior.categories)) != (before.platform, dict(before.categories)):
            with ctx.begin() as tx:
                tx.learners.add_prior(key, prior)
            ctx.count(figures=1)
    with ctx.finish():
        pass


def _tenants(ctx: Context, key: LearnerKey) -> Iterator[Sequence[Contribution]]:
    """Yield what each tenant adds to the pool, by their ids, a page at a time."""
    after: UUID | None = FIRST
    while after is not None:
        with ctx.begin() as tx:
            page = tx.learners.contributions(key, after=after, limit=POOL_PAGE)
            learn.enqueue_many(tx, [{"tenant_id": tenant_id} for tenant_id in page.stale])
        yield from page.tenants
        after = page.last
