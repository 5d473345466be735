"""What undoes an action brings back just what was before; where that cannot be, nothing is offered."""

from itertools import product

import pytest

from domain.ops.action_list import ACTIONS

LIMITS = ("max_running", "max_running_per_tenant")


def limited(state: dict[str, int | None], arguments: dict[str, object]) -> dict[str, object]:
    """What a limit makes of what was decided: one that is not named stays, and `none` lifts both."""
    if arguments.get("none"):
        return dict.fromkeys(LIMITS)
    named = {LIMITS[0]: arguments.get("running"), LIMITS[1]: arguments.get("per_tenant")}
    return {name: state[name] if named[name] is None else named[name] for name in LIMITS}


@pytest.mark.parametrize("values", [*product((None, 2, 7), repeat=4)])
def test_a_limit_is_put_back_as_it_was_or_not_at_all(values: tuple[int | None, ...]) -> None:
    before, after = dict(zip(LIMITS, values[:2], strict=True)), dict(zip(LIMITS, values[2:], strict=True))
    restore = ACTIONS["queue.limit"].undo_arguments
    assert restore is not None
    found = restore(before, after)
    if found is None:
        assert any(before[name] is None and after[name] is not None for name in LIMITS)
    else:
        assert limited(after, dict(found)) == before


def test_nothing_that_may_run_or_be_posted_meanwhile_is_undone() -> None:
    """A job or a post that is retried runs now, whenever it was to run before."""
    for name in ("job.retry", "job.cancel", "post.cancel", "post.retry", "model.promote"):
        assert ACTIONS[name].undo is None, name
