"""`viral web`"""

import typer

from cli.arguments import Port
from cli.commands.schedules import calendar
from cli.configuration import has_simulated_data, resolve
from web.main import run
from workers.runtime.redis_client import refuse_cluster


def web(port: Port = None) -> None:
    """Serve the webhooks, the API and health checks.

    On the address HOST. Without it: on every address if PORT is set, as platforms with a router do, else on this
    machine's own (127.0.0.1).

    \b
    PORT=8000 viral web
    """
    settings, _ = resolve()
    refuse_cluster(settings.redis_url)
    changes = {} if port is None else {"port": port, "host": settings.web_host}
    try:
        run(settings.model_copy(update=changes), calendar=calendar(), simulated=has_simulated_data(settings))
    except SystemExit as stopped:  # uvicorn has exit codes of its own
        raise typer.Exit(1 if stopped.code else 0) from None
