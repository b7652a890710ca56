import math

import numpy as np
import pytest
import torch

from references import painting
from references.adversarial import (
    bigan_critic,
    bigan_others,
    gan_critic,
    gan_generator,
    js_divergence,
)
from selftaught.objectives.adversarial import deception, discrimination


def scores(n=7, m=5):
    g = torch.Generator().manual_seed(0)
    real = 3 * torch.randn(n, generator=g, dtype=torch.float64)
    fake = 3 * torch.randn(m, generator=g, dtype=torch.float64)
    return real, fake


def test_discrimination_equals_the_references():
    real, fake = scores()
    found = discrimination(real, fake).item()
    assert found == pytest.approx(gan_critic(real.numpy(), fake.numpy()), rel=1e-9)
    assert found == pytest.approx(bigan_critic(real.numpy(), fake.numpy()), rel=1e-9)


def test_deception_equals_the_reference():
    _, fake = scores()
    assert deception(fake).item() == pytest.approx(gan_generator(fake.numpy()), rel=1e-9)


def test_both_are_those_of_context_encoders():
    real, fake = scores()
    expected = painting.critic_loss(real.numpy(), fake.numpy())
    assert discrimination(real, fake).item() == pytest.approx(expected, rel=1e-9)
    assert deception(fake).item() == pytest.approx(painting.painter_loss(fake.numpy()), rel=1e-9)


def test_deception_of_both_sides_is_the_critics_objective_with_labels_exchanged():
    real, fake = scores()
    found = deception(fake) + deception(-real)
    assert found.item() == pytest.approx(bigan_others(real.numpy(), fake.numpy()), rel=1e-9)
    assert found.item() == pytest.approx(discrimination(fake, real).item(), rel=1e-12)


def test_gradients():
    real, fake = (s.requires_grad_() for s in scores())
    assert torch.autograd.gradcheck(discrimination, (real, fake))
    assert torch.autograd.gradcheck(deception, fake)


def test_what_cannot_be_told_apart_costs_the_critic_twice_the_log_of_two():
    """And no constant score costs it less."""
    best = discrimination(torch.zeros(4), torch.zeros(4)).item()
    assert best == pytest.approx(2 * math.log(2))
    for constant in (-1.0, -0.1, 0.1, 1.0):
        same = torch.full((4,), constant)
        assert discrimination(same, same).item() > best


def test_the_best_critic_pays_for_the_distance_between_real_and_fake():
    """D = p / (p + q) has the score ln(p / q); it pays 2 ln 2 - 2 JSD(p, q)."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    score = torch.from_numpy(np.log(p / q))
    real = torch.cat([score[i].expand(round(10 * p[i])) for i in range(3)])
    fake = torch.cat([score[i].expand(round(10 * q[i])) for i in range(3)])
    expected = 2 * math.log(2) - 2 * js_divergence(p, q)
    assert discrimination(real, fake).item() == pytest.approx(expected, rel=1e-9)


def test_a_sure_critic_leaves_the_generator_a_gradient():
    fake = torch.tensor([-30.0, -100.0], requires_grad=True)
    deception(fake).backward()
    assert fake.grad is not None
    torch.testing.assert_close(fake.grad, torch.tensor([-0.5, -0.5]))


def test_extreme_scores_are_finite_in_single_precision():
    far = torch.tensor([1e4])
    assert discrimination(-far, far).item() == pytest.approx(2e4)
    assert deception(far).item() == 0.0
    assert discrimination(far.bfloat16(), far.bfloat16()).dtype == torch.float32
