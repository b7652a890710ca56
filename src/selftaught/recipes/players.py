"""Recipes in which players compete: one tells real from fake, the others make it."""

from typing import Literal

from torch import nn

from selftaught.methods.aae import AAE
from selftaught.methods.bigan import BiGAN
from selftaught.methods.gan import GAN
from selftaught.nn.adversarial import DCGANCritic, PairCritic, Prior
from selftaught.nn.decoders import Bounded, Decoder
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training
from selftaught.views.image import Centre, View, Views

Distribution = Literal["uniform", "normal"]


def gan(
    data: Pixels,
    *,
    encoder: str = "dcgan",
    dim: int = 100,
    prior: Distribution = "uniform",
    width: int = 64,
    critic_width: int = 64,
    training: Training = Training(batch_size=128, lr=2e-4, weight_decay=0.0, warmup=0.0),
) -> Run:
    """DCGAN (Radford et al. 2015, arXiv 1511.06434): a critic learns to know real images.

    Images are shown whole, without random crops or colours, as in the paper.

    Args:
        data: what the images look like.
        encoder: the critic without its last layer: resnet-nano, dcgan, or any timm name.
        dim: numbers that an image is made of.
        prior: what these are drawn from, uniform or normal.
        width: channels of the generator before its last doubling.
        critic_width: channels of the first convolution of dcgan; other encoders have their own.
    """
    codes = Prior(dim, prior)
    net = build(encoder, channels=data.channels, size=data.size, width=critic_width)
    method = GAN(net, painter(data, dim, width), codes)
    return training.run(method, whole(data), beta1=0.5)


def bigan(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 50,
    prior: Distribution = "normal",
    width: int = 64,
    hidden: int = 512,
    training: Training = Training(batch_size=32, lr=2e-4, weight_decay=2.5e-5, warmup=0.0),
) -> Run:
    """BiGAN (Donahue et al. 2016, arXiv 1605.09782): encoder and generator undo one another.

    Images are shown whole, without random crops or colours; the authors' code crops 64 of 72 pixels
    at random.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        dim: numbers in the code of an image.
        prior: what codes are drawn from, uniform or normal.
        width: channels of the generator before its last doubling, and of the critic's first layer.
        hidden: units in the critic where image and code meet.
    """
    codes = Prior(dim, prior)
    net = build(encoder, channels=data.channels, size=data.size)
    trunk = DCGANCritic(channels=data.channels, size=data.size, width=width)
    critic = PairCritic(trunk, dim, hidden)
    method = BiGAN(net, painter(data, dim, width), critic, codes)
    return training.run(method, whole(data), beta1=0.5)


def aae(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 32,
    spread: float = 1.0,
    width: int = 32,
    hidden: int = 1000,
    weight: float = 0.1,
    training: Training = Training(batch_size=128, lr=1e-3),
) -> Run:
    """AAE (Makhzani et al. 2015, arXiv 1511.05644): an autoencoder with codes like a Gaussian's.

    Images are shown whole, without random crops or colours.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        dim: numbers in the code of an image.
        spread: standard deviation of the Gaussian.
        width: channels of the decoder before its last doubling.
        hidden: units in each of the critic's two hidden layers.
        weight: of the encoder's term, beside the reconstruction.
    """
    prior = Prior(dim, "normal", spread)
    net = build(encoder, channels=data.channels, size=data.size)
    method = AAE(net, painter(data, dim, width), prior, hidden=hidden, weight=weight)
    return training.run(method, whole(data), beta1=0.5)


def painter(data: Pixels, dim: int, width: int) -> nn.Module:
    """A generator of images from codes, each pixel from black to white."""
    decoder = Decoder(dim, data.channels, data.size, width=width, widest=8 * width)
    return nn.Sequential(decoder, Bounded(data.mean, data.std))


def whole(data: Pixels) -> Views:
    """The whole image, with nothing random."""
    return Views([View(Centre(data.size))], data.mean, data.std)
