"""The sums that the documentation promises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ops.connections import Role, of_fleet, of_process, usual_pool


@pytest.mark.parametrize(
    ("dynos", "settings", "most"),
    [
        ({"web": 1, "workers": 1}, {}, 19),
        ({"web": 2, "workers": 4}, {}, 56),
        ({"web": 2, "workers": 4}, {"processes": 1, "pool": 1}, 17),
        ({"web": 2, "workers": 4}, {"processes": 1}, 36),
        ({"web": 2, "workers": 4}, {"pool": 2}, 36),
    ],
)
def test_the_table_of_the_readme(dynos: dict[str, int], settings: dict[str, int], most: int) -> None:
    assert of_fleet(**dynos, **settings) == most


@given(st.sampled_from(Role), st.integers(0, 1000), st.integers(1, 256))
def test_every_process_has_a_connection_to_work_with_and_those_that_must_not_wait(
    role: Role, pool: int, threads: int
) -> None:
    assert 1 <= usual_pool(role, threads) <= max(4, threads)
    assert of_process(role, pool=pool, threads=threads) >= max(pool, 1)
    assert of_process(Role.WORKER, pool=pool, threads=threads) > (pool or usual_pool(Role.WORKER, threads))
