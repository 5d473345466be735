"""`viral import-trends`: what it says, what it changes, and what it leaves alone."""

import json
from pathlib import Path

import pytest

from db.transaction import SYSTEM
from tests.builders import a_tenant
from tests.cli.shell import Shell
from workers.app import App

SOUNDS = (
    "platform;soundId;soundName;artist;uses;capturedAt;extra\r\n"
    "TikTok;9;Espresso;Sabrina;1.200.000;2026-11-01;x\r\n"
    "TikTok;10;Kaputt;;viele;2026-11-01;x\r\n"
)


def sounds(app: App) -> list[tuple[object, ...]]:
    with app.db.transaction(SYSTEM) as tx:
        return tx.driver.execute("SELECT title, region, usage_count FROM audio_trends ORDER BY 1").fetchall()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sounds.csv"
    path.write_text(SOUNDS, encoding="utf-8-sig")
    return path


def test_a_file_is_imported_once_and_its_bad_rows_are_named(viral: Shell, app: App, file: Path) -> None:
    dry = viral("import-trends", file, "--kind", "audio", "--region", "de", "--dry-run")
    assert (dry.code, sounds(app)) == (0, [])
    assert "Nothing was changed: a dry run." in dry.lines
    done = viral("import-trends", file, "--kind", "audio", "--region", "de")
    assert done.code == 0
    reason = "views: 'viele'".replace("views", "usage_count")
    assert f"audio, line 3: {reason} is no count; write a whole number, such as 1234 or 1,234" in done.out
    assert "Columns that are ignored: extra" in done.lines
    assert sounds(app) == [("Espresso", "DE", 1_200_000)]
    again = json.loads(viral("import-trends", file, "--kind", "audio", "--region", "de", "--json").out)
    assert (again["done"], again["audio"]) == (True, {"added": 0, "replaced": 0, "kept": 1})
    assert [(each["line"], each["kind"]) for each in again["malformed"]] == [(3, "audio")]


def test_a_file_without_rows_says_so_and_one_of_bad_rows_does_not(viral: Shell, app: App, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    for text in ("[]", "platform,title\n"):
        path.write_text(text)
        empty = viral("import-trends", path, "--kind", "audio")
        assert (empty.code, empty.lines) == (0, ["There are no rows in the file."])
    path.write_text('[{"platform": "tiktok"}, 5]')
    bad = viral("import-trends", path, "--kind", "audio")
    assert (bad.code, bad.lines) == (1, ["audio, item 1: external_id: missing", "audio, item 2: it is no object"])


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["", "dry run"])
def test_strict_takes_all_or_nothing(viral: Shell, app: App, file: Path, more: tuple[str, ...]) -> None:
    result = viral("import-trends", file, "--kind", "audio", "--strict", *more)
    assert (result.code, sounds(app)) == (1, [])
    assert result.err == "viral: nothing was imported: 1 row cannot be taken\n"
    assert "line 3" in result.out


def test_a_file_may_have_both_and_competitors_are_a_tenants(viral: Shell, app: App, tmp_path: Path) -> None:
    tenant_id = a_tenant(app)
    path = tmp_path / "both.json"
    sound = {"platform": "tiktok", "external_id": "9", "title": "Espresso"}
    video = {"platform": "reels", "videoId": "1", "title": "Bread", "viewCount": 0}
    path.write_text(json.dumps({"audio": [sound], "competitors": [video]}))
    seen = ("--captured-at", "2026-11-01")
    nobodys = viral("import-trends", path, *seen)
    assert (nobodys.code, sounds(app)) == (1, [])
    assert "say --tenant ID" in nobodys.err
    unknown = viral("import-trends", path, *seen, "--tenant", "00000000-0000-0000-0000-000000000001")
    assert (unknown.code, sounds(app)) == (1, [])
    assert "no tenant has the id" in unknown.err
    done = json.loads(viral("import-trends", path, *seen, "--tenant", tenant_id, "--json").out)
    assert (done["audio"]["added"], done["competitors"]["added"]) == (1, 1)
    with app.db.transaction(tenant_id) as tx:
        [row] = tx.imported_trends.competitors(tenant_id, platform=None, after=None, limit=5).rows
    assert (row["platform"], row["views"], row["channel"]) == ("instagram-reels", 0, None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--kind", "audio", "--region", "Germany"), "is no country"),
        (("--kind", "audio", "--captured-at", "soon"), "is no time"),
        (("--kind", "audio", "--format", "xml"), "neither csv nor json"),
        (("--kind", "videos"), "--kind"),
    ],
    ids=lambda each: each[-1] if isinstance(each, tuple) else "",
)
def test_a_command_that_makes_no_sense_touches_nothing(
    away: Shell, file: Path, words: tuple[str, ...], why: str
) -> None:
    result = away("import-trends", file, *words)
    assert result.code == 2
    assert why in " ".join(result.err.split())
