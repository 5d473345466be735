"""Parses a database URL into the connection string of libpq and the settings of our own pool.

libpq refuses a URL with a parameter that it does not know, and takes values that it cannot use until it connects. The
dashboard's URL, though, may carry the parameters of Prisma, of its host and of several libraries. Each is honoured,
left out with a reason, or refused by name; so libpq never sees one that it does not know, and SQLAlchemy no URL at all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from domain.errors import ViralError

LOOKS_LIKE = "should look like postgresql://user:password@host:5432/database"
ENCODE = "in a user name, password or database name write % as %25, @ as %40, / as %2F and a space as %20"

DEFAULTS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "target_session_attrs": "read-write",
}
"""A server that vanishes is noticed in about ten seconds. Of several hosts, the one that writes is used. A URL may set
other values."""

# libpq would refuse other values only when it connects, or would connect to a server that is of no use to us.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "sslcertmode": ("disable", "allow", "require"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "load_balance_hosts": ("disable", "random"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "client_encoding": ("utf8", "UTF8", "utf-8", "UTF-8", "auto"),
    "replication": ("false", "off", "no", "0"),
}
COUNTS: Final[Mapping[str, range]] = {
    "connect_timeout": range(1, 61),
    "keepalives": range(2),
    "keepalives_idle": range(2**31),
    "keepalives_interval": range(2**31),
    "keepalives_count": range(2**31),
    "tcp_user_timeout": range(2**31),
    "connection_limit": range(1, 1001),
    "pool_timeout": range(1, 31),
}
"""The ranges of whole numbers. A wait for a connection must end before a claim's answer is given up."""

IGNORED: Final[Mapping[str, str]] = {
    "application_name": "each process gives its own",
    "statement_cache_size": "there is no cache of statements to size",
    "socket_timeout": "each statement has a time limit of its own",
    "max_connection_lifetime": "connections are tried before use instead",
    "max_idle_connection_lifetime": "connections are tried before use instead",
    "single_use_connections": "connections are pooled",
    "uselibpqcompat": "libpq itself is at work",
    "supa": "it is for other programs",
    "workaround": "it is for other programs",
}

INSTEAD: Final[Mapping[str, str]] = {
    "sslaccept": "write sslmode=require (encrypted), or sslmode=verify-full&sslrootcert=system (and checked)",
    "sslidentity": "write sslcert=FILE&sslkey=FILE (PEM)",
    "currentSchema": "the tables are in the schema public; remove it",
    "search_path": "the tables are in the schema public; remove it",
    "ssl": "write sslmode=require",
}
"""Advice on parameters that cannot be left out without changing the meaning of the URL."""

OURS = {"connection_limit", "pool_timeout", "pgbouncer", "schema"}

URL = re.compile(r"(?P<scheme>[^:/?#]*)://(?:(?P<credentials>[^@/]*)@)?(?P<place>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
"""It divides a URL as libpq does: the first @ ends the credentials."""

NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|\s")
POOLED_HOST = re.compile(r"-pooler\.|\.pooler\.")
"""It finds the names that Neon and Supabase give to their poolers."""


class UrlInvalid(ViralError, ValueError):
    """A database URL that nobody can connect to. The text names every fault, in one line, and repeats no secret."""


@dataclass(frozen=True)
class DatabaseUrl:
    """A parsed URL; libpq knows every parameter of `conninfo`.

    `pool_size` and `pool_timeout` (seconds) are None if the URL does not set them. `pooled`: a pooler in transaction
    mode is in front. `ignored` names the parameters that change nothing here, each with the reason.
    """

    conninfo: str = field(repr=False)
    pool_size: int | None = None
    pool_timeout: int | None = None
    pooled: bool = False
    ignored: tuple[str, ...] = ()

    def of_any_server(self) -> "DatabaseUrl":
        """The same for whoever only looks: a server that takes no writes will do."""
        return replace(self, conninfo=make_conninfo(self.conninfo, target_session_attrs="any"))


def parse(url: str) -> DatabaseUrl:
    """Parse a URL such as Postgres's client takes, or one with the parameters of Prisma.

    Raises:
        UrlInvalid: nobody can connect to it.
    """
    parts = URL.fullmatch(url)
    if parts is None or not _is_postgres(parts["scheme"]):
        raise UrlInvalid(_other_scheme(parts["scheme"] if parts else ""))
    if NOT_ENCODED.search(url):
        raise UrlInvalid(f"it is not percent-encoded: {ENCODE}")
    faults: list[str] = []
    parameters = _parameters(parts["query"] or "", faults)
    libpqs = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name, value in list(parameters.items()):
        if name not in libpqs | OURS | IGNORED.keys() and (name, value) != ("ssl", "true"):
            faults.append(f"{name}: {INSTEAD.get(name) or 'no parameter of a Postgres URL; remove it'}")
            del parameters[name]
    faults += [fault for name, value in parameters.items() if (fault := _fault(name, value))]
    ours = {name: parameters.pop(name) for name in list(parameters) if name in OURS or name in IGNORED}
    conninfo = _conninfo(parts, parameters, faults)
    pooled = ours.get("pgbouncer") == "true" or any(map(POOLED_HOST.search, conninfo.get("host", "").split(",")))
    if pooled and conninfo.get("options", "").lstrip().startswith("-"):
        faults.append("options: a pooler lets no -c through; remove it")
    if faults and "@" in (parts["query"] or ""):  # what looks like parameters may be the end of a password
        raise UrlInvalid(f"there is an @ after the ?: {ENCODE}, ? as %3F")
    if faults:
        raise UrlInvalid("; ".join(faults))
    return DatabaseUrl(
        conninfo=make_conninfo(**(dict(DEFAULTS) | conninfo)),
        pool_size=_count(ours, "connection_limit"),
        pool_timeout=_count(ours, "pool_timeout"),
        pooled=pooled,
        ignored=tuple(f"{name}: {IGNORED[name]}" for name in ours if name in IGNORED),
    )


def _is_postgres(scheme: str) -> bool:
    """Providers write `postgres`; SQLAlchemy adds a driver."""
    return scheme.partition("+")[0] in ("postgres", "postgresql")


def _other_scheme(scheme: str) -> str:
    if scheme.startswith("prisma"):
        return f"{scheme}:// is an address of Prisma's own; give that of the database: postgresql://…"
    return LOOKS_LIKE


def _parameters(query: str, faults: list[str]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, separator, value = pair.partition("=")
        if not separator or "=" in value:
            faults.append("after the ? there should be name=value, separated by &; in a value write & as %26, = as %3D")
            continue
        parameters[unquote(name)] = unquote(value)
    return parameters


def _fault(name: str, value: str) -> str | None:
    """Return the fault in the value of a parameter that libpq would not find when it parses the URL."""
    if name in CHOICES and value not in CHOICES[name]:
        return f"{name}={value[:40]}: should be one of {', '.join(CHOICES[name])}"
    if name in COUNTS and not (value.isdecimal() and value.isascii() and int(value) in COUNTS[name]):
        least, most = COUNTS[name][0], COUNTS[name][-1]
        return f"{name}={value[:40]}: should be a whole number from {least} to {most}"
    if name == "schema" and value != "public":
        return "schema: the tables are in the schema public; remove it"
    if name == "pgbouncer" and value not in ("true", "false"):
        return f"pgbouncer={value[:40]}: should be true or false"
    return None


def _conninfo(parts: re.Match[str], parameters: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """Let libpq parse who connects, where to, and how."""
    credentials = "" if parts["credentials"] is None else f"{parts['credentials']}@"
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters.items())
    try:
        parsed = conninfo_to_dict(f"postgresql://{credentials}{parts['place']}{query and '?'}{query}")
    except psycopg.Error:  # its text may hold a piece of a password
        faults.append(LOOKS_LIKE)
        return {}
    conninfo = {name: str(value) for name, value in parsed.items()}
    ports = [port for port in conninfo.get("port", "").split(",") if port]
    if not all(port.isdecimal() and port.isascii() and 0 < int(port) < 2**16 for port in ports):
        faults.append(f"a port should be a number from 1 to 65535 ({ENCODE})")
    elif "@" in conninfo.get("host", "").replace(",@", "").removeprefix("@"):
        faults.append(f"a host has an @ in its name: {ENCODE}")
    return conninfo


def _count(ours: Mapping[str, str], name: str) -> int | None:
    value = ours.get(name, "")
    return int(value) if value.isdecimal() else None
