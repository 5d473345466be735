"""Ids that sort by the time they were made."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

LOW = (1 << 62) - 1
"""The random bits behind the variant."""


def uuid7(unix_ms: int, randomness: int) -> UUID:
    """A version 7 UUID (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Job ids are made this way because random ids scatter a queue's inserts over its whole index.
    """
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | ((randomness >> 62) & 0xFFF) << 64
    value |= 0b10 << 62 | randomness & LOW
    return UUID(int=value)


def first_id(moment: datetime) -> UUID:
    """Return the least id of those that were made at this moment (in its millisecond) or later."""
    return UUID(int=min(max(0, int(moment.timestamp() * 1000)), (1 << 48) - 1) << 80)


def next_uuid7(previous: UUID, unix_ms: int, randomness: Callable[[], int]) -> UUID:
    """A version 7 UUID that sorts after `previous`, also within one millisecond or after the clock was set back.

    Then the random part of `previous` goes up by one (RFC 9562 §6.2, method 2), so that jobs that are enqueued
    together run in the order in which they were enqueued.
    """
    before = previous.int
    if unix_ms > before >> 80:
        return uuid7(unix_ms, randomness())
    if 0 < before & LOW < LOW:
        return UUID(int=before + 1)  # the usual case: nothing is carried over the variant
    following = ((before >> 64 & 0xFFF) << 62 | before & LOW) + 1
    # 2⁷⁴ ids later, in the same millisecond, the next millisecond is borrowed.
    return uuid7((before >> 80) + (following >> 74), following & ((1 << 74) - 1))
