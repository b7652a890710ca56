import pytest
import torch

from selftaught.protocols.intervals import bootstrap


def test_hits_have_the_interval_of_a_binomial():
    hits = torch.zeros(1000)
    hits[:800] = 1
    low, high = bootstrap(hits)
    half = 1.96 * (0.8 * 0.2 / 1000) ** 0.5
    assert low == pytest.approx(0.8 - half, abs=0.004)
    assert high == pytest.approx(0.8 + half, abs=0.004)


def test_other_values_have_the_interval_of_their_mean():
    x = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 3 + 1
    low, high = bootstrap(x)
    half = 1.96 * x.std().item() / 20
    assert low == pytest.approx(x.mean().item() - half, abs=0.1)
    assert high == pytest.approx(x.mean().item() + half, abs=0.1)


def test_no_misses_have_wilsons_interval():
    far = 1.96**2 / (50 + 1.96**2)
    assert bootstrap(torch.ones(50)) == (pytest.approx(1 - far, abs=1e-4), 1.0)
    assert bootstrap(torch.zeros(50)) == (0.0, pytest.approx(far, abs=1e-4))
    assert bootstrap(torch.full((50,), 0.5)) == (0.5, 0.5)


def test_the_same_seed():
    x = torch.rand(99)
    assert bootstrap(x) == bootstrap(x) != bootstrap(x, seed=1)
