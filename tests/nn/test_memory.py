import torch
from torch import nn

from references.regression import ema as reference
from selftaught.nn.memory import EMA


def test_moves_by_one_minus_the_momentum_of_the_difference():
    source = nn.Linear(3, 2).double()
    mean = EMA(source)
    before = mean.modules_[0].weight.clone()
    with torch.no_grad():
        source.weight.add_(1.0)
    mean.update(source, momentum=0.9)
    expected = reference(before.numpy(), source.weight.detach().numpy(), 0.9)
    torch.testing.assert_close(mean.modules_[0].weight, torch.from_numpy(expected))


def test_momentum_one_stays_and_zero_copies():
    source, mean = nn.Linear(3, 2), EMA(nn.Linear(3, 2))
    before = mean.modules_[0].weight.clone()
    mean.update(source, momentum=1.0)
    assert torch.equal(mean.modules_[0].weight, before)
    mean.update(source, momentum=0.0)
    assert torch.equal(mean.modules_[0].weight, source.weight)


def test_no_gradient_and_its_own_copies():
    source = nn.Linear(3, 2)
    mean = EMA(source)
    assert not any(p.requires_grad for p in mean.parameters())
    assert not mean(torch.ones(1, 3)).requires_grad
    assert mean.modules_[0].weight.data_ptr() != source.weight.data_ptr()
