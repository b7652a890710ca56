import math

import numpy as np
import pytest
import torch

from references import instance
from references.contrastive import nt_xent as reference
from references.contrastive import numerical_gradient
from selftaught.objectives.contrastive import info_nce, matching, nearest, nt_xent


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


def with_negatives(z1, z2, negatives, temperature):
    """NT-Xent over more candidates, row by row: SimCLR v2's memory."""
    z = instance.units(np.concatenate([z1, z2]))
    losses = []
    for i, anchor in enumerate(z):
        positive = (i + len(z1)) % len(z)
        others = [positive] + [j for j in range(len(z)) if j not in (i, positive)]
        candidates = [z[j] for j in others] + list(instance.units(negatives))
        losses.append(instance.cross_entropy([anchor @ c / temperature for c in candidates], 0))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_more_negatives_are_candidates_of_every_anchor(temperature):
    z1, z2 = pair()
    ours = nt_xent(z1, z2, temperature, queue()).item()
    parts = (z1.numpy(), z2.numpy(), queue().numpy())
    assert ours == pytest.approx(with_negatives(*parts, temperature), rel=1e-9)
    assert ours > nt_xent(z1, z2, temperature).item()


def test_more_negatives_get_no_gradient():
    z1, z2 = (z.requires_grad_() for z in pair(n=4, d=3))
    negatives = queue(d=3).requires_grad_()
    nt_xent(z1, z2, 0.2, negatives).backward()
    assert negatives.grad is None
    slow = numerical_gradient(
        lambda z: with_negatives(z, z2.detach().numpy(), negatives.detach().numpy(), 0.2),
        z1.detach().numpy(),
    )
    np.testing.assert_allclose(z1.grad.numpy(), slow, atol=1e-7)


# Against keys that get no gradient


def queue(m=6, d=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(m, d, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_equals_the_reference(temperature):
    q, k = pair()
    expected = instance.moco_info_nce(q.numpy(), k.numpy(), queue().numpy(), temperature)
    assert info_nce(q, k, queue(), temperature).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_info_nce_is_that_of_the_queries_alone():
    q, k = (z.requires_grad_() for z in pair(n=4))
    negatives = queue().requires_grad_()
    info_nce(q, k, negatives, 0.2).backward()
    assert k.grad is None
    assert negatives.grad is None

    def slow(q):
        return instance.moco_info_nce(q, k.detach().numpy(), negatives.detach().numpy(), 0.2)

    expected = numerical_gradient(slow, q.detach().numpy())
    np.testing.assert_allclose(q.grad.numpy(), expected, atol=1e-7)


def test_info_nce_without_information_is_the_log_of_the_candidates():
    ones = torch.ones(8, 4, dtype=torch.float64)
    assert info_nce(ones[:3], ones[:3], ones, 0.07).item() == pytest.approx(math.log(9))


# Within the batch


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_matching_equals_the_reference(temperature):
    q, k = pair()
    expected = instance.moco_v3_contrast(q.numpy(), k.numpy(), temperature) / (2 * temperature)
    assert matching(q, k, temperature).item() == pytest.approx(expected, rel=1e-9)


def test_gradients_of_matching():
    q, k = (z.requires_grad_() for z in pair(n=4, d=3))
    assert torch.autograd.gradcheck(lambda a, b: matching(a, b, 0.2), (q, k))


def test_matching_is_info_nce_against_the_other_keys():
    q, k = pair()
    alone = [
        info_nce(q[[i]], k[[i]], torch.cat([k[:i], k[i + 1 :]]), 0.2).item() for i in range(len(q))
    ]
    assert matching(q, k, 0.2).item() == pytest.approx(np.mean(alone), rel=1e-9)


# Nearest neighbours


def test_nearest_equals_the_reference():
    z, _ = pair()
    support = torch.nn.functional.normalize(queue(20), dim=1)
    expected = instance.nearest(z.numpy(), support.numpy())
    np.testing.assert_allclose(nearest(z, support).numpy(), expected, rtol=1e-12)


def test_nearest_is_looked_for_in_single_precision_and_gets_no_gradient():
    support = torch.nn.functional.normalize(queue(4000).float(), dim=1)
    z = (support + 1e-4 * queue(4000, seed=2).float()).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(z, support)
    assert torch.equal(found, support)
    assert not found.requires_grad
