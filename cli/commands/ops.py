"""`viral ops`"""

from typing import Annotated

import typer

from cli.arguments import among, one_of
from cli.output import AsJson, console, print_json, show, show_one
from cli.session import session
from cli.shell import Group
from domain.ops.operators import OperatorRole
from workers.ops import operators

app = Group()
token = Group(help="Make, list and revoke the tokens of operators.")
app.add_typer(token, name="token")

COLUMNS = ("name", "role", "created_at", "last_used_at", "revoked_at")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: ada, grafana.")]


@token.command()
def create(
    name: Name,
    role: Annotated[
        str, typer.Option(help="look: see everything; act: change things too.", autocompletion=among(OperatorRole))
    ],
    as_json: AsJson = False,
) -> None:
    """Make a token, which is shown this once.

    Only its hash is kept. It opens /ops in a browser, and /ops and /metrics to programs that send it as
    `Authorization: Bearer`. From the first token on, nobody comes in without one.

    \b
    viral ops token create ada --role act
    """
    one_of(OperatorRole, role, "--role", "role")
    with session() as running:
        made = operators.create_token(running, name, role)
    if as_json:
        print_json(made.row | {"token": made.text})
        return
    show_one(made.row, as_json=False)
    console().print(f"\n{made.text}\n\nCopy it now: it is not shown again.")


@token.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens of operators, live ones first.

    Those that were revoked are listed too.

    \b
    viral ops token list
    """
    with session() as running:
        rows = operators.tokens(running)
    show(rows, COLUMNS, as_json=as_json, nothing="No tokens. `viral ops token create NAME --role look` makes one.")


@token.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Revoke a token, and end its sessions.

    Ten seconds later nobody comes in with it, or with a session that it began.

    \b
    viral ops token revoke ID
    """
    with session() as running:
        row = operators.revoke_token(running, name)
    show_one(row, as_json=as_json)
