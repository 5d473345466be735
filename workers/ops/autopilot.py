"""Shows the autopilots of tenants, changes what they may do, and explains what their chains did. The API and the shell
use this.

Functions that take `tenant_id` work in that tenant's scope; with None, where that is allowed, in the system scope.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from db.autopilot.autopilot import ChainCursor
from db.transaction import SYSTEM, Tx
from domain.autopilot.chains import Mode, next_begin
from domain.autopilot.consent import obstacle, why_gone
from domain.autopilot.explanation import ENDED, Explanation, Facts, decision_of
from domain.autopilot.explanation import explain as explained
from domain.autopilot.outlook import Prospect, outlook
from domain.autopilot.settings import MOST_VIDEOS_A_DAY, check
from domain.concepts.timing import zone_of
from domain.concepts.wording import counted
from domain.errors import Conflict, UnknownAccount, UnknownChain
from domain.posting.accounts import AccountStatus
from domain.posting.limits import limits_of
from domain.posting.posts import PostStatus
from domain.posting.validation import Account
from domain.videos.budget import month_of
from domain.videos.profiles import NAMES
from workers.app import App
from workers.jobs.video_requests import to_promise, unusable

POSTS = 200
"""Posts of one video that are looked at: it is on each account once."""
LATELY = timedelta(days=7)
MOST_ACCOUNTS = 1000
NOTHING = Decimal(0)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Overview:
    """An autopilot at one moment: its `settings`, this month's `money`, the `accounts` that consented or could, the
    `chains` of its last day and those that have not ended, and what happens `next`, in words."""

    at: datetime
    tenant_id: UUID
    settings: Row
    money: Row
    accounts: list[Row]
    chains: list[Row]
    next: list[str]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What withdrawing a consent did, in words, and the autopilot after it."""

    says: str
    overview: Overview


class ChainPage(NamedTuple):
    """Chains, those of the last day first; `next` is None on the last page."""

    chains: list[Row]
    next: ChainCursor | None


@dataclass(frozen=True, slots=True)
class ChainExplanation:
    """A chain as it was at one moment, what can be said of it, and its `events`, oldest first."""

    at: datetime
    chain: Row
    explanation: Explanation
    events: list[Row]


# --- what it may do -------------------------------------------------------------------------------------------------


def show(app: App, tenant_id: UUID) -> Overview:
    """Return a tenant's autopilot.

    Raises:
        UnknownTenant: there is none of this id.
    """
    with app.db.transaction(tenant_id) as tx:
        return _overview(app, tx, tenant_id)


def switched_on(app: App) -> list[Row]:
    """Return the tenants that have it on, by name: settings, active accounts that consented, chains under way, and
    those that stopped within a week."""
    with app.db.transaction(SYSTEM) as tx:
        now = app.now(tx)
        return tx.autopilot_reports.switched_on(month_of(now), now - LATELY)


def change(app: App, tenant_id: UUID, changes: Mapping[str, Any], *, by: str) -> Overview:
    """Change the settings that are named (fields of `Settings`), and return the autopilot as it is then. `by` is who
    does: "user:ID", "key:ID" or "person:NAME".

    Posts that no person has approved and of which nothing was sent are cancelled when it is switched off, and wait for
    approval when it is set to approve.

    Raises:
        Rejected: something in them is wrong; nothing is changed then.
        UnknownTenant: there is none of this id.
    """
    with app.db.transaction(SYSTEM) as tx:
        providers = [each.provider for each in tx.video_providers.current(app.now(tx))]
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        # Nobody else changes them until this commits, so what is not named stays as somebody else has just set it.
        before = tx.autopilot.lock(tenant_id)
        named = dict(changes)
        if "times" in named:
            named["times"] = tuple(sorted(named["times"]))
        settings = replace(before, **named)
        check(settings, providers)
        if settings != before:
            stamped = replace(settings, mode=Mode(settings.mode), changed_by=by, changed_at=now)
            tx.autopilot.save(tenant_id, stamped, now)
        return _overview(app, tx, tenant_id)


def consent(app: App, tenant_id: UUID, account_id: UUID, *, by: str) -> Overview:
    """Let the autopilot post to one of the tenant's accounts; the first consent is kept, with its time and by whom.

    Raises:
        UnknownTenant, UnknownAccount: the tenant has no such account.
        Conflict: it is not connected (NOT_ACTIVE), or its platform wants something chosen by its owner, and nobody
            chose (CHOICE_NEEDED).
    """
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        tx.autopilot.lock(tenant_id)
        account = _account(tx, tenant_id, account_id)
        # Its owner may consent while our people let nothing be posted: it holds when they do again.
        if (wrong := obstacle(replace(_judged(account), disabled=False), now)) is not None:
            raise Conflict(*wrong)
        tx.autopilot.consent(tenant_id, account_id, by, now)
        return _overview(app, tx, tenant_id)


def withdraw(app: App, tenant_id: UUID, account_id: UUID) -> Withdrawal:
    """Let the autopilot post to an account no more, and cancel what it has scheduled there and of which nothing was
    sent.

    Raises:
        UnknownTenant, UnknownAccount: the tenant has no such account.
    """
    with app.db.transaction(tenant_id) as tx:
        now = app.now(tx)
        _account(tx, tenant_id, account_id)
        cancelled = tx.autopilot.withdraw(tenant_id, account_id, now)
        if cancelled is None:
            says = "the autopilot could not post to it before, either"
        else:
            says = "the autopilot posts to it no more"
            if cancelled:
                says += f"; {counted(len(cancelled), 'post')} that waited {_are(len(cancelled))} cancelled"
        return Withdrawal(says, _overview(app, tx, tenant_id))


# --- what it did ----------------------------------------------------------------------------------------------------


def chains(
    app: App, tenant_id: UUID, *, limit: int = 50, after: ChainCursor | None = None, stage: str | None = None
) -> ChainPage:
    """Return a page of a tenant's chains, or of those at one stage, those of the last day first, each with its video's
    `title`."""
    with app.db.transaction(tenant_id) as tx:
        rows = tx.autopilot.chains(tenant_id, limit + 1, after, stage)
        page = _titled(tx, tenant_id, rows[:limit])
    more = len(rows) > limit
    return ChainPage(page, ChainCursor(page[-1]["day"], page[-1]["place"]) if more else None)


def explain(app: App, tenant_id: UUID | None, chain_id: UUID) -> ChainExplanation:
    """Say where a chain stands and why, what was decided, what it cost, and what comes next.

    Raises:
        UnknownChain: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner = tx.autopilot_reports.owner(chain_id)
        chain = tx.autopilot.chain(owner, chain_id) if owner is not None else None
        if owner is None or chain is None or tenant_id not in (None, owner):
            raise UnknownChain(f"there is no chain {chain_id}")
        tx.work_as(owner)
        events = tx.autopilot.events(owner, chain_id)
        video = None if chain["video_id"] is None else tx.videos.get(owner, chain["video_id"])
        now, settings = app.now(tx), tx.autopilot.settings(owner)
        job = None if chain["job_id"] is None or chain["generation_id"] else tx.jobs.get(chain["job_id"])
        facts = Facts(
            now=now,
            chain=chain,
            mode=settings.mode,
            decision=decision_of(events),
            video=video,
            posts=_posts(tx, owner, chain),
            left_out=_left_out(tx, chain, events),
            concepts=None if job is None else job["status"],
            unusable=unusable(tx, owner, settings.provider, now, app.ports.clips.keys()),
            policy_asks=tx.planned_posts.policy(owner).needs_approval,
        )
        (titled,) = _titled(tx, owner, [chain])
    return ChainExplanation(facts.now, titled, explained(facts), events)


def _posts(tx: Tx, tenant_id: UUID, chain: Row) -> list[Row]:
    if chain["video_id"] is None:
        return []
    rows = tx.planned_posts.listed(tenant_id, limit=POSTS, video_id=chain["video_id"])
    found = sorted(
        (row for row in rows if row["group_id"] == chain["id"]), key=lambda row: (row["created_at"], row["id"])
    )
    return [row | {"held": _held(tx, tenant_id, row)} for row in found]


def _left_out(tx: Tx, chain: Row, events: Sequence[Row]) -> list[str]:
    """Say which accounts that had consent get no post of the chain: as was written down when its posts were made, or as
    it is until then."""
    if chain["group_id"] is not None:
        left_out = (each["message"] for each in events if each["kind"] == "left_out")
        return [each.removeprefix("not posted to ") for each in left_out]
    gone = tx.chains.withdrawn(chain["tenant_id"], chain["id"])
    return [f"{_called(row | {'id': row['account_id']})}: {why_gone(row['status'])}" for row in gone]


def _held(tx: Tx, tenant_id: UUID, post: Row) -> str | None:
    """Return why a post was cancelled, or held back for approval; None if it was not, or nobody wrote it down."""
    kinds = {PostStatus.CANCELLED: "cancelled", PostStatus.NEEDS_APPROVAL: "held_back"}
    if post["status"] not in kinds:
        return None
    says = [
        each["message"]
        for each in tx.planned_posts.events(tenant_id, post["id"])
        if each["kind"] == kinds[post["status"]]
    ]
    return says[-1].partition(": ")[2] or None if says else None


# --- what is shown ------------------------------------------------------------------------------------------------


def _overview(app: App, tx: Tx, tenant_id: UUID) -> Overview:
    """Gather all that is shown of an autopilot; the transaction works in the system scope afterwards."""
    now, month = app.now(tx), month_of(app.now(tx))
    tenant = tx.tenants.get(tenant_id)
    zone = zone_of(tenant["timezone"])
    settings = tx.autopilot.settings(tenant_id)
    accounts = _accounts(tx, tenant_id, now)
    spending = tx.autopilot.spent(tenant_id, month)
    money: Row = {"month": month, "budget_usd": settings.budget_usd, "reserved_usd": spending.reserved}
    money |= {"spent_usd": spending.spent, "left_usd": max(settings.budget_usd - spending.total, NOTHING)}
    newest = tx.autopilot.chains(tenant_id, limit=2 * MOST_VIDEOS_A_DAY)
    latest = [row for row in newest if row["day"] == newest[0]["day"] or row["stage"] not in ENDED]
    chains = _titled(tx, tenant_id, latest)
    may = [row for row in accounts if row["consented_at"]]
    prospect = Prospect(
        settings=settings,
        zone=zone,
        now=now,
        begins_at=next_begin(zone, tenant["daily_hour"], tx.autopilot_reports.last_on(tenant_id), now),
        ready=[_called(row) for row in may if not row["obstacle"]],
        waiting=[f"{_called(row)}: {row['obstacle']}" for row in may if row["obstacle"]],
        left=min(money["left_usd"], to_promise(tx, tenant_id, month).left),
        unusable=unusable(tx, tenant_id, settings.provider, now, app.ports.clips.keys()),
        under_way=sum(row["stage"] not in ENDED for row in newest),
        daily=tenant["daily_count"] if tenant["daily_enabled"] and tenant["daily_count"] else None,
        policy_asks=tx.planned_posts.policy(tenant_id).needs_approval,
    )
    names = _names(tx, tenant_id, [settings.changed_by, *(row["consented_by"] for row in may)])
    shown = asdict(settings) | {"times": list(settings.times), "timezone": zone.key}
    shown["changed_by"] = names.get(settings.changed_by)
    accounts = [row | {"consented_by": names.get(row["consented_by"])} for row in accounts]
    return Overview(now, tenant_id, shown, money, accounts, chains, outlook(prospect))


def _accounts(tx: Tx, tenant_id: UUID, now: datetime) -> list[Row]:
    """Return the accounts that consented, and those that could, which are connected: those that did first."""
    consents = {row["account_id"]: row for row in tx.autopilot.accounts(tenant_id)}
    found = []
    for account in tx.social_accounts.listed(tenant_id, platform=None, status=None, limit=MOST_ACCOUNTS):
        consent_row = consents.get(account["id"], {})
        if not consent_row and account["status"] == AccountStatus.DISCONNECTED:
            continue
        wrong = obstacle(_judged(account), now)
        found.append(
            {
                "id": account["id"],
                "platform": account["platform"],
                "username": account["username"],
                "consented_at": consent_row.get("consented_at"),
                "consented_by": consent_row.get("consented_by"),
                "obstacle": None if wrong is None else wrong[1],
            }
        )
    return sorted(found, key=lambda row: row["consented_at"] is None)


def _judged(account: Mapping[str, Any]) -> Account:
    return Account(
        platform=account["platform"],
        name=account["username"] or account["external_id"],
        status=account["status"],
        reason=account["reason"],
        settings=account["settings"],
        limits=limits_of(account["limits"]),
        disabled=account["disabled_at"] is not None,
    )


def _account(tx: Tx, tenant_id: UUID, account_id: UUID) -> Row:
    account = tx.social_accounts.get(tenant_id, account_id)
    if account is None:
        raise UnknownAccount(f"there is no account {account_id}")
    return account


def _titled(tx: Tx, tenant_id: UUID, rows: Sequence[Row]) -> list[Row]:
    titles = tx.autopilot_reports.titles(tenant_id, [row["video_id"] for row in rows])
    return [row | {"title": titles.get(row["video_id"])} for row in rows]


def _names(tx: Tx, tenant_id: UUID, whom: Sequence[str | None]) -> dict[str | None, str]:
    """Return what people and keys are called now, and in the end of those that are gone what they were."""
    tx.work_as(SYSTEM)
    called = tx.autopilot_reports.names(tenant_id, whom)
    gone = {"user": "somebody who has left", "key": "an API key that is gone", "viral": "viral restore"}
    return {
        each: called.get(each) or gone.get(each.partition(":")[0]) or each.removeprefix("person:")
        for each in whom
        if each
    }


def _called(row: Mapping[str, Any]) -> str:
    return f"{row['username'] or row['id']} ({NAMES[row['platform']]})"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
