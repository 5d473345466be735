"""The critic that asks nobody: it writes from the statistics alone, names no cause, and says how little that is."""

from domain.learning.critique.critiques import (
    LOCAL_CRITIC,
    MOST_LESSONS,
    MOST_POINTS,
    CritiqueRequest,
    CritiqueResponse,
    Lesson,
)
from domain.learning.critique.summary import Gaps, gaps_of, gaps_of_formats

LEAST_OF_FORMAT = 3
"""Outcomes of a format on one side of their predictions, for a lesson about it."""
CLEARLY = 2
"""How many times as many as on the other side they must be."""

UNKNOWN = "The numbers do not say why."


class LocalCritic:
    """A critic in this process. The same request has the same critique."""

    def criticise(self, request: CritiqueRequest) -> CritiqueResponse:
        gaps = gaps_of([each.gap for each in request.evidence])
        if gaps is None:
            return CritiqueResponse(LOCAL_CRITIC, critique=f"There is no outcome to look at. {UNKNOWN}")
        if request.single or gaps.outcomes == 1:
            return _of_one(request)
        return _of_many(request, gaps)


def _of_one(request: CritiqueRequest) -> CritiqueResponse:
    one = request.evidence[0]
    gap = round(one.gap, 1)
    got = f"{_points(one.actual)} points where {_points(one.predicted)} were predicted"
    return CritiqueResponse(
        LOCAL_CRITIC,
        critique=f"One {_kind(request)} got {got}: {_size(gap)} points {_more(gap)}. {UNKNOWN}",
        reasons=("One outcome may be chance, and nothing can be concluded from it alone.",),
        scoring_issues=(f"The prediction was too {_wrong(gap)} for this post.",) if gap else (),
        adjustment_plan="Wait for more outcomes of this kind before anything is concluded.",
    )


def _of_many(request: CritiqueRequest, gaps: Gaps) -> CritiqueResponse:
    side = gaps.below if gaps.median < 0 else gaps.above
    formats = gaps_of_formats(request)
    between = f"between {_signed(gaps.least)} and {_signed(gaps.greatest)} points"
    reasons = [_common(side, gaps)]
    noted = [f"{_sentence(name, each)}." for name, each in formats.items() if each.outcomes >= LEAST_OF_FORMAT]
    reasons += noted[: MOST_POINTS - len(reasons)]
    issues = [
        f"Predictions for this group were too {_wrong(gaps.median)}, by {_size(gaps.median)} points in the median."
    ]
    if gaps.least < 0 < gaps.greatest:
        issues.append(
            "Some outcomes lie on the other side of their predictions, so one correction fits not all of them."
        )
    return CritiqueResponse(
        LOCAL_CRITIC,
        critique=(
            f"Of {gaps.outcomes} outcomes ({_kind(request, 's')}) {side} were {_better(gaps.median)} than predicted. "
            f"The median gap is {_signed(gaps.median)} points; the gaps lie {between}. {UNKNOWN}"
        ),
        reasons=tuple(reasons),
        scoring_issues=tuple(issues) if gaps.median else (),
        adjustment_plan=(
            "Leave the scores to the learner, which follows these outcomes by itself, and look at the next outcomes of "
            "this group: whether they still lie to the same side."
        ),
        lessons=_lessons(request, formats),
    )


def _common(side: int, gaps: Gaps) -> str:
    if side == gaps.outcomes:
        return f"All lie to one side, so they may have a cause in common. {UNKNOWN}"
    return f"{side} of {gaps.outcomes} lie to one side and the others do not, so a part may be chance. {UNKNOWN}"


def _lessons(request: CritiqueRequest, formats: dict[str, Gaps]) -> tuple[Lesson, ...]:
    """Return lessons on the formats that were clearly on one side, those with most outcomes there first."""
    found: list[tuple[int, float, str, Lesson]] = []
    for name, gaps in formats.items():
        pattern = f"{_sentence(name, gaps)}."
        if gaps.below >= max(LEAST_OF_FORMAT, CLEARLY * gaps.above):
            advice = f"Use the format {name} less for {_kind(request, 's')}, until newer outcomes say otherwise."
            found.append((-gaps.below, gaps.median, name, Lesson(pattern, advice, avoid=(name,))))
        elif gaps.above >= max(LEAST_OF_FORMAT, CLEARLY * gaps.below):
            advice = f"Use the format {name} more for {_kind(request, 's')}, until newer outcomes say otherwise."
            found.append((-gaps.above, -gaps.median, name, Lesson(pattern, advice, prefer=(name,))))
    return tuple(lesson for *_, lesson in sorted(found, key=lambda each: each[:3])[:MOST_LESSONS])


def _sentence(name: str, gaps: Gaps) -> str:
    more, fewer = (gaps.below, "worse") if gaps.below > gaps.above else (gaps.above, "better")
    return (
        f"{more} of {gaps.outcomes} in the format {name} were {fewer} than predicted, "
        f"with a median gap of {_signed(gaps.median)} points"
    )


def _kind(request: CritiqueRequest, plural: str = "") -> str:
    return f"{request.category} post{plural} on {request.platform}"


def _better(gap: float) -> str:
    return "worse" if gap < 0 else "better"


def _more(gap: float) -> str:
    return "fewer" if gap < 0 else "more"


def _wrong(gap: float) -> str:
    return "high" if gap < 0 else "low"


def _points(value: float) -> str:
    return f"{value:.1f}"


def _size(gap: float) -> str:
    return f"{abs(gap):.1f}"


def _signed(gap: float) -> str:
    return f"{gap:+.1f}" if gap else "0.0"
