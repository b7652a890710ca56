import torch
from torch import nn

from selftaught.nn.adversarial import frozen


def test_gradients_reach_the_inputs_and_not_the_parameters():
    critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.randn(5, 3, requires_grad=True)
    frozen(critic, x).sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    held = x.grad
    x.grad = None
    critic(x).sum().backward()
    assert torch.equal(x.grad, held)
    assert all(p.grad is not None for p in critic.parameters())


def test_running_statistics_move_as_in_any_forward():
    one, two = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    assert torch.equal(frozen(one, x), two(x))
    assert torch.equal(one.running_mean, two.running_mean)
    assert one.num_batches_tracked == 1
