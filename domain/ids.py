"""Ids that sort by the time they were made."""

from uuid import UUID


def uuid7(unix_ms: int, randomness: int) -> UUID:
    """A version 7 UUID (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Job ids are made this way because random ids scatter a queue's inserts over its whole index.
    """
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | ((randomness >> 62) & 0xFFF) << 64
    value |= 0b10 << 62 | randomness & ((1 << 62) - 1)
    return UUID(int=value)
