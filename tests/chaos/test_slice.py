"""A short form of the main experiments of `make chaos`, by the same code: some in the suite, all as proofs."""

from collections.abc import Iterator

import pytest

from tests.chaos.__main__ import run
from tests.chaos.catalogue import CATALOGUE, Entry
from tests.chaos.report import CAUGHT, PASSED, SKIPPED, Finding, row
from tests.chaos.servers import Servers
from tests.seeds import SEED

SLICE = (
    "R1",
    "R2",
    "R3",
    "R5",
    "R6",
    "R8",
    "R13",
    "R14",
    "R16",
    "R17",
    "learn-kill",
    "autopilot",
    "pooler",
    "redis-failover",
    "eviction",
    "standby",
    "readonly",
    "fence",
)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.mark.proof(but=["R14"])
@pytest.mark.parametrize("entry", [entry for entry in CATALOGUE if entry.name in SLICE], ids=lambda entry: entry.name)
def test_what_breaks_is_mended(servers: Servers, entry: Entry) -> None:
    finding = Finding(entry.name, entry.summary)
    run(entry, finding, servers, SEED, full=False)
    if finding.verdict == SKIPPED:
        pytest.skip(row(finding))
    assert finding.verdict == (CAUGHT if entry.sabotage else PASSED), "\n" + row(finding)
