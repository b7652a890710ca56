"""The references of two-player objectives, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.adversarial import (
    bigan_critic,
    bigan_others,
    gan_critic,
    gan_generator,
    js_divergence,
    softplus,
)


def test_softplus():
    assert softplus(0.0) == pytest.approx(math.log(2))
    assert softplus(math.log(3)) == pytest.approx(math.log(4))
    assert softplus(1000.0) == 1000.0


def test_scores_of_known_probabilities():
    """D is 3/4 of one real sample and 1/5 of one fake one."""
    real, fake = np.array([math.log(3)]), np.array([-math.log(4)])
    assert gan_critic(real, fake) == pytest.approx(math.log(4 / 3) + math.log(5 / 4))
    assert bigan_critic(real, fake) == pytest.approx(gan_critic(real, fake))
    assert gan_generator(fake) == pytest.approx(math.log(5))
    assert bigan_others(real, fake) == pytest.approx(math.log(4) + math.log(5))


def test_divergence():
    assert js_divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(math.log(2))
    assert js_divergence(np.array([0.3, 0.7]), np.array([0.3, 0.7])) == 0.0
