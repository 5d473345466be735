"""cli/completion/commands.json: the tree of commands, as `lookup.py` beside it reads it."""

import json
from collections.abc import Mapping
from typing import Any

from typer.main import get_command

from cli.main import COMMANDS, app
from cli.shell import load
from tests.reference.markdown import one_line


def text() -> str:
    """Return what stands in the file while it is not stale."""
    top = get_command(app)
    below = {name: _node(load(*COMMANDS[name])) for name in top.commands}  # type: ignore[attr-defined]
    return f"{json.dumps(_node(top) | {'commands': below}, indent=1, ensure_ascii=False)}\n"


def _node(command: Any) -> dict[str, Any]:
    about = one_line((command.help or "").split("\n\n")[0])
    with command.make_context("viral", [], resilient_parsing=True) as context:
        options, arguments, more = {}, [], False
        for each in command.get_params(context):
            if getattr(each, "hidden", False):
                continue
            values = [item.value for item in each.shell_complete(context, "") if item.type == "plain"]
            if each.param_type_name == "argument":
                arguments.append(values)
                more = each.nargs == -1
                continue
            takes = not (each.is_flag or each.count)
            for name in (*each.opts, *each.secondary_opts):
                options[name] = {"about": one_line(each.help or ""), "values": values if takes else None}
    node: dict[str, Any] = {"about": about, "options": options}
    below: Mapping[str, Any] | None = getattr(command, "commands", None)
    if below is not None:
        return node | {"commands": {name: _node(each) for name, each in below.items()}}
    return node | {"arguments": arguments} | ({"more": True} if more else {})
