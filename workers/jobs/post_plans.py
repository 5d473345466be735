"""What would be posted to each account: the texts as they are put together of the request and the concept, the time,
and what is wrong with it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from functools import cached_property
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.concepts.timing import zone_of
from domain.concepts.wording import shorten
from domain.errors import Rejected, UnknownAccount, UnknownVideo
from domain.learning.scoring import SCORED, Predicted, Scoring, features_of
from domain.posting.limits import limits_of, places
from domain.posting.platforms import chosen, is_labelled, rules_of
from domain.posting.posts import NewPost, PostStatus
from domain.posting.schedule import AHEAD, suggested
from domain.posting.validation import Account, Draft, Earlier, Preview, faults, hints, preview
from domain.videos.media import Probe
from domain.videos.script import concept_at
from workers.engine.job import Tx

SUGGESTED: Literal["suggested"] = "suggested"
LONGEST_TITLE = 100
MOST_ACCOUNTS = 50
"""Accounts that one request posts to."""
LABELS = {"title": "title", "first_comment": "first comment", "cover_at": "time for the cover"}
NO_BRACKETS = str.maketrans("", "", "<>")
"""YouTube refuses them in a title; a concept's may have them."""
NO_PLACE = "the account has no free place for a long time: choose a time, or another account"

Row = dict[str, Any]
At = datetime | Literal["suggested"] | None


@dataclass(frozen=True, slots=True)
class ForAccount:
    """An account to post to. What is None is as the request has it for all."""

    account_id: UUID
    caption: str | None = None
    title: str | None = None
    hashtags: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cover_at: float | None = None
    first_comment: str | None = None
    at: At = None


@dataclass(frozen=True, slots=True)
class PostRequest:
    """One video for several accounts. Texts that are None are the concept's, as far as the video has one; `at` is None
    for now. `options` are by platform. A `draft` waits until somebody approves it."""

    video_id: UUID
    accounts: Sequence[ForAccount]
    caption: str | None = None
    title: str | None = None
    hashtags: Sequence[str] | None = None
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cover_at: float | None = None
    first_comment: str | None = None
    at: At = None
    draft: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be posted to one account: `faults` say why it cannot be, `hints` what to know before, `at_reason` why
    a suggested time is as it is."""

    account_id: UUID
    account: str
    platform: str
    faults: list[str]
    hints: list[str]
    preview: Preview
    at_reason: str | None = None


class Plans:
    """Plans the posts of one video to accounts of a tenant, in one transaction. With `times` of the clock a suggested
    time is one of these.

    Raises:
        UnknownVideo: the tenant has no such video.
    """

    def __init__(self, tx: Tx, tenant_id: UUID, video_id: UUID, now: datetime, *, times: Sequence[time] = ()) -> None:
        video = tx.videos.get(tenant_id, video_id)
        if video is None:
            raise UnknownVideo(f"there is no video {video_id}")
        self._tx = tx
        self._tenant_id = tenant_id
        self._now = now
        self._times = times
        self._video = video
        self._concept = _concept(tx, tenant_id, video)

    def of(self, request: PostRequest) -> Iterator[tuple[Planned, NewPost]]:
        """Yield for each account what would be posted and what is wrong with it, and the post as it would be added; its
        id, status and prediction are set later.

        Raises:
            UnknownAccount: the tenant has no such account.
            Rejected: no account is named, or one twice.
        """
        wanted = [each.account_id for each in request.accounts]
        if not wanted or len(set(wanted)) != len(wanted) or len(wanted) > MOST_ACCOUNTS:
            raise Rejected(f"name 1 to {MOST_ACCOUNTS} accounts, each once")
        accounts = [self._account(account_id) for account_id in wanted]
        earlier = {row["account_id"]: row for row in self._of_file(wanted)}
        for each, account in zip(request.accounts, accounts, strict=True):
            draft, left_out = self._draft(request, each, account)
            at, reason = each.at or request.at, None
            no_place: list[str] = []
            if at == SUGGESTED:
                at, reason = self.suggest(account)
                no_place = [] if at else [NO_PLACE]
            draft = replace(draft, at=at)
            planned = self.judge(draft, account, earlier.get(account["id"]))
            wrong, odd = [*planned.faults, *no_place], [*left_out, *planned.hints]
            yield replace(planned, at_reason=reason, faults=wrong, hints=odd), self._new_post(draft, account)

    def predict(self, platform: str, post: NewPost) -> list[Predicted]:
        """Return what every model expects of a post; nothing where the platform counts no views."""
        if platform not in SCORED:
            return []
        at = post.scheduled_for or self._now
        probe = _probe(self._video)
        features = features_of(
            account=str(post.account_id),
            category=self._concept.get("category"),
            at=at,
            zone=self._zone,
            caption=post.caption,
            hashtags=post.hashtags,
            seconds=None if probe is None else probe.seconds,
        )
        return self._scoring.predict(platform, features, at.date())

    @property
    def lessons(self) -> list[UUID] | None:
        """The lessons that the concept was written with; None if nobody has asked whether there are any."""
        found = self._concept.get("lessons")
        try:
            return [UUID(each) for each in found] if isinstance(found, list) else None
        except (AttributeError, TypeError, ValueError):  # concepts of others may have anything in this place
            return None

    def of_post(self, post: Row, at: datetime | None) -> Planned:
        """Return what would be posted by a post that there is already, at another time."""
        account = self._account(post["account_id"])
        rules = rules_of(account["platform"], self._now.date())
        draft = Draft(
            caption=post["caption"],
            title=post["title"] or "",
            hashtags=post["hashtags"],
            options=post["options"],
            cover_at=None if post["cover_at"] is None else float(post["cover_at"]),
            first_comment=post["first_comment"],
            at=at,
            ai_generated=is_labelled(self._video["source"], chosen(rules, account["settings"], post["options"])),
        )
        earlier = self._of_file([account["id"]], but=post["id"])
        return self.judge(draft, account, earlier[0] if earlier else None)

    def suggest(self, account: Row, but: datetime | None = None) -> tuple[datetime | None, str | None]:
        """Return the concept's time, or the next at which the account is free, and why; None if it is not for a long
        time. `but` is the time of the post that is moved."""
        since, until = self._now - timedelta(days=1), self._now + AHEAD + timedelta(days=1)
        found = self._tx.planned_posts.taken(self._tenant_id, [account["id"]], since, until)
        taken = list(found.get(account["id"], ()))
        if but in taken:  # once: another post may have the same time
            taken.remove(but)
        own = account["timezone"]
        zone = zone_of(own) if own != "UTC" else self._zone
        a_day = _posts_a_day(account, self._now)
        suggestion = suggested(_concept_time(self._concept), zone, taken, self._now, a_day=a_day, times=self._times)
        return (None, None) if suggestion is None else (suggestion.at, suggestion.reason)

    @cached_property
    def _zone(self) -> ZoneInfo:
        return zone_of(self._tx.tenants.get(self._tenant_id)["timezone"])

    @cached_property
    def _scoring(self) -> Scoring:
        return self._tx.learners.scoring(self._tenant_id)

    def judge(self, draft: Draft, account: Row, earlier: Row | None) -> Planned:
        """Say what is wrong with a post."""
        its = Account(
            platform=account["platform"],
            name=account["username"] or account["external_id"],
            status=account["status"],
            reason=account["reason"],
            settings=account["settings"],
            limits=limits_of(account["limits"]),
        )
        probe = _probe(self._video)
        before = None if earlier is None else Earlier(str(earlier["id"]), earlier["status"])
        return Planned(
            account_id=account["id"],
            account=its.name,
            platform=its.platform,
            faults=[*self._video_faults(draft), *faults(draft, its, probe, self._now, earlier=before)],
            hints=hints(draft, its, probe, self._now),
            preview=preview(draft, its, self._now),
        )

    def _video_faults(self, draft: Draft) -> list[str]:
        status = self._video["status"]
        if status in ("failed", "cancelled"):
            return [f"the video is {status}: render it again, or choose another"]
        if status != "completed" and draft.at is None:
            return [f"the video is {status}: wait until it is completed, or choose a later time"]
        return []

    def _account(self, account_id: UUID) -> Row:
        account = self._tx.social_accounts.get(self._tenant_id, account_id)
        if account is None:
            raise UnknownAccount(f"there is no account {account_id}")
        return account

    def _of_file(self, accounts: Sequence[UUID], but: UUID | None = None) -> list[Row]:
        return self._tx.planned_posts.of_file(self._tenant_id, self._video["id"], accounts, but=but)

    def _draft(self, request: PostRequest, each: ForAccount, account: Row) -> tuple[Draft, list[str]]:
        """Return the texts for one account: its own, else those for all, else the concept's. What was given for all and
        this platform does not take is left out, and the second value says so."""
        rules = rules_of(account["platform"], self._now.date())
        takes = {"title": rules.has_title, "first_comment": rules.first_comment, "cover_at": rules.cover}
        own: Row = {name: getattr(each, name) for name in takes}
        for_all = {name: getattr(request, name) for name in takes if getattr(request, name) is not None}
        own |= {name: value for name, value in for_all.items() if takes[name] and own[name] is None}
        left_out = [
            f"{rules.name} takes no {LABELS[name]}: it is left out there" for name in for_all if not takes[name]
        ]
        if own["title"] is None and rules.has_title:
            title = str(self._concept.get("title") or self._video["title"] or "")
            own["title"] = shorten(title.translate(NO_BRACKETS), LONGEST_TITLE)
        if own["cover_at"] is None and rules.cover and self._video["cover_at"] is not None:
            own["cover_at"] = float(self._video["cover_at"])
        caption = _first(each.caption, request.caption, self._concept.get("caption"), "")
        hashtags = _first(each.hashtags, request.hashtags)
        if hashtags is None:  # the concept's, as many as are taken
            found = self._concept.get("hashtags")
            hashtags = found[: rules.most_hashtags] if isinstance(found, list) else []
        options = {**request.options.get(account["platform"], {}), **each.options}
        draft = Draft(
            caption=str(caption),
            title=own["title"] or "",
            hashtags=[str(tag) for tag in hashtags],
            options=options,
            cover_at=own["cover_at"],
            first_comment=own["first_comment"],
            ai_generated=is_labelled(self._video["source"], chosen(rules, account["settings"], options)),
        )
        return draft, left_out

    def _new_post(self, draft: Draft, account: Row) -> NewPost:
        rules = rules_of(account["platform"], self._now.date())
        return NewPost(
            id=account["id"],
            video_id=self._video["id"],
            account_id=account["id"],
            status=PostStatus.SCHEDULED,
            scheduled_for=draft.at or self._now,
            caption=draft.caption,
            title=draft.title,
            hashtags=draft.hashtags,
            options=chosen(rules, account["settings"], draft.options),
            cover_at=draft.cover_at,
            first_comment=draft.first_comment,
        )


def _posts_a_day(account: Row, now: datetime) -> int | None:
    limits = limits_of(account["limits"])
    rows = places(account["platform"], account["id"], now, daily_limit=account["daily_limit"], limits=limits)
    return min((row.most for row in rows if str(account["id"]) in row.bucket), default=None)


def _concept_time(concept: Mapping[str, Any]) -> datetime | None:
    """Return when the concept wants to be posted; imported concepts may have anything in this place."""
    try:
        at = datetime.fromisoformat(concept["postTime"]["utc"])
    except (KeyError, TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _concept(tx: Tx, tenant_id: UUID, video: Row) -> Mapping[str, Any]:
    """Return the concept of the video; nothing if it has none any more."""
    if video["generation_id"] is None or video["concept_id"] is None:
        return {}
    generation = tx.generations.get(tenant_id, video["generation_id"])
    if generation is None:
        return {}
    try:
        found = concept_at(list(generation.concepts), video["concept_id"])
    except Rejected:
        return {}
    return found if isinstance(found, Mapping) else {}


def _probe(video: Row) -> Probe | None:
    """Return what was found in the video's file; None while there is none."""
    found = (video["details"] or {}).get("probe")
    if video["status"] != "completed" or not isinstance(found, Mapping):
        return None
    fields = {name: value for name, value in found.items() if name in Probe.__dataclass_fields__}
    try:
        return Probe(**fields)
    except TypeError:
        return None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
