import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from selftaught.nn.encoders import build
from selftaught.protocols.attacks import fgsm, pgd, slope
from selftaught.protocols.linear import logreg


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    """A trained probe of a random encoder, and test digits in [0, 1]."""
    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(x).float().view(-1, 1, 8, 8) / 16
    y = torch.from_numpy(y)
    torch.manual_seed(0)
    encoder = build("resnet-nano", channels=1, size=8).eval().requires_grad_(False)
    with torch.no_grad():
        found = logreg(encoder(x[:1000]), y[:1000], encoder(x[:1]), grid=(0.1,))
    head = nn.Linear(256, 10)
    head.weight.data, head.bias.data = found.weight.float(), found.bias.float()
    return nn.Sequential(encoder, head).eval(), x[1000:1200], y[1000:1200]


class Palette(nn.Module):
    def forward(self, x):
        return (2 * x).round().long().float().flatten(1)


def accuracy(network, x, y):
    with torch.no_grad():
        return (network(x).argmax(1) == y).double().mean().item()


def test_a_network_that_cuts_the_gradient_has_none():
    """As one that begins with the nearest colour of a palette."""
    x, y = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    network = nn.Sequential(Palette(), nn.Linear(4, 2))
    for learned in (True, False):
        network.requires_grad_(learned)
        assert torch.equal(slope(network, x, y), torch.zeros_like(x))
        assert torch.equal(fgsm(network, x, y, 0.1), x)


@pytest.mark.parametrize("epsilon", [2 / 255, 16 / 255])
def test_the_ball_and_the_range_are_kept(digits, epsilon):
    network, x, y = digits
    for alpha in (None, 10 * epsilon):  # also where steps lead far out of it
        found = pgd(network, x, y, epsilon, generator(), steps=5, alpha=alpha)
        assert (found - x).abs().max() <= epsilon + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
        assert not torch.equal(found, x)
    found = fgsm(network, x, y, epsilon)
    assert (found - x).abs().max() <= epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_steps_do_more_harm_than_one_and_one_more_than_none(digits):
    network, x, y = digits
    clean = accuracy(network, x, y)
    one = accuracy(network, fgsm(network, x, y, 8 / 255), y)
    many = accuracy(network, pgd(network, x, y, 8 / 255, generator()), y)
    assert clean > 0.8
    assert many <= one < clean - 0.1


def test_the_random_start_is_the_generators(digits):
    network, x, y = digits
    found = [pgd(network, x, y, 8 / 255, generator(s), steps=1) for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_on_a_linear_network_both_reach_the_optimum_in_closed_form():
    """The margin falls by epsilon times the L1 norm of the difference of the two weights."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double().requires_grad_(False)
    g = generator(1)
    network[1].weight.copy_(torch.randn(2, 48, generator=g))
    network[1].bias.copy_(torch.randn(2, generator=g))
    x = 0.3 + 0.4 * torch.rand(20, 3, 4, 4, generator=g).double()  # far from 0 and 1
    y = torch.arange(20) % 2
    difference = network[1].weight[0] - network[1].weight[1]
    sign = 1.0 - 2 * y

    def margin(images):
        scores = network(images)
        return sign * (scores[:, 0] - scores[:, 1])

    expected = margin(x) - 0.1 * difference.abs().sum()
    torch.testing.assert_close(margin(fgsm(network, x, y, 0.1)), expected)
    torch.testing.assert_close(margin(pgd(network, x, y, 0.1, g)), expected)


def test_a_network_without_a_gradient_only_seems_robust(digits):
    """Rounding hides the gradient: the attacks find nothing, and nothing is what they say."""
    network, x, y = digits
    hidden = nn.Sequential(Rounded(), network)
    assert accuracy(hidden, fgsm(hidden, x, y, 8 / 255), y) == accuracy(hidden, x, y)
    open_ = accuracy(network, fgsm(network, x, y, 8 / 255), y)
    transferred = accuracy(hidden, fgsm(network, x, y, 8 / 255), y)
    assert transferred <= open_ + 0.05  # it is as weak as the other


class Rounded(nn.Module):
    def forward(self, x):
        return (x * 255).round() / 255
