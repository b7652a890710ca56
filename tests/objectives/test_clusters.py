import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from references import clusters as reference
from references.contrastive import numerical_gradient
from selftaught.objectives.clusters import (
    centroid_prediction,
    sinkhorn,
    swapped_prediction,
    weighted_prediction,
)


def normal(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def cosines(*shape, seed=0):
    return normal(*shape, seed=seed).tanh()


def unit(x):
    return torch.nn.functional.normalize(x, dim=-1)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_codes_equal_the_reference(epsilon, iterations):
    scores = cosines(9, 5)
    ours = sinkhorn(scores, epsilon, iterations)
    theirs = reference.sinkhorn(scores.numpy(), epsilon, iterations)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12)


def test_samples_that_are_present_take_part_and_others_do_not():
    queue, scores = cosines(6, 5, seed=1), cosines(4, 5)
    both, here = torch.cat([queue, scores]), torch.ones(4, dtype=torch.bool)
    for full, past in ((True, queue.numpy()), (False, None)):
        present = torch.cat([torch.full((6,), full), here])
        ours = sinkhorn(both, 0.05, 3, present)[6:]
        theirs = reference.swav_codes(scores.numpy(), 0.05, 3, past)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(2, 8), st.floats(0.02, 2), st.integers(0, 10**6))
def test_codes_are_distributions_with_equal_totals_in_the_limit(n, k, epsilon, seed):
    scores = 0.3 * cosines(n, k, seed=seed)
    codes = sinkhorn(scores, epsilon, 3)
    assert (codes >= 0).all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(n).double())
    limit = sinkhorn(scores, epsilon + 0.2, 2000)
    torch.testing.assert_close(
        limit.sum(dim=0), torch.full((k,), n / k).double(), rtol=1e-4, atol=0
    )


def test_three_iterations_take_most_of_the_imbalance_away():
    scores = 0.2 * cosines(200, 10) + torch.linspace(0, 0.5, 10)
    before, after = (codes.sum(dim=0) for codes in (unbalanced(scores), sinkhorn(scores, 0.05, 3)))
    assert before.max() > 5 * before.min()
    assert after.max() < 1.2 * after.min()


def unbalanced(scores):
    return (scores / 0.05).softmax(dim=1)


def test_codes_of_gathered_scores_are_not_those_of_each_part():
    scores = cosines(8, 3)
    parts = torch.cat([sinkhorn(part, 0.05, 3) for part in scores.chunk(2)])
    assert (sinkhorn(scores, 0.05, 3) - parts).abs().max() > 0.1


def test_codes_get_no_gradient():
    scores = cosines(4, 3).requires_grad_()
    assert not sinkhorn(scores, 0.05, 3).requires_grad
    codes = scores.detach().softmax(dim=1).requires_grad_()
    swapped_prediction(scores, codes, 0.1).backward()
    assert scores.grad is not None
    assert codes.grad is None


@pytest.mark.parametrize("views", [2, 4])
def test_swapped_predictions_equal_the_reference(views):
    scores = cosines(views, 6, 5)
    codes = [sinkhorn(s, 0.05, 3) for s in scores[:2]]
    pairs = [
        swapped_prediction(scores[j], codes[i], 0.1)
        for i in range(2)
        for j in range(views)
        if i != j
    ]
    assert sum(pairs) / len(pairs) == pytest.approx(reference.swav_loss(scores.numpy()), rel=1e-9)


def test_gradient_of_a_swapped_prediction():
    codes = normal(4, 3, seed=1).softmax(dim=1)
    scores = cosines(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: swapped_prediction(s, codes, 0.2), scores)


def test_without_information_it_is_the_log_of_the_prototypes():
    codes = normal(4, 7).softmax(dim=1)
    loss = swapped_prediction(torch.zeros(4, 7, dtype=torch.float64), codes, 0.1)
    assert loss.item() == pytest.approx(math.log(7))


def test_single_precision_under_autocast():
    scores = cosines(64, 32).float()
    with torch.autocast("cpu", torch.bfloat16):
        codes = sinkhorn(scores, 0.05, 3)
        half = swapped_prediction(scores, codes, 0.1)
    assert codes.dtype == half.dtype == torch.float32
    assert half.item() == pytest.approx(swapped_prediction(scores, codes, 0.1).item(), rel=1e-6)
    wide = sinkhorn(scores.bfloat16(), 0.05, 3)
    assert wide.dtype == torch.float32


def test_tiny_epsilon_overflows_nothing():
    codes = sinkhorn(cosines(7, 4).float(), 1e-4, 3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(7))


def test_centroid_prediction_equals_the_reference():
    z, heads = normal(3, 6, 4), [unit(normal(k, 4, seed=k)) for k in (5, 7)]
    targets = torch.tensor([[0, 4, 2, -100, 1, 1], [6, -100, -100, 0, 3, 2]])
    losses = [
        centroid_prediction(z.flatten(0, 1), c, target.repeat(3), 0.1)
        for c, target in zip(heads, targets, strict=True)
    ]
    theirs = reference.deepcluster_v2_loss(z.numpy(), [c.numpy() for c in heads], targets.numpy())
    assert (sum(losses) / 2).item() == pytest.approx(theirs, rel=1e-9)


def test_centroid_prediction_of_unknown_images_only_is_zero_and_not_nan():
    z = normal(3, 4).requires_grad_()
    loss = centroid_prediction(z, unit(normal(5, 4)), torch.full((3,), -100), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(z.grad).all()


def test_gradient_of_centroid_prediction():
    c, target = unit(normal(5, 3, seed=1)), torch.tensor([0, 4, -100, 1])
    z = normal(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: centroid_prediction(z, c, target, 0.2), z)


def test_weighted_prediction_equals_the_reference():
    scores, cluster, weight = normal(5, 4), torch.tensor([3, 0, 0, 1, 2]), normal(5, seed=1).exp()
    theirs = reference.deepcluster_loss(scores.numpy(), cluster.numpy(), weight.numpy())
    assert weighted_prediction(scores, cluster, weight).item() == pytest.approx(theirs, rel=1e-9)


def test_weighted_prediction_leaves_unknown_images_out():
    scores, weight = normal(2, 4), torch.tensor([1.0, 5.0], dtype=torch.float64)
    half = weighted_prediction(scores, torch.tensor([3, -100]), weight)
    alone = weighted_prediction(scores[:1], torch.tensor([3]), weight[:1])
    assert half.item() == pytest.approx(alone.item() / 2)


def test_gradient_of_weighted_prediction():
    cluster, weight = torch.tensor([3, 0, -100]), torch.tensor([0.5, 2.0, 1.0]).double()
    scores = normal(3, 4).requires_grad_()
    weighted_prediction(scores, cluster, weight).backward()
    known = reference.deepcluster_loss
    slow = numerical_gradient(
        lambda s: known(s[:2], cluster[:2].numpy(), weight[:2].numpy()) * 2 / 3,
        scores.detach().numpy(),
    )
    np.testing.assert_allclose(scores.grad.numpy(), slow, atol=1e-9)
