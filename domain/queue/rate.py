"""Paces what one account may do at an outside: all jobs of the account draw from one bucket.

The generic cell rate algorithm (ITU-T I.371, annex A), with a second horizon: whoever is refused is promised a moment
of its own, so that a thousand waiting jobs come back one by one instead of all at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Rate:
    """`burst` uses at once, and one more every `every`."""

    every: timedelta
    burst: int = 1

    def __post_init__(self) -> None:
        if self.every <= timedelta(0) or self.burst < 1:
            raise ValueError("a rate needs a positive interval and a burst of at least 1")


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn from a bucket that goes by this rate (`draw`)."""

    bucket: str
    rate: Rate
    cost: int = 1
    spare: int = 0


@dataclass(frozen=True)
class Bucket:
    """`used_until`: when what was used is made up for. `promised_until`: the last moment promised to a waiting job.
    `closed_until`: the other side said "not before"."""

    used_until: datetime
    promised_until: datetime
    closed_until: datetime | None = None


def fresh(now: datetime) -> Bucket:
    """A bucket that nobody has drawn from."""
    return Bucket(now, now)


def draw(
    bucket: Bucket, rate: Rate, now: datetime, *, cost: int = 1, promised: bool = False, spare: int = 0
) -> tuple[Bucket, datetime | None]:
    """Draw `cost` uses. Returns the bucket afterwards, and None if they were there, else when to come back.

    `promised`: the caller comes at a moment that it was given here. Others wait behind those who were. With `spare`
    the caller leaves so many uses for others, is promised nothing, and changes nothing if it has to wait.
    """
    price = rate.every * cost
    used_until = max(bucket.used_until, now)
    opens_at = max(used_until + price - rate.every * max(rate.burst - spare, cost), bucket.closed_until or now)
    may_draw = (promised and not spare) or bucket.promised_until <= now
    if opens_at <= now and may_draw:
        return replace(bucket, used_until=used_until + price), None
    if spare:
        return bucket, max(opens_at, bucket.promised_until)
    come_back = max(opens_at, bucket.promised_until + price)
    return replace(bucket, promised_until=come_back), come_back


def draw_all(
    buckets: Mapping[str, Bucket], draws: Sequence[Draw], now: datetime, *, promised: bool = False
) -> tuple[Mapping[str, Bucket], datetime | None]:
    """Draw from several buckets, or from none if one of them has not enough. Returns those that have changed, and None,
    else when to come back: the last of the moments that are promised by those which have not enough."""
    after, refused, come_back = {}, {}, now
    for each in draws:
        before = buckets[each.bucket]
        bucket, moment = draw(before, each.rate, now, cost=each.cost, promised=promised, spare=each.spare)
        after[each.bucket] = bucket
        if moment is not None:
            refused[each.bucket], come_back = bucket, max(come_back, moment)
    return (refused, come_back) if refused else (after, None)


def hold_off(bucket: Bucket, until: datetime, *, returns: bool = False) -> Bucket:
    """Let nobody draw before the moment that the other side named when it refused. `returns`: whoever holds it off is
    the first to come back, at that moment, and the others come after it."""
    promised_until = max(bucket.promised_until, until) if returns else bucket.promised_until
    return replace(bucket, closed_until=max(until, bucket.closed_until or until), promised_until=promised_until)
