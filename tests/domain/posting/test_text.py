"""How long texts are for each platform, what they look like, and where links and hashtags stand."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.posting.text import (
    AI_WORDS,
    Unit,
    compose,
    count,
    facets,
    hashtags_in,
    is_hashtag,
    mentions_in,
    normalise,
    unseen_in,
)

FAMILY = "👨‍👩‍👧‍👦"
FLAG = "🇺🇦"
COMBINED = "e\u0301\u0323"
HALF = "\ud83d"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.mark.parametrize(
    ("text", "characters", "utf16", "utf8", "signs"),
    [
        pytest.param("", 0, 0, 0, 0, id="nothing"),
        pytest.param("abc", 3, 3, 3, 3, id="ascii"),
        pytest.param(FAMILY, 7, 11, 25, 1, id="joined-emoji"),
        pytest.param(FLAG, 2, 4, 8, 1, id="flag"),
        pytest.param(FLAG + FLAG, 4, 8, 16, 2, id="two-flags"),
        pytest.param("👍🏽", 2, 4, 8, 1, id="skin-tone"),
        pytest.param("1️⃣", 3, 3, 7, 1, id="keycap"),
        pytest.param(COMBINED, 3, 3, 5, 1, id="combining-marks"),
        pytest.param("한국어", 3, 3, 9, 3, id="hangul"),
        pytest.param("日本語", 3, 3, 9, 3, id="cjk"),
        pytest.param("𠮷野家", 3, 4, 10, 3, id="cjk-beyond-the-first-plane"),
        pytest.param("שלום", 4, 4, 8, 4, id="right-to-left"),
        pytest.param("हिन्दी", 6, 6, 18, 2, id="hindi"),
        pytest.param("a\r\nb", 4, 4, 4, 3, id="line-end"),
        pytest.param(HALF, 1, 1, 3, 1, id="half-of-a-character"),
    ],
)
def test_each_platform_counts_in_its_own_way(text: str, characters: int, utf16: int, utf8: int, signs: int) -> None:
    assert [count(text, unit) for unit in (Unit.CHARACTERS, Unit.UTF16, Unit.BYTES, Unit.GRAPHEMES)] == [
        *(characters, utf16, utf8, signs)
    ]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        pytest.param("https://example.org/" + "a" * 300, 23, id="long-address"),
        pytest.param("http://a.io", 23, id="short-address"),
        pytest.param("see https://example.org/a, and b", 4 + 23 + 7, id="comma-after"),
        pytest.param("(https://example.org/a_(b))", 25, id="parentheses"),
        pytest.param("https://localhost/x", 19, id="no-name-of-a-site"),
        pytest.param("ftp://example.org", 17, id="other-protocol"),
        pytest.param("example.org/page", 16, id="no-protocol"),
        pytest.param("https://例え.jp/パス", 23, id="cjk-host"),
        pytest.param("@ann@example.social hi", 7, id="mention-of-another-server"),
        pytest.param("@ann hi", 7, id="mention-here"),
        pytest.param("x@ann@example.social", 20, id="no-mention"),
        pytest.param("mail ann@example.org", 20, id="mail-address"),
        pytest.param(FAMILY * 3, 3, id="emoji"),
        pytest.param("https://example.org/@ann@example.social", 23, id="mention-in-an-address"),
    ],
)
def test_mastodon_counts_addresses_as_23_and_of_mentions_the_name_only(text: str, length: int) -> None:
    assert count(text, Unit.MASTODON) == length


@settings(max_examples=60)
@given(TEXTS)
@example(FAMILY + FLAG + COMBINED)
def test_no_sign_is_longer_than_its_characters_and_no_character_than_its_bytes(text: str) -> None:
    signs, characters, utf16, utf8 = (
        count(text, unit) for unit in (Unit.GRAPHEMES, Unit.CHARACTERS, Unit.UTF16, Unit.BYTES)
    )
    assert signs <= characters <= utf16 <= utf8


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["a", FAMILY, " ", "https://example.org/x", "@ann@example.social", "#tag"]), max_size=8)
)
def test_mastodon_never_counts_more_than_all_signs_but_for_short_addresses(parts: list[str]) -> None:
    text = " ".join(parts)
    addresses = sum(part.startswith("https") for part in parts)
    assert count(text, Unit.MASTODON) <= count(text, Unit.GRAPHEMES) + 2 * addresses


@pytest.mark.parametrize(
    ("caption", "hashtags", "text"),
    [
        pytest.param("A goose.", ["#Goose", "pond"], "A goose.\n\n#Goose #pond", id="below-the-caption"),
        pytest.param("", ["goose"], "#goose", id="hashtags-alone"),
        pytest.param(" A goose. \n", [], "A goose.", id="caption-alone"),
        pytest.param("", [], "", id="nothing"),
        pytest.param("A #Goose.", ["goose", "pond"], "A #Goose.\n\n#pond", id="what-it-has-is-not-repeated"),
        pytest.param("A ＃Goose.", ["goose"], "A ＃Goose.", id="wide-sign"),
        pytest.param("A goose.", ["a b"], "A goose.\n\n#a b", id="what-is-no-hashtag-is-left-to-be-seen"),
    ],
)
def test_the_text_is_the_caption_and_the_hashtags_that_it_has_not(caption: str, hashtags: list[str], text: str) -> None:
    assert compose("tiktok", caption, hashtags) == text


@pytest.mark.parametrize("platform", ["bluesky", "mastodon"])
def test_where_there_is_no_label_the_text_says_that_a_program_made_it(platform: str) -> None:
    assert compose(platform, "A goose.", ["pond"]) == f"A goose.\n\n#pond\n\n{AI_WORDS}"
    assert compose(platform, "A goose.", ["pond"], ai=False) == "A goose.\n\n#pond"
    assert compose(platform, "made with ai. A goose.", []) == "made with ai. A goose."


@settings(max_examples=50)
@given(st.text("ab #🦆é\n"), st.lists(st.from_regex(r"[a-zàéü]{1,8}", fullmatch=True), max_size=6))
def test_every_hashtag_stands_in_the_text_once_whatever_the_caption(caption: str, hashtags: list[str]) -> None:
    text = compose("instagram-reels", caption, hashtags)
    found = [tag.casefold() for tag in hashtags_in(text)]
    assert caption.strip() in text
    for tag in normalise(hashtags):
        assert tag.casefold() in found


def test_hashtags_are_kept_as_written_and_each_once() -> None:
    assert normalise([" #Goose", "##goose", "＃GOOSE", "e\u0301te", "\u00e9te", "", "#", " a b "]) == (
        *("Goose", "éte", "a b"),
    )


@settings(max_examples=50)
@given(st.lists(TEXTS, max_size=6))
def test_normalising_twice_changes_nothing(hashtags: list[str]) -> None:
    once = normalise(hashtags)
    assert normalise(once) == once


@pytest.mark.parametrize(
    "tag", ["goose", "Goose2", "2goose", "日本語", "हिन्दी", "ภาษาไทย", "été", "a_b", "שלום", "ＧＯ"]
)
def test_a_word_of_any_script_is_a_hashtag(tag: str) -> None:
    assert is_hashtag(tag)
    assert hashtags_in(f"x #{tag}, y") == [tag]


@pytest.mark.parametrize("tag", ["", "123", "a b", "a-b", "a.b", "_", "__", "🦆", "a!", "#a", "1️⃣", "a\u202eb"])
def test_what_would_be_cut_somewhere_is_no_hashtag(tag: str) -> None:
    assert not is_hashtag(tag)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("by @ann and @b.c_d", ["@ann", "@b.c_d"], id="two"),
        pytest.param("mail ann@example.org, a//@x", [], id="none"),
        pytest.param("@Ünal (@日本)", ["@Ünal", "@日本"], id="other-scripts"),
    ],
)
def test_names_are_found(text: str, names: list[str]) -> None:
    assert mentions_in(text) == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(f"cut {HALF}", "half of a character", id="half-of-a-character"),
        pytest.param("\ude00\ud83d", "half of a character", id="halves-in-the-wrong-order"),
        pytest.param("a\x00b", "U+0000", id="nul"),
        pytest.param("a\x1b[31m", "U+001B", id="escape"),
        pytest.param("\ufeffa", "U+FEFF", id="byte-order-mark"),
    ],
)
def test_what_no_text_may_have_is_named(text: str, says: str) -> None:
    assert says in (unseen_in(text) or "")


def test_lines_emoji_and_other_directions_are_text() -> None:
    assert unseen_in(f"a\n\tb {FAMILY} {FLAG} שלום \u200f {COMBINED}") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("#goose", [("tag", "goose", "#goose")], id="tag"),
        pytest.param(f"{FAMILY} #goose!", [("tag", "goose", "#goose")], id="after-emoji"),
        pytest.param(
            "é https://example.org/#top #日本",
            [("link", "https://example.org/#top", "https://example.org/#top"), ("tag", "日本", "#日本")],
            id="no-tag-in-a-link",
        ),
        pytest.param(
            "(see https://example.org/a_(b).)",
            [("link", "https://example.org/a_(b)", "https://example.org/a_(b)")],
            id="punctuation",
        ),
        pytest.param("a#goose &#39; #1 ##x", [], id="none"),
        pytest.param("#a\u0301b #ก็", [("tag", "a\u0301b", "#a\u0301b"), ("tag", "ก็", "#ก็")], id="combining"),
        pytest.param("שלום #שלום", [("tag", "שלום", "#שלום")], id="right-to-left"),
    ],
)
def test_facets_are_links_and_hashtags_by_their_bytes(text: str, found: list[tuple[str, str, str]]) -> None:
    raw = text.encode()
    assert [(each.kind, each.value, raw[each.start : each.end].decode()) for each in facets(text)] == found


@settings(max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            ["#goose", "https://example.org/é?x=#y", FAMILY, FLAG, "日本", " ", "#日本", ".", "(", ")", "\n"]
        ),
        max_size=10,
    )
)
def test_facets_never_overlap_nor_split_a_character(parts: list[str]) -> None:
    text = "".join(parts)
    raw, reached = text.encode(), 0
    for facet in facets(text):
        assert reached <= facet.start < facet.end <= len(raw)
        reached = facet.end
        shown = raw[facet.start : facet.end].decode()
        assert shown.lstrip("#＃") == facet.value.lstrip("#＃")
