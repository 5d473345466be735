"""Wikimedia: the most read articles of a day, hours after its end. No key, but a contact in the User-Agent."""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from domain.concepts.trends import Sighting
from integrations.http.client import Request, parse_json
from integrations.trends.source import Source, count_of, text_of

LANGUAGES = {
    **dict.fromkeys(("DE", "AT", "CH"), "de"),
    **dict.fromkeys(("FR",), "fr"),
    **dict.fromkeys(("ES", "MX", "AR", "CO", "CL", "PE"), "es"),
    **dict.fromkeys(("BR", "PT"), "pt"),
    "IT": "it",
    "JP": "ja",
    "NL": "nl",
    "PL": "pl",
    "SE": "sv",
    "TR": "tr",
}
"""The language that a region reads; English where it is not listed."""
NO_ARTICLE = ("Special:", "Wikipedia:", "Portal:", "File:", "Help:", "Category:", "Spezial:", "Spécial:", "Especial:")
NEVER_NEWS = {"Main_Page", "Hauptseite", "Wikipedia", "-", "Pornhub", "XXX", "XNXX", "XVideos", "xHamster", "Undefined"}


def source(base_url: str) -> Source:
    def requests(region: str, now: datetime) -> Sequence[Request]:
        project = f"{LANGUAGES.get(region, 'en')}.wikipedia"
        days = [(now - timedelta(days=back)).astimezone(UTC) for back in (1, 2)]
        path = f"{base_url}/api/rest_v1/metrics/pageviews/top/{project}/all-access"
        return [Request("wikimedia", f"{path}/{day:%Y/%m/%d}") for day in days]

    return Source("wikimedia", fresh_for=timedelta(hours=6), regional=True, requests=requests, read=read)


def read(body: bytes) -> list[Sighting]:
    [day, *_] = parse_json(body)["items"]
    # Read during that day: as old as its end.
    start = datetime(int(day["year"]), int(day["month"]), int(day["day"]), tzinfo=UTC)
    ended = datetime.combine(start.date(), time.max, UTC)
    project = text_of(day.get("project")) or "en.wikipedia"
    found: list[Sighting] = []
    for article in day["articles"]:
        name = text_of(article.get("article"))
        views = count_of(article.get("views"))
        if name is None or name in NEVER_NEWS or name.startswith(NO_ARTICLE):
            continue
        found.append(
            Sighting(
                "wikimedia",
                name.replace("_", " "),
                len(found) + 1,
                url=f"https://{project}.org/wiki/{name}" if " " not in name else None,
                published_at=ended,
                count=views,
                measure=None if views is None else "page views",
            )
        )
    return found
