import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from references.contrastive import numerical_gradient
from references.instance import (
    instdisc_constant,
    instdisc_nce,
    instdisc_proximal,
    instdisc_softmax,
)
from selftaught.objectives.noise import (
    instance_softmax,
    log_partition,
    noise_contrast,
    similarities,
)
from selftaught.objectives.regression import cosine_regression

COUNT, M = 40, 6  # entries of the bank, and noise samples of an image


def problem(n=5, d=8, count=COUNT, m=M):
    """Features, a bank, the images' places in it, and noise that may hit them."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(n, d, generator=g, dtype=torch.float64)
    bank = F.normalize(torch.randn(count, d, generator=g, dtype=torch.float64), dim=1)
    index = torch.randperm(count, generator=g)[:n]
    return z, bank, index, torch.randint(count, (n, m), generator=g)


def nce(z, bank, index, noise, temperature, constant):
    scores = similarities(z, bank, torch.cat([index[:, None], noise], dim=1), temperature)
    log_constant = torch.as_tensor(constant, dtype=z.dtype).log()
    return noise_contrast(scores[:, 0], scores[:, 1:], log_constant, len(bank))


def numpy(*tensors):
    return [t.detach().numpy() for t in tensors]


# Similarities


@pytest.mark.parametrize("count", [20, 4000], ids=["with all", "with those chosen"])
def test_similarities_are_cosines_over_the_temperature(count):
    z, bank, _, chosen = problem(count=count)
    found = similarities(z, bank, chosen, 0.2)
    assert (chosen.shape[1] * z.shape[1] > count) == (count == 20)
    expected = F.cosine_similarity(z[:, None], bank[chosen], dim=2) / 0.2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("count", [20, 4000], ids=["with all", "with those chosen"])
def test_gradients_of_similarities_leave_the_bank_out(count):
    z, bank, _, chosen = problem(n=2, d=3, count=count)
    z.requires_grad_()
    bank.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: similarities(z, bank, chosen, 0.2), z)
    similarities(z, bank, chosen, 0.2).sum().backward()
    assert bank.grad is None


# The exact softmax


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_softmax_equals_the_reference(temperature):
    z, bank, index, _ = problem()
    expected = instdisc_softmax(*numpy(z, bank, index), temperature)
    assert instance_softmax(z, bank, index, temperature).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_softmax_leaves_the_bank_out():
    z, bank, index, _ = problem(n=3, d=4)
    z.requires_grad_()
    bank.requires_grad_()
    instance_softmax(z, bank, index, 0.2).backward()
    assert bank.grad is None
    slow = numerical_gradient(
        lambda z: instdisc_softmax(z, *numpy(bank, index), 0.2), z.detach().numpy()
    )
    np.testing.assert_allclose(z.grad.numpy(), slow, atol=1e-7)


def test_without_information_the_softmax_is_the_log_of_the_entries():
    ones = torch.ones(9, 4, dtype=torch.float64)
    loss = instance_softmax(ones[:2], ones, torch.tensor([0, 3]), 0.07)
    assert loss.item() == pytest.approx(math.log(9))


# Noise-contrastive estimation


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nce_equals_the_reference(temperature):
    z, bank, index, noise = problem()
    expected = instdisc_nce(*numpy(z, bank, index, noise), temperature, 123.0)
    assert nce(z, bank, index, noise, temperature, 123.0).item() == pytest.approx(expected, 1e-9)


def test_gradient_of_nce_equals_the_reference():
    z, bank, index, noise = problem(n=3, d=4)
    nce(z.requires_grad_(), bank, index, noise, 0.2, 50.0).backward()
    slow = numerical_gradient(
        lambda z: instdisc_nce(z, *numpy(bank, index, noise), 0.2, 50.0), z.detach().numpy()
    )
    np.testing.assert_allclose(z.grad.numpy(), slow, rtol=1e-6, atol=1e-7)


def test_nce_of_certain_scores_is_finite_in_single_precision():
    own, noise = torch.tensor([-100.0, 100.0]), torch.tensor([[100.0], [-100.0]])
    loss = noise_contrast(own, noise, torch.tensor(1.0), 10)
    assert loss.item() == pytest.approx(100, rel=0.05)


def test_the_constant_equals_the_reference():
    z, bank, _, noise = problem()
    found = log_partition(similarities(z, bank, noise, 0.1), COUNT)
    expected = instdisc_constant(*numpy(z, bank, noise), 0.1)
    assert found.exp().item() == pytest.approx(expected, rel=1e-9)


def test_the_constant_is_finite_where_its_sum_is_not_and_gets_no_gradient():
    scores = torch.full((2, 3), 1000.0, requires_grad=True)
    found = log_partition(scores, 6)
    assert found.item() == pytest.approx(1000 + math.log(6))
    assert not found.requires_grad


def test_the_distance_between_unit_vectors_is_the_proximal_term():
    z, bank, index, _ = problem()
    expected = instdisc_proximal(*numpy(z, bank, index), 30.0)
    assert 30 * cosine_regression(z, bank[index]).item() == pytest.approx(expected, rel=1e-9)


def test_every_noise_entry_is_pushed_away_and_the_own_one_drawn_near():
    own, noise = torch.zeros(2, requires_grad=True), torch.zeros(2, 5, requires_grad=True)
    noise_contrast(own, noise, torch.tensor(2.0), 9).backward()
    assert (own.grad < 0).all()
    assert (noise.grad > 0).all()
