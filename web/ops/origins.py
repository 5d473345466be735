"""Which page sent a request to `/ops`, and what browsers may load there."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from web.ops.signed_in import Refused, bearer

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers send `Origin: null` with our own forms
    "Vary": "Cookie, Authorization",
}


def check_site(request: Request, public_origin: Callable[[], str]) -> None:
    """Refuse what a page of another site asks for in the background; whoever follows a link there is let through.

    Raises:
        Refused: 403.
    """
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("none", "same-origin") and request.headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "pages of other sites get nothing here")
    if "origin" in request.headers and not _is_own(request, public_origin()):
        raise Refused(403, _other_origin(request))


def check_own_origin(request: Request, public_origin: Callable[[], str]) -> None:
    """Refuse a request that changes something, unless the browser says that a page of our own sent it.

    Raises:
        Refused: 403.
    """
    if bearer(request) is not None:  # no browser adds it by itself
        return
    site, origins = request.headers.get("sec-fetch-site"), request.headers.getlist("origin")
    if site is None and not origins:
        raise Refused(403, "neither Origin nor Sec-Fetch-Site was sent, so nobody knows which page sent this")
    if site not in (None, "same-origin") or (origins and not _is_own(request, public_origin())):
        raise Refused(403, _other_origin(request))


def is_local_host(host: str) -> bool:
    """Return whether a Host header names this machine, with any port: no name that somebody could have resolve to
    it."""
    name, port = host, ""
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            return False
        port = port.removeprefix(":")
    elif ":" in host:
        name, _, port = host.rpartition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    return name.lower() in (("::1",) if host.startswith("[") else ("127.0.0.1", "localhost"))


def is_use(request: Request) -> bool:
    """Return whether this keeps a session alive: a page that another site leads to is shown, and does not."""
    return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _is_own(request: Request, public_origin: str) -> bool:
    """Return whether Origin is that of the Host that was asked, or of PUBLIC_URL. The scheme is not compared: a proxy
    that ends https may not tell us of it."""
    origins, hosts = request.headers.getlist("origin"), request.headers.getlist("host")
    if len(origins) != 1 or len(hosts) != 1:
        return False
    scheme, separator, host = origins[0].lower().partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    public = urlsplit(public_origin)
    return host == hosts[0].lower() or (
        bool(public.netloc) and origins[0].lower() == f"{public.scheme}://{public.netloc}"
    )


def _other_origin(request: Request) -> str:
    return (
        "this was sent by a page of another origin. Behind a proxy, have it pass the Host header on, or set PUBLIC_URL"
        " to the address that browsers show"
    )
