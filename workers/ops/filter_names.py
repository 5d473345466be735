"""Says of a filter that finds nothing that nobody knows the name it asks for."""

from collections.abc import Iterable

from domain.ops.many import ManyFilter
from domain.ops.post_filters import VideoFilter
from domain.queue.job_filters import JobFilter
from domain.text.filters import SenselessFilter, shortly
from domain.videos.plan import KEY_SETTINGS
from workers.app import App
from workers.engine.queues import QUEUES
from workers.ops.videos import providers


def check_names(app: App, wanted: ManyFilter) -> None:
    """Check the names in a filter that has found nothing. Another program or release may have further ones, so that
    what is there is found by any name; where nothing is, a name that is none of ours is a slip.

    Raises:
        SenselessFilter: this release knows no such job type, queue or provider; its text names those that it knows.
    """
    match wanted:
        case JobFilter():
            _check("type", wanted.job_type, sorted(app.job_types))
            _check("queue", wanted.queue, QUEUES)
        case VideoFilter() if wanted.provider is not None:
            names = dict.fromkeys(each["provider"] for each in providers(app)) | dict.fromkeys(KEY_SETTINGS)
            _check("provider", wanted.provider, names)


def _check(name: str, value: str | None, names: Iterable[str]) -> None:
    there_are = list(names)
    if value is not None and value not in there_are:
        raise SenselessFilter(
            f"{name}: nothing fits, and this release knows no {shortly(value)}; it knows {', '.join(there_are)}"
        )
