import math

import pytest
import torch
from torch import nn

from contract.small import build, stream, train
from methods.toy import Rows, rows
from references import codes as reference
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples, ViewBatch
from selftaught.methods import vae
from selftaught.methods.vae import VAE


def linear(dim=3, **more):
    """A VAE whose encoder and decoder are linear: all of it is known in closed form."""
    torch.manual_seed(0)
    return VAE(Rows(), nn.Linear(dim, 6), dim=dim, **more).double()


@torch.no_grad()
@pytest.mark.parametrize("variance", [0.1, 1.0])
def test_the_terms_sum_to_the_elbo_of_a_linear_model(variance, monkeypatch):
    """log p(x) - KL(q || p(z | x)), where the noise is such that a quadratic's mean is exact."""
    method, dim = linear(variance=variance), 3
    points = math.sqrt(dim) * torch.cat([torch.eye(dim), -torch.eye(dim)]).double()  # mean 0, cov I
    monkeypatch.setattr(vae, "normal", lambda mean: points)
    for i in range(3):
        (x,) = rows(4, views=1).views
        mean, log_variance = (p[i].numpy() for p in method.posterior(x))
        weight, bias = method.decoder.weight.numpy(), method.decoder.bias.numpy()
        expected = reference.linear_gaussian_elbo(
            x[i].numpy(), weight, bias, variance, mean, log_variance
        )
        repeated = ViewBatch((x[i].expand(2 * dim, -1),), torch.arange(2 * dim))
        assert -6 * sum(method(repeated).values()).item() == pytest.approx(expected, rel=1e-9)


def test_the_noise_goes_through_the_variance_to_the_encoder():
    method, batch = linear(), rows(4, views=1)
    torch.manual_seed(1)
    method(batch)["reconstruction"].backward()
    rows_of_variance = method.to_posterior.weight.grad[3:]
    assert rows_of_variance.abs().min() > 0
    torch.manual_seed(2)
    other = method(batch)["reconstruction"].item()
    torch.manual_seed(1)
    assert method(batch)["reconstruction"].item() != other


def test_beta_weighs_the_divergence_alone():
    batch = rows(4, views=1)
    found = []
    for beta in (1.0, 4.0):
        torch.manual_seed(3)
        method = linear(beta=beta)
        torch.manual_seed(4)
        found.append(method(batch))
    one, four = found
    assert one["reconstruction"] == four["reconstruction"]
    torch.testing.assert_close(four["kl"], 4 * one["kl"])


@torch.no_grad()
def test_it_reconstructs_decodes_and_samples():
    run = build("vae")
    method = run.method.eval()
    (x,) = next(stream(run)).views
    assert isinstance(method, Reconstructs)
    assert isinstance(method, Codes)
    assert isinstance(method, Samples)
    pictures = method.pictures(x)
    assert list(pictures) == ["seen", "reconstruction"]
    assert torch.equal(pictures["seen"], x)
    assert torch.equal(pictures["reconstruction"], method.decode(method.code(x)))
    assert pictures["reconstruction"].shape == x.shape
    assert method.code(x).shape == (16, 8)
    assert torch.equal(method.code(x), method.posterior(x)[0])  # no noise
    torch.manual_seed(0)
    drawn = method.sample(5)
    assert drawn.shape == (5, 1, 16, 16)
    torch.manual_seed(0)
    assert torch.equal(drawn, method.decode(torch.randn(5, 8)))


@torch.no_grad()
def test_samples_of_a_linear_model_have_the_models_covariance():
    method = linear()
    torch.manual_seed(0)
    x = method.sample(20_000)
    weight = method.decoder.weight
    torch.testing.assert_close(x.T.cov(), weight @ weight.T, atol=0.03, rtol=0)
    torch.testing.assert_close(x.mean(0), method.decoder.bias, atol=0.02, rtol=0)


def test_a_large_beta_brings_the_codes_to_the_prior():
    run = build("vae", beta=100.0)
    first, *_, last = train(run, 40)
    assert last["kl"] < 0.5 * first["kl"]
    run = build("vae", beta=0.0)
    *_, last = train(run, 2)
    assert last["kl"] == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variance": 0.0}, "--variance"),
        ({"beta": -1.0}, "--beta"),
        ({"dim": 0}, "1 or more"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("vae", **settings)
