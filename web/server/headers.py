"""Security headers, which every response of the web process carries, whichever part gives it.

Responses are data for programs, so a browser that shows one may load nothing for it, frame it nowhere, keep no copy
and guess no type. A response that needs something else (a page, a file to keep) says so itself and is not overruled.
"""

from typing import Final

from starlette.types import Message, Scope, Send

Header = tuple[bytes, bytes]

ALWAYS: Final[tuple[Header, ...]] = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),  # CORS, where it is allowed, is not concerned
    (b"cache-control", b"no-store"),
)
OVER_HTTPS: Final[tuple[Header, ...]] = (*ALWAYS, (b"strict-transport-security", b"max-age=31536000"))
"""HSTS is for this host only and without preload: its neighbours are not ours to decide about."""

NAMES: Final = frozenset(name for name, _ in OVER_HTTPS)


def secured(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds the security headers which the response does not have."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message.get("headers", ())
            added = OVER_HTTPS if is_https(scope) else ALWAYS
            if overridden := NAMES.intersection([name for name, _ in own]):
                added = tuple(header for header in added if header[0] not in overridden)
            message["headers"] = [*own, *added]
        await send(message)

    return send_secured


def is_https(scope: Scope) -> bool:
    """A forged header of a proxy has no effect: browsers ignore HSTS over plain http."""
    return scope["scheme"] == "https" or (b"x-forwarded-proto", b"https") in scope["headers"]
