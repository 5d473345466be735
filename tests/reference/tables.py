"""docs/reference/tables.md: the tables with their columns, and the comments that stand at them in `db/schema/`."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from db.schema.tables import metadata
from tests.reference.markdown import code, one_line, table

SCHEMA = Path(__file__).resolve().parents[2] / "db/schema"
HEAD = """# Tables

The schema of `db/schema/`, as `viral migrate` makes it. Every table has forced row-level security: a row is seen in the
system's scope, or in the scope of the tenant whose id it carries ([../security.md](../security.md)). A program that
reads them by plain SQL names its scope first: `SET app.tenant_id = '*'`, or a tenant's id.
"""
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


class Notes(NamedTuple):
    """What the source says of a table: in comments above it or a text below, and in comments at its columns."""

    family: str
    table: str
    columns: dict[str, str]


def page() -> str:
    notes = {name: found for path in sorted(SCHEMA.glob("*.py")) for name, found in _notes_of(path)}
    names = sorted(metadata.tables)
    unknown = [name for name in names if name not in notes]
    if unknown:
        raise ValueError(f"db/schema: tables whose declaration is not found: {', '.join(unknown)}")
    rows = [(f"[{code(name)}](#{name})", code(notes[name].family)) for name in names]
    lines = [HEAD, *table(("table", "declared in"), rows)]
    for name in names:
        lines += _section(metadata.tables[name], notes[name])
    return "\n".join(lines)


def _section(declared: sa.Table, notes: Notes) -> list[str]:
    lines = [f"## {declared.name}", ""]
    if notes.table:
        lines += [notes.table, ""]
    rows = [
        (code(each.name), _type(each), _facts(each, declared), notes.columns.get(each.name, ""))
        for each in declared.columns
    ]
    lines += table(("column", "type", "", "note"), rows)
    indexes = sorted(declared.indexes, key=lambda index: str(index.name))
    keys = [f"{code(each.name)}{' (unique)' if each.unique else ''}" for each in indexes]
    if keys:
        lines += [f"Indexes: {', '.join(keys)}.", ""]
    return lines


def _type(column: sa.Column[object]) -> str:
    return str(column.type.compile(DIALECT)).lower().replace("timestamp with time zone", "timestamptz")


def _facts(column: sa.Column[object], declared: sa.Table) -> str:
    facts = []
    if column.primary_key:
        facts.append("key")
    elif not column.nullable:
        facts.append("not null")
    targets = {
        f"{key.column.table.name}.{key.column.name}" if key.column.name != "id" else str(key.column.table.name)
        for key in column.foreign_keys
        if column.name != "tenant_id" or key.column.table.name == "tenants"
    }
    facts += [f"→ [{code(target)}](#{target.partition('.')[0]})" for target in sorted(targets)]
    default = column.server_default
    if isinstance(default, sa.DefaultClause):
        facts.append(f"default {code(default.arg.text if isinstance(default.arg, sa.TextClause) else default.arg)}")
    return ", ".join(facts)


def _notes_of(path: Path) -> Iterator[tuple[str, Notes]]:
    source = path.read_text("utf-8")
    comments = _comments(source)
    body = ast.parse(source).body
    for node, after in zip(body, (*body[1:], None), strict=False):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        call = node.value
        if not (isinstance(call.func, ast.Name) and call.func.id == "table" and call.args):
            continue
        below = after.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
        text = one_line(str(below.value)) if below else _above(comments, node.lineno)
        columns = {}
        for argument in call.args[1:]:
            name = _column(argument)
            if name and (note := _above(comments, argument.lineno)):
                columns[name] = note
        yield str(ast.literal_eval(call.args[0])), Notes(f"db/schema/{path.name}", text, columns)


def _column(argument: ast.expr) -> str | None:
    if isinstance(argument, ast.Call) and argument.args and isinstance(argument.args[0], ast.Constant):
        return str(argument.args[0].value)
    return {"tenant_id": "tenant_id", "uuid_key": "id"}.get(
        argument.func.id if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) else ""
    )


def _comments(source: str) -> dict[int, str]:
    """Return the comments that have their line to themselves, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            found[token.start[0]] = token.string.lstrip("# ")
    return found


def _above(comments: dict[int, str], line: int) -> str:
    lines: list[str] = []
    while (line := line - 1) in comments:
        lines.insert(0, comments[line])
    return " ".join(lines)
