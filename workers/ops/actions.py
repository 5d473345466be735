"""Performs what operators do, from the page and the shell alike, and keeps who did what, and why.

The audit's row is committed before the action begins. An action that is cut short leaves it `begun`: nobody knows from
it what became of the action, and it says so (docs/decisions/0057).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from db.transaction import SYSTEM, CommitUnknown, Tx
from domain.errors import Rejected, Unavailable, ViralError
from domain.ops.action_list import action as action_of
from domain.ops.actions import (
    Arguments,
    Kind,
    Outcome,
    Performed,
    Result,
    Target,
    check_reason,
    read_arguments,
)
from domain.posting.accounts import AccountStatus
from workers.app import App
from workers.ops import accounts, post_stories, posts, queues, reflexion, support, tenant_deletion, tenants, videos
from workers.ops.acting import IN_TRANSACTION, POST_FIELDS, Within, find_job, video_state
from workers.ops.events import find as find_event
from workers.ops.jobs import Change
from workers.runtime import work
from workers.runtime.error_text import text_of
from workers.runtime.work import working

Row = dict[str, Any]
Performer = Callable[[App, Target, Arguments], Result]

REASON = "reason"
"""What performers find the reason under, of an action that needs one."""

METRIC = "viral_operator_actions_total"

log = structlog.get_logger()


def perform(
    app: App,
    name: str,
    target: Target,
    arguments: Arguments | None = None,
    *,
    who: str,
    reason: str | None = None,
    action_id: UUID | None = None,
) -> Performed:
    """Perform an action, by its name in `ACTIONS`, on one thing. `who` is a cause (`person:ada`, `operator:ops`), that
    of what the action enqueues too. `arguments` are texts, or values as they are read of them.

    What a rule or the thing's state forbids is `refused`, what did not work is `failed`, and both say why. An
    `action_id` that was used before performs nothing, and returns what became of it the first time.

    Raises:
        Rejected: there is no such action, or it cannot be asked for like this.
        DatabaseUnavailable: nothing was begun; or what became of it could not be written down.
    """
    action = action_of(name)
    if target.kind is not action.kind:
        raise Rejected(f"{name} is done to a {action.kind}, not to a {target.kind}")
    values = read_arguments(action, arguments or {})
    kept = check_reason(reason, needed=action.needs_reason)
    with app.db.transaction(SYSTEM) as tx:
        row_id = action_id or tx.new_id()
        begun = tx.actions.begin(row_id, who=who, action=name, target=str(target), arguments=values, reason=kept)
        if not begun:
            return _before(tx, row_id, name, target)
        tx.notifications.count(METRIC, name)
    asked = values | {REASON: kept} if action.needs_reason else values
    with working(work.current.get()._replace(cause=who)):
        performed = _performed(app, row_id, name, target, asked)
    if performed.outcome is not Outcome.BEGUN:
        with app.db.transaction(SYSTEM) as tx:
            tx.actions.end(row_id, Result(performed.outcome, performed.says, performed.before, performed.after))
    log.info("operator.action", action=name, target=str(target), who=who, outcome=str(performed.outcome))
    return performed


def _before(tx: Tx, row_id: UUID, name: str, target: Target) -> Performed:
    row = tx.actions.get(row_id) or {}
    if (row.get("action"), row.get("target")) != (name, str(target)):
        raise Rejected(f"the action {row_id} is another one")
    says = row["says"] or "it has begun, and it is not known yet what became of it"
    return Performed(row_id, Outcome(row["outcome"]), says, row["before"], row["after"])


def _performed(app: App, row_id: UUID, name: str, target: Target, arguments: Arguments) -> Performed:
    try:
        result = PERFORMERS[name](app, target, arguments)
    except CommitUnknown as error:
        return Performed(row_id, Outcome.BEGUN, f"nobody knows what became of it: {error}", error="CommitUnknown")
    except Unavailable as error:
        return Performed(row_id, Outcome.FAILED, str(error), error=type(error).__name__)
    except ViralError as error:
        return Performed(row_id, Outcome.REFUSED, str(error), error=type(error).__name__)
    except Exception as error:
        log.error("operator.action_failed", action=name, target=str(target), error=text_of(error), exc_info=error)
        says = f"an error of our own ({type(error).__name__}); it has been logged"
        return Performed(row_id, Outcome.FAILED, says, error=type(error).__name__)
    return Performed(row_id, result.outcome, result.says, result.before, result.after)


def history(
    tx: Tx,
    *,
    target: Target | None = None,
    others: Sequence[str] = (),
    who: str | None = None,
    action: str | None = None,
    outcome: str | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[Row]:
    """Return rows of the audit, newest first; of those that began at `before` or later none. `others` are further
    targets, beside the one."""
    named = None if target is None else [str(target), *others]
    return tx.actions.history(targets=named, who=who, action=action, outcome=outcome, before=before, limit=limit)


def audit(
    app: App,
    *,
    target: Target | None = None,
    who: str | None = None,
    action: str | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[Row]:
    """`history`, in a transaction of its own."""
    with app.db.transaction(SYSTEM) as tx:
        return history(tx, target=target, who=who, action=action, before=before, limit=limit)


def find_action(app: App, action_id: UUID) -> Row | None:
    """Return the row of the audit of this id; None: there is none."""
    with app.db.transaction(SYSTEM) as tx:
        return tx.actions.get(action_id)


# --- what of a thing is so now --------------------------------------------------------------------------------------


def state_of(app: App, name: str, target: Target) -> Row:
    """Return what of a thing an action is about, as it is now: what is shown before somebody confirms.

    Raises:
        Rejected: there is no such action, or no such thing.
    """
    if target.kind is not action_of(name).kind:
        raise Rejected(f"{name} is done to a {action_of(name).kind}, not to a {target.kind}")
    match target.kind:
        case Kind.JOB:
            return _job(app, target)
        case Kind.EVENT:
            with app.db.transaction(SYSTEM) as tx:
                return _of(find_event(tx, target.id), "source", "type", "status", "flag", "received_at", "job_id")
        case Kind.POST:
            return _post(app, target)
        case Kind.VIDEO:
            return _video(app, target)
        case Kind.ACCOUNT:
            return _account(app, target)
        case Kind.TENANT:
            return _tenant(app, name, target.uuid)
        case Kind.PROVIDER:
            with app.db.transaction(SYSTEM) as tx:
                rows = tx.video_providers.lock(target.id)
            if not rows:
                raise Rejected(f"there is no provider {target.id[:40]!r}; `viral providers list` shows them")
            return {"enabled": all(row["enabled"] for row in rows), "failures": sum(row["failures"] for row in rows)}
        case Kind.QUEUE:
            return queues.decided(app, *target.queue)


def _job(app: App, target: Target) -> Row:
    names = ("job_type", "queue", "tenant_id", "status", "priority", "scheduled_for", "attempts", "max_attempts")
    with app.db.transaction(SYSTEM) as tx:
        row = find_job(tx, target.uuid)
    return _of(row, *names) | ({"status": "archived"} if "archived" in row else {})


def _post(app: App, target: Target) -> Row:
    return _of(posts.show(app, None, target.uuid), *POST_FIELDS)


def _video(app: App, target: Target) -> Row:
    with app.db.transaction(SYSTEM) as tx:
        return video_state(tx, target.uuid)


def _account(app: App, target: Target) -> Row:
    row = accounts.show(app, None, target.uuid)
    return _of(row, "platform", "username", "tenant_id", "status", "disabled_at", "waiting")


def _tenant(app: App, name: str, tenant_id: UUID) -> Row:
    if name.startswith("model."):
        return {"models": _models(app, tenant_id)}
    if name == "tenant.delete":
        return _all_of(app, tenant_id)
    row = tenants.find_quota(app, tenant_id)
    return _of(row, "quota", "used", "remaining", "resets_at")


def _all_of(app: App, tenant_id: UUID) -> Row:
    with app.db.transaction(SYSTEM) as tx:
        row = tx.tenants.get(tenant_id)
        accounts = tx.social_accounts.listed(tenant_id)
    connected = sum(each["status"] != AccountStatus.DISCONNECTED for each in accounts)
    shown = {"name": row["name"], "id": tenant_id, "plan": row["subscription_tier"]}
    kept = "; ".join(f"{table}: {why}" for table, why in tenant_deletion.KEEPS.items())
    return shown | {"subscription": row["subscription_status"], "accounts": connected, "what_is_kept": kept}


def _models(app: App, tenant_id: UUID) -> dict[str, str]:
    found = reflexion.status(app, tenant_id)["learners"]
    return {f"{each['platform']} {each['horizon']}": each["champion"] for each in found}


def _of(row: Mapping[str, Any], *names: str) -> Row:
    return {name: row[name] for name in names if name in row}


# --- who performs each ----------------------------------------------------------------------------------------------


def _in_transaction(name: str) -> Performer:
    def performed(app: App, target: Target, arguments: Arguments) -> Result:
        with app.db.transaction(SYSTEM) as tx:
            return IN_TRANSACTION[name](Within(tx, app.job_types, app.now(tx)), target, arguments)

    return performed


def _watched(state: Callable[[App, Target], Row], change: Callable[[App, Target, Arguments], Result]) -> Performer:
    """Report as before and after what of a thing was changed. It is read around the change: where somebody else changes
    it in between, that is told too."""

    def performed(app: App, target: Target, arguments: Arguments) -> Result:
        before = state(app, target)
        result = change(app, target, arguments)
        after = state(app, target)
        changed = [name for name in before if before[name] != after.get(name)]
        return Result(result.outcome, result.says, _of(before, *changed), _of(after, *changed))

    return performed


def _changed(change: Change) -> Result:
    return Result(Outcome.DONE if change.done else Outcome.REFUSED, change.says)


def _limit(app: App, target: Target, arguments: Arguments) -> Result:
    return queues.limit(app, *target.queue, **arguments)


def _resolve_post(app: App, target: Target, arguments: Arguments) -> Result:
    lost = arguments["verdict"] == "lost"
    return (_in_transaction("post.resolve") if lost else _watched(_post, _find_post))(app, target, arguments)


def _find_post(app: App, target: Target, arguments: Arguments) -> Result:
    return _changed(post_stories.resolve(app, target.uuid, "found", arguments.get("external_id")))


def _resolve_video(app: App, target: Target, arguments: Arguments) -> Result:
    lost = arguments["verdict"] == "lost"
    return (_in_transaction("video.resolve") if lost else _watched(_video, _find_order))(app, target, arguments)


def _find_order(app: App, target: Target, arguments: Arguments) -> Result:
    if "charged" in arguments:
        raise Rejected("what was charged goes with lost: what was found says itself what it costs")
    return _changed(videos.resolve(app, target.uuid, "found", arguments.get("job")))


def _promote(app: App, target: Target, arguments: Arguments) -> Result:
    where = {name: arguments.get(name) for name in ("platform", "horizon")}
    return _scoring(reflexion.promote(app, target.uuid, arguments["model"], **where))


def _roll_back(app: App, target: Target, arguments: Arguments) -> Result:
    where = {name: arguments.get(name) for name in ("platform", "horizon")}
    return _scoring(reflexion.roll_back(app, target.uuid, **where))


def _scoring(done: list[Row]) -> Result:
    names = [f"{each['platform']} {each['horizon']}" for each in done]
    before = dict(zip(names, (each["before"] for each in done), strict=True))
    after = dict(zip(names, (each["champion"] for each in done), strict=True))
    outcome = Outcome.UNCHANGED if before == after else Outcome.DONE
    return Result(outcome, "; ".join(f"{after[name]} scores {name}" for name in names), before, after)


def _reset_quota(app: App, target: Target, arguments: Arguments) -> Result:
    with app.db.transaction(SYSTEM) as tx:
        return support.restart(tx, target.uuid, work.current.get().cause or "person:somebody")


def _change_quota(app: App, target: Target, count: int) -> Result:
    with app.db.transaction(SYSTEM) as tx:
        return support.change(tx, target.uuid, count, work.current.get().cause or "person:somebody")


def _delete_tenant(app: App, target: Target, arguments: Arguments) -> Result:
    if arguments["name"] not in (tenant_deletion.name_of(app, target.uuid), target.id):
        raise Rejected("that is neither its name nor its id: nothing was deleted")
    begun = tenant_deletion.begin_deletion(app, target.uuid, who=work.current.get().cause or "person:somebody")
    accounts = "".join(f"; account {account}: {says}" for account, says in begun.accounts.items())
    closed = "it was closed before" if begun.again else "closed"
    return Result(
        Outcome.UNCHANGED if begun.again else Outcome.DONE,
        f"{closed}; the job {begun.job_id} deletes what it has{accounts}",
        after={"job_id": begun.job_id, "accounts": begun.accounts},
    )


PERFORMERS: Mapping[str, Performer] = {
    **{name: _in_transaction(name) for name in IN_TRANSACTION},
    "queue.pause": lambda app, target, _: queues.pause(app, *target.queue),
    "queue.resume": lambda app, target, _: queues.resume(app, *target.queue),
    "queue.limit": _limit,
    "post.resolve": _resolve_post,
    "video.resolve": _resolve_video,
    "video.cancel": _watched(_video, lambda app, target, _: _changed(videos.cancel(app, None, target.uuid))),
    "model.promote": _promote,
    "model.rollback": _roll_back,
    "quota.reset": _reset_quota,
    "quota.grant": lambda app, target, arguments: _change_quota(app, target, arguments["count"]),
    "quota.take": lambda app, target, arguments: _change_quota(app, target, -arguments["count"]),
    "tenant.delete": _delete_tenant,
    "provider.enable": lambda app, target, _: videos.enable(app, target.id),
    "provider.disable": lambda app, target, _: videos.disable(app, target.id),
    "account.enable": lambda app, target, _: accounts.enable(app, target.uuid),
    "account.disable": lambda app, target, _: accounts.disable(app, target.uuid),
    "account.disconnect": _watched(
        _account, lambda app, target, _: _changed(accounts.disconnect(app, None, target.uuid))
    ),
    "account.reconcile": lambda app, target, _: _changed(post_stories.reconcile_of_account(app, target.uuid)),
}
"""One for each name in `ACTIONS`."""
