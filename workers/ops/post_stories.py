"""What became of a post, and what a person decides about one of which nobody else can tell. The API and the shell use
this."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from db.postgres.errors import UniqueViolation
from db.transaction import SYSTEM
from domain.errors import Conflict, Rejected, SealUnknown, Unavailable, UnknownAccount, UnknownJob, UnknownPost
from domain.learning.performance import in_words, latest
from domain.learning.scoring import prediction_words
from domain.posting.accounts import AccountStatus, Credential
from domain.posting.explanation import Advice, Explanation, Facts
from domain.posting.explanation import explain as explained
from domain.posting.limits import closed_bucket
from domain.posting.matching import CLOCKS
from domain.posting.posts import UNDER_WAY, PostStatus
from domain.posting.publishing import AccountRevoked
from domain.posting.schedule import TURN
from domain.videos.profiles import NAMES
from workers.app import App
from workers.jobs.post_looks import bound_by
from workers.jobs.reconcile_posts import follow_up, reconcile_account
from workers.ops.explain import Reason
from workers.ops.explain import explain as explain_job
from workers.ops.jobs import Change
from workers.ops.post_changes import give_up, in_doubt, owner_of

LONGEST_ID = 500

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PostExplanation:
    """A post as it was at one moment, what is known of it, its `events` (oldest first), for operators why its job is
    where it is, and in words its `prediction` and its latest `numbers`."""

    at: datetime
    post: Row
    certain: list[str]
    uncertain: list[str]
    next: str | None
    next_at: datetime | None
    advice: list[Advice]
    events: list[Row]
    job: list[Reason]
    prediction: str | None = None
    numbers: str | None = None


def explain(app: App, tenant_id: UUID | None, post_id: UUID) -> PostExplanation:
    """Say what was sent when, what the platform answered, what is certain and what is not, what comes next, and what
    somebody can do.

    Raises:
        UnknownPost: there is none of this id.
    """
    with app.db.transaction(SYSTEM if tenant_id is None else tenant_id) as tx:
        owner = owner_of(tx, tenant_id, post_id)
        post = tx.planned_posts.get(owner, post_id)
        if post is None:
            raise UnknownPost(f"there is no post {post_id}")
        events = tx.planned_posts.events(owner, post_id)
        late_after = tx.planned_posts.policy(owner).late_after
        look = latest(tx.performance.looks(owner, post_id).looks)
        now = app.now(tx)
    facts = Facts(now, post, late_after, events, **_beside(app, post))
    found: Explanation = explained(facts)
    job: list[Reason] = []
    if tenant_id is None and post["job_id"] is not None and post["status"] in (*UNDER_WAY, PostStatus.UNCONFIRMED):
        with suppress(UnknownJob):
            job = explain_job(app, post["job_id"]).reasons
    numbers = None if look is None else f"{in_words(look)} (at {look.captured_at:%Y-%m-%d %H:%M} UTC)"
    expected = prediction_words(post["prediction"])
    return PostExplanation(
        *(now, post, found.certain, found.uncertain, found.next, found.next_at, found.advice, events, job),
        prediction=expected,
        numbers=numbers,
    )


def _beside(app: App, post: Row) -> Row:
    """Return what decides over a post and is not the tenant's own."""
    buckets = (closed_bucket(post["platform"], None), closed_bucket(post["platform"], post["account_id"]))
    with app.db.transaction(SYSTEM) as tx:
        job = None if post["job_id"] is None else tx.jobs.get(post["job_id"])
        live = job is not None and job["status"] in ("pending", "running")
        return {
            "next_at": job["scheduled_for"] if live and job is not None and job["status"] == "pending" else None,
            "closed_until": tx.rates.closed_until(buckets),
            "turn_at": tx.planned_posts.turn_at(post["tenant_id"], post["account_id"], TURN),
            "halted": tx.restores.open_one() is not None,
        }


# --- what a person decides ------------------------------------------------------------------------------------------


def resolve(app: App, post_id: UUID, verdict: Literal["found", "lost"], external_id: str | None = None) -> Change:
    """Decide about a post of which nobody else can tell whether it was published.

    "found": it is this post on the account, by the platform's id or its address; the platform is asked, where it
    answers. Without an id where the platform does not list every post (TikTok's private ones have none): somebody has
    seen it there. "lost": `post_changes.give_up`.

    Raises:
        UnknownPost: there is none of this id.
        Conflict: it is not in doubt (NOT_IN_DOUBT), another post has this id (BOUND), or the platform knows no such
            post on the account (NOT_THERE).
        Rejected: found needs an id of a platform that lists every post, lost has none.
    """
    if verdict not in ("found", "lost") or (verdict == "lost" and external_id):
        raise Rejected("say found with the id of the post on the platform, or lost without one")
    if external_id is not None and not (len(external_id) <= LONGEST_ID and external_id.isprintable()):
        raise Rejected(f"the id has at most {LONGEST_ID} printable characters")
    if verdict == "lost":
        with app.db.transaction(SYSTEM) as tx:
            return Change(True, give_up(tx, post_id, app.now(tx)))
    with app.db.transaction(SYSTEM) as tx:
        post = in_doubt(tx, post_id, lock=False)
    there = _look(app, post, external_id)
    with app.db.transaction(SYSTEM) as tx:
        post = in_doubt(tx, post_id, lock=True)
        key = (post["tenant_id"], post_id)
        now = app.now(tx)
        if there.external_id and (other := bound_by(tx, *key, there.external_id)) is not None:
            raise Conflict("BOUND", f"the post {other} has the id {there.external_id} already")
        try:
            with tx.savepoint(post["tenant_id"]):
                tx.posts.published(*key, external_id=there.external_id, permalink=there.permalink, now=now, at=there.at)
        except UniqueViolation as error:
            raise Conflict("BOUND", f"another post has just got the id {there.external_id}") from error
        named = there.external_id or "seen on the account"
        says = f"a person found it: {named}{there.heard}"
        tx.posts.note(*key, "resolved", says, details={"external_id": there.external_id}, at=now)
        follow_up.enqueue(tx, tenant_id=post["tenant_id"], post_id=post_id)
    return Change(True, f"it is published: {named}{there.heard}")


def reconcile_of_account(app: App, account_id: UUID) -> Change:
    """`reconcile` for all unconfirmed posts of an account.

    Raises:
        UnknownAccount: there is none of this id.
    """
    with app.db.transaction(SYSTEM) as tx:
        owner = tx.social_accounts.owner(account_id)
        if owner is None:
            raise UnknownAccount(f"no social account has the id {account_id}")
        count = len(tx.posts.in_doubt(owner, account_id))
        reconcile_account.enqueue(tx, tenant_id=owner, account_id=account_id)
    return Change(True, f"{count} unconfirmed: the platform is asked whether it has them")


@dataclass(frozen=True, slots=True)
class _There:
    """A post on the platform, published `at` that moment if the platform says so; `heard` says where it could not
    tell."""

    external_id: str | None
    permalink: str | None = None
    heard: str = ""
    at: datetime | None = None


def _look(app: App, post: Row, named: str | None) -> _There:
    """Look for the post on the account: in its own list, which has nobody else's, or by its id where that list is not
    complete.

    Raises:
        Conflict: the platform knows no such post on this account, or lists every post, so that one can be named.
    """
    name, publisher = NAMES[post["platform"]], app.ports.publishers.get(post["platform"])
    nobody = _There(named, heard=f"; {name} could not be asked")
    unknown = Conflict("NOT_THERE", f"{name} knows no post {named} on the account {post['username']}")
    try:
        credential = _credential(app, post)
        if publisher is None or credential is None:
            return nobody
        listing = publisher.recent(credential, (post["claimed_at"] or post["created_at"]) - CLOCKS)
        for seen in listing.posts:
            if named and named in (seen.external_id, seen.permalink):
                return _There(seen.external_id, seen.permalink, at=seen.published_at)
        if listing.complete:
            raise unknown if named else Conflict("ID_NEEDED", f"{name} lists every post of the account: say its id")
    except (Unavailable, AccountRevoked, SealUnknown) as error:
        return _There(named, heard=f"; {name} could not be asked: {error}")
    unlisted = f"; {name} does not list every post, so this is as the person says"
    if named is None:
        return _There(None, heard=unlisted)
    try:
        permalink = publisher.permalink(credential, named)
    except (Unavailable, AccountRevoked) as error:
        return _There(named, heard=f"; {name} could not be asked: {error}")
    except Rejected as error:
        raise unknown from error
    return _There(named, permalink, heard=unlisted)


def _credential(app: App, post: Row) -> Credential | None:
    """Return the tokens that the account has now: whoever only looks refreshes none."""
    with app.db.transaction(post["tenant_id"]) as tx:
        found = tx.social_accounts.tokens(post["tenant_id"], post["account_id"])
    if found is None or app.ports.vault is None or found[1].access is None:
        return None
    account, tokens = found
    if account["status"] != AccountStatus.ACTIVE or tokens.access is None:
        return None
    return Credential(account["external_id"], app.ports.vault.unseal(bytes(tokens.access)), account["server"])
