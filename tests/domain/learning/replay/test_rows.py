"""Rows of a replay: what is read, what is named with its line, and what refuses the file."""

from math import log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.replay.rows import COLUMNS, FileUnreadable, read

HEAD = "source,platform,order_at,account,category,views,likes,comments,shares"
ROW = "us,tiktok,2026-01-05T17:30:00Z,ada,Food,1000,30,5,5"


def rows(*lines: str, head: str = HEAD) -> tuple[list[object], list[tuple[int, str]]]:
    posts, skipped = read(f"{line}\n" for line in (head, *lines))
    return list(posts), [(each.line, each.reason) for each in skipped]


def test_a_row_says_what_it_says() -> None:
    posts, skipped = read(
        [f"{HEAD},duration_s,has_question,original_sound,n_hashtags,text_len,followers\n", f"{ROW},14.5,yes,0,3,80,\n"]
    )
    [post] = posts
    assert skipped == []
    assert (post.line, post.source, post.platform, post.order_at) == (2, "us", "tiktok", 1767634200.0)
    features = post.features
    assert (features.account, features.category, features.hour, features.weekday) == ("ada", "food", 17, 0)
    assert (features.duration_s, features.has_question, features.original_sound) == (14.5, True, False)
    assert (features.n_hashtags, features.text_len, features.followers) == (3, 80, None)
    assert post.judged.value == pytest.approx(log1p(4.0))
    assert post.judged.definition == "tiktok-views/likes+comments+shares"


def test_what_is_unknown_makes_another_definition_and_is_never_nothing() -> None:
    posts, _ = read(
        f"{line}\n"
        for line in (HEAD, ROW, "us,tiktok,2026-01-05,ada,,1000,30,5,", "us,tiktok,2026-01-06,ada,,1000,30,5,0")
    )
    assert [post.judged.definition.split("/")[1] for post in posts] == [
        "likes+comments",
        "likes+comments+shares",
        "likes+comments+shares",
    ]
    assert [post.order_at for post in posts] == sorted(post.order_at for post in posts)


def test_views_of_youtube_are_of_their_day() -> None:
    head = "source,platform,order_at,account,views,likes"
    both = ("y,youtube,2018-01-01,a,1000,30", "y,youtube-shorts,2026-09-01,a,1000,30")
    posts, _ = read(f"{line}\n" for line in (head, *both))
    assert [post.judged.definition for post in posts] == ["youtube-seconds/likes", "youtube-starts-all/likes"]
    assert [post.platform for post in posts] == ["youtube-shorts"] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW.replace("1000", "x"), "views: 'x' is no number"),
        (ROW.replace("1000", "-5"), "views: '-5' cannot be; use 0 or more"),
        (ROW.replace("1000", "nan"), "views: 'nan' cannot be; use 0 or more"),
        (ROW.replace("1000", "1e300"), "views: '1e300' cannot be; use 0 or more"),
        (ROW.replace("1000", "1000.5"), "views: '1000.5' is no whole number"),
        (
            ROW.replace("tiktok", "vine"),
            "platform: 'vine' is none of tiktok, youtube-shorts, instagram-reels, bluesky, mastodon",
        ),
        (ROW.replace("ada", ""), "account: it is empty"),
        (ROW.replace("us,", " ,"), "source: it is empty"),
        (
            ROW.replace("2026-01-05T17:30:00Z", "noon"),
            "order_at: 'noon' is neither a number nor a time such as 2026-11-28T17:00:00Z",
        ),
        (ROW.replace("2026-01-05T17:30:00Z", "inf"), "order_at: 'inf' is no place in an order"),
        (
            ROW.replace("2026-01-05T17:30:00Z", "17"),
            "order_at: some rows have times and others numbers; all need the same",
        ),
        (f"{ROW},1", "it has 10 values, and the first line 9"),
        ("us,tiktok", "it has 2 values, and the first line 9"),
        (ROW.replace("ada", "a\0b"), "account: a character is damaged"),
        (ROW.replace("ada", "a" * 201), "account: it is longer than 200 characters"),
        (ROW.replace("ada", '"a"b'), "',' expected after '\"'"),
        (ROW.replace("1000", ""), "nothing is learned of it: the platform counts no views"),
        (ROW.replace("1000", "99"), "nothing is learned of it: fewer than 100 views"),
        (ROW.replace(",30,", ",900,"), "nothing is learned of it: engagement of more than 60 %"),
        (ROW.replace(",30,", ",,"), "nothing is learned of it: likes are unknown"),
        (
            ROW.replace("tiktok", "bluesky").replace("1000", ""),
            "nothing is learned of it: the platform counts no views",
        ),
    ],
    ids=lambda value: value[:40] if value[0].islower() else "",
)
def test_a_row_of_which_nothing_can_be_learned_is_named_with_its_line(row: str, reason: str) -> None:
    posts, skipped = rows(ROW, row, ROW)
    assert skipped == [(3, reason)]
    assert len(posts) == 2


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("", "the file is empty"),
        (HEAD.replace(",", ";"), "separated by semicolons"),
        (
            HEAD.replace("views,", ""),
            "it has no column views; needed are source, platform, order_at, account, views, likes",
        ),
        (f"{HEAD},likes", "the column likes is there twice"),
    ],
    ids=["empty", "semicolons", "missing", "twice"],
)
def test_what_is_no_table_of_posts_is_refused(head: str, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        read([f"{head}\n"] if head else [])


def test_columns_come_in_any_order_letters_and_company() -> None:
    posts, skipped = rows(
        "30,1000,ada,5,tiktok,us,1,x", head="\ufeffLikes,VIEWS,account,order_at,platform, source ,shares,else"
    )
    assert (len(posts), skipped) == (1, [])


def test_a_field_of_several_lines_is_counted_as_lines() -> None:
    _, skipped = rows(*ROW.replace("ada", '"a\nda"').split("\n"), ROW.replace("1000", "x"))
    assert [line for line, _ in skipped] == [4]


@given(st.lists(st.text(max_size=60), max_size=6))
def test_no_text_whatever_raises_anything_else(lines: list[str]) -> None:
    posts, skipped = read([f"{','.join(COLUMNS)}\n", *lines])
    assert posts == []
    assert all(each.reason for each in skipped)
