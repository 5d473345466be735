"""`viral posts metrics` and `viral analytics show`, as an operator reads them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from domain.learning.horizons import NOT_IN_TIME
from domain.learning.numbers import Horizon
from tests.cli.shell import Shell
from tests.numbers_stage import Measured
from workers.app import App


@pytest.fixture
def ada(app: App) -> Measured:
    return Measured(app)


def test_a_posts_numbers_are_shown_and_what_is_unknown_is_said(viral: Shell, ada: Measured) -> None:
    now = datetime.now(UTC)
    post_id = ada.published(ada.account("youtube-shorts"), at=now - timedelta(hours=30))
    ada.look(post_id, Horizon.H24, 12840, 0, 3, age=timedelta(hours=24, minutes=2), definition="youtube-starts-all")
    ada.miss(post_id, Horizon.H1, "YouTube did not [bold]answer")
    shown = viral.done("posts", "metrics", post_id).out
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert lines["24h"][:8] == ["24h", "met", "24h", "02m", "12,840", "0", "3", "—"]
    assert lines["1h"][:2] == ["1h", "missed"]
    assert "YouTube did not [bold]answer" in shown
    assert lines["7d"][:4] == ["7d", "to", "come", "from"]
    assert "— is unknown: YouTube Shorts does not say, or did not then. It is not 0." in shown
    assert "youtube-starts-all: starts of playback" in shown
    assert "predicted score 71 of 100" in shown
    found = viral.json("posts", "metrics", post_id)
    assert [each["views"] for each in found["horizons"]] == [None, None, 12840, None, None]
    assert "there is no post" in viral.refused("posts", "metrics", uuid4())


def test_what_is_due_and_cannot_be_measured_says_so_whole_and_as_the_explanation_does(
    viral: Shell, ada: Measured, app: App
) -> None:
    account_id = ada.account("tiktok")
    at, note = datetime.now(UTC) - timedelta(hours=24, minutes=1), f"the platform did not answer: {'x' * 80} after all"
    post_id = ada.published(
        account_id, at=at, measure_at=at, measure_note=note, external_id="1", permalink="https://x.y/1"
    )
    shown = viral.done("posts", "metrics", post_id).out
    lines = {line.split()[0].rstrip(":"): line for line in shown.splitlines() if line}
    assert "due since" in lines["24h"]
    assert lines["1h"].endswith(note)
    assert lines["6h"].endswith(NOT_IN_TIME)
    assert lines["Next"] == "Next: its numbers are collected within a minute or two"
    assert lines["Next"] in viral.done("posts", "explain", post_id).out
    with app.db.transaction(ada.id) as tx:
        tx.driver.execute("UPDATE social_accounts SET status = 'disconnected' WHERE id = %s", (account_id,))
    for word in ("metrics", "explain"):
        says = "Next: no numbers come while this is so: its account was disconnected"
        assert says in viral.done("posts", word, post_id).out.splitlines()


def test_a_post_that_is_not_out_has_no_numbers_yet(viral: Shell, ada: Measured) -> None:
    post_id = ada.published(ada.account(), at=None, status="scheduled")
    shown = viral.done("posts", "metrics", post_id).out
    assert "It is not published" in shown
    assert "is unknown" not in shown
    assert "missed" not in shown


def test_posts_are_compared(viral: Shell, ada: Measured) -> None:
    tube, sky = ada.account("youtube-shorts"), ada.account("bluesky")
    at = datetime.now(UTC) - timedelta(days=3)
    for views, definition in ((10, "youtube-starts"), (3000, "youtube-starts"), (500, "youtube-starts-all")):
        ada.look(ada.published(tube, at=at), Horizon.H24, views, 1, 0, definition=definition)
    ada.look(ada.published(sky, at=at), Horizon.H24, None, 4, 1, 0)
    shown = viral.done("analytics", "show", "--tenant", ada.id).out
    rows = [line for line in shown.splitlines() if line.startswith(("YouTube Shorts ", "Bluesky "))]
    assert rows[0].split()[2:10] == ["3", "3", "0", "0", "3,010", "(2)", "1,505", "(2)"]
    assert rows[1].split()[2:4] == ["500", "(1)"]
    assert rows[2].split()[:8] == ["Bluesky", "1", "1", "0", "0", "—", "—", "—"]
    assert "youtube-starts: starts and replays" in shown
    cells = viral.json("analytics", "show", "--tenant", ada.id, "--by", "account")["cells"]
    assert [(cell["key"], cell["posts"]) for cell in cells] == [(str(tube), 3), (str(sky), 1)]
    assert (
        "No post was published then."
        in viral.done("analytics", "show", "--tenant", ada.id, "--until", "2020-01-01").out
    )
    assert "no tenant" in viral.refused("analytics", "show", "--tenant", uuid4()).lower()
    assert "not after since" in viral.refused(
        *("analytics", "show", "--tenant", ada.id, "--since", "2026-01-01", "--until", "2026-01-01")
    )


@pytest.mark.parametrize("words", [("--by", "day"), ("--horizon", "2h"), ("--since", "soon")], ids="=".join)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(away: Shell, words: tuple[str, str]) -> None:
    assert words[0] in away.senseless("analytics", "show", "--tenant", str(uuid4()), *words)
