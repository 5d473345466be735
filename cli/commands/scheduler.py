"""`viral scheduler`"""

from cli.configuration import resolve
from scheduler.main import run
from workers.runtime.redis_client import refuse_cluster


def scheduler() -> None:
    """Notify workers of jobs, rescue lost ones, run schedules.

    One is enough; more are harmless.

    \b
    viral scheduler
    """
    settings, _ = resolve()
    refuse_cluster(settings.redis_url)
    run(settings)
