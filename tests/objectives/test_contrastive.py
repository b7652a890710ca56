import math

import numpy as np
import pytest
import torch

from references.contrastive import nt_xent as reference
from references.contrastive import numerical_gradient
from selftaught.objectives.contrastive import nt_xent


def pair(n=7, d=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, d, generator=g, dtype=torch.float64).unbind()


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_the_reference(temperature):
    z1, z2 = pair()
    ours = nt_xent(z1, z2, temperature).item()
    assert ours == pytest.approx(reference(z1.numpy(), z2.numpy(), temperature), rel=1e-9)


def test_gradient_equals_the_reference():
    z1, z2 = (z.requires_grad_() for z in pair(n=4, d=3))
    nt_xent(z1, z2, 0.2).backward()
    slow = numerical_gradient(lambda z: reference(z, z2.detach().numpy(), 0.2), z1.detach().numpy())
    np.testing.assert_allclose(z1.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.2), (z1, z2))


def test_without_information_it_is_the_log_of_the_candidates():
    z = torch.ones(8, 4, dtype=torch.float64)
    assert nt_xent(z, z, 0.1).item() == pytest.approx(math.log(15))


def test_single_precision_under_autocast():
    z1, z2 = (z.float() for z in pair(n=64, d=32))
    with torch.autocast("cpu", torch.bfloat16):
        half = nt_xent(z1, z2, 0.07)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(nt_xent(z1, z2, 0.07).item(), rel=1e-6)


def test_vectors_of_length_zero_give_no_nan():
    z = torch.zeros(4, 3, requires_grad=True)
    loss = nt_xent(z, z, 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
