"""What only thousands of steps show."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands.tiny import photographs, training

STEPS = 5000
LATE = 4000


def resident(process):
    """Memory of a process and its children, what they share counted once, in MB."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    sums = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in (process, *children)]
    return sum(int(found.split("Pss:")[1].split()[0]) for found in sums) / 1024


def steps_of(run):
    """How many steps a run has gone."""
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process stands in /proc")
@pytest.mark.parametrize("method", ["simclr", "swav", "gan"])
def test_memory_stays_flat(method, tmp_path):
    data, out = photographs(tmp_path / "images", 64, side=16), tmp_path / "run"
    more = ("--workers", 1, "--draw-every", 0.1, "--size", 16)
    words = training(method, data, out, *more, steps=STEPS)
    process = subprocess.Popen([sys.executable, "-m", "selftaught", *words])
    early, late = [], []
    while process.poll() is None:
        steps = steps_of(out)
        if 500 <= steps < STEPS:
            with contextlib.suppress(OSError, IndexError):  # of a worker that has just ended
                (early if steps < LATE else late).append(resident(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0
    assert len(early) > 5
    assert len(late) > 5
    assert max(late) < max(early) + 5  # MB: a kilobyte a step would be four
