"""Rows of a replay: what is read, what is named with its line, and what refuses the file."""

from math import log1p

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.replay.rows import COLUMNS, FileUnreadable, Post, read_rows

HEAD = "source,platform,order_at,account,category,views,likes,comments,shares"
ROW = "us,tiktok,2026-01-05T17:30:00Z,ada,Food,1000,30,5,5"


def rows(*lines: str, head: str = HEAD, end: str = "\n") -> tuple[list[Post], list[tuple[int, str]]]:
    found = read_rows(end.join((head, *lines, "")).encode())
    return list(found.posts), [(each.line, each.reason) for each in found.skipped]


def test_a_row_says_what_it_says() -> None:
    more = "duration_s,has_question,original_sound,n_hashtags,text_len,followers"
    [post], skipped = rows(f"{ROW},14.5,yes,0,3,8e1,", head=f"{HEAD},{more}")
    assert skipped == []
    assert (post.line, post.source, post.platform, post.order) == (2, "us", "tiktok", 1767634200.0)
    features = post.features
    assert (features.account, features.category, features.hour, features.weekday) == ("ada", "food", 17, 0)
    assert (features.duration_s, features.has_question, features.original_sound) == (14.5, True, False)
    assert (features.n_hashtags, features.text_len, features.followers) == (3, 80, None)
    assert post.judged.value == pytest.approx(log1p(4.0))
    assert post.judged.definition == "tiktok-views/likes+comments+shares"


def test_a_category_may_be_any_word() -> None:
    posts, skipped = rows(ROW, ROW.replace("Food", "Politics & Society"), ROW.replace("Food", "24"))
    assert ([post.features.category for post in posts], skipped) == (["food", "politics & society", "24"], [])


def test_what_is_unknown_makes_another_definition_and_is_never_nothing() -> None:
    later = ("us,tiktok,2026-01-05,ada,,1000,30,5,", "us,tiktok,2026-01-06,ada,,1000,30,5,0")
    posts, _ = rows(ROW, *later)
    assert [post.judged.definition.split("/")[1] for post in posts] == [
        "likes+comments",
        "likes+comments+shares",
        "likes+comments+shares",
    ]
    assert [post.order for post in posts] == sorted(post.order for post in posts)


def test_views_of_youtube_are_of_their_day() -> None:
    head = "source,platform,order_at,account,views,likes"
    both = ("y,youtube,2018-01-01,a,1000,30", "y,youtube-shorts,2026-09-01,a,1000,30")
    posts, _ = rows(*both, head=head)
    assert [post.judged.definition for post in posts] == ["youtube-seconds/likes", "youtube-starts-all/likes"]
    assert [post.platform for post in posts] == ["youtube-shorts"] * 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW.replace("1000", "x"), "views: 'x' is no number"),
        (ROW.replace("1000", "-5"), "views: '-5' cannot be; use 0 to 1,000,000,000,000,000"),
        (ROW.replace("1000", "nan"), "views: 'nan' is no number"),
        (ROW.replace("1000", "1e300"), "views: '1e300' is no number"),
        (ROW.replace("1000", "1e99"), "views: '1e99' cannot be; use 0 to 1,000,000,000,000,000"),
        (ROW.replace("1000", "٣٠٠٠"), "views: '٣٠٠٠' is no number"),
        (ROW.replace("Food", "f" * 201), "category: it is longer than 200 characters"),
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
        (
            ROW.replace("2026-01-05T17:30:00Z", "inf"),
            "order_at: 'inf' is neither a number nor a time such as 2026-11-28T17:00:00Z",
        ),
        (f"{ROW},1", "it has 10 values, and the header 9"),
        ("us,tiktok", "it has 2 values, and the header 9"),
        (ROW.replace("ada", "a\0b"), "it has a NUL byte"),
        (ROW.replace("ada", "a" * 201), "account: it is longer than 200 characters"),
        (ROW.replace("ada", '"a"b'), "its quotes do not match"),
        (ROW.replace("ada", '"ada'), "its quotes do not match"),
        (ROW + "x" * 10_000, "it has more than 10000 characters"),
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
        (HEAD.replace(",", ";"), "separated by semicolons: save"),
        (
            HEAD.replace("views,", ""),
            "the header lacks views: it wants source, platform, order_at, account, views, likes",
        ),
        (f"{HEAD},likes", "the header has likes twice"),
    ],
    ids=["empty", "semicolons", "missing", "twice"],
)
def test_what_is_no_table_of_posts_is_refused(head: str, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        read_rows(f"{head}\n{ROW}\n".encode() if head else b"\n\n")


def test_a_file_of_other_letters_or_without_rows_is_refused() -> None:
    for data, reason in (
        (f"{HEAD}\n{ROW}\n".encode("utf-16"), "UTF-16"),
        (b"\xe9," + HEAD.encode(), "the header is not UTF-8"),
        (f"{HEAD}\n\n".encode(), "only a header"),
    ):
        with pytest.raises(FileUnreadable, match=reason):
            read_rows(data)


def test_times_and_numbers_in_one_file_are_refused_with_their_lines() -> None:
    with pytest.raises(FileUnreadable, match="order_at is a time in line 2 and a number in line 4"):
        rows(ROW, ROW, ROW.replace("2026-01-05T17:30:00Z", "17"))


def test_bytes_that_are_no_letters_spoil_their_line_only() -> None:
    found = read_rows(f"{HEAD}\n{ROW}\n{ROW.replace('ada', 'adé')}\n{ROW}\n".encode("latin-1"))
    assert [(each.line, each.reason, each.malformed) for each in found.skipped] == [(3, "it is not UTF-8", True)]
    assert [each.line for each in found.posts] == [2, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_lines_end_in_any_way(end: str) -> None:
    posts, skipped = rows(ROW, "", ROW.replace("1000", "x"), ROW.replace("ada", '"ada, the ""first"""'), end=end)
    assert [(post.line, post.features.account) for post in posts] == [(2, "ada"), (5, 'ada, the "first"')]
    assert [line for line, _ in skipped] == [4]


def test_posts_come_in_the_order_of_time_and_those_of_one_time_as_the_file_has_them() -> None:
    order = ["2026-01-02", "2026-01-01T23:00:00-03:00", "2026-01-02T00:00:00Z", "2025-12-31"]
    posts, _ = rows(*(ROW.replace("2026-01-05T17:30:00Z", each) for each in order))
    assert [post.line for post in posts] == [5, 2, 4, 3]
    posts, _ = rows(*(ROW.replace("2026-01-05T17:30:00Z", each) for each in ("10", "-1", "9.5")))
    assert [post.line for post in posts] == [3, 4, 2]


def test_columns_come_in_any_order_letters_and_company() -> None:
    posts, skipped = rows(
        "30,1000,ada,5,tiktok,us,1,x", head="\ufeffLikes,VIEWS,account,order_at,platform, source ,shares,else"
    )
    assert (len(posts), skipped) == (1, [])


def test_what_nobody_reads_is_named() -> None:
    assert read_rows(f"{HEAD},mood\n{ROW},fine\n".encode()).ignored == ["mood"]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6).filter(lambda lines: any(map(str.strip, lines))))
def test_no_text_whatever_raises_anything_else(lines: list[str]) -> None:
    found = read_rows("\n".join((",".join(COLUMNS), *lines)).encode())
    assert found.posts == []
    assert all(each.reason for each in found.skipped)
