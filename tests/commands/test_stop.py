"""The first signal ends a run between two steps, the second at once."""

import signal
import subprocess
import sys

import pytest

from selftaught.commands.stop import SIGNALS, Stop

TWICE = """
import os, signal, sys, time
from selftaught.commands.stop import Stop

with Stop() as stop:
    os.kill(os.getpid(), int(sys.argv[1]))
    print(stop.signal, flush=True)
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(60)
    print("still there")
"""


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_ends_the_process_at_once(first, second):
    words = (sys.executable, "-c", TWICE, str(int(first)), str(int(second)))
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == f"{int(first)}\n"
    assert done.returncode == -second


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Stop() as stop:
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert stop.signal is None
    assert [signal.getsignal(number) for number in SIGNALS] == before
