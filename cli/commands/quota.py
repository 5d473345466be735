"""`viral quota`"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason as Why
from cli.acting import act
from cli.arguments import moment, person
from cli.output import AsJson, console, print_json, show_one
from cli.session import session
from cli.shell import Group
from domain.text.readable import readable
from workers.ops import support, tenants

app = Group()

LEDGER = ("at", "kind", "amount", "used_after", "quota_after", "period_start", "cause")

TenantId = Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")]


def _count(other: str) -> Any:
    """Return the argument for how many concepts; `other` names the command that does the opposite."""

    def positive(count: int) -> int:
        if count < 1:
            raise typer.BadParameter(f"should be at least 1; {other}")
        return count

    return typer.Argument(metavar="N", help="How many concepts: 1 or more.", callback=positive)


Granted = Annotated[int, _count("`viral quota take` takes some away")]
Taken = Annotated[int, _count("`viral quota grant` gives some")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever asks later: it is kept with your name.")]
Key = Annotated[str | None, typer.Option(help="Done once for each key of a tenant, however often it is asked for.")]


@app.command("show")
def show_quota(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """Show what is left, when more comes, and how it came about.

    \b
    viral quota show TENANT
    """
    with session() as current:
        row = tenants.find_quota(current, tenant_id)
    part = ("ledger", LEDGER, "The ledger of this tenant is empty.")
    show_one(row, as_json=as_json, part=part, simplified=_without_ordinary)


def _without_ordinary(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "granted": row["granted"] or None}


@app.command()
def explain(
    tenant_id: TenantId,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="As it was then, by the ledger.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how the number came about, and why the tenant has its plan.

    \b
    viral quota explain TENANT --at 2026-12-01T09:00Z
    """
    with session() as current:
        if at is not None:
            sentences = tenants.explain_quota_as_of(current, tenant_id, at)
            print_json({"tenant_id": tenant_id, "at": at, "sentences": sentences}) if as_json else _say(sentences)
            return
        found = tenants.explain_quota(current, tenant_id)
    if as_json:
        numbers = {"tenant_id": tenant_id, "used": found.used, "remaining": found.remaining}
        print_json(numbers | {"sentences": found.sentences, "plan": found.plan})
        return
    console().print(readable(found.name), style="bold")
    _say([*found.sentences, *found.plan])


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        console().print(readable(sentence))


@app.command()
def reset(tenant_id: TenantId, reason: Why = None, as_json: AsJson = False) -> None:
    """Start the running period's count anew, by hand.

    The next reset stays where it is; the ledger says who did it.

    \b
    viral quota reset 01a20417-5ccc-7850-9558-0a37b805228c --reason "made good for Tuesday"
    """
    with session() as current:
        done = act(current, "quota.reset", f"tenant:{tenant_id}", reason=reason)
    row = {"tenant_id": tenant_id, "given_back": done.before["used"], "says": done.says} | done.after
    show_one(row, as_json=as_json)


@app.command()
def grant(tenant_id: TenantId, count: Granted, reason: Reason, key: Key = None, as_json: AsJson = False) -> None:
    """Give a tenant more concepts, for the running period.

    They come on top of the plan's, and end with the period, as the plan's own do: the answer says when, or which
    invoice that waits for. A change of plan that begins a period ends them too. What nobody could use is refused.

    \b
    viral quota grant TENANT 10 --reason 'an apology'
    """
    _change(tenant_id, count, reason, key, as_json=as_json)


@app.command()
def take(tenant_id: TenantId, count: Taken, reason: Reason, key: Key = None, as_json: AsJson = False) -> None:
    """Take concepts that are left, for the running period.

    What is used or held stays. Granted ones go first; then the plan's, until the next period begins.

    \b
    viral quota take TENANT 10 --reason 'granted twice'
    """
    _change(tenant_id, -count, reason, key, as_json=as_json)


def _change(tenant_id: UUID, count: int, reason: str, key: str | None, *, as_json: bool) -> None:
    with session() as current:
        changed = support.change_quota(current, tenant_id, count, who=person(), reason=reason, key=key)
    show_one({"tenant_id": tenant_id} | changed._asdict(), as_json=as_json)
