"""`viral info`"""

from cli.configuration import resolve
from cli.output import AsJson, print_json, show_one, without_password
from db.security import seeing_all_tenants
from workers.runtime.version import VERSION


def info(as_json: AsJson = False) -> None:
    """Show where everything is.

    Passwords are shown with --json only. The database's owner, as which the embedded servers' database_url logs in,
    sees all tenants only in a session that asks for it; the URL does.

    \b
    viral info --json
    """
    settings, state = resolve()
    facts = {
        "database_url": seeing_all_tenants(settings.owner_url) if state else settings.owner_url,
        "app_database_url": settings.database_url,
        "redis_url": settings.redis_url,
        "web_url": state.web_url if state else settings.web_url,
        "version": VERSION,
    }
    if as_json:
        print_json(facts)
    else:
        show_one({name: without_password(value) for name, value in facts.items()}, as_json=False)
