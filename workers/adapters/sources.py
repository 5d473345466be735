"""The trend sources that are wanted and that there are keys for. Imported when they are first asked."""

from integrations.http.client import Http
from integrations.trends import gnews, google, hackernews, reddit, wikimedia, youtube
from workers.adapters.trends import Outside
from workers.settings import Settings


def outside(settings: Settings) -> Outside:
    wanted = settings.trend_sources
    youtube_key, gnews_key, secret = settings.youtube_api_key, settings.gnews_api_key, settings.reddit_client_secret
    known = {
        "google-trends": google.source(settings.google_trends_base_url),
        "wikimedia": wikimedia.source(settings.wikimedia_base_url),
        "hacker-news": hackernews.source(settings.hacker_news_base_url),
        "reddit": reddit.source(settings.reddit_base_url),
    }
    if settings.reddit_client_id and secret:
        known["reddit"] = reddit.source_with_key(
            settings.reddit_base_url, settings.reddit_api_base_url, settings.reddit_client_id, secret.get_secret_value()
        )
    if youtube_key:
        known["youtube"] = youtube.source(settings.youtube_base_url, youtube_key.get_secret_value())
    if gnews_key:
        known["gnews"] = gnews.source(settings.gnews_base_url, gnews_key.get_secret_value())
    http = Http(settings.trends_contact, private_hosts=settings.outbound_private_hosts)
    return Outside(http, [source for name, source in known.items() if name in wanted])
