"""Redis URLs: checked before anybody connects, and in the spelling that redis-py reads."""

import os
from urllib.parse import parse_qs, urlencode, urlsplit

FORM = "should look like redis://:password@host:6379/0"
COMMON = {"db", "protocol"}
OF_TLS = {
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_check_hostname",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
}
PARAMETERS = {
    "redis": COMMON,
    "rediss": COMMON | OF_TLS,
    "unix": COMMON | {"username", "password"},
}
"""What may stand behind the `?`, by scheme. Everything else (timeouts, say) is ours to decide."""

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
REQUIREMENTS = ("none", "optional", "required")
SWITCHES = ("true", "false", "yes", "no", "1", "0")


def checked(url: str) -> str:
    """The URL as redis-py reads it: other libraries spell `ssl_cert_reqs=none` as `CERT_NONE`.

    Raises:
        ValueError: one line says what is wrong, without the value.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "localhost").encode("idna")  # as the socket will; an empty label is refused
        found = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(FORM) from None
    parameters = {name: values[0] for name, values in found.items()}
    allowed = PARAMETERS.get(parts.scheme)
    # An @ behind the ? is the end of a password that holds one: no part of it may be repeated.
    if allowed is None or port == 0 or not host or "@" in parts.query:
        raise ValueError(FORM)
    if parts.scheme != "unix" and not _is_number(parts.path.strip("/")):
        raise ValueError("its path is the number of a database: redis://:password@host:6379/0")
    _check(parameters, parts.scheme, allowed)
    if "ssl_cert_reqs" in parameters:
        parameters["ssl_cert_reqs"] = parameters["ssl_cert_reqs"].lower().removeprefix("cert_")
    return f"{url.partition('?')[0]}?{urlencode(parameters)}" if parameters else url


def _check(parameters: dict[str, str], scheme: str, allowed: set[str]) -> None:
    for name in parameters.keys() - allowed:
        if name in OF_TLS:
            raise ValueError(f"its parameter {name} is for TLS: begin the URL with rediss://")
        raise ValueError(f"its parameter {name[:40]!r} is not one of {', '.join(sorted(allowed))}")
    for name, values in (("ssl_cert_reqs", REQUIREMENTS), ("ssl_check_hostname", SWITCHES), ("protocol", ("2", "3"))):
        if name in parameters and parameters[name].lower().removeprefix("cert_") not in values:
            raise ValueError(f"its parameter {name} is one of {', '.join(values)}")
    if not _is_number(parameters.get("db", "")):
        raise ValueError("its parameter db is the number of a database")
    for name in FILES:
        if name in parameters and not os.access(parameters[name], os.R_OK):
            raise ValueError(f"its parameter {name} names a file that cannot be read")


def _is_number(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit())
