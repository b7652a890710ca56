"""Recipes that make an image again from a code of it."""

from typing import Literal

from torch import nn

from selftaught.errors import UserError
from selftaught.methods.autoencoder import Autoencoder
from selftaught.methods.denoising_autoencoder import DenoisingAutoencoder
from selftaught.nn.decoders import Decoder
from selftaught.nn.encoders import build
from selftaught.nn.noise import Gaussian, Masking, SaltAndPepper
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training
from selftaught.views.image import Centre, Crop, View, Views


def autoencoder(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 64,
    width: int = 32,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Autoencoder (Hinton & Salakhutdinov 2006): make the image again from few numbers.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name.
        dim: numbers of the code.
        width: channels of the decoder's last layer but one; twice as many at each layer before it.
        smallest_crop: the view shows at least this share of the image's area; 1 shows it as it is.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    method = Autoencoder(net, Decoder(dim, data.channels, data.size, width=width), dim=dim)
    return training.run(method, _views(data, smallest_crop))


def denoising_autoencoder(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    corruption: Literal["masking", "gaussian", "salt_and_pepper"] = "masking",
    ratio: float = 0.5,
    deviation: float = 0.5,
    width: int = 32,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Denoising autoencoder (Vincent et al. 2008): make the image again from a damaged one.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name.
        corruption: masking (black), salt_and_pepper (black or white) or gaussian noise.
        ratio: share of the numbers of an image that masking, or salt and pepper, destroys.
        deviation: of gaussian noise, in standard deviations of the data.
        width: channels of the decoder's last layer but one; twice as many at each layer before it.
        smallest_crop: the view shows at least this share of the image's area; 1 shows it as it is.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    method = DenoisingAutoencoder(
        net,
        Decoder(net.dim, data.channels, data.size, width=width),
        _corruption(data, corruption, ratio, deviation),
    )
    return training.run(method, _views(data, smallest_crop))


def _corruption(data: Pixels, name: str, ratio: float, deviation: float) -> nn.Module:
    black, white = (
        [(value - m) / s for m, s in zip(data.mean, data.std, strict=True)] for value in (0, 1)
    )
    if name == "masking":
        return Masking(ratio, black)
    if name == "salt_and_pepper":
        return SaltAndPepper(ratio, black, white)
    if name == "gaussian":
        return Gaussian(deviation)
    raise UserError(f"no corruption {name!r}; use masking, gaussian or salt_and_pepper")


def _views(data: Pixels, smallest_crop: float) -> Views:
    """One view: a crop that may be flipped, or the whole image as it is."""
    whole = smallest_crop == 1
    crop = Centre(data.size) if whole else Crop(data.size, scale=(smallest_crop, 1.0))
    return Views([View(crop)], data.mean, data.std)
