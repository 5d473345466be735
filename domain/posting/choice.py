"""Which of a tenant's accounts of a platform a video is posted to, where nobody names one; and why, in words.

At most 100 points: 40 for what is left of the day's posts, 30 for the niche (15 where it is a similar one), 20 for 30
days of being connected, 10 for having less waiting than the others. Equal accounts are ordered by what waits, then
by their id: the same accounts always give the same choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from domain.concepts.wording import counted
from domain.posting.accounts import AccountStatus

FREE, NICHE, SIMILAR, AGE, LOAD = 40.0, 30.0, 15.0, 20.0, 10.0
OLD_ENOUGH = timedelta(days=30)

SIMILAR_NICHES = (
    frozenset({"absurd", "cartoon"}),
    frozenset({"cartoon", "gaming"}),
    frozenset({"gaming", "tech"}),
    frozenset({"tech", "news", "finance"}),
    frozenset({"finance", "luxury"}),
    frozenset({"fitness", "food"}),
    frozenset({"emotional", "relationships"}),
    frozenset({"emotional", "music"}),
)
"""Groups of categories whose viewers overlap. An assumption, not a measurement."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account. `used` is how many of its `a_day` posts in 24 hours are taken (None: it has no limit), `waiting` how
    many posts are scheduled on it."""

    account_id: UUID
    name: str
    status: str
    niche: str | None
    since: datetime
    used: int
    a_day: int | None
    waiting: int
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """`points` are rounded, so that an order that is shown is the order that was taken."""

    candidate: Candidate
    points: float
    reasons: tuple[str, ...]

    @property
    def why(self) -> str:
        return f"{self.candidate.name}: {self.points:g} of 100 points ({'; '.join(self.reasons)})"


@dataclass(frozen=True, slots=True)
class Choice:
    """`ranked` are those that can take the post, the chosen one first; `left_out` says in words why the others
    cannot."""

    ranked: tuple[Scored, ...]
    left_out: tuple[str, ...]

    @property
    def account_id(self) -> UUID | None:
        return self.ranked[0].candidate.account_id if self.ranked else None


def choose(candidates: Sequence[Candidate], niche: str | None, now: datetime) -> Choice:
    """Rank the accounts for a video of this niche."""
    refused = {each.account_id: reason for each in candidates if (reason := _why_not(each)) is not None}
    able = [each for each in candidates if each.account_id not in refused]
    waiting = sum(each.waiting for each in able)
    scored = [_score(each, niche, waiting, now) for each in able]
    scored.sort(key=lambda each: (-each.points, each.candidate.waiting, each.candidate.account_id))
    left_out = tuple(f"{each.name}: {refused[each.account_id]}" for each in candidates if each.account_id in refused)
    return Choice(tuple(scored), left_out)


def _why_not(candidate: Candidate) -> str | None:
    match candidate.status:
        case AccountStatus.NEEDS_RECONNECT:
            return "it has to be connected again"
        case AccountStatus.DISCONNECTED:
            return "it is not connected any more"
    if candidate.disabled:
        return "nothing is posted to it for now: our people have disabled it"
    if candidate.a_day is not None and candidate.used >= candidate.a_day:
        return f"all of its {counted(candidate.a_day, 'post')} in 24 hours are taken"
    return None


def _score(candidate: Candidate, niche: str | None, waiting: int, now: datetime) -> Scored:
    if candidate.a_day is None:
        free, left = 1.0, "no daily limit"
    else:
        free = 1 - candidate.used / candidate.a_day
        left = f"{candidate.a_day - candidate.used} of {candidate.a_day} left"
    niche_points, niche_words = _niche(candidate.niche, niche)
    age = min(1.0, max(0.0, (now - candidate.since) / OLD_ENOUGH))
    share = candidate.waiting / waiting if waiting else 0.0
    points = FREE * free + niche_points + AGE * age + LOAD * (1 - share)
    reasons = (
        f"{left}: {FREE * free:.3g}",
        f"{niche_words}: {niche_points:g}",
        f"connected for {counted(max(0, (now - candidate.since).days), 'day')}: {AGE * age:.3g}",
        f"{counted(candidate.waiting, 'post')} waiting: {LOAD * (1 - share):.3g}",
    )
    return Scored(candidate, round(points, 3), reasons)


def _niche(ours: str | None, asked: str | None) -> tuple[float, str]:
    if not ours or not asked:
        return 0.0, "no niche to compare"
    mine, other = ours.strip().casefold(), asked.strip().casefold()
    if mine == other:
        return NICHE, f"its niche is {ours}"
    if any(mine in group and other in group for group in SIMILAR_NICHES):
        return SIMILAR, f"its niche {ours} is similar to {asked}"
    return 0.0, f"its niche {ours} is not {asked}"
