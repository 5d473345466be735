"""What many things are chosen by: one filter for each kind of them."""

from domain.errors import Rejected
from domain.ops.actions import Action, Kind
from domain.ops.event_filters import EventFilter
from domain.ops.post_filters import PostFilter, VideoFilter
from domain.queue.job_filters import JobFilter

ManyFilter = JobFilter | EventFilter | PostFilter | VideoFilter


def kind_of(wanted: ManyFilter) -> Kind:
    """Return what a filter chooses."""
    match wanted:
        case JobFilter():
            return Kind.JOB
        case EventFilter():
            return Kind.EVENT
        case PostFilter():
            return Kind.POST
        case VideoFilter():
            return Kind.VIDEO


def check_choice(action: Action, wanted: ManyFilter) -> None:
    """Check that an action can be done to what a filter chooses, and that it says enough of what that is.

    Raises:
        Rejected: it is done to another kind, or the filter names no state in which it can be done.
    """
    if kind_of(wanted) is not action.kind:
        raise Rejected(f"{action.name} is done to a {action.kind}")
    if not action.states:
        if not wanted.query():
            raise Rejected(f"say which {action.kind}s, by a filter")
        return
    status = wanted.query().get("status")
    if status not in action.states or (isinstance(wanted, JobFilter) and wanted.archived):
        words = ", ".join(action.states)
        archive = "; none of the archive" if isinstance(wanted, JobFilter) else ""
        raise Rejected(f"status: say of {action.kind}s in which state, since only such can be: {words}{archive}")
