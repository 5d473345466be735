"""The way of the SDKs' requests: out by the client of the house, with its limits and its border."""

import httpx2

from domain.errors import Unavailable
from integrations.http.client import Http, Request


class HouseTransport(httpx2.AsyncBaseTransport):
    """Sends each request by the client of the house, within `seconds`. It tries nothing twice.

    It blocks the event loop, in which there is nothing else: each call has its own (`LanguageModels`). So a call takes
    one thread, the job's, and not two.
    """

    def __init__(self, http: Http, seconds: float) -> None:
        self._http = http
        self._seconds = seconds

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = Request(
            "the provider",
            str(request.url),
            headers=dict(request.headers),
            method=request.method,
            content=await request.aread(),
        )
        try:
            response = self._http.exchange(sent, within=self._seconds)
        except Unavailable as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        return httpx2.Response(response.status, headers=dict(response.headers), content=response.body)
