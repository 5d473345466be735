"""What a worker process is put together from; what it does is tried in `test_start.py` and in tests/chaos."""

import pytest

from workers.engine.queues import QUEUES, QUEUES_VARIABLE
from workers.main import WorkerProcess
from workers.settings import Settings


@pytest.mark.parametrize(
    ("named", "worked_on"),
    [("default,default", ["default"]), ("llm,,events,llm", ["events", "llm"]), ("", sorted(QUEUES))],
)
def test_a_process_works_on_each_queue_that_is_named_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, named: str, worked_on: list[str]
) -> None:
    monkeypatch.setenv(QUEUES_VARIABLE, named)
    process = WorkerProcess(settings)
    assert sorted(process.broker.actors) == worked_on
    process.broker.close()
