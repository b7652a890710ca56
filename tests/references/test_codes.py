"""The references of methods with codes, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references import codes


def close(value):
    return pytest.approx(value, rel=1e-12, abs=1e-14)


def test_pca_leaves_what_the_other_axes_hold():
    x = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 1], [0, 0, -1]]) + 5
    assert codes.pca_error(x, 1) == close((4 * 2 / 6 + 2 / 6) / 3)
    assert codes.pca_error(x, 3) == pytest.approx(0, abs=1e-12)


def test_kl_of_the_prior_is_zero_and_of_a_shift_half_its_square():
    assert codes.gaussian_kl(np.zeros((2, 3)), np.zeros((2, 3))) == 0
    assert codes.gaussian_kl(np.array([[1.0, 2.0]]), np.zeros((1, 2))) == close(2.5)
    narrow = codes.gaussian_kl(np.zeros((1, 1)), np.full((1, 1), math.log(0.25)))
    assert narrow == close(0.5 * (0.25 - 1 + math.log(4)))


def test_nll_of_the_mean_is_the_logarithm_of_the_densitys_height():
    x = np.ones((2, 3))
    assert codes.gaussian_nll(x, x, 0.5) == close(1.5 * math.log(math.pi))
    further = codes.gaussian_nll(x, x + 2, 0.5) - codes.gaussian_nll(x, x, 0.5)
    assert further == pytest.approx(3 * 4, rel=1e-9)


def test_kl_of_full_normals_agrees_with_that_of_diagonal_ones():
    mean, log_variance = np.array([0.3, -1.0]), np.array([0.2, -0.7])
    full = codes.kl_of_normals(mean, np.diag(np.exp(log_variance)), np.zeros(2), np.eye(2))
    assert full == close(codes.gaussian_kl(mean[None], log_variance[None]))


def test_elbo_at_the_true_posterior_is_the_evidence():
    weight, x = np.array([[2.0], [0.0]]), np.array([1.0, 0.5])
    covariance = 1 / (1 + 4 / 0.5)  # of the posterior of the one latent number
    mean = covariance * 2 * 1 / 0.5
    elbo = codes.linear_gaussian_elbo(
        x, weight, np.zeros(2), 0.5, np.array([mean]), np.log([covariance])
    )
    evidence = -0.5 * (math.log(2 * math.pi * 4.5) + 1 / 4.5)
    evidence += -0.5 * (math.log(2 * math.pi * 0.5) + 0.25 / 0.5)
    assert elbo == close(evidence)


def test_vq_by_hand():
    z, codebook = (
        np.array([[0.0, 1.0], [4.0, 4.0], [0.0, -1.0]]),
        np.array([[0.0, 0.0], [3.0, 4.0]]),
    )
    assert codes.nearest(z, codebook).tolist() == [0, 1, 0]
    assert codes.vq_terms(z, codebook, 0.5) == (close(0.5), close(0.25))
    n, m, e = codes.codebook_average(np.ones(2), codebook, z, np.array([0, 1, 0]), 0.5)
    assert n.tolist() == [1.5, 1.0]
    assert m.tolist() == [[0.0, 0.0], [3.5, 4.0]]
    assert e.tolist() == [[0.0, 0.0], [3.5, 4.0]]


def test_perplexity_of_even_use_is_the_number_of_codes():
    assert codes.perplexity(np.array([0, 1, 2, 3] * 5), 9) == close(4)
    assert codes.perplexity(np.zeros(7), 9) == close(1)
