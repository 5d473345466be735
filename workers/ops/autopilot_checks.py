"""The check of `viral doctor` about the autopilots of tenants: those that are on, and that nothing works for."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from db.transaction import Tx
from domain.concepts.wording import counted
from domain.errors import ClipProviderUnusable
from domain.text.readable import readable, shortened
from domain.videos.budget import month_of
from domain.videos.plan import STORYBOARD, chain
from workers.app import App

IN_VAIN = 3
"""Days on which all chains stopped for one reason."""
LATELY = timedelta(days=14)
SHOWN = 3
"""Tenants that are named; the others are counted."""
Verdict = tuple[str, str]


def check_autopilots(app: App, tx: Tx) -> Verdict:
    """Whether each autopilot that is on can do something, and did."""
    now = app.now(tx)
    rows = tx.autopilot_reports.switched_on(month_of(now), now - LATELY)
    if not rows:
        return "ok", "no tenant has it on"
    doubts = [
        *_doubt([row["tenant_id"] for row in rows if not row["accounts"]], "no account that consents and is active"),
        *_doubt(
            [row["tenant_id"] for row in rows if row["provider"] != STORYBOARD and not row["budget_usd"]],
            "a provider that costs money, and a budget of 0, so that its videos are storyboards",
        ),
        *_unusable(app, tx, rows, now),
        *_stopped(tx, (now - LATELY).date()),
    ]
    if doubts:
        return "warn", f"{'; '.join(doubts)}: see `viral autopilot show --tenant ID`"
    return "ok", f"{counted(len(rows), 'tenant')} {'has' if len(rows) == 1 else 'have'} it on"


def _doubt(tenants: list[UUID], what: str) -> Iterator[str]:
    if tenants:
        have = "has" if len(tenants) == 1 else "have"
        yield f"{counted(len(tenants), 'tenant')} {have} {what} ({_named(list(map(str, tenants)))})"


def _unusable(app: App, tx: Tx, rows: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    """Name the tenants of each provider of whose models none can be asked, by the keys of this shell."""
    models = tx.video_providers.current(now)
    for provider in sorted({row["provider"] for row in rows} - {STORYBOARD}):
        try:
            chain(models, provider, now, app.ports.clips.keys())
        except ClipProviderUnusable as error:
            why = f"{error}, by the keys of this shell; `viral providers list`"
            what = f"the provider {provider}, which cannot be asked ({why}), so that their days stop"
            yield from _doubt([row["tenant_id"] for row in rows if row["provider"] == provider], what)


def _stopped(tx: Tx, since: date) -> Iterator[str]:
    found = tx.autopilot_reports.stopped_alike(IN_VAIN, since)
    if found:
        of = [f"{each.tenant_id}: {shortened(readable(each.reason))}" for each in found]
        yield f"all chains of the last {IN_VAIN} days stopped for one reason ({_named(of)})"


def _named(texts: list[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return f"{', '.join(texts[:SHOWN])}{more}"
