"""What each platform takes beside the video, as dated rows: texts by its own counting, hashtags, options, labels.

Read on 27 November 2026, unless the row says otherwise:

- TikTok: Content Posting API, Direct Post (title of 2,200 UTF-16 units, which is the caption; privacy_level,
  interactions, is_aigc, video_cover_timestamp_ms) and its guidelines (privacy is chosen by the person; interactions are
  off until they say so).
- YouTube: Data API, videos resource (title of 100 characters and description of 5,000 bytes, both without < and >; tags
  of 500 characters together) and help, "Use hashtags" (of more than 60 all are ignored); comments of 10,000 characters.
- Instagram: Content Publishing, IG User Media (caption of 2,200 characters, 20 names; is_ai_generated, thumb_offset)
  and IG Comment (300 characters); Ayrshare's page for at most 5 hashtags, and for its advice of 3 names.
- Bluesky: lexicon app.bsky.feed.post (300 graphemes, 3,000 bytes; a tag of 64 graphemes; 3 languages).
- Mastodon: `configuration.statuses` of /api/v2/instance (500 characters unless it names others, an address counts 23);
  the warning counts with the text (StatusLengthValidator).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from domain.posting.text import AI_WORDS, SAYS_AI, Unit
from domain.videos.profiles import NAMES, READ_ON


class Part(StrEnum):
    """The texts of a post."""

    TEXT = "text"
    TITLE = "title"
    TAGS = "tags"
    FIRST_COMMENT = "first_comment"


class Kind(StrEnum):
    CHOICE = "choice"
    SWITCH = "switch"
    TEXT = "text"
    LANGUAGE = "language"
    LANGUAGES = "languages"
    LABELS = "labels"
    """Some of the choices."""


@dataclass(frozen=True, slots=True)
class TextLimit:
    """`forbidden` are characters that the platform refuses."""

    part: Part
    most: int
    unit: Unit
    forbidden: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """What a person may choose for a post. `needed`: they have to, there is no default. `default` is what is sent if
    they do not, None if nothing is.

    `choices` are those that there are; those of `choices_of` are what the platform named for the account
    (`AccountLimits.settings`), and `closed_by` is a setting there that forbids it. Beside one that is `alone` and on,
    the platform ignores all others.
    """

    name: str
    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    needed: bool = False
    default: Any = None
    choices_of: str | None = None
    closed_by: str | None = None
    most: int | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What a platform takes. `ai_label` names its field for what a program made; None: it is said in the text.

    `most_hashtags` and `most_names` are refused beyond, `few_names` is advice.
    """

    platform: str
    limits: tuple[TextLimit, ...]
    options: tuple[Option, ...]
    ai_label: str | None
    title_needed: bool = False
    most_hashtags: int | None = None
    most_hashtag_length: int | None = None
    most_names: int | None = None
    few_names: int | None = None
    first_comment: bool = False
    cover: bool = False
    since: date = READ_ON

    @property
    def name(self) -> str:
        return NAMES[self.platform]

    @property
    def has_title(self) -> bool:
        return any(limit.part is Part.TITLE for limit in self.limits)

    @property
    def ai_words(self) -> str | None:
        """The words in the text that say that a program made it, where there is no label."""
        return AI_WORDS if self.platform in SAYS_AI else None

    def limits_of(self, part: Part) -> tuple[TextLimit, ...]:
        return tuple(limit for limit in self.limits if limit.part is part)

    def option(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)


def _interaction(name: str) -> Option:
    return Option(
        f"allow_{name}",
        Kind.SWITCH,
        f"whether viewers may {name}",
        default=False,
        closed_by=f"{name}_disabled",
    )


CONCEPT_KEYS = {"youtube-shorts": "youtubeShorts", "instagram-reels": "instagramReels"}
"""A concept's names of platforms, where they are not ours."""

OF_ALL = (
    Option(
        "ai_generated", Kind.SWITCH, "whether a program made the video; of one that was made here it is always said"
    ),
)


RULES = (
    Rules(
        platform="tiktok",
        limits=(TextLimit(Part.TEXT, 2200, Unit.UTF16),),
        options=(
            Option(
                "privacy_level",
                Kind.CHOICE,
                "who may see it; TikTok wants it chosen by the person",
                choices=("PUBLIC_TO_EVERYONE", "MUTUAL_FOLLOW_FRIENDS", "FOLLOWER_OF_CREATOR", "SELF_ONLY"),
                needed=True,
                choices_of="privacy_options",
            ),
            _interaction("comment"),
            _interaction("duet"),
            _interaction("stitch"),
            Option("brand_content", Kind.SWITCH, "whether somebody paid for it (a paid partnership)", default=False),
            Option("brand_organic", Kind.SWITCH, "whether it promotes the owner's own business", default=False),
            Option(
                "inbox",
                Kind.SWITCH,
                "whether it goes to the owner's inbox in TikTok, who writes the text and publishes it there",
                default=False,
                alone=True,
            ),
            *OF_ALL,
        ),
        ai_label="is_aigc",
        cover=True,
    ),
    Rules(
        platform="youtube-shorts",
        limits=(
            TextLimit(Part.TITLE, 100, Unit.CHARACTERS, "<>"),
            TextLimit(Part.TEXT, 5000, Unit.BYTES, "<>"),
            TextLimit(Part.TAGS, 500, Unit.CHARACTERS),
            TextLimit(Part.FIRST_COMMENT, 10_000, Unit.CHARACTERS),
        ),
        options=(
            Option(
                "privacy",
                Kind.CHOICE,
                "who may see it; YouTube's own default is public, so it is always said",
                choices=("public", "unlisted", "private"),
                needed=True,
            ),
            Option("made_for_kids", Kind.SWITCH, "whether it is made for children", default=False),
            Option("notify_subscribers", Kind.SWITCH, "whether subscribers are notified", default=True),
            Option("category", Kind.TEXT, "the number of YouTube's category", default="22", most=4),
            *OF_ALL,
        ),
        ai_label="containsSyntheticMedia",
        title_needed=True,
        most_hashtags=60,
        first_comment=True,
    ),
    Rules(
        platform="instagram-reels",
        limits=(
            TextLimit(Part.TEXT, 2200, Unit.CHARACTERS),
            TextLimit(Part.FIRST_COMMENT, 300, Unit.CHARACTERS),
        ),
        options=(Option("share_to_feed", Kind.SWITCH, "whether it appears in the feed too", default=True), *OF_ALL),
        ai_label="is_ai_generated",
        most_hashtags=5,
        most_names=20,
        few_names=3,
        first_comment=True,
        cover=True,
    ),
    Rules(
        platform="bluesky",
        limits=(
            TextLimit(Part.TEXT, 300, Unit.GRAPHEMES),
            TextLimit(Part.TEXT, 3000, Unit.BYTES),
            TextLimit(Part.FIRST_COMMENT, 300, Unit.GRAPHEMES),
            TextLimit(Part.FIRST_COMMENT, 3000, Unit.BYTES),
        ),
        options=(
            Option("langs", Kind.LANGUAGES, "the languages of the text", most=3),
            Option(
                "labels",
                Kind.LABELS,
                "what viewers are warned of",
                choices=("sexual", "nudity", "porn", "graphic-media"),
            ),
            *OF_ALL,
        ),
        ai_label=None,
        most_hashtag_length=64,
        first_comment=True,
    ),
    Rules(
        platform="mastodon",
        limits=(
            TextLimit(Part.TEXT, 500, Unit.MASTODON),
            TextLimit(Part.FIRST_COMMENT, 500, Unit.MASTODON),
        ),
        options=(
            Option(
                "visibility",
                Kind.CHOICE,
                "who may see it",
                choices=("public", "unlisted", "private", "direct"),
                default="public",
            ),
            Option("sensitive", Kind.SWITCH, "whether it is hidden behind a warning", default=False),
            Option("spoiler_text", Kind.TEXT, "the warning; it counts with the text"),
            Option("language", Kind.LANGUAGE, "the language of the text"),
            *OF_ALL,
        ),
        ai_label=None,
        first_comment=True,
    ),
)


def rules_of(platform: str, today: date) -> Rules:
    """Return what the platform takes on this day, as far as we know: its newest row that has begun, else its first."""
    rows = sorted((row for row in RULES if row.platform == platform), key=lambda row: row.since)
    begun = [row for row in rows if row.since <= today]
    return begun[-1] if begun else rows[0]


def chosen(rules: Rules, settings: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a post is published with: its own, else what the account's owner chose (`settings`), else
    the default. What nobody chose and has no default is not in it."""
    found: dict[str, Any] = {}
    for option in rules.options:
        values = (options.get(option.name), settings.get(option.name), option.default)
        value = next((value for value in values if value is not None), None)
        if value is not None:
            found[option.name] = value
    alone = alone_of(rules, found)
    return found if alone is None else {alone.name: True}


def alone_of(rules: Rules, options: Mapping[str, Any]) -> Option | None:
    """Return the option that is on and lets the platform ignore all others, if one is."""
    return next((option for option in rules.options if option.alone and options.get(option.name) is True), None)


def is_labelled(source: str, options: Mapping[str, Any]) -> bool:
    """Whether platforms and viewers are told that a program made the video: always if it was made here, else as its
    owner says."""
    return source == "concept" or options.get("ai_generated") is True
