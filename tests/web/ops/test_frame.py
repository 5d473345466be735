"""What the pages of `/ops` have in common: their theme, their parts, and the files of others that they are made of."""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from starlette.testclient import TestClient

from domain.text.readable import quoted
from web.ops.app import STATIC
from web.ops.filters import ago, exact, polyline, state_kind, with_query
from web.ops.page import templates

NOW = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)


def part(call: str, **values: object) -> str:
    return templates().from_string(f'{{% import "parts.html" as parts %}}{{{{ parts.{call} }}}}').render(values)


def test_the_files_of_others_are_as_they_were_published() -> None:
    vendor = STATIC / "vendor"
    sums = dict(line.split()[::-1] for line in (vendor / "SHA256SUMS").read_text().splitlines())
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in vendor.iterdir()}
    assert {name: digest for name, digest in found.items() if name not in ("README.md", "SHA256SUMS")} == sums
    htmx, uplot = re.findall(r"\d+\.\d+\.\d+", (vendor / "README.md").read_text().splitlines()[0])
    assert f'"{htmx}"' in (vendor / "htmx.min.js").read_text()
    assert f"uPlot (v{uplot})" in (vendor / "uPlot.iife.min.js").read_text()


def test_a_theme_is_kept_without_a_script(ops: TestClient) -> None:
    assert "data-theme" not in ops.get("/ops/workers").text
    response = ops.get("/ops/workers?state=dead&theme=dark", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (303, "/ops/workers?state=dead")
    assert '<html lang="en" data-theme="dark">' in ops.get("/ops/workers").text
    ops.get("/ops/workers?theme=system")
    assert "data-theme" not in ops.get("/ops/workers").text


@pytest.mark.parametrize(
    ("typed", "leads_to"),
    [
        ("/ops/", "/ops"),
        ("/ops/workers/?state=dead", "/ops/workers?state=dead"),
        ("/ops//evil.example//", "/ops//evil.example"),
        ("/ops/%3Cb%3E/", "/ops/%3Cb%3E"),
    ],
)
def test_a_slash_too_much_leads_to_the_page_of_this_host(ops: TestClient, typed: str, leads_to: str) -> None:
    response = ops.get(typed, follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, leads_to)
    assert ops.get("/ops/%0d%0aset-cookie:%20x/").status_code == 404


@pytest.mark.parametrize("theme", ['"><script>', "javascript:", "dark\r\nx: y", ""])
def test_a_theme_that_is_none_is_not_kept(ops: TestClient, theme: str) -> None:
    ops.get("/ops/workers", params={"theme": theme})
    ops.cookies.set("ops_theme", "dark><script>alert(1)</script>")
    assert "data-theme" not in ops.get("/ops/workers").text


def test_a_filter_of_the_url_is_no_markup(ops: TestClient) -> None:
    text = ops.get("/ops/workers", params={"x": '"><script>alert(1)</script>', "'onclick='": "<b>"}).text
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "'onclick" not in text


def test_no_page_has_what_its_policy_forbids(ops: TestClient) -> None:
    text = ops.get("/ops/workers").text
    assert not re.search(r"""\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)|javascript:""", text)


def test_times_are_in_utc_with_a_relative_form() -> None:
    assert ago(NOW - timedelta(seconds=62), NOW) == "1m 2s ago"
    assert ago(NOW + timedelta(hours=3), NOW) == "in 3h"
    assert ago(NOW, NOW) == "just now"
    assert '<time datetime="2026-11-28T03:00:00+00:00">2026-11-28 03:00:00Z</time>' in part("when(at)", at=NOW)
    assert part("when(at)", at=None).strip() == "-"


def test_numbers_have_all_their_digits() -> None:
    assert exact(9007199254740993) == "9,007,199,254,740,993"
    assert exact("more than 10,000") == "more than 10,000"


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("..", "..~"),
        (".", ".~"),
        ("", "~"),
        ("<x>", "%3Cx%3E"),
        ("a.b", "a.b"),
        ("//e.com", "%2F%2Fe.com"),
    ],
)
def test_an_id_is_one_segment_of_a_path(text: str, segment: str) -> None:
    assert quoted(text) == segment


def test_a_link_changes_one_filter_and_keeps_the_others() -> None:
    assert (
        with_query("/ops/jobs?status=failed&before=9&q=%26", before=None, status="a b") == "/ops/jobs?status=a+b&q=%26"
    )
    assert with_query("//elsewhere.example.com/ops?x=1") == "/ops?x=1"


def test_a_state_is_a_word_and_a_shape() -> None:
    assert [state_kind(word) for word in ("failed", "parked:thin", "completed", "whatever")] == [
        "bad",
        "doubt",
        "good",
        "off",
    ]
    shapes = {
        re.findall(r' d="([^"]+)"', part("state(word)", word=word))[0]
        for word in ("failed", "running", "pending", "completed", "parked:thin", "paused")
    }
    assert len(shapes) == 6


def test_the_parts_take_no_markup() -> None:
    evil = '"><img src=x onerror=alert(1)>'
    for call in (
        'id_link("job", x)',
        "state(x)",
        "empty(x)",
        "shell(x)",
        "number(x)",
        'field("L", x, x)',
        "sparkline([1], x)",
    ):
        assert "<img" not in part(call, x=evil)


def test_a_line_leaves_gaps_out() -> None:
    assert polyline([0, None, 2], 100, 20) == "0.0,19.0 100.0,1.0"
    assert polyline([], 100, 20) == ""
