import numpy as np
import pytest
import torch

from references.colour import colour_loss, rebalancing, soft_encoding
from selftaught.nn.colour import ColourBins
from selftaught.objectives.colour import colour_prediction


def case():
    """Scores, colours and weights of two images of 2 x 3 places, in bins of 25."""
    g = torch.Generator().manual_seed(0)
    bins = ColourBins(grid=25, sigma=12.5).double()
    scores = torch.randn(2, len(bins), 2, 3, generator=g, dtype=torch.float64)
    ab = torch.empty(2, 2, 2, 3, dtype=torch.float64).uniform_(-40, 40, generator=g)
    prior = torch.rand(len(bins), generator=g, dtype=torch.float64)
    bins.rebalance(prior / prior.sum(), 0.5)
    return bins, scores, ab


def dense(bins, ab):
    """The encodings of all places (N, H, W, Q)."""
    one = lambda v: soft_encoding(v, bins.centres.numpy(), 5, 12.5)  # noqa: E731
    return np.apply_along_axis(one, -1, ab.permute(0, 2, 3, 1).numpy())


def ours(bins, scores, ab):
    found, shares = bins.encode(ab)
    return colour_prediction(scores, found, shares, bins.weight[found[:, 0]])


def test_equals_the_reference():
    bins, scores, ab = case()
    expected = colour_loss(scores.numpy(), dense(bins, ab), bins.weight.numpy())
    assert ours(bins, scores, ab).item() == pytest.approx(expected, rel=1e-9)


def test_gradient():
    bins, scores, ab = case()
    assert torch.autograd.gradcheck(lambda s: ours(bins, s, ab), scores.requires_grad_())


def test_weights_equal_the_reference():
    bins, *_ = case()
    prior = torch.rand(len(bins), dtype=torch.float64)
    prior /= prior.sum()
    bins.rebalance(prior, 0.3)
    np.testing.assert_allclose(bins.weight, rebalancing(prior.numpy(), 0.3), rtol=1e-9)
    assert (bins.weight * prior).sum().item() == pytest.approx(1)
    assert bins.weight.argmax() == prior.argmin()


def test_places_without_weight_count_nothing():
    bins, scores, ab = case()
    found, shares = bins.encode(ab)
    weight = torch.ones(2, 2, 3, dtype=torch.float64)
    weight[1] = 0
    whole = colour_prediction(scores, found, shares, weight)
    first = colour_prediction(scores[:1], found[:1], shares[:1], weight[:1])
    assert whole.item() == pytest.approx(first.item() / 2)
