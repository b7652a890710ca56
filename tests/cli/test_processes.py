"""What several processes end with."""

import os
import signal

from selftaught.cli import processes


def test_a_signal_that_comes_too_late_changes_nothing(monkeypatch):
    wait = processes._wait

    def late(members):
        failed = wait(members)
        os.kill(os.getpid(), signal.SIGTERM)
        return failed

    monkeypatch.setattr(processes, "_wait", late)
    assert processes.launch(["methods"], 2) == 0


def test_a_signal_before_they_listen_ends_them(monkeypatch):
    wait = processes._wait

    def at_once(members):
        os.kill(os.getpid(), signal.SIGTERM)
        return wait(members)

    monkeypatch.setattr(processes, "_wait", at_once)
    assert processes.launch(["methods"], 2) == 128 + signal.SIGTERM
