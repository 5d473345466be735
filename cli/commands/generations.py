"""`viral generations`"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.output import AsJson, Limit, console, print_json, show, show_one
from cli.session import for_system, for_tenant
from cli.shell import Group
from domain.concepts.timing import is_zone
from domain.errors import UnknownGeneration
from domain.text.readable import readable

app = Group()

COLUMNS = ("id", "date", "tenant_id", "concepts", "generator", "job_id")
SOURCES = ("source", "region", "count", "answered_at", "failures", "retry_at", "error")


@app.command("list")
def list_generations(
    tenant_id: Annotated[UUID | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the newest generations first.

    \b
    viral generations list --tenant ID
    """
    with for_system() if tenant_id is None else for_tenant(tenant_id) as tx:
        rows = tx.generating.recent(limit)
    show(rows, COLUMNS, as_json=as_json, nothing="No generations.")


@app.command("show")
def show_generation(
    generation_id: Annotated[UUID, typer.Argument(metavar="ID", help="The generation's id.")], as_json: AsJson = False
) -> None:
    """Show the concepts of one generation, and where they come from.

    \b
    viral generations show ID
    """
    with for_system() as tx:
        row = tx.generating.get(generation_id)
    if row is None:
        raise UnknownGeneration(f"no generation has the id {generation_id}; `viral generations list` shows them")
    if as_json:
        print_json(row)
        return
    concepts, sources = row.pop("concepts"), row.pop("sources")
    show_one(row | {"trends": len(row["trends"])}, as_json=False)
    for concept in concepts:
        console().print()
        _print_concept(concept)
    console().print()
    show(sources, ("source", "state", "count", "error"), as_json=False, nothing="No trend source was asked.")


@app.command("daily")
def set_daily(
    tenant_id: Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")],
    hour: Annotated[int | None, typer.Option(min=0, max=23, help="The hour of the tenant's own clock.")] = None,
    zone: Annotated[str | None, typer.Option(help="The tenant's time zone, such as Europe/Berlin.")] = None,
    count: Annotated[int | None, typer.Option(min=1, max=20, help="How many concepts a day.")] = None,
    region: Annotated[str | None, typer.Option(help="The country whose trends are used: two letters.")] = None,
    on: Annotated[bool, typer.Option("--on/--off", help="Turn daily concepts on or off.")] = True,
    as_json: AsJson = False,
) -> None:
    """Let a tenant have concepts every day, or not any more.

    They come at an hour of the tenant's own clock, and count like any other.

    \b
    viral generations daily TENANT --on --hour 9
    """
    if zone is not None and not is_zone(zone):
        raise typer.BadParameter(f"{zone!r} is no zone that this system knows", param_hint="--zone")
    if region is not None and not (len(region) == 2 and region.isascii() and region.isalpha()):
        raise typer.BadParameter(f"{region!r} is no country; write two letters, such as DE", param_hint="--region")
    preferences = {"daily_hour": hour, "timezone": zone, "daily_count": count, "region": region and region.upper()}
    with for_tenant(tenant_id) as tx:
        row = tx.generating.set_preferences(
            tenant_id, {"daily_enabled": on} | {k: v for k, v in preferences.items() if v is not None}
        )
    show_one(row, as_json=as_json)


@app.command("sources")
def list_sources(as_json: AsJson = False) -> None:
    """Show how each trend source is doing, and when it last answered.

    \b
    viral generations sources
    """
    with for_system() as tx:
        rows = tx.trends.status()
    show(rows, SOURCES, as_json=as_json, nothing="No trend source has been asked yet.")


def _print_concept(concept: Mapping[str, Any]) -> None:
    console().print(readable(concept.get("title")), style="bold")
    values = {
        "id": concept.get("id"),
        "category": concept.get("category"),
        "topic": concept.get("topic"),
        "trend": concept.get("trendSource"),
        "caption": concept.get("caption"),
        "hashtags": " ".join(map(str, concept.get("hashtags") or ())),
        "post at": (concept.get("postTime") or {}).get("local"),
        "why": concept.get("whyItWorks"),
    }
    for segment in concept.get("script") or ():
        values[str(segment.get("timeRange"))] = " | ".join(
            str(segment[name]) for name in ("visual", "onScreenText") if segment.get(name)
        )
    for platform, virality in (concept.get("platformVirality") or {}).items():
        interval = f" ({virality['low']} to {virality['high']})" if "low" in virality else ""
        values[platform] = f"{virality.get('score')}{interval}, {virality.get('label')}"
    show_one(values, as_json=False)
