"""`viral autopilot`, as an operator types it."""

from uuid import uuid4

import pytest

from tests.cli.shell import Shell
from tests.workers.ops.test_autopilot import a_chain, an_event
from tests.workers.ops.test_posts import NOW, Tenant
from workers.app import App


def test_an_autopilot_from_the_first_consent_to_the_last(viral: Shell, app: App) -> None:
    ada = Tenant(app)
    account = ada.account("bluesky")
    named = ("--tenant", ada.id)
    assert "No tenant has it on" in viral.done("autopilot", "show").out
    assert "the autopilot may post to it since" in viral.done("autopilot", "consent", *named, account).out
    on = viral.done("autopilot", "set", *named, "--mode", "auto", "--time", "18:30", "--time", "12:00").out
    assert "nobody is asked before" in on
    assert "posts appear at 12:00 and 18:30" in on
    (row,) = viral.json("autopilot", "show")
    assert (row["tenant_id"], row["mode"], row["accounts"]) == (str(ada.id), "auto", 1)
    assert "auto" in viral.done("autopilot", "show").out
    assert viral.json("autopilot", "set", *named, "--time", "=")["times"] == []
    shown = viral.json("autopilot", "show", *named)
    assert (shown["mode"], shown["accounts"][0]["id"]) == ("auto", str(account))
    assert "posts to it no more" in viral.done("autopilot", "withdraw", *named, account).out
    assert "there is no account that consents" in viral.done("autopilot", "show", *named).out


def test_a_chain_is_explained(viral: Shell, app: App) -> None:
    ada, job_id = Tenant(app), uuid4()
    chain = a_chain(app, ada.id, stage="stopped", reason="no concept is good enough")
    an_event(app, ada.id, chain, "begun", "the day's concepts are made", job_id=job_id)
    (row,) = viral.json("autopilot", "chains", "--tenant", ada.id)
    assert (row["id"], row["stage"]) == (str(chain), "stopped")
    assert "no concept is good enough" in viral.done("autopilot", "chains", "--tenant", ada.id).out
    assert viral.json("autopilot", "chains", "--tenant", ada.id, "--stage", "stopped") == [row]
    assert viral.json("autopilot", "chains", "--tenant", ada.id, "--stage", "done") == []
    assert "there are concepts, video" in viral.senseless("autopilot", "chains", "--tenant", ada.id, "--stage", "x")
    shown = viral.done("autopilot", "explain", chain).out
    assert shown.splitlines()[:3] == [
        f"Chain {chain} (video 1 of {NOW:%Y-%m-%d}, auto): stopped",
        "Stands: it stopped before it had a concept, and does nothing more",
        "Why: no concept is good enough",
    ]
    assert f"begun: the day's concepts are made  (job {job_id})" in shown
    assert (
        viral.json("autopilot", "explain", chain)["stands"]
        == "it stopped before it had a concept, and does nothing more"
    )
    assert "there is no chain" in viral.refused("autopilot", "explain", uuid4())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param((), "say what to change", id="nothing"),
        pytest.param(("--mode", "on"), "there are off, approve, auto", id="mode"),
        pytest.param(("--least-score", "101"), "should be at most 100", id="score"),
        pytest.param(("--videos-a-day", "0"), "should be at least 1", id="videos"),
        pytest.param(("--time", "25:00"), "write 18:30", id="time"),
        pytest.param(("--provider", "nobody"), "there are", id="provider"),
        pytest.param(("--budget", "many"), "no amount", id="budget"),
    ],
)
def test_nonsense_is_refused(viral: Shell, words: tuple[str, ...], says: str) -> None:
    assert says in viral.senseless("autopilot", "set", "--tenant", uuid4(), *words)


def test_what_a_rule_forbids_fills_a_line(viral: Shell, app: App) -> None:
    ada = Tenant(app)
    assert "wants its owner to choose" in viral.refused(
        "autopilot", "consent", "--tenant", ada.id, ada.account("tiktok")
    )
    assert "no tenant has the id" in viral.refused("autopilot", "show", "--tenant", uuid4())
    line = viral.refused("autopilot", "set", "--tenant", ada.id, "--time", "23:40", "--time", "00:10")
    assert "23:40 and 00:10 are too near to each other" in line
    line = viral.refused("autopilot", "set", "--tenant", ada.id, "--videos-a-day", 9)
    assert "need as many concepts a day" in line
