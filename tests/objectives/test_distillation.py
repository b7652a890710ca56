import math

import numpy as np
import pytest
import torch

from references.contrastive import numerical_gradient
from references.distillation import dino_loss, dino_targets, koleo_loss, patch_loss
from selftaught.objectives.distillation import (
    centred,
    koleo,
    patch_distillation,
    soft_cross_entropy,
    view_distillation,
)


def scores(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.04, 1.0])
def test_centred_targets_equal_the_reference(temperature):
    taught, centre = scores(2, 5, 7), scores(7, seed=1)
    ours = centred(taught, centre, temperature).numpy()
    expected = dino_targets(taught.numpy(), centre.numpy(), temperature)
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


@pytest.mark.parametrize("views", [2, 5])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_view_distillation_equals_the_reference(views, temperature):
    student, targets = scores(views, 4, 7), scores(2, 4, 7, seed=1).softmax(-1)
    ours = view_distillation(student, targets, temperature).item()
    expected = dino_loss(student.numpy(), targets.numpy(), temperature)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_gradient_equals_the_reference_and_targets_get_none():
    student = scores(3, 2, 4).requires_grad_()
    targets = scores(2, 2, 4, seed=1).softmax(-1).requires_grad_()
    view_distillation(student, targets, 0.5).backward()
    slow = numerical_gradient(
        lambda s: dino_loss(s, targets.detach().numpy(), 0.5), student.detach().numpy()
    )
    np.testing.assert_allclose(student.grad.numpy(), slow, atol=1e-7)
    assert targets.grad is None
    fixed = targets.detach()
    assert torch.autograd.gradcheck(lambda s: view_distillation(s, fixed, 0.5), student)


def test_without_information_it_is_the_log_of_the_prototypes():
    student, targets = torch.ones(4, 3, 9), torch.full((2, 3, 9), 1 / 9)
    assert view_distillation(student, targets, 0.1).item() == pytest.approx(math.log(9))


def test_single_precision_under_autocast():
    student, taught = scores(3, 16, 32).float(), scores(2, 16, 32, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        targets = centred(taught, torch.zeros(32), 0.04)
        half = view_distillation(student, targets, 0.1)
    assert half.dtype == targets.dtype == torch.float32
    assert half.item() == pytest.approx(view_distillation(student, targets, 0.1).item(), rel=1e-6)


def test_patch_distillation_equals_the_reference_of_hidden_patches():
    student, targets = scores(1, 3, 4, 7), scores(1, 3, 4, 7, seed=1).softmax(-1)
    everywhere = np.ones((1, 3, 4), dtype=bool)
    ours = patch_distillation(student[0], targets[0], 0.2).item()
    expected = patch_loss(student.numpy(), targets.numpy(), everywhere, 0.2)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_patch_distillation_has_the_references_gradient_and_targets_get_none():
    student = scores(2, 3, 4).requires_grad_()
    targets = scores(2, 3, 4, seed=1).softmax(-1).requires_grad_()
    patch_distillation(student, targets, 0.5).backward()
    fixed, everywhere = targets.detach().numpy()[None], np.ones((1, 2, 3), dtype=bool)
    slow = numerical_gradient(
        lambda s: patch_loss(s[None], fixed, everywhere, 0.5), student.detach().numpy()
    )
    np.testing.assert_allclose(student.grad.numpy(), slow, atol=1e-7)
    assert targets.grad is None


def test_koleo_and_its_gradient_equal_the_reference():
    h = scores(6, 5).requires_grad_()
    loss = koleo(h)
    assert loss.item() == pytest.approx(koleo_loss(h.detach().numpy()), rel=1e-9)
    loss.backward()
    slow = numerical_gradient(koleo_loss, h.detach().numpy())
    np.testing.assert_allclose(h.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(koleo, h)


def test_koleo_is_finite_for_equal_rows_and_in_single_precision_under_autocast():
    h = torch.ones(4, 3, requires_grad=True)
    koleo(h).backward()
    assert torch.isfinite(h.grad).all()
    far = scores(64, 32).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = koleo(far)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(koleo(far).item(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_cross_entropy_sample_by_sample(temperature):
    student, teacher = scores(5, 3), scores(5, 3, seed=1)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(v / temperature) for v in t]
        q = [math.exp(v / temperature) for v in s]
        total -= sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))
    found = soft_cross_entropy(student, teacher, temperature)
    assert found.item() == pytest.approx(total / 5, rel=1e-9)
    loss = lambda s: soft_cross_entropy(s, teacher, temperature)  # noqa: E731
    assert torch.autograd.gradcheck(loss, student.requires_grad_())


def test_the_targets_of_soft_cross_entropy_get_no_gradient():
    student, teacher = (scores(5, 3, seed=i).requires_grad_() for i in range(2))
    soft_cross_entropy(student, teacher, 2.0).backward()
    assert teacher.grad is None
