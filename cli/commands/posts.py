"""`viral posts`"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from cli.acting import Reason, Yes, act, act_on_some, decided
from cli.arguments import among, duration, moment, setting
from cli.commands.analytics_words import say_metrics
from cli.commands.filters import OF_POSTS, After, Filters, filtered, posts_of, say_further, with_place
from cli.commands.post_words import listed_row, say_checked, say_explained, simplified
from cli.output import AsJson, Limit, console, print_json, progress, show, show_one
from cli.session import for_system, interruptible_sleep, session
from cli.shell import Group
from domain.errors import ViralError
from domain.ops.action_list import VERDICTS
from domain.ops.post_filters import PostFilter
from domain.posting.posts import PostStatus
from domain.text.readable import readable, span
from domain.videos.profiles import NAMES
from workers.app import App
from workers.jobs.post_plans import SUGGESTED, ForAccount, PostRequest
from workers.ops import analytics, post_stories, posts, queues, videos
from workers.ops.accounts import platform_of
from workers.ops.post_lists import post_list

app = Group()

ENDED = (
    *(PostStatus.PUBLISHED, PostStatus.IN_INBOX, PostStatus.FAILED, PostStatus.UNCONFIRMED),
    *(PostStatus.MISSED, PostStatus.CANCELLED, PostStatus.REMOVED),
)
COLUMNS = ("id", "scheduled_for", "tenant_id", "platform", "account", "status", "text", "permalink", "note")
PLANNED = ("scheduled_for", "id", "platform", "account", "status", "text")
BETWEEN_LOOKS = 0.3
"""Seconds."""
LOOKS_WITHOUT_WORKER = 30
"""After so many looks at a post that nobody has begun, the shell looks whether there is a worker."""

PostId = Annotated[UUID, typer.Argument(metavar="ID", help="The post's id; `viral posts list` shows them.")]
PostIds = Annotated[list[UUID], typer.Argument(metavar="ID", help="Posts; `viral posts list` shows them.")]
SomePosts = Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Posts; `viral posts list` shows them.")]
Tenant = Annotated[UUID, typer.Argument(metavar="TENANT", help="The tenant's id.")]
Caption = Annotated[str | None, typer.Option(help="The text. Default: the concept's.")]
Title = Annotated[str | None, typer.Option(help="The title, where there is one. Default: the concept's.")]
Hashtags = Annotated[
    list[str] | None, typer.Option("--hashtag", metavar="TAG", help="Repeat it. Default: the concept's; = for none.")
]
CoverAt = Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="Which picture is the cover.")]
FirstComment = Annotated[str | None, typer.Option(help="A comment to write below it, where that can be done.")]


def _at(text: str) -> datetime | Literal["suggested"]:
    return SUGGESTED if text == SUGGESTED else moment(text)


At = Annotated[
    Any,
    typer.Option(
        parser=_at, metavar="TIME", help="When; `suggested`: at the concept's time or the next good one. Default: now."
    ),
]


class StillPosting(ViralError):
    """Whoever waited for posts does not wait any more; they go on."""


# --- asking for posts -----------------------------------------------------------------------------------------------


@app.command()
def create(
    video: Annotated[UUID, typer.Argument(metavar="VIDEO", help="The video's id; `viral videos list` shows them.")],
    account: Annotated[
        list[UUID],
        typer.Option(metavar="ID", help="An account to post to; repeat it. `viral accounts list` shows them."),
    ],
    caption: Caption = None,
    title: Title = None,
    hashtag: Hashtags = None,
    cover_at: CoverAt = None,
    first_comment: FirstComment = None,
    at: At = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="PLATFORM.NAME=VALUE", help="An option of a platform; repeat it."),
    ] = None,
    draft: Annotated[bool, typer.Option("--draft", help="Keep it until somebody approves it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, and show what would be posted.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is known what became of them; exit code 1 if not published.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Post a video to accounts: to all of them, or to none.

    All is checked before anything is sent. An account has a video once.

    \b
    viral posts create VIDEO --account ID --wait
    viral posts create VIDEO --account ID --account ID --at suggested -o tiktok.privacy_level=SELF_ONLY
    viral posts create VIDEO --account ID --caption "Bread does not sleep." --dry-run
    """
    request = PostRequest(
        video_id=video,
        accounts=[ForAccount(each) for each in account],
        caption=caption,
        title=title,
        hashtags=_hashtags(hashtag),
        options=_by_platform(option or []),
        cover_at=cover_at,
        first_comment=first_comment,
        at=at,
        draft=draft,
    )
    with session() as current:
        tenant_id: UUID = videos.show(current, None, video)["tenant_id"]
        if dry_run:
            checked = posts.check(current, tenant_id, request)
            if as_json:
                print_json([asdict(each) for each in checked])
            else:
                say_checked(checked)
            if any(each.faults for each in checked):
                raise typer.Exit(1)
            return
        made = posts.create(current, tenant_id, request)
        if wait:
            _say_ended(_wait(current, [row["id"] for row in made], as_json=as_json), as_json=as_json)
            return
    if as_json:
        print_json(made)
    else:
        _say(made)


def _hashtags(given_tags: list[str] | None) -> list[str] | None:
    return None if given_tags is None else [tag for tag in given_tags if tag not in ("", "=")]


def _by_platform(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, value = setting(text)
        platform, dot, option = name.partition(".")
        if not dot or not option:
            raise typer.BadParameter(f"{text!r} is not PLATFORM.NAME=VALUE", param_hint="--option")
        found.setdefault(platform_of(platform), {})[option] = value
    return found


def _wait(current: App, ids: Sequence[UUID], *, as_json: bool) -> list[dict[str, Any]]:
    looks = 0
    with progress("posting", len(ids), as_json=as_json) as step:
        while True:
            rows = [posts.show(current, None, post_id) for post_id in ids]
            ended = sum(row["status"] in ENDED for row in rows)
            if ended == len(rows):
                return rows
            step(ended, says=f"{ended} of {len(rows)}")
            looks += 1
            due = any(row["status"] == PostStatus.SCHEDULED and _is_due(row) for row in rows)
            if looks == LOOKS_WITHOUT_WORKER and due:
                _say_if_nobody_works()
            try:
                interruptible_sleep(BETWEEN_LOOKS)
            except KeyboardInterrupt:
                raise StillPosting(
                    f"the posts go on without you: `viral posts explain {ids[0]}` says how far it is, "
                    "`viral posts cancel ID` stops what is not on its way"
                ) from None


def _is_due(row: Mapping[str, Any]) -> bool:
    return row["scheduled_for"] is not None and row["scheduled_for"] <= datetime.now(UTC)


def _say_if_nobody_works() -> None:
    with for_system() as tx:
        idle = [each.queue for each in queues.overview(tx) if each.queue in ("default", "social") and not each.workers]
    if idle:
        typer.echo(f"No worker works on {' and '.join(idle)}: start `viral up` or `viral worker`.", err=True)


def _say(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        where = f"{NAMES[row['platform']]}, {readable(row['username'])}"
        when = f" for {readable(row['scheduled_for'])}" if row["status"] == PostStatus.SCHEDULED else ""
        rest = row["permalink"] or row["error_message"]
        console().print(f"{row['id']}  {where}: {row['status']}{when}{f': {readable(rest)}' if rest else ''}")


@app.command("wait")
def wait_for(post_ids: PostIds, as_json: AsJson = False) -> None:
    """Wait until it is known what became of posts.

    Exit code 1 if one of them is not published. Ctrl-C leaves them to the workers.

    \b
    viral posts wait ID ID
    """
    with session() as current:
        _say_ended(_wait(current, post_ids, as_json=as_json), as_json=as_json)


def _say_ended(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        _say(rows)
    if any(row["status"] not in (PostStatus.PUBLISHED, PostStatus.IN_INBOX) for row in rows):
        raise typer.Exit(1)


# --- seeing them ----------------------------------------------------------------------------------------------------


@app.command("list")
@filtered(OF_POSTS)
def list_posts(filters: Filters, after: After = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the newest posts first.

    \b
    viral posts list --status unconfirmed
    viral posts list --status failed --platform tiktok --since 2h
    """
    with session() as current:
        found = post_list(current, posts_of(with_place(filters, after)), limit=limit)
    nothing = "No posts. `viral posts create VIDEO --account ID` makes one."
    show(found.rows, COLUMNS, as_json=as_json, nothing=nothing, simplified=listed_row)
    say_further(found.further, found.looked_at, full=len(found.rows) >= limit)


@app.command("show")
def show_post(post_id: PostId, as_json: AsJson = False) -> None:
    """Show a post and where it is.

    `viral posts explain ID` says what became of it, and what comes next.

    \b
    viral posts show ID
    """
    with session() as current:
        row = posts.show(current, None, post_id)
    show_one(row, as_json=as_json, simplified=simplified)


@app.command()
def calendar(
    tenant: Tenant,
    since: Annotated[
        datetime | None,
        typer.Option("--from", parser=moment, metavar="TIME", help="The first moment. Default: a day ago."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", parser=moment, metavar="TIME", help="The moment before which. Default: 30 days later."),
    ] = None,
    account: Annotated[UUID | None, typer.Option(metavar="ID", help="Only to this account.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is planned, by its time.

    \b
    viral posts calendar TENANT
    """
    first = since or datetime.now(UTC) - timedelta(days=1)
    with session() as current:
        rows = posts.calendar(current, tenant, first, until or first + timedelta(days=30), account)
    show(rows, PLANNED, as_json=as_json, nothing="Nothing is planned then.", simplified=listed_row)


@app.command()
def explain(post_id: PostId, as_json: AsJson = False) -> None:
    """Say what became of a post.

    What was sent when, what the platform answered, what is known for certain and what is not, what happens next, and
    what to do.

    \b
    viral posts explain ID
    """
    with session() as current:
        found = post_stories.explain(current, None, post_id)
    if as_json:
        print_json(asdict(found))
    else:
        say_explained(found)


@app.command("metrics")
def show_metrics(post_id: PostId, as_json: AsJson = False) -> None:
    """Show the numbers of a post.

    At 1, 6, 24 and 72 hours and 7 days after its publication, as the platform gave them: a dash is what it did not say.

    \b
    viral posts metrics ID
    """
    with session() as current:
        found = analytics.metrics(current, None, post_id)
    if as_json:
        print_json(analytics.metric_values(found))
    else:
        say_metrics(found)


# --- changing them --------------------------------------------------------------------------------------------------


@app.command()
def edit(
    post_id: PostId,
    caption: Annotated[str | None, typer.Option(help="Another text.")] = None,
    title: Annotated[str | None, typer.Option(help="Another title.")] = None,
    hashtag: Annotated[
        list[str] | None, typer.Option("--hashtag", metavar="TAG", help="Other hashtags: all of them; = for none.")
    ] = None,
    cover_at: CoverAt = None,
    first_comment: Annotated[str | None, typer.Option(help="Another first comment; empty: none.")] = None,
    at: Annotated[Any, typer.Option(parser=_at, metavar="TIME", help="Another time, or `suggested`.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of its platform; repeat it. = clears."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a post that is not on its way yet.

    One that was missed is scheduled by its new time.

    \b
    viral posts edit ID --at 2026-12-01T18:00Z
    """
    given_values = {"caption": caption, "title": title, "hashtags": _hashtags(hashtag), "cover_at": cover_at, "at": at}
    changes: dict[str, Any] = {name: value for name, value in given_values.items() if value is not None}
    if first_comment is not None:
        changes["first_comment"] = first_comment or None
    if not changes and not option:
        raise typer.BadParameter("say what to change, such as --caption or --at", param_hint="--…")
    with session() as current:
        if option:
            now = dict(posts.show(current, None, post_id)["options"]) | dict(setting(each) for each in option)
            changes["options"] = {name: value for name, value in now.items() if value is not None}
        row = posts.edit(current, None, post_id, changes)
    show_one(row, as_json=as_json, simplified=simplified)


@app.command()
@filtered(OF_POSTS)
def approve(filters: Filters, post_ids: SomePosts = None, reason: Reason = None, yes: Yes = False) -> None:
    """Schedule drafts, and posts that wait for approval.

    \b
    viral posts approve 01a20417-5ccc-7850-9558-0a37b805228c
    viral posts approve --status needs_approval --tenant ID --reason "they asked us to"
    """
    act_on_some("post.approve", post_ids, _of(filters), reason=reason, yes=yes)


@app.command()
@filtered(OF_POSTS)
def cancel(filters: Filters, post_ids: SomePosts = None, reason: Reason = None, yes: Yes = False) -> None:
    """Cancel posts that are not on their way yet.

    \b
    viral posts cancel 01a20417-5ccc-7850-9558-0a37b805228c
    viral posts cancel --status scheduled --account ID --reason "the account was stolen"
    """
    act_on_some("post.cancel", post_ids, _of(filters), reason=reason, yes=yes)


@app.command()
@filtered(OF_POSTS)
def retry(
    filters: Filters,
    post_ids: SomePosts = None,
    at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="When. Default: as soon as possible.")
    ] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Try posts again that certainly did not appear.

    On their accounts only: those of the same request stay as they are.

    \b
    viral posts retry 01a20417-5ccc-7850-9558-0a37b805228c --at 2026-12-01T09:00Z
    viral posts retry --status failed --platform tiktok --since 2h --reason "its outage is over"
    """
    act_on_some("post.retry", post_ids, _of(filters), {"at": at}, reason=reason, yes=yes)


def _of(filters: Filters) -> PostFilter | None:
    return posts_of(filters) if filters else None


@app.command()
def policy(
    tenant: Tenant,
    late_after: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="TIME", help="How late a post may begin, 10m to 7d; then it is missed."),
    ] = None,
    needs_approval: Annotated[
        bool | None, typer.Option("--needs-approval/--no-approval", help="Whether a person approves each post.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show or set how a tenant wants its posts.

    \b
    viral posts policy TENANT
    """
    with session() as current:
        if late_after is None and needs_approval is None:
            found = posts.policy(current, tenant)
        else:
            found = posts.set_policy(current, tenant, late_after=late_after, needs_approval=needs_approval)
    row = {"late_after_seconds": round(found.late_after.total_seconds()), "needs_approval": found.needs_approval}
    show_one(row, as_json=as_json, simplified=_policy)


def _policy(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "late_after": span(timedelta(seconds=row["late_after_seconds"])),
        "needs_approval": "yes" if row["needs_approval"] else "no",
    }


# --- where nobody could tell ----------------------------------------------------------------------------------------


@app.command()
@filtered(OF_POSTS)
def reconcile(
    filters: Filters,
    post_ids: Annotated[list[UUID] | None, typer.Argument(metavar="ID", help="Unconfirmed posts.")] = None,
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Ask platforms again whether they have unconfirmed posts.

    Nothing is sent again. With --account and nothing else, its platform is asked once about all of its posts.

    \b
    viral posts reconcile 01a20417-5ccc-7850-9558-0a37b805228c
    viral posts reconcile --account ID
    viral posts reconcile --status unconfirmed --platform youtube --reason "it answers again"
    """
    if not post_ids and filters.keys() == {"account"}:
        with session() as current:
            done = act(current, "account.reconcile", f"account:{filters['account']}", reason=reason)
        console().print(f"{filters['account']}  {done.says}")
        return
    act_on_some("post.reconcile", post_ids, _of(filters), reason=reason, yes=yes)


@app.command()
@filtered(OF_POSTS)
def resolve(
    filters: Filters,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ID…] found|lost [EXTERNAL_ID]",
            help="The post; whether it is on the account; found: the platform's id of it, or its address.",
            autocompletion=among(VERDICTS),
        ),
    ],
    reason: Reason = None,
    yes: Yes = False,
) -> None:
    """Decide about posts of which nobody could tell.

    Look at the account itself. Found: it is that post; without its id where the platform shows us none (private posts
    on TikTok). Lost: it is certainly not there; it is not sent again by itself. By a filter, all are lost.

    \b
    viral posts resolve ID found 7300000000000000001
    viral posts resolve ID lost
    viral posts resolve lost --status unconfirmed --account ID --reason "the account shows none of them"
    """
    post_ids, verdict, external_id = decided(words, filters, "EXTERNAL_ID")
    arguments = {"verdict": verdict, "external_id": external_id}
    act_on_some("post.resolve", post_ids, _of(filters), arguments, reason=reason, yes=yes)
