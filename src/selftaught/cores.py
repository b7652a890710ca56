"""Cores: no more threads than a container lets work at once; others are let to work, too."""

import math
import os
import sys
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")
SPINS = 10000  # benchmarks/beside.py: few enough beside other programs, enough alone


def granted() -> int:
    """Processor cores that this process may keep busy: those it may run on, within the quota.

    Rounded up. The quota is that of the container as it looks from inside; a control group within
    it, or around a process that is in no container, is not asked.
    """
    return max(1, math.ceil(min(_allowed(), _quota())))


def keep_to_granted() -> None:
    """Have PyTorch use so many threads, unless ``OMP_NUM_THREADS`` says how many.

    It begins with one for each core that it may run on. Those beyond the quota of a container
    (``docker run --cpus``, a limit of Kubernetes) would use it up by waiting for each other. This
    holds for the whole process: only the commands call it.
    """
    threads = granted()
    if threads == _allowed() or "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def share_cores() -> None:
    """Have PyTorch's threads sleep soon where they wait for each other.

    GNU OpenMP's wait busily first. Where another program has one of the cores, the thread that they
    wait for is not running meanwhile, and a step of small kernels takes ten times as long.
    ``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` say otherwise. It is read when PyTorch is imported,
    so only the commands call it, and first of all.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float:
    """Cores' worth of time that Linux gives this container; infinite without a limit."""
    try:
        if (second := CGROUP / "cpu.max").exists():  # version 2 of control groups
            quota, period = second.read_text().split()
        else:
            first = CGROUP / "cpu"
            quota = (first / "cpu.cfs_quota_us").read_text().strip()
            period = (first / "cpu.cfs_period_us").read_text().strip()
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # another system, or nothing to read
        return math.inf
