import math

import numpy as np
import pytest
import torch

from references.contrastive import numerical_gradient
from references.instance import amdim_nce, cpc_loss, cpc_offset_loss, softmax_cross_entropy
from selftaught.objectives.local import across_scales, future_nce, surrogate_class


def normal(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


# CPC


def grids(n=4, rows=4, columns=3, d=5, e=6):
    return normal(n, rows, columns, d), normal(n, rows, columns, e, seed=1), normal(d, e, seed=2)


def ours(z, context, weight, offset, group):
    p = context[:, :-offset] @ weight.mT
    return future_nce(p, z[:, offset:], group)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_cpc_equals_the_reference(offset):
    z, context, weight = grids()
    expected = cpc_offset_loss(z.numpy(), context.numpy(), weight.numpy(), offset)
    assert ours(z, context, weight, offset, 4).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("group", [1, 2])
def test_groups_are_separate_batches(group):
    z, context, weight = grids()
    parts = zip(z.split(group), context.split(group), strict=True)
    expected = [cpc_loss(a.numpy(), b.numpy(), {2: weight.numpy()}) for a, b in parts]
    assert ours(z, context, weight, 2, group).item() == pytest.approx(np.mean(expected), rel=1e-9)


def test_gradients_of_cpc_equal_the_reference():
    z, context, weight = (x.requires_grad_() for x in grids(n=2, rows=3, columns=2, d=2, e=3))
    ours(z, context, weight, 1, 2).backward()
    slow = numerical_gradient(
        lambda w: cpc_offset_loss(z.detach().numpy(), context.detach().numpy(), w, 1),
        weight.detach().numpy(),
    )
    np.testing.assert_allclose(weight.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda *x: ours(*x, 1, 2), (z, context, weight))


def test_cpc_without_information_is_the_log_of_the_candidates():
    z = torch.ones(6, 2, 5, 3)
    assert future_nce(z, z, 3).item() == pytest.approx(math.log(3 * 2 * 5))


def test_cpc_in_single_precision_under_autocast():
    p, z = normal(4, 3, 3, 64).float(), normal(4, 3, 3, 64, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = future_nce(p, z, 2)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(future_nce(p, z, 2).item(), rel=1e-6)


# AMDIM


def scales(n=4, d=6, side=3):
    return normal(n, d), normal(n, d, side, side, seed=1)


@pytest.mark.parametrize("clip", [0.5, 2.0, 20.0])
def test_across_scales_equals_the_reference(clip):
    antecedent, maps = scales()
    loss, square = across_scales(4 * antecedent, maps, clip)
    nce, penalty = amdim_nce(4 * antecedent.numpy(), maps.numpy(), clip, weight=1.0)
    assert loss.item() == pytest.approx(nce, rel=1e-9)
    assert square.item() == pytest.approx(penalty, rel=1e-9)


def test_antecedents_of_a_part_of_the_batch():
    antecedent, maps = scales()
    whole = across_scales(antecedent, maps, 3.0)
    parts = [across_scales(antecedent[i : i + 2], maps, 3.0, first=i) for i in (0, 2)]
    for k in range(2):
        torch.testing.assert_close((parts[0][k] + parts[1][k]) / 2, whole[k])


def test_gradients_across_scales_equal_the_reference():
    antecedent, maps = (x.requires_grad_() for x in scales(n=3, d=2, side=2))
    sum(across_scales(antecedent, maps, 1.5)).backward()
    slow = numerical_gradient(
        lambda a: sum(amdim_nce(a, maps.detach().numpy(), 1.5, weight=1.0)),
        antecedent.detach().numpy(),
    )
    np.testing.assert_allclose(antecedent.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda a, m: across_scales(a, m, 1.5), (antecedent, maps))


def test_across_scales_without_information_is_the_log_of_the_candidates():
    loss, square = across_scales(torch.zeros(5, 4), torch.ones(5, 4, 3, 3), 20.0)
    assert loss.item() == pytest.approx(math.log(1 + 4 * 9))
    assert square.item() == 0


def test_scores_of_any_size_are_clipped():
    antecedent, maps = scales()
    loss, _ = across_scales(1e6 * antecedent, maps, 10.0)
    assert torch.isfinite(loss)
    assert loss.item() <= 20 + math.log(1 + 3 * 9)


def test_across_scales_in_single_precision_under_autocast():
    antecedent, maps = (x.float() for x in scales(n=8, d=64))
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = across_scales(antecedent, maps, 20.0)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(across_scales(antecedent, maps, 20.0)[0].item(), rel=1e-6)


# Exemplar-CNN


def test_surrogate_classes_equal_the_reference():
    scores, own = normal(6, 9), torch.tensor([0, 8, 3, 3, 7, 1])
    expected = softmax_cross_entropy(scores.numpy(), own.numpy())
    assert surrogate_class(scores, own).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda s: surrogate_class(s, own), scores.requires_grad_())


def test_surrogate_classes_without_information_are_the_log_of_their_number():
    assert surrogate_class(torch.zeros(3, 50), torch.arange(3)).item() == pytest.approx(
        math.log(50)
    )


def test_surrogate_classes_in_single_precision_under_autocast():
    scores, own = normal(5, 40).bfloat16(), torch.arange(5)
    with torch.autocast("cpu", torch.bfloat16):
        half = surrogate_class(scores, own)
    assert half.dtype == torch.float32
    assert half.item() == surrogate_class(scores.float(), own).item()
