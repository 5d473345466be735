"""Outcomes: what is learned of a post's numbers, or why nothing is.

A post's outcome is ln(1 + engagement in percent), at one horizon. Engagement is what the platform counts of likes,
comments and shares, for each view; which of them it counts, and what a view is, make the outcome's *definition*, and
outcomes of two definitions are never put together. Without views there is none: no denominator is invented.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from domain.learning.metrics import asked, definition_of
from domain.learning.numbers import Horizon, Numbers
from domain.learning.scale import log_engagement

LEARNED = (Horizon.H24, Horizon.D7)
"""The horizons that are learned, each by itself: one says something soon, the other the truth."""
SHOWN = Horizon.H24
"""The horizon of the predictions that are shown."""
LEAST_VIEWS = 100
MOST_PERCENT = 60.0
PARTS = ("likes", "comments", "shares")


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of a post before it is out; None is unknown. `hour` and `weekday` (Monday is 0) are on the clock of
    the tenant. `account` is any name of it."""

    account: str
    category: str | None = None
    hour: int | None = None
    weekday: int | None = None
    text_len: int | None = None
    n_hashtags: int | None = None
    has_question: bool | None = None
    original_sound: bool | None = None
    followers: int | None = None
    duration_s: float | None = None

    def row(self) -> dict[str, Any]:
        """Return JSON values, which `Features(**row)` reads."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Prior:
    """What is expected of a post of which nothing but the category is known, as log engagement: by `categories` where
    enough tenants have enough posts, else `platform`. `id` is the row that has it (None: it is the built-in one)."""

    platform: float
    categories: Mapping[str, float] = field(default_factory=dict)
    id: int | None = None

    def of(self, category: str | None) -> float:
        return self.categories.get(category or "", self.platform)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One post's outcome at one horizon. The order in which outcomes are learned is that of (`at`, `id`): `at` is when
    the numbers were taken. `value` is log engagement; `predicted` is what each model said before the post was out, as
    log engagement, and `prior` what they said it with."""

    id: str
    at: datetime
    features: Features
    value: float
    prior: Prior
    predicted: Mapping[str, float] = field(default_factory=dict)

    @property
    def position(self) -> tuple[datetime, str]:
        return self.at, self.id


@dataclass(frozen=True, slots=True)
class Judged:
    """What is learned of a post's numbers: `value` under `definition`, or nothing because of `reason`."""

    value: float | None = None
    definition: str = ""
    reason: str = ""


def definition_on(platform: str, on: date) -> str:
    """Return the definition of the outcome of a post that is measured on that day; "" where the platform counts no
    views, so that there is no outcome."""
    views = definition_of(platform, on)
    counted = {each.kept for each in asked(platform, on)}
    return f"{views}/{'+'.join(name for name in PARTS if name in counted)}" if views else ""


def judge(numbers: Numbers, *, removed: bool = False) -> Judged:
    """Return the outcome of a post's numbers. Those that would teach something wrong are quarantined: too few views,
    more engagement than people show, a post that is gone.

    The definition is the views' name and the parts that are known, as "tiktok-views/likes+comments+shares".
    """
    counted = [name for name in PARTS if getattr(numbers, name) is not None]
    definition = f"{numbers.definition}/{'+'.join(counted)}"
    if numbers.views is None:
        return Judged(reason="the platform counts no views")
    if "likes" not in counted:
        return Judged(reason="likes are unknown")
    if removed:
        return Judged(definition=definition, reason="the post was removed")
    if numbers.views < LEAST_VIEWS:
        return Judged(definition=definition, reason=f"fewer than {LEAST_VIEWS} views")
    percent = 100 * sum(getattr(numbers, name) for name in counted) / numbers.views
    if percent > MOST_PERCENT:
        return Judged(definition=definition, reason=f"engagement of more than {MOST_PERCENT:.0f} %")
    return Judged(log_engagement(percent), definition)
