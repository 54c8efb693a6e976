"""How many processor cores this process may use; a container's host may have many more."""

from __future__ import annotations

import os
from pathlib import Path

_MOST_LANES = 8


def usable_cpus() -> int:
    """Return how many cores this process may use: its affinity, cut by a cgroup's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def usable_lanes() -> int:
    """Return how many batches to encode at once on a CPU, which share its cores.

    Cores that have a batch of their own do not wait for each other; but every batch takes memory.
    """
    return min(usable_cpus(), _MOST_LANES)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cores that the cgroup (version 2, else 1) grants, or None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max" means no limit
        return None
