"""`viral keys`"""

from collections.abc import Mapping
from datetime import timedelta
from secrets import token_bytes
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.arguments import among, duration, person
from cli.output import AsJson, console, print_json, show, show_one
from cli.session import for_tenant
from cli.shell import Group
from domain.errors import UnknownKey
from domain.identity.access import KEY_BYTES, ApiScope, Maker, new_key

app = Group()

COLUMNS = ("id", "name", "prefix", "scopes", "created_by", "created_at", "expires_at", "last_used_at", "revoked_at")

Tenant = Annotated[UUID, typer.Option(help="The tenant's id.")]


@app.command()
def create(
    tenant: Tenant,
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="SCOPE",
            help="A right of the key; repeat it. A wrong one lists all.",
            autocompletion=among(ApiScope),
        ),
    ],
    name: Annotated[str, typer.Option(help="What it is for.")],
    expires_in: Annotated[
        timedelta | None, typer.Option(parser=duration, metavar="DURATION", help="Default: until it is revoked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key, which is shown this once.

    Only its hash is kept.

    \b
    viral keys create --tenant ID --name 'nightly export' --scope account:read --expires-in 90d
    """
    with for_tenant(tenant) as tx:
        tx.tenants.get(tenant)
        now = tx.now()
        ends_at = None if expires_in is None else now + expires_in
        others = tx.access.count_usable(tenant, now)
        key = new_key(
            token_bytes(KEY_BYTES),
            name=name,
            scopes=scope,
            expires_at=ends_at,
            now=now,
            others=others,
            maker=Maker(operator=person()),
        )
        row = tx.access.add_key(tx.new_id(), tenant, key)
    if as_json:
        print_json(row | {"key": key.text})
        return
    show_one(row, as_json=False)
    console().print(f"\n{key.text}\n\nCopy it now: it is not shown again.")


@app.command("list")
def list_keys(tenant: Tenant, as_json: AsJson = False) -> None:
    """List the API keys of the tenant, newest first.

    Those that have ended are listed too.

    \b
    viral keys list --tenant ID
    """
    with for_tenant(tenant) as tx:
        tx.tenants.get(tenant)
        rows = tx.access.keys(tenant)
    show(rows, COLUMNS, as_json=as_json, nothing="No API keys.", simplified=_simplified)


@app.command()
def revoke(
    key_id: Annotated[UUID, typer.Argument(metavar="ID", help="The key's id.")], tenant: Tenant, as_json: AsJson = False
) -> None:
    """Revoke an API key.

    From the next request on, nobody comes in with it, or with a key that it made.

    \b
    viral keys revoke ID --tenant ID
    """
    with for_tenant(tenant) as tx:
        if not tx.access.revoke_key(tenant, key_id):
            raise UnknownKey(f"the tenant has no API key with the id {key_id}; `viral keys list` shows them")
        [row] = [row for row in tx.access.keys(tenant) if row["id"] == key_id]
    show_one(row, as_json=as_json)


def _simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "created_by": f"operator {row['operator']}"} if row["operator"] else dict(row)
