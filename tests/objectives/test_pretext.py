import math

import numpy as np
import pytest
import torch

from references.contrastive import numerical_gradient
from references.instance import softmax_cross_entropy
from references.pretext import rotation_loss
from selftaught.objectives.pretext import transformation


def normal(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def own(n):
    return torch.arange(4)[:, None].expand(4, n)


def test_rotations_equal_the_reference():
    scores = 3 * normal(4, 5, 4)
    expected = rotation_loss(scores.numpy())
    assert transformation(scores, own(5)).item() == pytest.approx(expected, rel=1e-9)


def test_any_transformation_equals_the_reference():
    scores, which = 3 * normal(6, 9), torch.tensor([0, 8, 3, 3, 7, 1])
    expected = softmax_cross_entropy(scores.numpy(), which.numpy())
    assert transformation(scores, which).item() == pytest.approx(expected, rel=1e-9)


def test_gradients_equal_the_reference():
    scores = normal(4, 2, 4).requires_grad_()
    transformation(scores, own(2)).backward()
    slow = numerical_gradient(rotation_loss, scores.detach().numpy())
    np.testing.assert_allclose(scores.grad.numpy(), slow, atol=1e-8)
    assert torch.autograd.gradcheck(lambda s: transformation(s, own(2)), scores)


def test_without_information_it_is_the_log_of_their_number():
    assert transformation(torch.zeros(4, 3, 4), own(3)).item() == pytest.approx(math.log(4))


def test_half_precision_is_widened():
    scores, which = normal(5, 40).bfloat16(), torch.arange(5)
    half = transformation(scores, which)
    assert half.dtype == torch.float32
    assert half.item() == transformation(scores.float(), which).item()
