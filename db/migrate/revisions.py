"""Decides whether this release can work on the schema that it finds.

The release before survives every migration, so a schema that is one step ahead does no harm; but a release cannot know
what a newer one did. `db.migrate.upgrade` knows, and names in a comment in the database the older releases (by the
revision that they expect) that may work on it. Alembic is not imported here: every process checks this when it starts.
"""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from domain.errors import Rejected, Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
REVISION_LINE = re.compile(r"^(revision|down_revision)\s*=\s*[\"'](\w+)[\"']", re.MULTILINE)

COMPATIBLE: Final = "older releases that may work on this schema:"
"""The comment on `alembic_version` begins with this; revisions follow."""


class SchemaNewer(Rejected):
    """A newer release made the schema, which does not name this one among those that may work on it."""


class SchemaOlder(Unavailable):
    """This release needs a newer schema: somebody has to migrate."""


class Schema(NamedTuple):
    """The revision of the database (None: before the first migration), and the older releases that may work on it."""

    revision: str | None
    compatible: frozenset[str] = frozenset()


@cache
def known_revisions() -> frozenset[str]:
    """Return every revision that has a migration in this release."""
    return frozenset(revision for kind, revision in _revision_lines() if kind == "revision")


@cache
def newest() -> str:
    """Return the revision that this release expects."""
    [head] = known_revisions() - {revision for kind, revision in _revision_lines() if kind == "down_revision"}
    return head


def _revision_lines() -> list[tuple[str, str]]:
    files = sorted((MIGRATIONS / "versions").glob("*.py"))
    return [pair for file in files for pair in REVISION_LINE.findall(file.read_text(encoding="utf-8"))]


def check(schema: Schema) -> None:
    """Check that this release can work on the schema.

    Raises:
        SchemaNewer: it must not.
        SchemaOlder: it cannot yet.
    """
    if schema.revision is None or (schema.revision in known_revisions() and schema.revision != newest()):
        found = f"at {schema.revision}" if schema.revision else "missing"
        raise SchemaOlder(f"the schema is {found}, and this release expects {newest()}: run `viral migrate`")
    if schema.revision not in known_revisions() and newest() not in schema.compatible:
        raise SchemaNewer(
            f"the schema is at {schema.revision}, which this release (it expects {newest()}) does not know: start the"
            " newer release that made it or, to go back to this one, run `viral migrate --allow-newer`"
        )


def compatibility_comment(releases: Collection[str]) -> str:
    """Return the comment on `alembic_version` that names these older releases; "" for none."""
    return f"{COMPATIBLE} {' '.join(sorted(releases))}" if releases else ""


def compatible_releases(comment: str | None) -> frozenset[str]:
    """Return the releases that the comment on `alembic_version` names; any other comment names none."""
    head, found, revisions = (comment or "").partition(COMPATIBLE)
    return frozenset(revisions.split()) if found and not head else frozenset()
