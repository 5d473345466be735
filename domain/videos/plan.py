"""How a video of a script is made, by whom, and what that costs: all known before anything is bought.

A *storyboard* is drawn here, for nothing. A *clip* is the whole video. A *hook* is one clip for the first segment, with
slides after it; *scenes* are a clip for each segment. A segment whose clip cannot be had gets its slide.
"""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from domain.errors import ClipProviderUnusable, Rejected
from domain.videos.script import Script, ScriptSegment
from domain.videos.submissions import ClipOrder, RefusedFor, SubmissionState

VIDEO_STATUSES = ("pending", "rendering", "completed", "failed", "unconfirmed", "cancelled")

STORYBOARD = "storyboard"
AUTO = "auto"
"""Names that may stand for a provider: none is needed; the first that can be used."""

KEY_SETTINGS = {"runway": "RUNWAYML_API_SECRET", "google": "GEMINI_API_KEY", "luma": "LUMA_AGENTS_API_KEY"}

BUSY_TRIES = 5
"""How often one provider that says "not now" is asked for the same clip."""
BUSY_WAITS = (timedelta(seconds=15), timedelta(minutes=5))
"""The shortest and the longest wait between two of them, unless the provider names a time."""


class Layout(StrEnum):
    STORYBOARD = "storyboard"
    CLIP = "clip"
    HOOK = "hook"
    SCENES = "scenes"


class LayoutUnusable(Rejected):
    """The video cannot be made in this way; the text says in which it can."""


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A model of a provider as it is sold today: a row of `video_providers`. `prompt_limit` is in UTF-16 units."""

    provider: str
    model: str
    valid_from: datetime
    rank: int
    durations: tuple[int, ...]
    prompt_limit: int
    resolution: str
    width: int
    height: int
    has_sound: bool
    usd_per_second: Decimal
    patience: timedelta
    enabled: bool = True
    unavailable: str | None = None
    sunset_at: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip to buy, for the segment with the number `scene`, from 0."""

    scene: int
    order: ClipOrder
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    layout: Layout
    clips: tuple[Clip, ...] = ()

    @property
    def usd(self) -> Decimal:
        return sum((clip.usd for clip in self.clips), Decimal(0))


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier submission for a scene, as its row of `provider_jobs` tells it."""

    provider: str
    state: SubmissionState
    error_code: str | None = None
    final_usd: Decimal | None = None
    ended_at: datetime | None = None


def clip_lengths(durations: Sequence[int]) -> str:
    """Return in words which lengths of a clip are sold, from the shortest on: "2 to 10 s" only if all between are."""
    if len(durations) > 2 and [*durations] == [*range(durations[0], durations[-1] + 1)]:
        return f"{durations[0]} to {durations[-1]} s"
    words = [str(each) for each in durations]
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:]))) + " s" if words else "none"


# --- who is asked -------------------------------------------------------------------------------------------


def why_unusable(model: ClipModel, now: datetime, keys: Collection[str]) -> str | None:
    """Return why nobody can buy a clip of this model now, in words for tenants; None if one can. `keys`: the providers
    there is a key for."""
    if model.unavailable is not None:
        return model.unavailable
    if model.sunset_at is not None and model.sunset_at <= now:
        return f"{model.provider} ended its model {model.model} on {model.sunset_at:%Y-%m-%d}"
    if not model.enabled:
        return f"{model.provider} is disabled here"
    if model.provider not in keys:
        return f"there is no key for {model.provider} here"
    return None


def named_models(models: Iterable[ClipModel], preference: str) -> list[ClipModel]:
    """Return the models of the provider that is named, or all, by their rank, whether they can be used or not.

    Raises:
        ClipProviderUnusable: no provider has this name; the text lists those that there are.
    """
    ranked = sorted(models, key=lambda model: (model.rank, model.provider, model.model))
    named = [model for model in ranked if preference in (AUTO, model.provider)]
    if not named:
        names = ", ".join(dict.fromkeys(model.provider for model in ranked))
        raise ClipProviderUnusable(
            f"no provider has the name {preference!r}; there are {STORYBOARD} (drawn here, free), {AUTO} and {names}"
        )
    return named


def chain(models: Iterable[ClipModel], preference: str, now: datetime, keys: Collection[str]) -> tuple[ClipModel, ...]:
    """Return the models to ask, in their order: those of the one provider that is named, or of all by their rank, where
    those that are resting after a failure come last.

    Raises:
        ClipProviderUnusable: there is none; the text says why.
    """
    named = named_models(models, preference)
    reasons = {model.model: why_unusable(model, now, keys) for model in named}
    usable = [model for model in named if reasons[model.model] is None]
    if not usable:
        why = "; ".join(dict.fromkeys(reason for reason in reasons.values() if reason))
        raise ClipProviderUnusable(f"no clip can be bought: {why}" if preference == AUTO else why)
    return tuple(sorted(usable, key=lambda model: _rests_until(model, now) or datetime.min.replace(tzinfo=now.tzinfo)))


def next_model(asked: Sequence[ClipModel], past: Sequence[Past], now: datetime) -> tuple[ClipModel, timedelta] | None:
    """Return who is asked next for a scene, and after which wait; None if nobody is.

    Nobody is asked again after a clip that was charged for. A provider that refused the order, or failed for nothing,
    is not asked for it a second time; one that was busy is, a few times, when nobody is left who was not.
    """
    if any(each.state in _ENDED_AFTER_ORDER and each.final_usd != 0 for each in past):
        return None
    done = {each.provider for each in past if each.state in _ENDED_AFTER_ORDER or each.error_code != RefusedFor.BUSY}
    busy = Counter(each.provider for each in past)
    left = [model for model in asked if model.provider not in done]
    if not left:
        return None
    model = min(left, key=lambda each: busy[each.provider])  # the first of those that were busy least often
    times = busy[model.provider]
    if times >= BUSY_TRIES:
        return None
    if times == 0:
        return model, timedelta(0)
    last = max((each.ended_at or now) for each in past if each.provider == model.provider)
    wait = min(BUSY_WAITS[0] * 2 ** (times - 1), BUSY_WAITS[1])
    due = max(last + wait, _rests_until(model, now) or last)
    return model, max(timedelta(0), due - now)


_ENDED_AFTER_ORDER = (SubmissionState.SUCCEEDED, SubmissionState.FAILED, SubmissionState.CANCELLED)


def _rests_until(model: ClipModel, now: datetime) -> datetime | None:
    return model.retry_at if model.retry_at is not None and model.retry_at > now else None


# --- what is bought -----------------------------------------------------------------------------------------


def check_layout(provider: str, layout: str | None) -> None:
    """Check that this provider and this layout can be asked for together.

    Raises:
        LayoutUnusable: they cannot, or there is no such layout.
    """
    if layout is None:
        return
    if layout not in set(Layout):
        raise LayoutUnusable(f"layout: there is {', '.join(Layout)}")
    if provider == STORYBOARD and layout != Layout.STORYBOARD:
        raise LayoutUnusable(f"the layout {layout} needs bought clips: name a provider, or {AUTO}")
    if provider != STORYBOARD and layout == Layout.STORYBOARD:
        raise LayoutUnusable(f"a {STORYBOARD} is drawn here and buys nothing: leave the provider out, or the layout")


def offer(script: Script, asked: Sequence[ClipModel], layout: str | None = None) -> Plan:
    """Return what would be bought of these models, which are asked in this order: the plan of the first that can make
    the layout, with the most that any of them that can takes for each clip.

    Raises:
        LayoutUnusable: none can; as the last one says.
    """
    able = [model for model in asked if fits(script, model, layout)]
    plan = plan_of(script, able[0] if able else asked[-1], layout)
    able = [model for model in asked if fits(script, model, plan.layout)]

    def most(clip: Clip) -> Decimal:
        return max(clip_of(script, model, plan.layout, clip.scene).usd for model in able)

    return Plan(plan.layout, tuple(replace(clip, usd=most(clip)) for clip in plan.clips))


def plan_of(script: Script, model: ClipModel, layout: str | None = None) -> Plan:
    """Return the clips to buy of this model. Without a layout it is one clip, if that can last as long as the script,
    else a hook.

    Raises:
        LayoutUnusable: the script is longer than a clip.
    """
    if layout is None:
        layout = Layout.CLIP if fits(script, model, Layout.CLIP) else Layout.HOOK
    chosen = Layout(layout)
    if not fits(script, model, chosen):
        raise LayoutUnusable(
            f"a clip of {model.provider} lasts {max(model.durations)} s at most, and the script {script.seconds:g} s: "
            f"ask for the layout {Layout.HOOK} or {Layout.SCENES}"
        )
    return Plan(chosen, tuple(clip_of(script, model, chosen, scene) for scene in scenes(script, chosen)))


def fits(script: Script, model: ClipModel, layout: str | None) -> bool:
    """Return whether the model can make the script in this layout; without one, in some."""
    return layout != Layout.CLIP or script.seconds <= max(model.durations)


def scenes(script: Script, layout: Layout) -> range:
    """Return the numbers of the segments that clips are bought for."""
    return range({Layout.STORYBOARD: 0, Layout.SCENES: len(script.segments)}.get(layout, 1))


def clip_of(script: Script, model: ClipModel, layout: Layout, scene: int) -> Clip:
    """Return one clip as this model makes it: the shortest that is long enough, else the longest."""
    segment = script.segments[scene]
    wanted = script.seconds if layout is Layout.CLIP else segment.seconds
    seconds = min((each for each in model.durations if each >= wanted), default=max(model.durations))
    prompt = _whole(script) if layout is Layout.CLIP else (_picture(segment) or _whole(script))
    order = ClipOrder(model.model, cut(prompt, model.prompt_limit), seconds, model.resolution)
    return Clip(scene, order, model.usd_per_second * seconds)


def _whole(script: Script) -> str:
    pictures = " ".join(filter(None, map(_picture, script.segments)))
    return script.prompt or pictures or script.title


def _picture(segment: ScriptSegment) -> str:
    return ". ".join(text.rstrip(". ") for text in (segment.visual, segment.camera) if text.strip(". "))


def cut(text: str, units: int) -> str:
    """Return the beginning of the text in at most so many UTF-16 units: up to the end of a word where there is one, and
    never within a character as people see it."""
    if _units(text) <= units:
        return text
    used = end = 0
    word = None
    for cluster in _clusters(text):
        if cluster.isspace():
            word = end
        used += _units(cluster)
        if used > units:
            break
        end += len(cluster)
    # Where words are long or unknown (Japanese), a whole sentence is not given up for one.
    return text[: word if word and word * 2 >= end else end].rstrip()


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


_JOINER = "\u200d"


def _clusters(text: str) -> list[str]:
    """Split at what people see as characters, or more coarsely: a mark, a joiner, a skin tone or the second letter of a
    flag belongs to what is before it."""
    found: list[str] = []
    for character in text:
        joined = found and (
            unicodedata.category(character).startswith("M")
            or character == _JOINER
            or (found[-1].endswith(_JOINER) and not character.isspace())
            or "\U0001f3fb" <= character <= "\U0001f3ff"
            or "\U000e0020" <= character <= "\U000e007f"
            or (_is_flag(character) and len(found[-1]) == 1 and _is_flag(found[-1]))
        )
        if joined:
            found[-1] += character
        else:
            found.append(character)
    return found


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
