"""The rows of what platforms take, and what a post's options become."""

from datetime import date

import pytest

from domain.posting.platforms import RULES, Kind, Part, alone_of, chosen, rules_of
from domain.posting.text import SAYS_AI, compose
from domain.videos.profiles import NAMES

TODAY = date(2026, 11, 27)


def test_every_platform_has_a_row_also_before_it_was_read() -> None:
    for platform in NAMES:
        assert rules_of(platform, TODAY).platform == platform
        assert rules_of(platform, date(2020, 1, 1)).platform == platform


@pytest.mark.parametrize("platform", NAMES)
def test_every_platform_limits_its_text_and_every_default_is_a_choice(platform: str) -> None:
    rules = rules_of(platform, TODAY)
    assert rules.limits_of(Part.TEXT)
    assert bool(rules.limits_of(Part.FIRST_COMMENT)) == rules.first_comment
    for option in rules.options:
        assert not (option.needed and option.default is not None)
        assert bool(option.choices) == (option.kind in (Kind.CHOICE, Kind.LABELS))
        assert option.kind is not Kind.CHOICE or option.default is None or option.default in option.choices


@pytest.mark.parametrize("platform", NAMES)
def test_what_a_program_made_is_labelled_or_said(platform: str) -> None:
    rules = rules_of(platform, TODAY)
    assert (rules.ai_label is None) == (platform in SAYS_AI)
    assert (rules.ai_words is not None) == (rules.ai_label is None)
    if rules.ai_words is not None:
        assert rules.ai_words in compose(platform, "A goose.", [])


def test_privacy_has_no_default_and_interactions_are_off() -> None:
    tiktok = rules_of("tiktok", TODAY)
    assert chosen(tiktok, {}, {}) == {
        **{"allow_comment": False, "allow_duet": False, "allow_stitch": False},
        **{"brand_content": False, "brand_organic": False, "inbox": False},
    }
    assert "privacy" not in chosen(rules_of("youtube-shorts", TODAY), {}, {})


def test_the_posts_own_options_come_before_the_accounts_and_those_before_the_defaults() -> None:
    youtube = rules_of("youtube-shorts", TODAY)
    options = chosen(youtube, {"privacy": "private", "category": "15"}, {"privacy": "public", "made_for_kids": None})
    assert options == {"privacy": "public", "made_for_kids": False, "notify_subscribers": True, "category": "15"}


def test_an_off_of_the_post_is_no_missing_choice() -> None:
    tiktok = rules_of("tiktok", TODAY)
    assert chosen(tiktok, {"allow_duet": True}, {"allow_duet": False})["allow_duet"] is False


def test_an_inbox_takes_nothing_else() -> None:  # postiz#1728
    tiktok = rules_of("tiktok", TODAY)
    options = chosen(tiktok, {"privacy_level": "SELF_ONLY"}, {"inbox": True, "allow_duet": True})
    assert options == {"inbox": True}
    assert alone_of(tiktok, options) == tiktok.option("inbox")


def test_no_two_rows_of_a_platform_begin_on_one_day() -> None:
    assert len({(row.platform, row.since) for row in RULES}) == len(RULES)
