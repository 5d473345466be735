"""Counts the requests to services outside, by service and by how they were answered."""

from domain.ops.metrics import PROVIDERS, answer
from integrations.http.client import Observe
from workers.runtime.metrics import Metrics


def observing(metrics: Metrics, provider: str | None = None) -> Observe:
    """Return what is told of each request. Without a `provider` the name that the request has for the other side tells
    it: of one that no list has, it is `other`."""

    def observe(name: str, operation: str, status: int | None, seconds: float) -> None:
        service = provider or (name.lower() if name.lower() in PROVIDERS else name)
        metrics.observe("viral_provider_request_seconds", seconds, service, operation, answer(status))

    return observe
