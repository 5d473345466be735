"""How many cores a process may use, by made-up control groups."""

from pathlib import Path

import pytest

from workers.runtime.cores import usable_cores

MACHINE = usable_cores(Path("/nowhere"))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, MACHINE),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, MACHINE),
        ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu.max": "6400000 100000\n"}, MACHINE),
        # A service whose slice is limited, as systemd does it.
        (
            {
                "proc/self/cgroup": "0::/apps.slice/viral.service\n",
                "sys/fs/cgroup/apps.slice/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/apps.slice/viral.service/cpu.max": "max 100000\n",
            },
            1,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, MACHINE),
        ({"sys/fs/cgroup/cpu.max": "what?\n"}, MACHINE),
    ],
)
def test_a_quota_counts_where_it_is_smaller_than_the_machine(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    write(tmp_path, files)
    assert usable_cores(tmp_path) == cores
