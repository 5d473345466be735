"""Database URLs as the two libraries want them; providers write `postgres://`, SQLAlchemy `postgresql+psycopg://`."""


def libpq(url: str) -> str:
    """For psycopg. A `key=value` connection string passes unchanged."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql://{rest}" if separator and scheme.startswith("postgres") else url


def sqlalchemy(url: str) -> str:
    """For SQLAlchemy's `create_engine`."""
    return libpq(url).replace("postgresql://", "postgresql+psycopg://", 1)
