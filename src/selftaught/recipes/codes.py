"""Recipes that make an image again from a code of it."""

from typing import Literal

from torch import nn

from selftaught.errors import UserError
from selftaught.methods.autoencoder import Autoencoder
from selftaught.methods.denoising_autoencoder import DenoisingAutoencoder
from selftaught.methods.vae import VAE
from selftaught.methods.vqvae import VQVAE
from selftaught.nn.decoders import Decoder
from selftaught.nn.encoders import build, map_side
from selftaught.nn.noise import Gaussian, Masking, SaltAndPepper
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training, crop
from selftaught.views.image import Centre, View, Views


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
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
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
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
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


def vae(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 64,
    variance: float = 0.5,
    beta: float = 1.0,
    width: int = 32,
    smallest_crop: float = 1.0,
    training: Training = Training(),
) -> Run:
    """VAE (Kingma & Welling 2013, arXiv 1312.6114): codes from a distribution that is known.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        dim: numbers of the code.
        variance: of a pixel around what the decoder says, in variances of the data.
        beta: weight of the divergence of the codes from the prior; 1 is the evidence lower bound.
        width: channels of the decoder's last layer but one; twice as many at each layer before it.
        smallest_crop: the view shows at least this share of the image's area; 1 shows it as it is.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    decoder = Decoder(dim, data.channels, data.size, width=width)
    method = VAE(net, decoder, dim=dim, variance=variance, beta=beta)
    return training.run(method, _views(data, smallest_crop))


def vqvae(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    stride: int = 4,
    codes: int = 512,
    dim: int = 64,
    beta: float = 0.25,
    decay: float = 0.99,
    restart: float = 0.05,
    width: int = 32,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937): a word of a vocabulary for each place.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano, a vision transformer or a convolutional network of timm's.
        stride: pixels a side of a place; networks of timm's that convolve have their own.
        codes: words of the vocabulary.
        dim: numbers of a word.
        beta: weight of what draws the encoder to the words.
        decay: of the moving averages that the words are; 0 learns them by the codebook term.
        restart: words used less than this share of an even use begin anew; needs a decay.
        width: channels of the decoder's last layer but one; twice as many at each layer before it.
        smallest_crop: the view shows at least this share of the image's area; 1 shows it as it is.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=stride, stride=stride)
    side = map_side(net, data.channels, data.size)
    decoder = Decoder(dim, data.channels, data.size, side=side, width=width, vector=False)
    method = VQVAE(net, decoder, codes=codes, dim=dim, beta=beta, decay=decay, restart=restart)
    return training.run(method, _views(data, smallest_crop))


def _corruption(data: Pixels, name: str, ratio: float, deviation: float) -> nn.Module:
    black, white = (
        [(value - m) / s for m, s in zip(data.mean, data.std, strict=True)] for value in (0, 1)
    )
    numbers = data.channels * data.size**2
    if name != "gaussian" and 0 <= 1 - ratio < 1 / numbers:
        raise UserError(f"a ratio of {ratio} leaves nothing of an image; use a smaller --ratio")
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
    shown = Centre(data.size) if whole else crop(data, data.size, smallest_crop)
    return Views([View(shown)], data.mean, data.std)
