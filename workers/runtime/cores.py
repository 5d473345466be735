"""How many cores this process may use. A container is often allowed far fewer than its machine has."""

import os
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Return the cores that the process may run on at once, at least one: those of its affinity, or fewer if a control
    group around it has a quota. `root` is where /proc and /sys are."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for quota in (_quota_2(root), _quota_1(root)) if quota]
    return max(1, int(min([allowed, *quotas])))


def _quota_2(root: Path) -> float | None:
    """Return the smallest quota of the process's control group and those around it (version 2, `cpu.max`)."""
    mounted = root / "sys/fs/cgroup"
    own = next((line[3:] for line in _read(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    path = PurePosixPath(own)
    quotas = []
    for group in (path, *path.parents):
        quota, _, period = _read(mounted / str(group).strip("/") / "cpu.max").strip().partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _quota_1(root: Path) -> float | None:
    """Return the quota of the container's control group (version 1); -1 stands for none."""
    folder = root / "sys/fs/cgroup/cpu"
    quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
