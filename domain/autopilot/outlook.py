"""What the autopilot of a tenant will do next, when, and to which accounts, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from domain.autopilot.chains import PATIENCE, Mode, Stage
from domain.autopilot.settings import PUT_BACK, RESTORED_BY, Settings
from domain.concepts.timing import SPREAD
from domain.concepts.wording import counted
from domain.posting.schedule import in_words
from domain.videos.plan import AUTO, STORYBOARD


@dataclass(frozen=True, slots=True)
class Prospect:
    """What decides over the next day. `ready` are the accounts that it can post to, `waiting` those that consented and
    cannot be posted to, both in words; `left` is what this month's money has left, the autopilot's own and the tenant's
    for videos, and `unusable` why its provider can make no video now; `begins_at` when the next day begins, by the
    tenant's clock (`zone`); `under_way` how many chains have not ended; `daily` how many concepts are made for the
    tenant each day anyway, if they are; `policy_asks` whether the tenant's posting policy has every post wait for a
    person."""

    settings: Settings
    zone: ZoneInfo
    now: datetime
    begins_at: datetime
    ready: Sequence[str] = ()
    waiting: Sequence[str] = ()
    left: Decimal = Decimal(0)
    unusable: str | None = None
    under_way: int = 0
    daily: int | None = None
    policy_asks: bool = False


def outlook(prospect: Prospect) -> list[str]:
    """Say what happens by itself; of an autopilot that is off or lacks something, why nothing does."""
    return list(_outlook(prospect))


def _outlook(prospect: Prospect) -> Iterator[str]:
    settings = prospect.settings
    if settings.mode is Mode.APPROVE and settings.changed_by == RESTORED_BY:
        yield f"each post waits for a person: {PUT_BACK}, if nobody is to be asked"
    if settings.mode is Mode.OFF:
        yield "nothing: it is off"
        if prospect.under_way:
            yield "what it has under way stops, and makes no post any more; clips that are ordered already are paid"
        return
    if not prospect.ready:
        yield "nothing is made: there is no account that consents and can be posted to"
    else:
        yield from _day(prospect)
    for account in prospect.waiting:
        yield f"nothing is posted meanwhile to {account}"


def _day(prospect: Prospect) -> Iterator[str]:
    settings = prospect.settings
    when = "within a few minutes"
    if prospect.begins_at > prospect.now:
        at = f"{prospect.begins_at.astimezone(prospect.zone):%Y-%m-%d %H:%M} ({prospect.zone.key})"
        when = f"at {at}, or up to {in_words(SPREAD)} later"
    concepts = f"it makes {counted(settings.concepts_a_day, 'concept')}, which count in the month's quota, and"
    if prospect.daily is not None:
        concepts = f"of the {counted(prospect.daily, 'concept')} that are made each day anyway it makes"
    best = "a video of the best" if settings.videos_a_day == 1 else f"videos of the best {settings.videos_a_day}"
    yield (
        f"the next day begins {when}: {concepts} {best}, with a predicted score of at least {settings.least_score} on "
        "each account"
    )
    if settings.provider == STORYBOARD:
        yield "videos are drawn here, for nothing"
    elif prospect.unusable is not None:
        yield (
            f"no video can be made by {_provider(settings)} now: {prospect.unusable}; a day waits up to "
            f"{in_words(PATIENCE[Stage.CONCEPTS])} for it, and stops then; the storyboard is drawn here, for nothing"
        )
    elif not prospect.left:
        why = "nothing of this month's budget is left" if settings.budget_usd else "its budget is 0"
        yield f"videos are drawn here, for nothing, and not made by {_provider(settings)}: {why}"
    else:
        most = f"for at most ${prospect.left:.2f} more this month"
        yield f"videos are made by {_provider(settings)}, {most}; where that is too little, they are drawn here"
    to = _listed(prospect.ready)
    at = f"at {_listed(settings.times)} by each account's clock" if settings.times else "at each concept's own time"
    if settings.mode is Mode.APPROVE or prospect.policy_asks:
        why = "" if settings.mode is Mode.APPROVE else ", as the tenant's posting policy has it"
        yield f"posts to {to} are prepared for {at.removeprefix('at ')}; each waits until a person approves it{why}"
    else:
        yield f"posts appear {at} on {to}; nobody is asked before"


def _provider(settings: Settings) -> str:
    return "the first provider that can be used" if settings.provider == AUTO else settings.provider


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
