"""Reads the catalogs of databases, and migrates several at once."""

import subprocess
import sys
from collections.abc import Sequence
from subprocess import PIPE, STDOUT
from typing import Any

import psycopg

TABLES = """
SELECT c.relname, c.relkind, coalesce(c.reloptions, '{}'), pg_get_partkeydef(c.oid)
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND c.relname NOT LIKE 'alembic%'
"""
COLUMNS = """
SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
       pg_get_expr(d.adbin, d.adrelid), a.attcompression
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname NOT LIKE 'alembic%'
"""
CONSTRAINTS = """
SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conname NOT LIKE 'alembic%'
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE 'alembic%'
"""
FUNCTIONS = """
SELECT 'function ' || oid::regprocedure, pg_get_functiondef(oid), proacl::text
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""
TRIGGERS = """
SELECT 'trigger ' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
"""
EVERYTHING = """
SELECT 'relation ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'policy ' || polname FROM pg_policy
UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger
UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'
UNION ALL SELECT 'extension ' || extname FROM pg_extension
UNION ALL SELECT 'default privileges of ' || defaclrole::regrole FROM pg_default_acl
"""


def rows(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query, values or None).fetchall()


def catalog(url: str) -> dict[str, tuple[Any, ...]]:
    """Every table, sequence, column, constraint, index, function and trigger, by name."""
    found: dict[str, tuple[Any, ...]] = {}
    for query in (TABLES, COLUMNS, CONSTRAINTS, INDEXES, FUNCTIONS, TRIGGERS):
        found |= {f"{name}": tuple(facts) for name, *facts in rows(url, query)}
    return found


def anything(url: str) -> set[str]:
    return {name for (name,) in rows(url, EVERYTHING)}


def upgrade_at_once(urls: Sequence[str]) -> list[str]:
    """`migrate.upgrade`, in a process for each (alembic keeps its context in a global). Returns what each printed."""
    program = (
        "import sys; from db.migrate.upgrade import upgrade;"
        "print('ready', flush=True); input(); print(*upgrade(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, url], stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True)
        for url in urls
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in processes]
