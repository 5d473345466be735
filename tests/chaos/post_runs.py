"""What posts are asked for, and what befalls them: faults at each call, deaths and acts of others at any moment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from simulators.platforms.platform import FAULTS, Fault
from tests.chaos.cuts import Moment

LEFT_OUT = {
    *("authorize", "register", "revoke", "verify_credentials", "me", "user", "long-lived", "createSession"),
    *("deleteSession", "createRecord", "directory", "inbox_init"),
}
"""Calls that are no part of publishing."""
REFRESHES = {"tiktok": "token", "youtube-shorts": "token", "instagram-reels": "refresh", "bluesky": "refreshSession"}
CALLS = ("limits", "open", "ready", "ready", "commit", "commit", "commit", "look", "recent", "permalink", "comment")
NAMED = (
    *(f"platform.{call}:{when}" for call in CALLS for when in ("before", "after")),
    *("login.refresh:before", "login.refresh:after", "marks.remember:after"),
)


@dataclass(frozen=True)
class Trick:
    """Something that a platform does by itself. `loses`: the handle, so that a person may have to decide; `repeats`: a
    call that comes twice makes two posts there, so none is delivered twice."""

    name: str
    play: Callable[[Any], object]
    loses: bool = False
    repeats: bool = False


def _trick(name: str, *, loses: bool = False, repeats: bool = False) -> Trick:
    return Trick(name, lambda simulator: simulator.misbehave(name), loses, repeats)


def _set(name: str, *, repeats: bool = False, **values: Any) -> Trick:
    return Trick(name, lambda simulator: vars(simulator).update(values), repeats=repeats)


def _error(code: int, subcode: int, *, acted: bool) -> Trick:
    how = f"{code}/{subcode} {'after' if acted else 'before'} it is published"
    return Trick(how, lambda simulator: simulator.misbehave("publish", code, subcode, acted=acted))


def _spoiled(subcode: int) -> Trick:
    return Trick(f"container fails: {subcode}", lambda simulator: simulator.spoil(subcode))


TRICKS: Mapping[str, tuple[Trick, ...]] = {
    "tiktok": (
        *map(_trick, ("fails its check", "fails for its text", "fails internally", "fails as revoked")),
        *map(_trick, ("id is late", "id never comes", "several ids", "address expires")),
        *(_trick(name, loses=True) for name in ("forgotten", "forgotten before")),
        _trick("accepts repeats", repeats=True),
        _trick("goes to the inbox"),
    ),
    "youtube-shorts": (
        *(_trick(name, loses=True) for name in ("forgotten", "forgotten before", "expires at once")),
        *map(
            _trick, ("rejected as duplicate", "rejected for copyright", "fails in processing", "keeps half of a part")
        ),
        _trick("accepts repeats", repeats=True),
        _set("listed late", listing_lag=90.0),
    ),
    "instagram-reels": (
        _set("accepts repeats", repeats=True, accepts_repeats=True),
        *(_error(4, 2207051, acted=acted) for acted in (True, False)),
        _error(100, 2207082, acted=True),
        _error(9007, 2207027, acted=False),
        *map(_spoiled, (2207052, 2207003, 2207026)),
        _set("slow", processing_seconds=90.0),
        _set("listed late", listing_lag=90.0),
    ),
    "bluesky": (
        *(_set(f"known as {how}", known_as=how) for how in ("job", "field", "blob")),
        _set("slow", polls=4),
    ),
    "mastodon": (
        _set("repeated key is a 500", repeats_fail=True),
        _set("slow", polls=4),
        Trick("uploads are forgotten", lambda simulator: simulator.forget_uploads()),
    ),
}
USUAL: Mapping[str, Mapping[str, Any]] = {
    "instagram-reels": {"accepts_repeats": False, "processing_seconds": 0.0, "listing_lag": 0.0},
    "youtube-shorts": {"listing_lag": 0.0},
    "bluesky": {"known_as": "job", "polls": 1},
    "mastodon": {"repeats_fail": False, "polls": 1},
}


def calm(platform: str, simulator: Any) -> None:
    """Let the platform do as it should."""
    with simulator.lock:
        for name in ("_faults", "tricks", "_misbehaviours", "_spoiled"):
            planned = vars(simulator).get(name)
            if planned is not None:
                planned.clear()
        vars(simulator).update(USUAL.get(platform, {}))


@dataclass(frozen=True)
class Run:
    """One post. `faults` befall calls of its platform, at `cuts` its process dies, at `acts` somebody does something
    (`foreign`: the owner posts something else; `same`: something with the same words; `expire`: all access tokens end;
    `again`: its job is delivered a second time). `restored`: the database goes back to when the post was scheduled."""

    number: int
    platform: str
    faults: tuple[tuple[str, Fault], ...] = ()
    cuts: tuple[Moment, ...] = ()
    acts: tuple[tuple[Moment, str], ...] = ()
    trick: Trick | None = None
    restored: bool = False
    twins: bool = False

    @property
    def faulted(self) -> bool:
        return bool(self.faults or self.cuts or self.acts or self.trick or self.restored)

    @property
    def may_be_lost(self) -> bool:
        """Whether only a person can tell which post is its own, if its process died at the wrong moment."""
        acts = {act for _, act in self.acts}
        same = self.twins or "same" in acts
        # What went out since a backup may be any post of the account that nobody here has made.
        back = self.restored and (self.platform == "tiktok" or "foreign" in acts)
        return (self.trick is not None and self.trick.loses) or same or back

    @property
    def may_be_taken(self) -> bool:
        """Whether nobody could tell the owner's own post from ours: it has the same words, the handle is gone, and the
        platform gives no mark of ours back."""
        same = any(act == "same" for _, act in self.acts)
        gone = self.restored or (self.trick is not None and self.trick.loses)
        return same and gone and self.platform in ("tiktok", "instagram-reels", "mastodon")

    @property
    def words(self) -> str:
        trick = self.trick.name if self.trick else "-"
        how = " ".join(name for name in ("restored", "twins") if vars(self)[name]) or "-"
        parts = f"faults {self.faults} cuts {self.cuts} acts {self.acts} trick {trick} how {how}"
        return f"run {self.number} on {self.platform}: {parts}"


def runs(rng: Random, platform: str, calls: Sequence[str], count: int) -> list[Run]:
    """Make up so many runs: every fault with every call equally often, deaths and acts at every moment."""
    of_publishing = [call for call in calls if call not in LEFT_OUT]
    pairs = [(call, fault) for call in of_publishing for fault in FAULTS]
    rng.shuffle(pairs)
    made = []
    for number in range(count):
        trick = rng.choice(TRICKS[platform]) if rng.random() < 0.35 else None
        faults = [pairs[(number + n) % len(pairs)] for n in range(rng.choice((0, 1, 1, 2, 3)))]
        if platform in REFRESHES and rng.random() < 0.25:
            faults.append((REFRESHES[platform], rng.choice(FAULTS)))
            faults.append((rng.choice(of_publishing), "expired"))
        if trick is not None and trick.repeats:
            faults = [(call, fault) for call, fault in faults if fault != "delivered twice"]
        acts = tuple(
            (_moment(rng), rng.choice(("foreign", "foreign", "same", "expire", "again")))
            for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))
        )
        made.append(
            Run(
                number=number,
                platform=platform,
                faults=tuple(faults),
                cuts=tuple(_moment(rng) for _ in range(rng.choice((0, 1, 1, 2)))),
                acts=acts,
                trick=trick,
                restored=rng.random() < 0.1,
                twins=rng.random() < 0.1,
            )
        )
    # However few there are: a process dies as soon as the post is out, and an answer is lost at the point of no return.
    made[0] = Run(0, platform, cuts=("platform.commit:after",))
    made[1] = Run(1, platform, faults=tuple((call, "hang-up after") for call in COMMITS[platform]))
    made[2] = Run(2, platform, restored=True)
    return made


COMMITS = {
    "tiktok": ("upload",),
    "youtube-shorts": ("upload",),
    "instagram-reels": ("publish",),
    "bluesky": ("putRecord",),
    "mastodon": ("post",),
}


def _moment(rng: Random) -> Moment:
    return rng.choice(NAMED) if rng.random() < 0.6 else rng.randrange(1, 60)
