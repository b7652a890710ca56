import pytest
import torch
from torch.distributions import Normal, kl_divergence

from references import codes as reference
from selftaught.objectives.variational import gaussian_kl, gaussian_nll


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("variance", [0.05, 1.0, 3.0])
def test_nll_equals_the_reference(variance):
    y, x = numbers(2, 3, 2, 4, 4).requires_grad_()
    expected = reference.gaussian_nll(y.detach().numpy(), x.detach().numpy(), variance)
    assert gaussian_nll(y, x, variance).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda y: gaussian_nll(y, x, variance), (y,))


def test_kl_equals_the_reference():
    mean, log_variance = numbers(2, 5, 4).requires_grad_()
    expected = reference.gaussian_kl(mean.detach().numpy(), log_variance.detach().numpy())
    assert gaussian_kl(mean, log_variance).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(gaussian_kl, (mean, log_variance))


def test_they_are_those_of_torchs_distributions():
    mean, log_variance = numbers(2, 5, 4)
    deviation = (log_variance / 2).exp()
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(gaussian_kl(mean, log_variance), kl)
    x = numbers(5, 4, seed=1)
    nll = -Normal(mean, 0.3**0.5).log_prob(x).sum(dim=1).mean()
    torch.testing.assert_close(gaussian_nll(mean, x, 0.3), nll)


def test_the_prior_itself_is_at_no_distance_and_near_it_nothing_is_lost():
    assert gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)) == 0
    near = gaussian_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-3))  # about half of 0.5e-6
    assert near == pytest.approx(2.5e-7, rel=0.01)


def test_half_precision_is_widened():
    y, x = numbers(2, 3, 100).bfloat16()
    for found, wide in (
        (gaussian_nll(y, x, 0.1), gaussian_nll(y.float(), x.float(), 0.1)),
        (gaussian_kl(y, x), gaussian_kl(y.float(), x.float())),
    ):
        assert found.dtype == torch.float32
        assert found == wide
