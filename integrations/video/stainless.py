"""The transport of SDKs that Stainless generates (Runway's and Luma's): they are written for httpx."""

import httpx

from integrations.video.provider import Call


class OneCall(httpx.BaseTransport):
    def __init__(self, call: Call) -> None:
        self._call = call

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._call.send(request)
        return httpx.Response(response.status, headers=dict(response.headers), content=response.body)


def client_of(call: Call) -> httpx.Client:
    return httpx.Client(transport=OneCall(call), follow_redirects=False)
