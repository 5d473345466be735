"""What is wrong with a post on one account, one clear line each, before anything is sent; and how it will look."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from domain.concepts.wording import counted, shorten
from domain.posting.accounts import AccountStatus
from domain.posting.platforms import Kind, Option, Part, Rules, TextLimit, alone_of, chosen, rules_of
from domain.posting.publishing import AccountLimits
from domain.posting.schedule import AHEAD
from domain.posting.text import (
    Unit,
    compose,
    count,
    hashtags_in,
    is_hashtag,
    key_of,
    mentions_in,
    normalise,
    unseen_in,
)
from domain.text import times
from domain.text.visible import visible
from domain.videos import profiles
from domain.videos.media import Probe

MARK_ROOM = 48
"""Characters of YouTube's tags that are kept for our own."""
SHOWN = 60
"""Characters of a text that an error repeats."""

_LANGUAGE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")


@dataclass(frozen=True, slots=True)
class Draft:
    """A post as somebody wants it. `at` is None for now."""

    caption: str = ""
    title: str = ""
    hashtags: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    cover_at: float | None = None
    first_comment: str | None = None
    at: datetime | None = None
    ai_generated: bool = True


@dataclass(frozen=True, slots=True)
class Account:
    """The account that it is for. `settings` are what its owner chose, `limits` what the platform said of it.
    `disabled`: our people let nothing be posted to it."""

    platform: str
    name: str
    status: str = AccountStatus.ACTIVE
    reason: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: AccountLimits = field(default_factory=AccountLimits)
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Earlier:
    """A post of the same video to the same account that stands in the way."""

    post_id: str
    status: str


@dataclass(frozen=True, slots=True)
class Count:
    """How long a part of the post is as the platform counts it, and the most that it takes."""

    part: str
    count: int
    most: int
    unit: str

    @property
    def over(self) -> int:
        return max(0, self.count - self.most)


@dataclass(frozen=True, slots=True)
class Preview:
    """What people will see. `ai_label` is the platform's field for what a program made, `ai_words` the words in the
    text where it has none. `options` are all that are sent."""

    platform: str
    text: str
    title: str
    hashtags: tuple[str, ...]
    first_comment: str | None
    options: Mapping[str, Any]
    counts: tuple[Count, ...]
    ai_label: str | None
    ai_words: str | None
    cover_at: float | None
    at: datetime | None


def faults(
    draft: Draft, account: Account, video: Probe | None, now: datetime, *, earlier: Earlier | None = None
) -> list[str]:
    """Return why the post cannot be made, and what to do; nothing if all is well. `video` is None while its file is not
    there yet: then nothing is said of it."""
    rules = rules_of(account.platform, now.date())
    return list(
        chain(
            _account_faults(account, rules, earlier),
            time_faults(draft.at, now),
            _text_faults(draft, account, rules),
            _hashtag_faults(draft, rules),
            _option_faults(draft, account, rules),
            _comment_and_cover_faults(draft, rules, video),
            _video_faults(account, rules, video, now),
        )
    )


def setting_faults(settings: Mapping[str, Any], account: Account, now: datetime) -> list[str]:
    """Return why these options cannot be what the account's owner chose for its posts; null takes a choice away."""
    rules = rules_of(account.platform, now.date())
    found: list[str] = []
    for name, value in settings.items():
        option = rules.option(name)
        if option is None:
            found.append(_no_option(name, rules))
        elif value is not None:
            found += _value_faults(option, value, account, rules)
    return found


def hints(draft: Draft, account: Account, video: Probe | None, now: datetime) -> list[str]:
    """Return what the platform takes, but a person might want to know first."""
    rules = rules_of(account.platform, now.date())
    return list(_hints(draft, account, rules, video, now))


def preview(draft: Draft, account: Account, now: datetime) -> Preview:
    """Return the post as it will be."""
    rules = rules_of(account.platform, now.date())
    options = chosen(rules, account.settings, draft.options)
    labelled = draft.ai_generated and alone_of(rules, options) is None
    return Preview(
        platform=account.platform,
        text=_text(draft, rules),
        title=draft.title.strip(),
        hashtags=normalise(draft.hashtags),
        first_comment=draft.first_comment,
        options=options,
        counts=counts(draft, account, now),
        ai_label=rules.ai_label if labelled else None,
        ai_words=rules.ai_words if draft.ai_generated else None,
        cover_at=draft.cover_at,
        at=draft.at,
    )


def counts(draft: Draft, account: Account, now: datetime) -> tuple[Count, ...]:
    """Return how long each part is, by the account's own limits."""
    rules = rules_of(account.platform, now.date())
    return tuple(found for _, found in _counts(draft, account, rules))


def _text(draft: Draft, rules: Rules) -> str:
    return compose(rules.platform, draft.caption, draft.hashtags, draft.ai_generated)


def _account_faults(account: Account, rules: Rules, earlier: Earlier | None) -> Iterator[str]:
    because = f" ({visible(account.reason)})" if account.reason else ""
    match account.status:
        case AccountStatus.NEEDS_RECONNECT:
            yield f"account {visible(account.name)} has to be connected again{because}: connect it to {rules.name}"
        case AccountStatus.DISCONNECTED:
            yield f"account {visible(account.name)} is disconnected: connect it, or choose another"
    if earlier is not None:
        yield (
            f"this video is already on account {visible(account.name)} (post {earlier.post_id}, {earlier.status}): "
            "cancel that post, or choose another video or account"
        )


def time_faults(at: datetime | None, now: datetime) -> Iterator[str]:
    """Say what is wrong with the time of a post; None is at once."""
    return iter(()) if at is None else times.time_faults(at, now, ahead=AHEAD)


def _counts(draft: Draft, account: Account, rules: Rules) -> Iterator[tuple[TextLimit, Count]]:
    tags = normalise(draft.hashtags)
    parts = {
        Part.TEXT: _text(draft, rules),
        Part.TITLE: draft.title.strip(),
        Part.TAGS: ",".join(f'"{tag}"' if " " in tag else tag for tag in tags),
        Part.FIRST_COMMENT: draft.first_comment or "",
    }
    warning = chosen(rules, account.settings, draft.options).get("spoiler_text")
    for limit in rules.limits:
        if limit.part is Part.FIRST_COMMENT and not draft.first_comment:
            continue
        length = count(parts[limit.part], limit.unit)
        most = limit.most
        if limit.unit is Unit.MASTODON:
            most = account.limits.max_characters or most
            if limit.part is Part.TEXT and isinstance(warning, str):
                length += count(warning, Unit.GRAPHEMES)
        if limit.part is Part.TAGS:
            most -= MARK_ROOM
        yield limit, Count(limit.part, length, most, limit.unit)


_CALLED = {
    Part.TEXT: "the text (caption and hashtags)",
    Part.TITLE: "the title",
    Part.TAGS: "all hashtags together, as tags,",
    Part.FIRST_COMMENT: "the first comment",
}


def _text_faults(draft: Draft, account: Account, rules: Rules) -> Iterator[str]:
    written = {Part.TEXT: draft.caption, Part.TITLE: draft.title, Part.FIRST_COMMENT: draft.first_comment or ""}
    for part, text in written.items():
        unseen = unseen_in(text)
        if unseen is not None:
            yield f"{_CALLED[part]} has {unseen}: remove it"
    for limit, found in _counts(draft, account, rules):
        if found.over and (limit.part is not Part.FIRST_COMMENT or rules.first_comment):
            yield (
                f"{_CALLED[limit.part]} has {found.count:,} {found.unit}; {rules.name} takes at most {found.most:,}: "
                f"shorten it by {found.over:,}"
            )
        for sign in sorted(set(limit.forbidden) & set(written.get(limit.part, ""))):
            yield f"{_CALLED[limit.part]} has the sign {sign}, which {rules.name} refuses: remove it"
    if rules.title_needed and not draft.title.strip():
        yield f"there is no title; {rules.name} needs one"
    if draft.title.strip() and not rules.has_title:
        yield f"{rules.name} has no titles: leave it empty, and write it into the caption"
    names = mentions_in(_text(draft, rules))
    if rules.most_names is not None and len(names) > rules.most_names:
        yield (
            f"the text names {len(names)} accounts with @; {rules.name} takes at most {rules.most_names}: "
            f"name {len(names) - rules.most_names} fewer"
        )


def _hashtag_faults(draft: Draft, rules: Rules) -> Iterator[str]:
    for tag in normalise(draft.hashtags):
        shown = visible(shorten(tag, SHOWN))
        if not is_hashtag(tag):
            yield f"#{shown} is no hashtag: letters, digits and underscores in one piece, and not digits alone"
        elif rules.most_hashtag_length is not None and count(tag, Unit.GRAPHEMES) > rules.most_hashtag_length:
            yield f"#{shown} is too long; {rules.name} takes hashtags of at most {rules.most_hashtag_length} signs"
    there = {key_of(tag) for tag in hashtags_in(_text(draft, rules))}
    if rules.most_hashtags is not None and len(there) > rules.most_hashtags:
        yield (
            f"the post has {counted(len(there), 'hashtag')}, with those in the caption; {rules.name} takes at most "
            f"{rules.most_hashtags}: remove {len(there) - rules.most_hashtags}"
        )


def _option_faults(draft: Draft, account: Account, rules: Rules) -> Iterator[str]:
    for name in draft.options:
        if rules.option(name) is None:
            yield _no_option(name, rules)
    values = chosen(rules, account.settings, draft.options)
    alone = alone_of(rules, values)
    for option in rules.options:
        value = values.get(option.name)
        if value is not None:
            yield from _value_faults(option, value, account, rules)
        elif alone is not None:
            if draft.options.get(option.name):
                yield f"{alone.name} is on, and {rules.name} ignores {option.name} then: leave one of them out"
        elif option.needed:
            yield (
                f"{option.name} was not chosen, and there is no default: choose {_either(_choices(option, account))} "
                "for the post or for the account"
            )
    if values.get("brand_content") is True and values.get("privacy_level") == "SELF_ONLY":
        yield f"brand_content is on, and {rules.name} does not let what somebody paid for be seen by its owner only"


def _no_option(name: str, rules: Rules) -> str:
    there = ", ".join(option.name for option in rules.options)
    return f"{rules.name} has no option {visible(shorten(name, SHOWN))}: there is {there}"


def _choices(option: Option, account: Account) -> tuple[str, ...]:
    """Return what may be chosen: what the platform named for the account, if it did."""
    named = account.limits.settings.get(option.choices_of) if option.choices_of else None
    return tuple(named) if named else option.choices


def _value_faults(option: Option, value: Any, account: Account, rules: Rules) -> Iterator[str]:
    shown = visible(shorten(str(value), SHOWN))
    match option.kind:
        case Kind.CHOICE:
            choices = _choices(option, account)
            if not isinstance(value, str) or value not in choices:
                of_account = " lets this account choose" if choices != option.choices else " has"
                yield f"{option.name} is {shown}; {rules.name}{of_account} {_either(choices)}"
        case Kind.SWITCH:
            if not isinstance(value, bool):
                yield f"{option.name} is {shown}: it is true or false"
            elif value and option.closed_by and account.limits.settings.get(option.closed_by):
                yield f"{option.name} is on, and the account's settings on {rules.name} forbid it: leave it off"
        case Kind.TEXT:
            if not isinstance(value, str):
                yield f"{option.name} is {shown}: it is a text"
            else:
                yield from _written_faults(option, value)
        case Kind.LABELS:
            if not isinstance(value, list | tuple) or not all(each in option.choices for each in value):
                yield f"{option.name} is {shown}: it is a list of some of {', '.join(option.choices)}"
        case Kind.LANGUAGE | Kind.LANGUAGES:
            yield from _language_faults(option, value, rules)


def _written_faults(option: Option, text: str) -> Iterator[str]:
    unseen = unseen_in(text)
    if unseen is not None:
        yield f"{option.name} has {unseen}: remove it"
    if option.most is not None and len(text) > option.most:
        yield f"{option.name} has {counted(len(text), 'character')}; at most {option.most}"


def _language_faults(option: Option, value: Any, rules: Rules) -> Iterator[str]:
    shown = visible(shorten(str(value), SHOWN))
    if option.kind is Kind.LANGUAGE:
        if not _is_language(value):
            yield f"{option.name} is {shown}: it is a language such as en or pt-BR"
    elif not isinstance(value, list | tuple) or not all(_is_language(each) for each in value):
        yield f"{option.name} is {shown}: it is a list of languages such as en and pt-BR"
    elif option.most is not None and len(value) > option.most:
        yield f"{option.name} has {counted(len(value), 'language')}; {rules.name} takes at most {option.most}"


def _is_language(value: object) -> bool:
    return (
        isinstance(value, str)
        and 2 <= len(value) <= 35
        and set(value) <= _LANGUAGE
        and 2 <= len(value.split("-", maxsplit=1)[0]) <= 3
    )


def _comment_and_cover_faults(draft: Draft, rules: Rules, video: Probe | None) -> Iterator[str]:
    if draft.first_comment is not None and not rules.first_comment:
        yield f"{rules.name} takes no first comment from a program: leave it out, or write it into the caption"
    elif draft.first_comment is not None and not draft.first_comment.strip():
        yield "the first comment is empty: write one, or leave it out"
    if draft.cover_at is None:
        return
    if not rules.cover:
        yield f"{rules.name} takes no time for the cover: leave it out"
    elif draft.cover_at < 0 or (video is not None and draft.cover_at >= video.seconds):
        lasts = f", which lasts {video.seconds:g} s" if video is not None else ""
        yield f"the cover's time {draft.cover_at:g} s is not within the video{lasts}"


def _video_faults(account: Account, rules: Rules, video: Probe | None, now: datetime) -> Iterator[str]:
    if video is None:
        return
    yield from (
        f"the video: {each}" for each in profiles.faults(video, profiles.profile_of(rules.platform, now.date()))
    )
    limits = account.limits
    if limits.max_seconds is not None and video.seconds > limits.max_seconds:
        yield (
            f"the video lasts {video.seconds:g} s; {rules.name} lets this account post at most "
            f"{limits.max_seconds:g} s: choose a shorter one"
        )
    if limits.max_bytes is not None and video.bytes > limits.max_bytes:
        yield f"the video has {video.bytes:,} bytes; {rules.name} takes at most {limits.max_bytes:,} of this account"


def _hints(draft: Draft, account: Account, rules: Rules, video: Probe | None, now: datetime) -> Iterator[str]:
    text = _text(draft, rules)
    if not text:
        yield "the post has no text"
    if not hashtags_in(text):
        yield "the post has no hashtag"
    names = mentions_in(text)
    if rules.few_names is not None and rules.few_names < len(names) <= (rules.most_names or len(names)):
        yield f"the text names {len(names)} accounts with @; more than {rules.few_names} may be taken for spam"
    if account.limits.posts_left_today == 0:
        yield f"{rules.name} takes no more posts of this account today: it waits until it does"
    values = chosen(rules, account.settings, draft.options)
    if alone_of(rules, values) is not None:
        yield (
            f"{rules.name} puts it into the owner's inbox: they write the text and publish it there, and say that it "
            "is AI"
        )
    if values.get("privacy_level") == "SELF_ONLY" or values.get("privacy") == "private":
        yield "only the account's owner will see it"
    if video is not None:
        yield from (
            f"the video: {each}" for each in profiles.hints(video, profiles.profile_of(rules.platform, now.date()))
        )


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
