"""What product code enqueues, writes down and logs, and what others look for by that name."""

import ast
import re
from collections.abc import Mapping, Sequence
from functools import cache


@cache
def nodes(text: str) -> Sequence[ast.AST]:
    """All nodes of a source, the whole first."""
    return list(ast.walk(ast.parse(text)))


def not_enqueued(handlers: Mapping[str, tuple[str, str]], files: Mapping[str, str]) -> set[str]:
    """Return the job types that nobody enqueues. `handlers` are their modules and functions by their names."""
    used: set[tuple[str, str]] = set()
    named: set[str] = set()
    for path, text in files.items():
        home = path.removesuffix(".py").replace("/", ".")
        local = {name: (home, name) for module, name in handlers.values() if module == home}
        for node in nodes(text):
            if isinstance(node, ast.ImportFrom):
                local |= {each.asname or each.name: (node.module or "", each.name) for each in node.names}
        declared = {
            id(inner)
            for node in nodes(text)
            if isinstance(node, ast.FunctionDef)
            for decorator in node.decorator_list
            for inner in ast.walk(decorator)
        }
        for node in nodes(text):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in local:
                used.add(local[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
                used.add((".".join(local[node.value.id]), node.attr))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in declared:
                named.add(node.value)
    return {name for name, place in handlers.items() if place not in used and name not in named}


def noted(files: Mapping[str, str]) -> set[str]:
    """All texts and names that calls are given: kinds of events that are written, names of their details."""
    found: set[str] = set()
    for text in files.values():
        for node in nodes(text):
            if isinstance(node, ast.Call):
                found |= {each.arg for each in node.keywords if each.arg}
                found |= {
                    inner.value
                    for each in (*node.args, *node.keywords)
                    for inner in ast.walk(each)
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                }
    return found


def looked_for(text: str) -> set[str]:
    """The kinds of events and the names of details that a file of explanations looks for."""
    found: set[object] = set()
    constants = {
        target.id: node.value.value
        for node in nodes(text)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes(text):
        if isinstance(node, ast.Compare) and _is_item(node.left, "kind"):
            for each in node.comparators:
                found.add(constants[each.id] if isinstance(each, ast.Name) else getattr(each, "value", None))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            if _is_item(node.func.value, "details"):
                found |= {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}
        elif isinstance(node, ast.Subscript) and _is_item(node.value, "details"):
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
    return {each for each in found if isinstance(each, str)}


def _is_item(node: ast.AST, key: str) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == key


def logged(files: Mapping[str, str]) -> set[str]:
    """All texts that have the form of a log event: most are given to the log, some by way of an argument. Of one that
    is put together (`f"redis.{trouble}"`), its beginning with every word of its file."""
    found: set[str] = set()
    for text in files.values():
        constants = [each.value for each in nodes(text) if isinstance(each, ast.Constant)]
        texts = {each for each in constants if isinstance(each, str)}
        found |= {each for each in texts if EVENT.fullmatch(each)}
        for node in nodes(text):
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                begin = str(node.values[0].value)
                found |= {begin + each for each in texts if EVENT.fullmatch(begin + each)}
    return found


EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
