import pytest
import torch

from references import painting as reference
from selftaught.objectives.painting import hole_regression


def case():
    g = torch.Generator().manual_seed(0)
    painted, real = torch.randn(2, 3, 2, 5, 5, generator=g, dtype=torch.float64)
    weight = torch.rand(3, 1, 5, 5, generator=g, dtype=torch.float64)
    return painted, real, torch.where(weight < 0.4, 0, 10 * weight)


def test_hole_regression_equals_the_reference():
    painted, real, weight = case()
    expected = reference.hole_loss(painted.numpy(), real.numpy(), weight.numpy())
    assert hole_regression(painted, real, weight).item() == pytest.approx(expected, rel=1e-9)


def test_hole_regression_gradient():
    painted, real, weight = case()
    loss = lambda p: hole_regression(p, real, weight)  # noqa: E731
    assert torch.autograd.gradcheck(loss, painted.requires_grad_())


def test_pixels_without_weight_count_nothing():
    painted, real, weight = case()
    other = torch.where(weight > 0, painted, 100)
    assert hole_regression(other, real, weight) == hole_regression(painted, real, weight)
