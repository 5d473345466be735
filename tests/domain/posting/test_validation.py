"""One clear line for each thing that is wrong with a post, before anything is sent; and how it will look."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.posting.accounts import AccountStatus
from domain.posting.publishing import AccountLimits
from domain.posting.schedule import AHEAD
from domain.posting.text import Unit, count
from domain.posting.validation import Account, Draft, Earlier, faults, hints, preview
from domain.videos.media import Probe
from domain.videos.profiles import NAMES

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
VIDEO = Probe(
    **{"bytes": 4_000_000, "container": "mp4", "seconds": 15.0, "width": 1080, "height": 1920, "video_codec": "h264"},
    **{"pixel_format": "yuv420p", "fps": 30.0, "constant_rate": True, "rotation": 0, "video_streams": 1},
    **{"audio_streams": 1, "audio_codec": "aac", "audio_rate": 48_000, "audio_channels": 2, "edit_lists": 0},
    moov_first=True,
)
FAMILY = "👨‍👩‍👧‍👦"
HALF = "\ud83d"
GOOD = {
    "tiktok": Draft("A goose.", hashtags=("goose",), options={"privacy_level": "SELF_ONLY"}),
    "youtube-shorts": Draft("A goose.", "Goose", ("goose",), {"privacy": "public"}, first_comment="Honk."),
    "instagram-reels": Draft("A goose.", hashtags=("goose",), cover_at=3.0, first_comment="Honk."),
    "bluesky": Draft("A goose.", hashtags=("goose",), options={"langs": ["en", "pt-BR"]}, first_comment="Honk."),
    "mastodon": Draft("A goose.", hashtags=("goose",), options={"visibility": "unlisted", "language": "en"}),
}


def found(
    platform: str,
    *,
    account: dict[str, Any] | None = None,
    video: Probe | None = VIDEO,
    earlier: Earlier | None = None,
    **values: Any,
) -> list[str]:
    draft = replace(GOOD[platform], **values)
    return faults(draft, Account(platform, "ann", **(account or {})), video, NOW, earlier=earlier)


def limits(**values: Any) -> dict[str, Any]:
    return {"limits": AccountLimits(**values)}


@pytest.mark.parametrize("platform", NAMES)
def test_a_good_post_has_no_faults(platform: str) -> None:
    assert found(platform) == []
    assert found(platform, video=None) == []


@pytest.mark.parametrize(
    ("platform", "values", "line"),
    [
        pytest.param(
            "tiktok",
            {"caption": FAMILY * 200, "hashtags": ()},
            None,
            id="tiktok-at-its-limit",
        ),
        pytest.param(
            "tiktok",
            {"caption": FAMILY * 200 + "a", "hashtags": ()},
            "the text (caption and hashtags) has 2,201 UTF-16 units; TikTok takes at most 2,200: shorten it by 1",
            id="tiktok-units",
        ),
        pytest.param(
            "youtube-shorts",
            {"caption": "日" * 1667, "hashtags": ()},
            "the text (caption and hashtags) has 5,001 bytes; YouTube Shorts takes at most 5,000: shorten it by 1",
            id="youtube-bytes",
        ),
        pytest.param("youtube-shorts", {"title": "日" * 100}, None, id="youtube-title-at-its-limit"),
        pytest.param(
            "youtube-shorts",
            {"title": "日" * 101},
            "the title has 101 characters; YouTube Shorts takes at most 100: shorten it by 1",
            id="youtube-title",
        ),
        pytest.param(
            "youtube-shorts",
            {"title": " "},
            "there is no title; YouTube Shorts needs one",
            id="youtube-no-title",
        ),
        pytest.param(
            "youtube-shorts",
            {"title": "a <b"},
            "the title has the sign <, which YouTube Shorts refuses: remove it",
            id="youtube-sign",
        ),
        pytest.param(
            "youtube-shorts",
            {"hashtags": tuple(f"{'a' * 30}{number}" for number in range(15))},
            "all hashtags together, as tags, has 484 characters; YouTube Shorts takes at most 452: shorten it by 32",
            id="youtube-tags",
        ),
        pytest.param(
            "instagram-reels",
            {"caption": "#a #b #c", "hashtags": ("d", "e", "A", "f")},
            "the post has 6 hashtags, with those in the caption; Instagram Reels takes at most 5: remove 1",
            id="instagram-hashtags",
        ),
        pytest.param(
            "instagram-reels",
            {"caption": " ".join(f"@a{number}" for number in range(21))},
            "the text names 21 accounts with @; Instagram Reels takes at most 20: name 1 fewer",
            id="instagram-names",
        ),
        pytest.param(
            "instagram-reels",
            {"first_comment": "a" * 301},
            "the first comment has 301 characters; Instagram Reels takes at most 300: shorten it by 1",
            id="instagram-comment",
        ),
        pytest.param(
            "bluesky",
            {"caption": FAMILY * 285, "hashtags": ()},
            "the text (caption and hashtags) has 7,140 bytes; Bluesky takes at most 3,000: shorten it by 4,140",
            id="bluesky-bytes",
        ),
        pytest.param(
            "bluesky",
            {"caption": "é" * 286, "hashtags": ()},
            "the text (caption and hashtags) has 301 signs; Bluesky takes at most 300: shorten it by 1",
            id="bluesky-signs-with-the-ai-words",
        ),
        pytest.param(
            "bluesky",
            {"caption": "é" * 300, "hashtags": (), "ai_generated": False},
            None,
            id="bluesky-at-its-limit",
        ),
        pytest.param(
            "bluesky",
            {"hashtags": ("a" * 65,)},
            f"#{'a' * 59}… is too long; Bluesky takes hashtags of at most 64 signs",
            id="bluesky-hashtag",
        ),
        pytest.param(
            "mastodon",
            {"caption": "https://example.org/" + "a" * 900 + " " + "b" * 461, "hashtags": ()},
            None,
            id="mastodon-at-its-limit-with-an-address",
        ),
        pytest.param(
            "mastodon",
            {"caption": "b" * 480, "hashtags": (), "options": {"spoiler_text": "Honking"}},
            "the text (caption and hashtags) has 502 characters as Mastodon counts; Mastodon takes at most 500: "
            "shorten it by 2",
            id="mastodon-the-warning-counts",
        ),
        pytest.param(
            "tiktok",
            {"caption": f"cut {HALF}"},
            "the text (caption and hashtags) has half of a character (a lone surrogate), as a text has that was cut in "
            "the middle of an emoji: remove it",
            id="half-of-a-character",
        ),
        pytest.param(
            "tiktok",
            {"title": "Goose"},
            "TikTok has no titles: leave it empty, and write it into the caption",
            id="no-titles",
        ),
        pytest.param(
            "tiktok",
            {"hashtags": ("a b\x1b",)},
            "#a b\\x1b is no hashtag: letters, digits and underscores in one piece, and not digits alone",
            id="no-hashtag",
        ),
        pytest.param(
            "tiktok",
            {"first_comment": "Honk."},
            "TikTok takes no first comment from a program: leave it out, or write it into the caption",
            id="no-first-comment",
        ),
        pytest.param(
            "mastodon",
            {"first_comment": " "},
            "the first comment is empty: write one, or leave it out",
            id="empty-comment",
        ),
        pytest.param(
            "bluesky",
            {"cover_at": 1.0},
            "Bluesky takes no time for the cover: leave it out",
            id="no-cover",
        ),
        pytest.param(
            "tiktok",
            {"cover_at": 15.0},
            "the cover's time 15 s is not within the video, which lasts 15 s",
            id="cover-after-the-end",
        ),
        pytest.param(
            "tiktok",
            {"options": {}},
            "privacy_level was not chosen, and there is no default: choose PUBLIC_TO_EVERYONE, MUTUAL_FOLLOW_FRIENDS, "
            "FOLLOWER_OF_CREATOR or SELF_ONLY for the post or for the account",
            id="privacy-not-chosen",
        ),
        pytest.param(
            "youtube-shorts",
            {"options": {"privacy": "PUBLIC"}},
            "privacy is PUBLIC; YouTube Shorts has public, unlisted or private",
            id="no-such-privacy",
        ),
        pytest.param(
            "youtube-shorts",
            {"options": {"privacy": ["public"]}},
            "privacy is ['public']; YouTube Shorts has public, unlisted or private",
            id="privacy-of-another-kind",
        ),
        pytest.param(
            "instagram-reels",
            {"options": {"share_to_feed": "yes"}},
            "share_to_feed is yes: it is true or false",
            id="switch",
        ),
        pytest.param(
            "instagram-reels",
            {"options": {"privacy": "public"}},
            "Instagram Reels has no option privacy: there is share_to_feed, ai_generated",
            id="unknown-option",
        ),
        pytest.param(
            "mastodon",
            {"options": {"language": "English"}},
            "language is English: it is a language such as en or pt-BR",
            id="language",
        ),
        pytest.param(
            "bluesky",
            {"options": {"langs": ["en", "de", "fr", "it"]}},
            "langs has 4 languages; Bluesky takes at most 3",
            id="languages",
        ),
        pytest.param(
            "bluesky",
            {"options": {"langs": "en"}},
            "langs is en: it is a list of languages such as en and pt-BR",
            id="languages-of-another-kind",
        ),
        pytest.param(
            "bluesky",
            {"options": {"labels": ["rude", 1]}},
            "labels is ['rude', 1]: it is a list of some of sexual, nudity, porn, graphic-media",
            id="labels",
        ),
        pytest.param(
            "mastodon",
            {"options": {"spoiler_text": "a\x00"}},
            "spoiler_text has the control character U+0000: remove it",
            id="control-in-an-option",
        ),
        pytest.param(
            "youtube-shorts",
            {"options": {"privacy": "public", "category": "12345"}},
            "category has 5 characters; at most 4",
            id="long-option",
        ),
        pytest.param(
            "tiktok",
            {"options": {"inbox": True, "allow_duet": True}},
            "inbox is on, and TikTok ignores allow_duet then: leave one of them out",
            id="ignored-beside-the-inbox",
        ),
        pytest.param("tiktok", {"options": {"inbox": True}}, None, id="inbox-needs-no-privacy"),
        pytest.param(
            "tiktok",
            {"options": {"privacy_level": "SELF_ONLY", "brand_content": True}},
            "brand_content is on, and TikTok does not let what somebody paid for be seen by its owner only",
            id="paid-for-and-hidden",
        ),
        pytest.param(
            "tiktok",
            {"at": NOW - timedelta(minutes=6)},
            "the time 2026-11-27 11:54 UTC has passed (it is 2026-11-27 12:00 UTC): choose a later one",
            id="passed",
        ),
        pytest.param("tiktok", {"at": NOW - timedelta(minutes=4)}, None, id="just-now"),
        pytest.param("tiktok", {"at": NOW + AHEAD}, None, id="as-far-as-can-be"),
        pytest.param(
            "tiktok",
            {"at": NOW + AHEAD + timedelta(minutes=1)},
            "the time 2027-05-26 12:01 UTC is too far away: at most 180 days ahead, 2027-05-26 12:00 UTC",
            id="too-far",
        ),
        pytest.param(
            "tiktok",
            {"at": datetime(2026, 12, 1)},  # noqa: DTZ001 - that is the point
            "the time has no zone: end it with Z, or an offset such as +01:00",
            id="no-zone",
        ),
    ],
)
def test_a_fault_is_one_line(platform: str, values: dict[str, Any], line: str | None) -> None:
    assert found(platform, **values) == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("platform", "account", "values", "line"),
    [
        pytest.param(
            "tiktok",
            {"status": AccountStatus.NEEDS_RECONNECT, "reason": "the answer to a refresh was lost"},
            {},
            "account ann has to be connected again (the answer to a refresh was lost): connect it to TikTok",
            id="needs-reconnect",
        ),
        pytest.param(
            "tiktok",
            {"status": AccountStatus.DISCONNECTED},
            {},
            "account ann is disconnected: connect it, or choose another",
            id="disconnected",
        ),
        pytest.param(
            "tiktok",
            limits(settings={"privacy_options": ["SELF_ONLY"]}),
            {"options": {"privacy_level": "PUBLIC_TO_EVERYONE"}},
            "privacy_level is PUBLIC_TO_EVERYONE; TikTok lets this account choose SELF_ONLY",
            id="privacy-of-another-account",
        ),
        pytest.param(
            "tiktok",
            limits(settings={"duet_disabled": True}),
            {"options": {"privacy_level": "SELF_ONLY", "allow_duet": True}},
            "allow_duet is on, and the account's settings on TikTok forbid it: leave it off",
            id="forbidden-interaction",
        ),
        pytest.param(
            "tiktok", {"settings": {"privacy_level": "SELF_ONLY"}}, {"options": {}}, None, id="chosen-for-the-account"
        ),
        pytest.param(
            "tiktok",
            limits(max_seconds=10.0),
            {},
            "the video lasts 15 s; TikTok lets this account post at most 10 s: choose a shorter one",
            id="too-long-for-the-account",
        ),
        pytest.param(
            "mastodon",
            limits(max_bytes=1_000),
            {},
            "the video has 4,000,000 bytes; Mastodon takes at most 1,000 of this account",
            id="too-large-for-the-server",
        ),
        pytest.param("mastodon", limits(max_characters=2_000), {"caption": "a" * 1_900}, None, id="longer-server"),
        pytest.param(
            "mastodon",
            limits(max_characters=40),
            {"first_comment": "a" * 41},
            "the first comment has 41 characters as Mastodon counts; Mastodon takes at most 40: shorten it by 1",
            id="shorter-server",
        ),
    ],
)
def test_the_account_has_its_own_limits(
    platform: str, account: dict[str, Any], values: dict[str, Any], line: str | None
) -> None:
    assert found(platform, account=account, **values) == ([] if line is None else [line])


def test_the_same_video_is_not_posted_there_twice() -> None:
    assert found("tiktok", earlier=Earlier("p1", "published")) == [
        "this video is already on account ann (post p1, published): cancel that post, or choose another video or "
        "account"
    ]


def test_what_the_platform_does_not_take_of_the_file_is_said() -> None:
    assert found("bluesky", video=replace(VIDEO, seconds=200.0)) == [
        "the video: it lasts 200 s; Bluesky takes at most 180 s"
    ]


def test_several_faults_are_several_lines() -> None:
    lines = found("tiktok", title="Goose", options={}, first_comment="Honk.", hashtags=("1",))
    assert len(lines) == 4
    assert all("\n" not in line for line in lines)


PARTS = ("a", "é", "#", "@", " ", "\n", "日", FAMILY, HALF, "\x00", "\u202e", "<")
TEXTS = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(), TEXTS, st.lists(TEXTS, max_size=2), st.just({"a": 1}))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(list(NAMES)),
    st.builds(
        Draft,
        caption=TEXTS,
        title=TEXTS,
        hashtags=st.lists(TEXTS, max_size=4),
        options=st.dictionaries(
            st.sampled_from(
                ["privacy", "privacy_level", "langs", "labels", "spoiler_text", "inbox", "sensitive", "x\n"]
            ),
            VALUES,
            max_size=4,
        ),
        cover_at=st.one_of(st.none(), st.floats(-1, 20)),
        first_comment=st.one_of(st.none(), TEXTS),
        ai_generated=st.booleans(),
    ),
)
def test_nothing_that_is_asked_for_breaks_the_rules_and_every_fault_is_one_visible_line(
    platform: str, draft: Draft
) -> None:
    account = Account(platform, "ann")
    for line in [*faults(draft, account, VIDEO, NOW), *hints(draft, account, VIDEO, NOW)]:
        assert line
        assert line.isprintable()
    shown = preview(draft, account, NOW)
    if not faults(draft, account, VIDEO, NOW):
        assert all(each.over == 0 for each in shown.counts)
        shown.text.encode()


def test_the_preview_is_what_people_will_see() -> None:
    shown = preview(GOOD["bluesky"], Account("bluesky", "ann"), NOW)
    assert shown.text == "A goose.\n\n#goose\n\nMade with AI."
    assert (shown.ai_label, shown.ai_words) == (None, "Made with AI.")
    assert [(each.part, each.count, each.most, each.unit) for each in shown.counts] == [
        ("text", count(shown.text, Unit.GRAPHEMES), 300, "signs"),
        ("text", count(shown.text, Unit.BYTES), 3000, "bytes"),
        ("first_comment", 5, 300, "signs"),
        ("first_comment", 5, 3000, "bytes"),
    ]


def test_the_preview_names_the_label_and_the_options_that_are_sent() -> None:
    account = Account("tiktok", "ann", settings={"allow_comment": True})
    shown = preview(GOOD["tiktok"], account, NOW)
    assert shown.ai_label == "is_aigc"
    assert shown.options["allow_comment"] is True
    assert preview(replace(GOOD["tiktok"], ai_generated=False), account, NOW).ai_label is None
    assert preview(replace(GOOD["tiktok"], options={"inbox": True}), account, NOW).ai_label is None


@pytest.mark.parametrize(
    ("platform", "values", "account", "hint"),
    [
        pytest.param("tiktok", {"caption": "", "hashtags": ()}, {}, "the post has no text", id="no-text"),
        pytest.param("tiktok", {"hashtags": ()}, {}, "the post has no hashtag", id="no-hashtag"),
        pytest.param("tiktok", {}, {}, "only the account's owner will see it", id="hidden"),
        pytest.param(
            "instagram-reels",
            {"caption": "@a @b @c @d"},
            {},
            "the text names 4 accounts with @; more than 3 may be taken for spam",
            id="names",
        ),
        pytest.param(
            "instagram-reels",
            {},
            limits(posts_left_today=0),
            "Instagram Reels takes no more posts of this account today: it waits until it does",
            id="no-more-today",
        ),
        pytest.param(
            "tiktok",
            {"options": {"inbox": True}},
            {},
            "TikTok puts it into the owner's inbox: they write the text and publish it there, and say that it is AI",
            id="inbox",
        ),
    ],
)
def test_a_hint_is_no_fault(platform: str, values: dict[str, Any], account: dict[str, Any], hint: str) -> None:
    draft = replace(GOOD[platform], **values)
    assert hint in hints(draft, Account(platform, "ann", **account), VIDEO, NOW)
    assert found(platform, account=account, **values) == []


def test_a_picture_that_is_not_upright_is_a_hint() -> None:
    account = Account("mastodon", "ann")
    wide = replace(VIDEO, width=1920, height=1080)
    assert any("1080x1920" in hint for hint in hints(GOOD["mastodon"], account, wide, NOW))
