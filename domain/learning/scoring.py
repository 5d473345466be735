"""Scores of concepts and posts: what a tenant's champions expect of them, as people read it.

Everything that is shown comes from here: a concept's `platformVirality`, a post's `prediction`, and the rows of
`post_predictions`, which outcomes are held against. Nothing of it is known of Bluesky and Mastodon, which count no
views.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from domain.concepts.categories import categories
from domain.concepts.wording import counted
from domain.learning.learner import CHAMPION, Forecast, Learner, LearnerKey
from domain.learning.outcomes import LEARNED, SHOWN, Features, Prior, definition_on
from domain.learning.pool import built_in
from domain.learning.scale import score_of
from domain.posting.text import hashtags_in, key_of, normalise

SCORED = ("tiktok", "youtube-shorts", "instagram-reels")
"""The platforms that concepts have scores for."""
LABELS = ((80, "viral potential"), (70, "high reach"), (55, "good reach"), (40, "moderate"), (0, "niche"))
"""From which score on; the old app's words."""
WORTH_WORDS = 0.05
"""In log engagement, about two points: a part that moves the score by less is not spoken of."""
ASKS = frozenset("?¿\u037e՞؟፧᥅⁇⁈⁉‽⳺⳻⸮꘏꛷︖﹖？")
"""Question marks of all scripts that have one: Latin, Greek, Armenian, Arabic, Ethiopic, Limbu, Coptic, Vai, Bamum and
those of the East. Greek's is told from a semicolon only where it is written with its own sign."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A learner and the model that scores for it."""

    learner: Learner
    champion: str = CHAMPION


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction as a row of `post_predictions`: by one model, for one horizon, after so many of the tenant's own
    `outcomes`. `shown`: it is the champion's, at the horizon that is shown. `score`, `low` and `high` are points; the
    forecast's own figures are log engagement."""

    key: LearnerKey
    forecast: Forecast
    shown: bool
    prior: Prior
    features: Features
    outcomes: int = 0

    @property
    def score(self) -> float:
        return score_of(self.forecast.value)

    @property
    def low(self) -> float:
        return score_of(self.forecast.low)

    @property
    def high(self) -> float:
        return score_of(self.forecast.high)


@dataclass(frozen=True, slots=True)
class Scoring:
    """`standings` and `priors` by learner; one that is missing has learned nothing yet, or has no pool."""

    standings: Mapping[LearnerKey, Standing] = field(default_factory=dict)
    priors: Mapping[LearnerKey, Prior] = field(default_factory=dict)

    def predict(self, platform: str, features: Features, on: date) -> list[Predicted]:
        """Return every model's prediction for each learned horizon of a post that is out on that day, under the
        definition that will hold when it is measured; none where the platform counts no views."""
        found = []
        for horizon in LEARNED:
            definition = definition_on(platform, on + horizon.age)
            if not definition:
                continue
            key = LearnerKey(platform, horizon, definition)
            standing = self.standings.get(key) or Standing(Learner())
            prior = self.priors.get(key) or built_in(platform)
            forecasts = standing.learner.predict(features, prior)
            # A champion that says nothing yet (it was folded anew) is stood in for by the first.
            champion = standing.champion if standing.champion in forecasts else CHAMPION
            for name, forecast in forecasts.items():
                shown = horizon == SHOWN and name == champion
                found.append(Predicted(key, forecast, shown, prior, features, standing.learner.count))
        return found

    def shown(self, platform: str, features: Features, on: date) -> Predicted | None:
        """Return the prediction that is shown; None where the platform counts no views."""
        return shown_of(self.predict(platform, features, on))


def shown_of(predicted: Sequence[Predicted]) -> Predicted | None:
    return next((each for each in predicted if each.shown), None)


def features_of(
    *,
    account: str,
    category: Any,
    at: datetime,
    zone: ZoneInfo,
    caption: str,
    hashtags: Sequence[str],
    seconds: float | None,
) -> Features:
    """Return what is known of a post before it is out. A `category` that is none of ours is unknown; `at` is when it
    will be out, `zone` the tenant's; `seconds` is how long the video is, None while nobody has measured it.

    Followers are unknown, since no platform is asked for them; so is whose the sound is.
    """
    local = at.astimezone(zone)
    tags = {key_of(tag) for tag in (*normalise(hashtags), *hashtags_in(caption))}
    return Features(
        account,
        category if isinstance(category, str) and category in categories() else None,
        hour=local.hour,
        weekday=local.weekday(),
        text_len=len(caption),
        n_hashtags=len(tags),
        has_question=asks(caption),
        duration_s=seconds,
    )


def asks(text: str) -> bool:
    """Whether there is a question mark in the text, in any script."""
    return not ASKS.isdisjoint(text)


def shown_row(predicted: Predicted) -> dict[str, Any]:
    """Return a prediction as it is shown, as JSON values: whole points, and in words what it comes from."""
    score = round(predicted.score)
    return {
        "score": score,
        "low": round(predicted.low),
        "high": round(predicted.high),
        "label": next(label for least, label in LABELS if score >= least),
        "model": predicted.forecast.model,
        "factors": list(_factors(predicted)),
    }


def prediction_words(shown: Any) -> str | None:
    """Return a prediction as it is shown in one phrase; None if there is none. Posts of the release before this one may
    have anything in its place, as concepts of others have."""
    if not isinstance(shown, Mapping):
        return None
    score, low, high = (shown.get(name) for name in ("score", "low", "high"))
    if not _is_number(score):
        return None
    interval = f" ({low:g} to {high:g})" if _is_number(low) and _is_number(high) else ""
    by = f", by {shown['model']}" if isinstance(shown.get("model"), str) else ""
    factors = shown.get("factors")
    why = f": {'; '.join(map(str, factors))}" if isinstance(factors, list) and factors else ""
    return f"{score:g} of 100{interval}{by}{why}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _factors(predicted: Predicted) -> Iterator[str]:
    parts = predicted.forecast.parts
    category = predicted.features.category
    yield (
        "starts from what others' posts showed"
        if predicted.prior.id is not None
        else "starts from a usual post of this platform"
    )
    if way := _way(parts.get("platform", 0.0)):
        yield f"your posts do {way} than that"
    if category and (way := _way(parts.get("category", 0.0))):
        yield f"{category} does {way} than your average here"
    if way := _way(parts.get("features", 0.0)):
        yield f"posts like this (time, length, hashtags, category) do {way} for you"
    if way := _way(parts.get("account", 0.0)):
        yield f"this account does {way}"
    yield f"{counted(predicted.outcomes, 'post')} of evidence" if predicted.outcomes else "none of your posts yet"


def _way(part: float) -> str:
    if abs(part) < WORTH_WORDS:
        return ""
    return "better" if part > 0 else "worse"
