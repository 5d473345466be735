"""Whether this release can work on the schema that it finds.

Every migration is survived by the release before it, so a schema that is one step ahead does no harm; but a release
cannot know what a newer one did. `db.migrate.upgrade` knows, and leaves word in the database: which older releases
(by the
revision that they expect) may work on it. Alembic is not imported here: every process asks this when it starts.
"""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from domain.errors import Rejected, Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
NAMED = re.compile(r"^(revision|down_revision)\s*=\s*[\"'](\w+)[\"']", re.MULTILINE)

WELCOME: Final = "older releases that may work on this schema:"
"""How the comment on `alembic_version` begins; revisions follow."""

SCHEMA: Final = """
SELECT (SELECT version_num FROM alembic_version LIMIT 1), obj_description('alembic_version'::regclass, 'pg_class')
WHERE to_regclass('alembic_version') IS NOT NULL
"""


class SchemaNewer(Rejected):
    """A newer release made the schema, and nobody said that this one may work on it."""


class SchemaOlder(Unavailable):
    """The schema lacks what this release works with, until somebody migrates."""


class Schema(NamedTuple):
    """The revision of the database (None: before the first migration), and the older releases that may work on it."""

    revision: str | None
    welcome: frozenset[str] = frozenset()


@cache
def known() -> frozenset[str]:
    """Every revision that the code in this folder can make."""
    return frozenset(found for kind, found in _named() if kind == "revision")


@cache
def newest() -> str:
    """The revision that the code in this folder expects."""
    [head] = known() - {found for kind, found in _named() if kind == "down_revision"}
    return head


def _named() -> list[tuple[str, str]]:
    files = sorted((MIGRATIONS / "versions").glob("*.py"))
    return [pair for file in files for pair in NAMED.findall(file.read_text(encoding="utf-8"))]


def check(schema: Schema) -> None:
    """Raises:
    SchemaNewer: this release must not work on it.
    SchemaOlder: this release cannot work on it yet.
    """
    if schema.revision is None or (schema.revision in known() and schema.revision != newest()):
        found = f"at {schema.revision}" if schema.revision else "missing"
        raise SchemaOlder(f"the schema is {found}, and this release expects {newest()}: run `viral migrate`")
    if schema.revision not in known() and newest() not in schema.welcome:
        raise SchemaNewer(
            f"the schema is at {schema.revision}, which this release (it expects {newest()}) does not know: start the"
            " newer release that made it or, to go back to this one, run `viral migrate --allow-newer`"
        )


def comment(welcome: Collection[str]) -> str:
    """The comment on `alembic_version`; "" for nobody."""
    return f"{WELCOME} {' '.join(sorted(welcome))}" if welcome else ""


def welcomed(comment: str | None) -> frozenset[str]:
    """The revisions that a `comment` names; whatever somebody else wrote there names none."""
    head, found, revisions = (comment or "").partition(WELCOME)
    return frozenset(revisions.split()) if found and not head else frozenset()
