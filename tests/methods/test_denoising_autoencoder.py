import pytest
import torch
from torch import nn

from contract.small import build, stream
from methods.toy import Rows, rows
from references import codes as reference
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples
from selftaught.methods.denoising_autoencoder import DenoisingAutoencoder
from selftaught.nn.noise import Gaussian, Masking, SaltAndPepper


class Shift(nn.Module):
    """A corruption that can be told from the image."""

    def forward(self, x):
        return x + 100


def test_the_encoder_sees_the_corrupted_image_and_the_target_is_clean():
    method = DenoisingAutoencoder(Rows(), nn.Linear(5, 6), Shift()).double()
    batch = rows(4, views=1)
    (x,) = batch.views
    before = x.clone()
    with torch.no_grad():
        made = method.decoder(method.encoder(x + 100))
        expected = reference.squared_error(made.numpy(), x.numpy())
    assert method(batch)["reconstruction"].item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(x, before)


@torch.no_grad()
def test_what_is_exported_sees_clean_images():
    method = DenoisingAutoencoder(Rows(), nn.Linear(5, 6), Shift()).double()
    (x,) = rows(4, views=1).views
    assert torch.equal(method.code(x), method.encoder(x))
    pictures = method.pictures(x)
    assert torch.equal(pictures["seen"], x + 100)
    assert torch.equal(pictures["reconstruction"], method.decode(method.code(x + 100)))
    assert list(pictures)[-1] == "reconstruction"


@torch.no_grad()
def test_it_reconstructs_and_decodes_but_makes_nothing_of_nothing():
    run = build("denoising_autoencoder")
    method = run.method.eval()
    (x,) = next(stream(run)).views
    assert isinstance(method, Reconstructs)
    assert isinstance(method, Codes)
    assert not isinstance(method, Samples)
    assert {y.shape for y in method.pictures(x).values()} == {x.shape}
    assert method.decode(method.code(x)).shape == x.shape


@pytest.mark.parametrize(
    ("name", "kind"),
    [("masking", Masking), ("gaussian", Gaussian), ("salt_and_pepper", SaltAndPepper)],
)
def test_the_recipe_corrupts_as_asked_for(name, kind):
    settings = {"corruption": name, "ratio": 0.25, "deviation": 2.0}
    corruption = build("denoising_autoencoder", **settings).method.corruption
    assert type(corruption) is kind
    x = torch.full((8, 1, 16, 16), 0.3)
    y = corruption(x)
    if kind is Gaussian:
        assert (y - x).std() == pytest.approx(2, rel=0.1)
        return
    assert (y != x).sum() == 8 * 64
    pixels = 0.5 + 0.25 * y[y != x]  # mean and deviation of the data
    assert set(pixels.tolist()) == ({0.0} if kind is Masking else {0.0, 1.0})


def test_each_step_damages_other_pixels():
    run = build("denoising_autoencoder")
    (x,) = next(stream(run)).views
    one, two = (run.method.corruption(x) for _ in range(2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"corruption": "scratches"}, "use masking, gaussian or salt_and_pepper"),
        ({"ratio": 1.1}, "--ratio"),
        ({"ratio": 1}, "leaves nothing of an image; use a smaller --ratio"),
        ({"ratio": 0.999}, "leaves nothing"),  # of 256 numbers
        ({"corruption": "salt_and_pepper", "ratio": 0.999}, "leaves nothing"),
        ({"corruption": "salt_and_pepper", "ratio": -1}, "--ratio"),
        ({"corruption": "gaussian", "deviation": -1.0}, "--deviation"),
        ({"width": 0}, "1 or more"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("denoising_autoencoder", **settings)
