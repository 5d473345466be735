"""When a platform is asked again what became of a post, and when a person is asked instead.

The waits grow with the time since it began, so that a slow platform is asked often at first and rarely later.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

SETTLES = timedelta(minutes=5)
"""How long after it was begun a commit of unknown outcome may still arrive: no request of ours lasts longer."""
LISTED = timedelta(hours=1)
"""An account's own list may lag behind so far: what it lacks before that may be there."""
COMMIT_WITHIN = timedelta(seconds=10)
"""A commit is begun so soon after its submission was written down, or not at all."""
TRIED_FOR = timedelta(hours=24)
"""For so long after it was sent first a post is sent again, however late its tenant allows it to be."""
HANDLES = 4
"""How many handles a post may have: each before the last one certainly became no post."""


@dataclass(frozen=True, slots=True)
class Looks:
    """One eighth of the time since it began, between the shortest and the longest wait, and no look after `until`."""

    shortest: timedelta
    longest: timedelta
    until: timedelta

    def after(self, since: timedelta) -> timedelta | None:
        """Return how long to wait before the next look, `since` it began; None: look no more."""
        if since >= self.until:
            return None
        return min(max(since / 8, self.shortest), self.longest)


PREPARING = Looks(timedelta(seconds=2), timedelta(minutes=1), timedelta(hours=6))
"""A handle that is not ready (a container, a video job). After that the platform will not get it done."""
WATCHING = Looks(timedelta(seconds=3), timedelta(minutes=10), timedelta(hours=72))
"""The platform has it, and will publish it or say why not. TikTok's moderation takes minutes, and at times days."""
IN_DOUBT = Looks(timedelta(seconds=10), timedelta(minutes=30), timedelta(hours=24))
"""Nobody can tell whether it was published."""
WITHOUT_ID = Looks(timedelta(minutes=1), timedelta(hours=1), timedelta(hours=72))
"""Published, and the platform has not named its id yet: TikTok does minutes to hours later, sometimes never."""
IN_INBOX = Looks(timedelta(minutes=5), timedelta(hours=6), timedelta(days=7))
"""It waits for its owner to publish it."""


def may_commit_again(submitted_at: datetime, now: datetime, *, answered: bool) -> bool:
    """Return whether the handle may be committed again. `answered`: the attempt before got a definite answer; else it
    may still be under way, and only time ends it."""
    return answered or now - submitted_at >= SETTLES


def settles_at(*begun: datetime | None) -> datetime | None:
    """Return when what was sent has arrived or never will, by when the last may have been `begun`: by its submission,
    and by whoever worked until a restore began. None: nothing was."""
    moments = [moment for moment in begun if moment is not None]
    return max(moments) + SETTLES if moments else None
