"""`viral reflexion accuracy`, as an operator reads it."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.cli.shell import Shell
from tests.web.api.test_accuracy import Predicted
from workers.app import App


def test_gaps_are_shown_beside_a_running_median_for_one_tenant_and_for_all(viral: Shell, app: App) -> None:
    ada, bob, at = Predicted(app), Predicted(app), datetime.now(UTC) - timedelta(hours=1)
    ada.outcome(60, 70, median=55, at=at)
    ada.outcome(50, 45, at=at, category=None)
    ada.outcome(50, None, at=at, set_aside="fewer than [100] views")
    bob.outcome(60, 90, at=at)
    shown = viral.done("reflexion", "accuracy", "--tenant", ada.id, "--by", "category").out
    lines = {line.split(",")[0].split("  ")[0]: line.split() for line in shown.splitlines() if line}
    assert lines["food"][2:] == ["1", "10.0", "+10.0", "100%", "100%", "100%", "15.0", "(1)", "+0.33"]
    assert lines["all"][1:4] == ["2", "7.5", "+2.5"]
    assert "1 outcome set aside: fewer than [100] views" in shown
    assert viral.json("reflexion", "accuracy")["total"]["outcomes"] == 3
    assert "No outcome of a predicted post" in viral.done("reflexion", "accuracy", "--horizon", "7d").out
    assert "no tenant has the id" in viral.refused("reflexion", "accuracy", "--tenant", uuid4())
    assert "--horizon" in viral.senseless("reflexion", "accuracy", "--horizon", "1h")
