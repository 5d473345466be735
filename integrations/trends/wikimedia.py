"""Wikimedia: the most read articles of a day, hours after its end. No key, but a contact in the User-Agent."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta

from integrations.http.client import Request, parse_json
from integrations.trends.source import Entry, Source, count_of, text_of

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
NO_TOPICS = {"Main_Page", "Hauptseite", "Wikipedia", "-", "Pornhub", "XXX", "XNXX", "XVideos", "xHamster", "Undefined"}


def source(base_url: str) -> Source:
    def requests(region: str, now: datetime) -> Sequence[Request]:
        project = f"{LANGUAGES.get(region, 'en')}.wikipedia"
        days = [(now - timedelta(days=back)).astimezone(UTC) for back in (1, 2)]
        path = f"{base_url}/api/rest_v1/metrics/pageviews/top/{project}/all-access"
        return [Request("wikimedia", f"{path}/{day:%Y/%m/%d}") for day in days]

    return Source("wikimedia", fresh_for=timedelta(hours=6), regional=True, requests=requests, read=read)


def read(body: bytes) -> Iterator[Entry]:
    [day, *_] = parse_json(body)["items"]
    start = datetime(int(day["year"]), int(day["month"]), int(day["day"]), tzinfo=UTC)
    # The articles were read during that day, so they are as old as its end.
    ended = datetime.combine(start.date(), time.max, UTC)
    project = text_of(day.get("project")) or "en.wikipedia"
    for article in day["articles"]:
        name = text_of(article.get("article"))
        if name is not None and name not in NO_TOPICS and not name.startswith(NO_ARTICLE):
            yield Entry(
                name.replace("_", " "),
                url=f"https://{project}.org/wiki/{name}" if " " not in name else None,
                published_at=ended,
                count=count_of(article.get("views")),
                measure="page views",
            )
