import dataclasses

import pytest
import torch
from torch import nn

from contract.small import PIXELS, build, stream
from methods.toy import Rows, rows
from references import codes as reference
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples, ViewBatch
from selftaught.methods.autoencoder import Autoencoder


def correlated(n=64, d=6):
    """Rows with a spectrum that falls from axis to axis, none of them a pixel's own."""
    g = torch.Generator().manual_seed(0)
    turned, _ = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))
    scales = torch.tensor([3.0, 2.0, 1.0, 0.7, 0.4, 0.2], dtype=torch.float64)
    return torch.randn(n, d, generator=g, dtype=torch.float64) * scales @ turned + 1


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_a_linear_one_finds_the_subspace_of_pca(dim):
    torch.manual_seed(0)
    x = correlated()
    method = Autoencoder(Rows(6, 6), nn.Linear(dim, 6), dim=dim).double()
    batch = ViewBatch((x,), torch.arange(len(x)))
    optimizer = torch.optim.LBFGS(
        method.parameters(), max_iter=500, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = method(batch)["reconstruction"]
        loss.backward()
        return loss

    optimizer.step(closure)
    found = method(batch)["reconstruction"].item()
    assert found == pytest.approx(reference.pca_error(x.numpy(), dim), rel=1e-6)


def test_the_term_is_the_error_of_the_image_made_of_its_code():
    method = Autoencoder(Rows(), nn.Linear(3, 6), dim=3).double()
    batch = rows(5, views=1)
    (x,) = batch.views
    with torch.no_grad():
        z = method.bottleneck(method.encoder(x))
        expected = reference.squared_error(method.decoder(z).numpy(), x.numpy())
        assert method(batch)["reconstruction"].item() == pytest.approx(expected, rel=1e-9)
        assert z.shape == (5, 3)
        torch.testing.assert_close(method.code(x), z)


@torch.no_grad()
def test_it_reconstructs_and_decodes_but_makes_nothing_of_nothing():
    run = build("autoencoder")
    method = run.method.eval()
    (x,) = next(stream(run)).views
    assert isinstance(method, Reconstructs)
    assert isinstance(method, Codes)
    assert not isinstance(method, Samples)
    pictures = method.pictures(x)
    assert list(pictures) == ["seen", "reconstruction"]
    assert torch.equal(pictures["seen"], x)
    assert method.code(x).shape == (16, 8)
    torch.testing.assert_close(pictures["reconstruction"], method.decode(method.code(x)))
    assert pictures["reconstruction"].shape == x.shape


@torch.no_grad()
def test_the_code_is_linear_in_the_exported_feature():
    method = build("autoencoder").method.eval()
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(method.code(x), method.bottleneck(method.encoder(x)))
    assert isinstance(method.bottleneck, nn.Linear)


def test_the_view_shows_the_image_as_it_is_where_that_is_asked_for():
    run = build("autoencoder", smallest_crop=1.0)
    x = (torch.rand(4, 1, 16, 16) * 255).byte()
    drawn = run.views.draw(torch.Generator().manual_seed(0), 4)
    (y,) = run.views.apply(run.views.crop(x, drawn), drawn)
    torch.testing.assert_close(y, (x / 255 - PIXELS.mean[0]) / PIXELS.std[0])


@pytest.mark.parametrize("encoder", ["resnet-nano", "vit-nano", "resnet18"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 27])
def test_any_encoder_and_any_image(encoder, channels, size):
    mean, std = (0.5,) * channels, (0.2,) * channels
    data = dataclasses.replace(PIXELS, channels=channels, size=size, mean=mean, std=std)
    method = build("autoencoder", pixels=data, encoder=encoder).method
    x = torch.randn(2, channels, size, size)
    assert method.pictures(x)["reconstruction"].shape == x.shape


@pytest.mark.parametrize(
    ("settings", "said"), [({"dim": 0}, "1 or more"), ({"width": 0}, "1 or more")]
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("autoencoder", **settings)
