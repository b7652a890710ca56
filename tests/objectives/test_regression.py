import numpy as np
import pytest
import torch

from references.contrastive import numerical_gradient
from references.regression import cosine_regression as reference
from selftaught.objectives.regression import cosine_regression


def pair():
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, 6, 5, generator=g, dtype=torch.float64).unbind()


def test_equals_the_reference():
    p, z = pair()
    expected = reference(p.numpy(), z.numpy())
    assert cosine_regression(p, z).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_equals_the_reference_and_the_target_gets_none():
    p, z = (t.requires_grad_() for t in pair())
    cosine_regression(p, z).backward()
    slow = numerical_gradient(lambda v: reference(v, z.detach().numpy()), p.detach().numpy())
    np.testing.assert_allclose(p.grad.numpy(), slow, atol=1e-8)
    assert z.grad is None


def test_from_zero_when_aligned_to_four_when_opposite():
    p, _ = pair()
    assert cosine_regression(p, 3 * p).item() == pytest.approx(0, abs=1e-12)
    assert cosine_regression(p, -p).item() == pytest.approx(4)
