"""docs/reference/settings.md: each setting with its form, its default and its meaning, from `workers/settings.py`."""

import ast
import inspect
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from cli.environment import SECRETS
from tests.reference.markdown import code, one_line, table
from workers.settings import Settings

HEAD = """# Settings

All are environment variables; of lists, the parts are separated by commas. Space around a value is not part of it, and
an empty value is none. What is malformed is named at the start, all of it at once and without its value. `viral doctor`
judges them. Which process needs which secret, and why: [../deploying.md](../deploying.md).
"""


def page() -> str:
    meanings = meanings_of(Settings)
    lacking = [name for name in Settings.model_fields if name not in meanings]
    if lacking:
        raise ValueError(f"workers/settings.py: say below {', '.join(lacking)} what it means")
    rows = [
        (code(name.upper()), _form(field), _default(field), meanings[name], ", ".join(_users(name)))
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join([HEAD, *table(("variable", "form", "default", "meaning", "secret of"), rows)])


def meanings_of(settings: type) -> dict[str, str]:
    """Return the text below each field: it is of all fields that stand directly above it."""
    (declared,) = ast.parse(dedent(inspect.getsource(settings))).body
    assert isinstance(declared, ast.ClassDef)
    found: dict[str, str] = {}
    waiting: list[str] = []
    for before, node in zip((None, *declared.body), declared.body, strict=False):
        if before is not None and node.lineno > (before.end_lineno or 0) + 1:
            waiting = []
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            waiting.append(node.target.id)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found |= dict.fromkeys(waiting, one_line(str(node.value.value)))
            waiting = []
    return found


def _users(name: str) -> list[str]:
    return sorted(SECRETS.get(name.upper(), ()))


def _form(field: FieldInfo) -> str:
    kinds = [_bare(kind) for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    bounds = [each for each in field.metadata if isinstance(each, Ge | Le)]
    if get_origin(field.annotation) is Literal:
        return " or ".join(code(kind) for kind in kinds)
    if kinds[0] is int and len(bounds) == 2:
        least, most = sorted(_bound(each) for each in bounds)
        return f"{least} to {most}"
    if kinds[0] is SecretStr and get_origin(field.annotation) is not tuple:
        return "secret"
    if get_origin(field.annotation) is tuple:
        return "list of secrets" if kinds[0] is SecretStr else "list"
    return {bool: "true or false", int: "number", Path: "path"}.get(kinds[0], _word(field))


def _bare(kind: Any) -> Any:
    return kind.__origin__ if get_origin(kind) is Annotated else kind


def _word(field: FieldInfo) -> str:
    checks = " ".join(getattr(getattr(each, "func", None), "__name__", "") for each in field.metadata)
    for name in ("postgres_url", "redis_url", "https", "collector"):
        if name in checks:
            return "address"
    return "text"


def _bound(each: Any) -> int:
    return int(each.ge if isinstance(each, Ge) else each.le)


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr) or value in (None, "", ()):
        return "-"
    return code(",".join(value) if isinstance(value, tuple) else value)
