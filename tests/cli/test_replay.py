"""`viral reflexion replay`, by itself: no server is needed."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.cli.shell import Shell

HEAD = "source,platform,order_at,account,category,views,likes,comments,shares"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = [f"s{n % 2} <&>,tiktok,{n},a{n % 5},food,1000,{20 + n % 7 * 5},3,2" for n in range(120)]
    path = tmp_path / "posts.csv"
    path.write_text("\n".join(["\ufeff" + HEAD, *lines, "s0,tiktok,x,a,food,1,1,1,1", "s,tiktok,1,a,,9,1,1,1", ""]))
    return path


def test_figures_are_printed_and_rows_that_are_in_none_are_named(away: Shell, file: Path) -> None:
    shown = away.done("reflexion", "replay", file).out
    assert "s0 <&>: 60 posts" in shown
    assert "mean of 2 streams" in shown
    assert "line 122: order_at: 'x' is neither a number nor a time" in shown
    assert "line 123: nothing is learned of it: fewer than 100 views" in shown
    found = away.json("reflexion", "replay", file, "--tenant-per", "account", "--delay", 2)
    assert [(each["name"], each["n"]) for each in found["streams"]] == [("s0 <&>", 60), ("s1 <&>", 60)]
    assert [each["line"] for each in found["skipped"]] == [122, 123]
    assert found["mean"]["ranges"]["1-30"]["n"] == 60
    assert found["mean"]["ranges"]["31-"]["n"] == 60
    assert found["mean"]["ranges"]["101-"] is None
    assert away.json("reflexion", "replay", file, "--delay", 0, "--window", 0)["mean"]["ranges"]["1-30"]["n"] == 60


def test_strict_refuses_a_file_of_which_a_row_cannot_be_read(away: Shell, file: Path) -> None:
    assert "1 row cannot be read: line 122: order_at" in away.refused("reflexion", "replay", file, "--strict")
    file.write_text("\n".join(line for line in file.read_text().splitlines() if ",x," not in line))
    away.done("reflexion", "replay", file, "--strict")


def test_a_chart_is_drawn_as_its_name_ends(away: Shell, file: Path, tmp_path: Path) -> None:
    drawn, painted = tmp_path / "chart.svg", tmp_path / "chart.PNG"
    away.done("reflexion", "replay", file, "--plot", drawn)
    texts = [each.text for each in ElementTree.parse(drawn).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert {"champion", "running median", "the original's rule", "the original's weights"} <= set(texts)
    assert "s0 <&> (60 posts; mean of 6)" in texts
    away.done("reflexion", "replay", file, "--plot", painted)
    with Image.open(painted) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
        assert (image.format, image.width) == ("PNG", 2240)
    assert (0, 114, 178) in {colour for _, colour in colours or []}


def test_a_chart_of_many_streams_has_the_longest_and_says_so(away: Shell, tmp_path: Path) -> None:
    path, drawn = tmp_path / "posts.csv", tmp_path / "chart.svg"
    lines = [f"s{n % 26:02} {'x' * 60},tiktok,{n},a,,1000,30,3,2" for n in range(26 * 3 - 2)]
    path.write_text("\n".join([HEAD, *lines]))
    away.done("reflexion", "replay", path, "--plot", drawn)
    texts = [each.text or "" for each in ElementTree.parse(drawn).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "How far predictions were off: the longest 24 of 26 streams"
    titles = [text for text in texts if "posts; mean" in text]
    assert [title[:3] for title in titles] == [f"s{n:02}" for n in range(24)]
    assert max(map(len, titles)) < 70


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--plot", "chart.jpg"), "ends neither with .svg nor with .png"),
        (("--plot", "/nowhere/chart.svg"), "there is no folder /nowhere"),
        (("--tenant-per", "source"), "neither account nor all"),
        (("--pool", "none"), "neither all nor source"),
        (("--delay", "-1"), "--delay"),
    ],
    ids=["ending", "folder", "tenants", "pool", "delay"],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(
    away: Shell, file: Path, words: tuple[str, ...], why: str
) -> None:
    assert why in " ".join(away.senseless("reflexion", "replay", file, *words).split())


def test_what_is_no_table_is_refused(away: Shell, tmp_path: Path) -> None:
    path = tmp_path / "posts.csv"
    for content, why in ((b"", "the file is empty"), (b"a;b\n", "semicolons"), (b"\xff\xfe\x00", "UTF-16")):
        path.write_bytes(content)
        assert why in away.refused("reflexion", "replay", path)
    assert "posts" in away.senseless("reflexion", "replay", tmp_path / "posts")
    assert "is a directory" in " ".join(away.senseless("reflexion", "replay", tmp_path).split())
    path.write_text(f"{HEAD}\n")
    assert "only a header" in away.refused("reflexion", "replay", path)
    path.write_text(f"{HEAD}\ns,tiktok,1,a,,9,1,1,1\n")
    assert "No row has an outcome." in away.done("reflexion", "replay", path).out
    found = away.json("reflexion", "replay", path)
    assert (found["streams"], found["mean"]["ranges"]["31-"]) == ([], None)
