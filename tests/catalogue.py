"""Finds where product code sets and where it reads each word of the closed lists that the schema has.

The old product emitted `video/completed` and listened for `video/ready`, so nothing was ever posted. Here such a word
is one that somebody sets and nobody reads, or the other way round. What counts as which is decided by where the word
stands in the source:

    set     a value in a dict, an argument, a default, what is returned or assigned; SET column = 'word', INSERT, THEN
    read    compared, matched, looked up, in a collection that is used; WHERE column = 'word', IN (…), <> …

A word that only passes through (a row that is shown whole) is neither. A literal word counts for a table where the file
speaks of that table: in its SQL, by a query group that does, or by its name.
"""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import domain
from db.schema.tables import metadata
from db.transaction import Tx, lazy
from tests.emitted import nodes

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("domain", "db", "workers", "web", "cli", "scheduler", "integrations")
LISTED = re.compile(r"(\w+) IN \(([^)]*)\)")
TABLES = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+(\w+)(?:\s+(?:AS\s+)?(\w+))?")
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|SET|NEW|IN|AND|OR)\b|^\s*\w+ (=|IN|<>) ")
LITERAL = re.compile(r"'([a-z_:]+)'")
COMPARED = re.compile(r"(?:(\w+)\.)?(\w+)\s*(=|<>|!=|NOT IN|IN|IS NOT DISTINCT FROM|IS DISTINCT FROM)\s*\(?\s*$")
CLAUSE = re.compile(r"\b(SET|WHERE|ON|WHEN|THEN|ELSE|HAVING|VALUES|SELECT|FILTER|RETURNING|USING|FROM|IF)\b")
SETS = ("SET", "THEN", "ELSE", "VALUES", "SELECT")

LAYERS = {"jobs", "ops", "commands", "api", "__init__", "postgres", "schema", "main", "app"}
"""Parts of a path that say nothing of what a file is about."""
ALL_TABLES = frozenset(metadata.tables)
ALL_COLUMNS = frozenset(column.name for table in metadata.tables.values() for column in table.columns)
COLLECTIONS = ("frozenset", "set", "tuple", "list")
WRITTEN = re.compile(r"\b(?:UPDATE|INTO)\s+(\w+)")
ABOUT = {"engine": "job_", "queue": "job_"}


@dataclass(frozen=True)
class Words:
    """A closed list of words that a column may have; `enum` is the class whose values they are, if there is one."""

    table: str
    column: str
    values: frozenset[str]
    enum: type[StrEnum] | None
    default: str | None

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"


@dataclass
class Places:
    """Where each word is set and where it is read, as `file:function`."""

    sets: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    reads: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def enums() -> dict[frozenset[str], type[StrEnum]]:
    """The enumerations of the rules, by their values."""
    found: dict[frozenset[str], type[StrEnum]] = {}
    for module in pkgutil.walk_packages(domain.__path__, "domain."):
        for each in vars(importlib.import_module(module.name)).values():
            if isinstance(each, type) and issubclass(each, StrEnum) and len(each):
                found[frozenset(each)] = each
    return found


def closed_lists(schema: sa.MetaData = metadata) -> list[Words]:
    """The lists of all tables, as their constraints have them."""
    by_values, found = enums(), []
    for table in schema.sorted_tables:
        for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
            if not isinstance(constraint, sa.CheckConstraint):
                continue
            listed = LISTED.match(str(constraint.sqltext))
            if listed is None:
                continue
            values = frozenset(LITERAL.findall(listed[2]) or re.findall(r"'([^']+)'", listed[2]))
            default = table.c[listed[1]].server_default
            text = str(default.arg) if isinstance(default, sa.DefaultClause) else ""
            word = text.partition("'")[2].partition("'")[0] or None
            found.append(Words(table.name, listed[1], values, by_values.get(values), word))
    return found


@cache
def sources() -> Mapping[str, str]:
    """Product code by its path."""
    paths = (path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py")))
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}


def places(lists: Sequence[Words], files: Mapping[str, str]) -> dict[str, Places]:
    """Return for each list, by its name, where its words are set and read."""
    found = {each.name: Places() for each in lists}
    for words in lists:
        if words.default is not None:
            found[words.name].sets[words.default].add("the column's default")
    modules = [module_of(path, text) for path, text in files.items()]
    used = {name for module in modules for name in module.used}
    groups = _groups({module.path: module for module in modules})
    for module in modules:
        asked = [groups[name] for name in module.groups if name in groups]
        tables = module.tables.union(*(each.tables for each in asked))
        written = module.written.union(*(each.written for each in asked))
        # What is shown, and the examples of documents, sets nothing.
        shows = module.path.startswith(("web/", "cli/"))
        for words in lists:
            named = any(stem in words.table for stem in module.stems)
            reads, sets = words.table in tables or named, words.table in written or named
            for word, place, is_set in module.occurrences(words, reads=reads, sets=sets, used=used):
                if is_set and shows:
                    continue
                side = found[words.name].sets if is_set else found[words.name].reads
                side[word].add(place)
    return found


def _groups(modules: Mapping[str, "Module"]) -> dict[str, "Module"]:
    """Return the file of each query group, by the name by which it is reached: `videos` of `tx.videos`."""
    found = {}
    for name, each in vars(Tx).items():
        if isinstance(each, lazy):
            made_of = (cell.cell_contents for cell in each._make.__closure__ or ())
            kind = next((each for each in made_of if isinstance(each, type)), None)
            path = "" if kind is None else kind.__module__.replace(".", "/") + ".py"
            if path in modules:
                found[name] = modules[path]
    return found


@cache
def module_of(path: str, text: str) -> "Module":
    return Module(path, text)


class Module:
    """A parsed file."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._tree, *_ = nodes(text)
        self._nodes: dict[type, list[Any]] = defaultdict(list)
        self._parents: dict[ast.AST, ast.AST] = {}
        for node in nodes(text):
            self._nodes[type(node)].append(node)
            self._parents |= dict.fromkeys(ast.iter_child_nodes(node), node)
        self._strings = [(node, text) for node, text in self._texts() if SQL.search(text)]
        self.tables = {name for _, text in self._strings for name, _ in TABLES.findall(text)}
        self.tables |= {each.value for each in self._nodes[ast.Constant] if each.value in ALL_TABLES}
        self.written = {name for _, text in self._strings for name in WRITTEN.findall(text)}
        attributes = self._nodes[ast.Attribute]
        self.groups = {each.attr for each in attributes if _name(each.value) == "tx"}
        self.used = {each.id for each in self._nodes[ast.Name] if isinstance(each.ctx, ast.Load)}
        self.used |= {each.attr for each in attributes}

    @property
    def stems(self) -> set[str]:
        """What tables are about that this file is about by its path: `quota` of `domain/quota/explain.py`."""
        _, *folders = Path(self.path).with_suffix("").parts
        words = {each.split("_")[0].rstrip("s") for each in folders if each not in LAYERS}
        return {ABOUT.get(each, each) for each in words}

    def occurrences(
        self, words: Words, *, reads: bool, sets: bool, used: Collection[str]
    ) -> Iterator[tuple[str, str, bool]]:
        """Yield the words that this file sets (True) or reads, with their places. `reads` and `sets`: whether a literal
        word in it can be meant as this list's."""
        in_schema = self.path.startswith("db/schema/")
        names = set() if words.enum is None else self._names_of(words.enum)
        if names and words.enum is not None:
            for node in self._nodes[ast.Attribute]:
                if node.attr in words.enum.__members__ and _name(node.value) in names:
                    yield from self._judged(node, words.enum[node.attr].value, used)
            yield from self._by_kind(words)
        if (reads or sets) and not in_schema:
            for node in self._nodes[ast.Constant]:
                if node.value not in words.values:
                    continue
                column = self._column(node)
                if column in (None, words.column) and (column is not None or words.enum is None):
                    yield from (each for each in self._judged(node, node.value, used) if (sets if each[2] else reads))
        for node, text in self._strings:
            for word, is_set in in_sql(text, words, mentioned=self.tables, in_schema=in_schema):
                yield word, self._place(node), is_set

    def _by_kind(self, words: Words) -> Iterator[tuple[str, str, bool]]:
        """Words like `parked:thin` are read by the part before the colon, where that is compared."""
        for node in self._nodes[ast.Compare]:
            if _name(node.left) == "kind":
                kinds = [each.value for each in node.comparators if isinstance(each, ast.Constant)]
                found = (word for word in words.values if ":" in word and word.partition(":")[0] in kinds)
                yield from ((word, self._place(node), False) for word in found)

    def _names_of(self, enum: type[StrEnum]) -> set[str]:
        """The names that this file has for an enumeration: its own, an import's `as`, `S = PostStatus`."""
        names = {enum.__name__} if self.path == enum.__module__.replace(".", "/") + ".py" else set()
        for node in self._nodes[ast.ImportFrom]:
            if node.module == enum.__module__:
                names |= {each.asname or each.name for each in node.names if each.name == enum.__name__}
        for node in self._nodes[ast.Assign]:
            if isinstance(node.value, ast.Name) and node.value.id in names:
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names

    def _column(self, node: ast.Constant) -> str | None:
        """Return the column that a literal is compared with, or given by the name of; None if that is not seen."""
        parent = self._parents[node]
        while isinstance(parent, ast.Tuple | ast.List | ast.Set | ast.IfExp):
            parent = self._parents[parent]
        named: list[str] = []
        if isinstance(parent, ast.keyword) and parent.arg is not None:
            named = [parent.arg]
        elif isinstance(parent, ast.Dict) and node in parent.values:
            key = parent.keys[parent.values.index(node)]
            named = [key.value] if isinstance(key, ast.Constant) and isinstance(key.value, str) else []
        elif isinstance(parent, ast.Compare):
            inner = [each for side in (parent.left, *parent.comparators) for each in ast.walk(side)]
            named = [each.attr for each in inner if isinstance(each, ast.Attribute)]
            named += [
                str(each.slice.value)
                for each in inner
                if isinstance(each, ast.Subscript) and isinstance(each.slice, ast.Constant)
            ]
        return next((name for name in named if name in ALL_COLUMNS), None)

    # --- what stands where ----------------------------------------------------------------------------------------

    def _judged(self, node: ast.expr, word: str, used: Collection[str]) -> Iterator[tuple[str, str, bool]]:
        judged = self._judge(node, used)
        if judged is not None:
            yield word, self._place(node), judged

    def _judge(self, node: ast.AST, used: Collection[str]) -> bool | None:
        """True: it is set there; False: read; None: neither."""
        child, parent = node, self._parents[node]
        while isinstance(parent, ast.IfExp | ast.BoolOp | ast.Starred | ast.NamedExpr) and not (
            isinstance(parent, ast.IfExp) and child is parent.test
        ):
            child, parent = parent, self._parents[parent]
        if isinstance(parent, ast.Assign | ast.AnnAssign) and isinstance(self._parents[parent], ast.ClassDef):
            return None  # where an enumeration declares it
        match parent:
            case ast.Compare() | ast.MatchValue() | ast.Subscript():
                return False
            case ast.Tuple() | ast.List() | ast.Set():
                return self._collection(parent, used)
            case ast.Dict():
                return child in parent.values
            case ast.Attribute():
                return None
            case ast.Call() if _name(parent.func) in COLLECTIONS:
                return self._collection(parent, used)
            case ast.Call() if self.path.startswith("domain/") and not _name(parent.func)[:1].isupper():
                return False  # rules write nothing down: it is asked whether something is so
            case ast.Expr():
                return None
        return True

    def _collection(self, node: ast.AST, used: Collection[str]) -> bool | None:
        """A collection is read where it stands, or, if it has a name, where somebody uses that."""
        parent = self._parents[node]
        while isinstance(parent, ast.Tuple | ast.Starred | ast.BinOp | ast.Set | ast.List | ast.IfExp) or (
            isinstance(parent, ast.Call) and _name(parent.func) in COLLECTIONS
        ):
            node, parent = parent, self._parents[parent]
        if isinstance(parent, ast.Subscript) and _name(parent.value) == "Literal":
            return None
        if isinstance(parent, ast.Return | ast.Yield):
            return True
        if isinstance(parent, ast.Dict) and node in parent.values:
            return False
        if isinstance(parent, ast.Assign | ast.AnnAssign):
            targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
            return None if not any(isinstance(each, ast.Name) and each.id in used for each in targets) else False
        return False

    def _place(self, node: ast.AST) -> str:
        at: ast.AST | None = node
        while at is not None:
            if isinstance(at, ast.FunctionDef | ast.AsyncFunctionDef):
                return f"{self.path}:{at.name}"
            if isinstance(at, ast.Assign) and isinstance(at.targets[0], ast.Name) and self._parents[at] is self._tree:
                return f"{self.path}:{at.targets[0].id}"
            at = self._parents.get(at)
        return self.path

    def _texts(self) -> Iterator[tuple[ast.AST, str]]:
        """The texts of the file, an f-string as one, with `?` for what is put in."""
        inside: set[int] = set()
        for node in self._nodes[ast.JoinedStr]:
            inside |= {id(each) for each in node.values}
            parts = (str(each.value) if isinstance(each, ast.Constant) else "?" for each in node.values)
            yield node, "".join(parts)
        for node in self._nodes[ast.Constant]:
            is_text = isinstance(node.value, str) and id(node) not in inside
            if is_text and not isinstance(self._parents[node], ast.Expr):
                yield node, node.value


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def in_sql(
    text: str, words: Words, *, mentioned: Collection[str] = (), in_schema: bool = False
) -> Iterator[tuple[str, bool]]:
    """Yield the words that a piece of SQL sets (True) or reads, where it is about this table and column. `mentioned`
    are the tables that its file speaks of."""
    if not any(f"'{word}'" in text for word in words.values) and ":%" not in text:
        return
    tables = TABLES.findall(text)
    aliases = {alias: table for table, alias in tables if alias}
    about = {table for table, _ in tables}
    if words.table in mentioned and f"NEW.{words.column} :=" in text:  # a trigger's function
        about.add(words.table)
    if words.table in about and not in_schema:
        for start in re.findall(rf"\b{words.column} LIKE '(\w+:)%", text):
            yield from ((word, False) for word in words.values if word.startswith(start))
    for literal in LITERAL.finditer(text):
        if literal[1] not in words.values:
            continue
        before = text[: literal.start()]
        listed = re.sub(r"(\(\s*)?('[\w:]+',\s*)+$", r"\1", before)
        compared = COMPARED.search(listed)
        clause = next(reversed(CLAUSE.findall(before)), "")
        if compared is not None:
            alias, column, operator = compared.groups()
            table = aliases.get(alias, alias) if alias not in (None, "OLD", "NEW") else None
            if column != words.column or (table in ALL_TABLES and table != words.table):
                continue
            if table not in ALL_TABLES and about & ALL_TABLES and words.table not in about:
                continue
            yield literal[1], operator == "=" and clause == "SET"
        elif words.table in about and clause in SETS and re.search(rf"\b{words.column}\b", text):
            yield literal[1], True
