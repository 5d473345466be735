"""Database URLs as the two libraries want them; providers write `postgres://`, SQLAlchemy `postgresql+psycopg://`."""

import psycopg
from psycopg.conninfo import conninfo_to_dict


def libpq(url: str) -> str:
    """For psycopg."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql://{rest}" if separator and scheme.startswith("postgres") else url


def sqlalchemy(url: str) -> str:
    """For SQLAlchemy's `create_engine`."""
    return libpq(url).replace("postgresql://", "postgresql+psycopg://", 1)


def is_postgres(url: str) -> bool:
    """Whether libpq can read it, as a URL."""
    try:
        ports = str(conninfo_to_dict(libpq(url)).get("port") or 5432)
    except psycopg.Error:
        return False
    return "://" in url and all(port.isdigit() for port in ports.split(","))
