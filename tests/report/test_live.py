import pytest
import torch

from selftaught.commands.job import Log
from selftaught.report.live import describe
from selftaught.train import Step


@pytest.mark.parametrize(("seconds", "left"), [(0.5, "0:04"), (86_400.0, "192:")])
def test_a_computer_that_slept_for_a_day_in_a_step_says_how_long_the_rest_would_take(seconds, left):
    log = Log(batch_size=64)
    step = Step(2, {"nt_xent": torch.tensor(4.0)}, {}, 1e-3, 64, seconds, 0.0)
    log.add(step)
    assert f"  {left}" in describe(log.record(step, None), None, steps=10)
