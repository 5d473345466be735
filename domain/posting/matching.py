"""Which post of an account's own list is ours, when the handle cannot tell: the last resort.

A wrong answer here is a second post, or another's post taken for ours. So one that fits is bound only if it is the only
one, and absence is believed only of a complete list in which nothing could be ours.
"""

import unicodedata
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.posting.posts import short_mark
from domain.posting.publishing import Listing, Seen

CLOCKS = timedelta(minutes=2)
"""How far a platform's clock may be from ours."""
BEFORE_BACKUP = timedelta(minutes=10)
"""What was due so shortly before a backup was taken may have been published after it."""
GIVE_MARKS_BACK: Mapping[str, Callable[[str], str]] = {"youtube-shorts": str, "bluesky": short_mark}
"""The platforms whose lists show the mark of each post, and what of it."""
SAME_LENGTH = 1.5
"""Seconds by which a platform may round or trim a video."""


@dataclass(frozen=True, slots=True)
class Ours:
    """What we would have published: nothing of it can be older than `claimed_at`.

    `marked`: the platform's list gives the mark back, so that a post without it is hardly ours, whatever its text.
    `twin`: another post of ours that has no id yet has the same words. `restored`: the database went back, so neither
    its text nor its time need be those that were published.
    """

    text: str
    mark: str
    claimed_at: datetime
    seconds: float | None = None
    marked: bool = False
    twin: bool = False
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """This one is ours."""

    seen: Seen


@dataclass(frozen=True, slots=True)
class NotThere:
    """It was not published: the list is complete, and nothing in it could be ours."""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Only a person can tell. `candidates` are the ids of the posts that may be ours."""

    reason: str
    candidates: tuple[str, ...] = ()


Match = Found | NotThere | InDoubt


def match(ours: Ours, listing: Listing, bound: Container[str]) -> Match:
    """Return which post is ours. `bound` are the external ids that other rows of the account have."""
    free = [seen for seen in _each_once(listing.posts) if seen.external_id not in bound]
    marked = [seen for seen in free if seen.mark is not None and seen.mark == ours.mark]
    if len(marked) == 1:
        return Found(marked[0])
    if marked:
        return _several(marked)
    possible = [seen for seen in free if _could_be(ours, seen)]
    if len(possible) > 1:
        return _several(possible)
    if possible:
        seen = possible[0]
        reason = _why_not(ours, seen)
        return Found(seen) if reason is None else InDoubt(reason, (seen.external_id,))
    others = [seen.external_id for seen in free if ours.restored and _is_nobodys(ours, seen)]
    if others:
        reason = "since the backup was taken the account has posts that belong to none here, and one may be it"
        return InDoubt(reason, tuple(others))
    if listing.complete:
        return NotThere()
    return InDoubt("the account's list of posts shows nothing like it, but does not show every post")


def _each_once(posts: Iterable[Seen]) -> list[Seen]:
    """A page that moved on while it was read may list a post twice."""
    return list({seen.external_id: seen for seen in posts}.values())


def _several(posts: list[Seen]) -> InDoubt:
    return InDoubt(f"{len(posts)} posts of the account fit", tuple(seen.external_id for seen in posts))


def _could_be(ours: Ours, seen: Seen) -> bool:
    """Whether nothing speaks against it: another mark, an earlier time, another text."""
    other_mark = seen.mark is not None and seen.mark != ours.mark
    earlier = seen.published_at < ours.claimed_at - CLOCKS
    return not other_mark and not earlier and _same_text(ours.text, seen)


def _is_nobodys(ours: Ours, seen: Seen) -> bool:
    """Whether it may be ours, published after the backup by what the row had become then."""
    return seen.mark is None and seen.published_at >= ours.claimed_at - BEFORE_BACKUP


def _why_not(ours: Ours, seen: Seen) -> str | None:
    """Return why the only one that could be ours is not bound without a person; None if it is."""
    if not _plain(seen.text):
        return "one post of the account may be it, but shows no text to tell it by"
    if ours.twin:
        return "one post of the account has its text, and so has another post of ours"
    if ours.marked:
        return "one post of the account has its text, but not the mark that ours has"
    if seen.published_at < ours.claimed_at.replace(microsecond=0):  # platforms show whole seconds
        return "one post of the account has its text, but may have been there before"
    if seen.seconds is not None and ours.seconds is not None and abs(seen.seconds - ours.seconds) > SAME_LENGTH:
        return f"one post of the account has its text, but lasts {seen.seconds:g} s and not {ours.seconds:g} s"
    return None


def _same_text(text: str, seen: Seen) -> bool:
    """Whether the text is ours as far as the list shows it; an ellipsis of the platform's counts as the cut."""
    mine, shown = _plain(text), _plain(seen.text)
    if seen.cut:
        return mine.startswith(shown) or mine.startswith(shown.removesuffix("…").removesuffix("...").rstrip())
    return mine == shown


def _plain(text: str) -> str:
    """Without what platforms change: white space, and how accents are composed."""
    return " ".join(unicodedata.normalize("NFC", text).split())
