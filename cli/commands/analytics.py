"""`viral analytics`"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from cli.arguments import among, earlier, one_of
from cli.commands.analytics_words import say_performance
from cli.output import AsJson, print_json
from cli.session import session
from cli.shell import Group
from domain.learning.numbers import Horizon
from domain.learning.performance import LONGEST_PERIOD, USUAL_PERIOD, By
from workers.ops import analytics

app = Group()

GROUPS, HORIZONS = tuple(By), tuple(Horizon)


@app.command("show")
def show_performance(
    tenant: Annotated[UUID, typer.Option("--tenant", metavar="ID", help="Whose posts.")],
    by: Annotated[str, typer.Option(help=f"{', '.join(GROUPS)}.", autocompletion=among(GROUPS))] = By.PLATFORM,
    horizon: Annotated[
        str, typer.Option(help=f"How old the posts were: {', '.join(HORIZONS)}.", autocompletion=among(HORIZONS))
    ] = Horizon.H24,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=earlier, metavar="TIME", help=f"Posts published from here on. Default: {USUAL_PERIOD.days} days."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            parser=earlier,
            metavar="TIME",
            help=f"Posts published before this. Default: now. At most {LONGEST_PERIOD.days} days.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a tenant's posts did, as medians and quartiles.

    Each figure says of how many posts it is.

    \b
    viral analytics show --tenant ID
    viral analytics show --tenant ID --by week --horizon 7d --since 2026-09-01
    """
    one_of(GROUPS, by, "--by", "group")
    one_of(HORIZONS, horizon, "--horizon", "horizon")
    with session() as current:
        found = analytics.performance(current, tenant, by=By(by), horizon=Horizon(horizon), since=since, until=until)
    if as_json:
        print_json(analytics.performance_values(found))
    else:
        say_performance(found)
