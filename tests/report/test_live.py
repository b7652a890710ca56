import io

import pytest
import torch
from rich.console import Console

from selftaught.commands.job import Log
from selftaught.report import live
from selftaught.report.live import Doing, counted, describe
from selftaught.train import Step


@pytest.mark.parametrize(("seconds", "left"), [(0.5, "0:04"), (86_400.0, "192:")])
def test_a_computer_that_slept_for_a_day_in_a_step_says_how_long_the_rest_would_take(seconds, left):
    log = Log(batch_size=64)
    step = Step(2, {"nt_xent": torch.tensor(4.0)}, {}, 1e-3, 64, seconds, 0.0)
    log.add(step)
    assert f"  {left}" in describe(log.record(step, None), None, steps=10)


@pytest.mark.parametrize(
    ("rank", "shown"),
    [(7.25, "  effective rank 7.2/9  feature std 0.50"), (None, "  feature std 0.50")],
)
def test_a_rank_of_too_few_images_is_not_shown(rank, shown):
    log = Log(batch_size=64)
    step = Step(2, {"nt_xent": torch.tensor(4.0)}, {}, 1e-3, 64, 1.0, 0.0)
    log.add(step)
    signals = {"effective_rank": rank, "dim": 9, "feature_std": 0.5}
    line = describe(log.record(step, None), signals, 10)
    assert line.endswith("lr 1.00e-03" + shown)


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def lines(clock, told, *, terminal=False):
    """What is shown of (seconds, what, done, whole)."""
    shown = io.StringIO()
    with Doing(Console(file=shown, force_terminal=terminal, width=80)) as doing:
        for seconds, *what in told:
            clock[0] = 100.0 + seconds
            doing(*what)
    return shown.getvalue()


def test_a_short_command_says_nothing_of_how_far_it_is(clock):
    assert lines(clock, [(0, "features", 0, 50), (9.9, "features", 49, 50)]) == ""


def test_a_long_command_says_how_far_it_is_now_and_then(clock):
    told = [(second, "features", 100 * second, 6000) for second in range(31)]
    said = "features 1,000/6,000  0:50 left\nfeatures 2,000/6,000  0:40 left\n"
    assert lines(clock, told) == said + "features 3,000/6,000  0:30 left\n"


def test_the_time_that_is_left_is_that_of_what_is_being_done(clock):
    told = [(0, "random: features", 0, 10), (50, "random: knn", 0, 0), (70, "pixels", 0, 10)]
    told += [(90, "pixels", 5, 10)]
    assert lines(clock, told).splitlines() == [
        "random: knn ...",
        "pixels 0/10",
        "pixels 5/10  0:20 left",
    ]


def test_the_time_that_is_left_is_reckoned_anew_for_the_next_part(clock):
    told = [(second, "features", 10 * second, 500) for second in (0, 25, 50)]
    told += [(50, "features", 0, 100), (61, "features", 50, 100)]
    assert lines(clock, told).splitlines()[-1] == "features 50/100  0:11 left"


def test_in_a_terminal_the_line_is_there_at_once_and_gone_at_the_end(clock):
    found = lines(clock, [(0, "features", 0, 50)], terminal=True)
    assert "features 0/50" in found
    assert found.endswith("\x1b[2K")  # the line is erased


def test_counted_tells_of_each_item_and_changes_none():
    told = []
    items = counted(iter("abc"), lambda *what: told.append(what), "letters", 5, each=2)
    assert list(items) == ["a", "b", "c"]
    assert told == [("letters", done, 5) for done in (0, 2, 4, 5)]
