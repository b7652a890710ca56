"""Recipes that predict every place of an image from something less of it."""

from typing import Literal

from selftaught.errors import above_zero
from selftaught.methods.colorization import Colorization
from selftaught.methods.inpainting import Inpainting
from selftaught.nn.colour import Lightness
from selftaught.nn.encoders import build
from selftaught.nn.painting import Holes
from selftaught.recipes.run import ONCE, Pixels, Run
from selftaught.recipes.shared import Training, crop
from selftaught.views.image import View, Views


def colorization(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    patch: int = 0,
    stride: int = 4,
    width: int = 64,
    grid: float = 10,
    sigma: float = 5,
    mix: float = 0.5,
    temperature: float = 0.38,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Colorization (Zhang et al. 2016, arXiv 1603.08511): from light and dark, tell the colours.

    Needs images in colour; the encoder that comes out is given colour images, too, and sees how
    light they are. All images are looked at once before the first step, to count their colours.
    Adam's second average is shorter than its default, as in the authors' solver. A deviation from
    the paper's settings: crops of any share from ``smallest_crop`` are resized, where the authors'
    are 176 pixels of the image as it is.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name that has a map of features.
        patch: side of a transformer's patch in pixels; 0 takes its own, or about 7 x 7 of them.
        stride: colours are predicted at one pixel in so many, along each side.
        width: channels of the decoder before its last doubling.
        grid: side of a bin of colours in Lab.
        sigma: deviation of the Gaussian that spreads a colour over its nearest bins.
        mix: share of a uniform distribution in what rare colours are weighted by.
        temperature: of the mean of colours that pictures show; 1 is the plain mean.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=1, size=data.size, patch=patch or None)
    method = Colorization(
        Lightness(net, data.mean, data.std),
        size=data.size,
        stride=stride,
        width=width,
        grid=grid,
        sigma=sigma,
        mix=mix,
        temperature=temperature,
    )
    view = View(crop(data, data.size, smallest_crop))
    views = Views([view], data.mean, data.std)
    return training.run(method, views, beta2=0.99, survey_every=ONCE)


def inpainting(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    patch: int = 0,
    hole: Literal["centre", "blocks"] = "blocks",
    blocks: int = 4,
    share: float = 0.25,
    overlap: int = 1,
    rim_weight: float = 10.0,
    reconstruction: float = 0.999,
    adversarial: float = 0.001,
    width: int = 32,
    critic_width: int = 32,
    critic_lr: float = 0.1,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Inpainting (Pathak et al. 2016, arXiv 1604.07379): paint what a hole in the picture hides.

    Painter and critic follow one schedule, so that their learning rates keep their ratio, as in the
    authors' train.lua.

    Deviation: a view shows half of the picture or more, and is resized; the authors cut 128 pixels
    of 350 and resize nothing.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name that has a map of features.
        patch: side of a transformer's patch in pixels; 0 takes its own, or about 7 x 7 of them.
        hole: the centre of the picture, half of its side, or blocks at random places.
        blocks: how many, of one size; they may lie over one another.
        share: of the picture that blocks hide where none lies over another.
        overlap: pixels by which the centre is painted over the rim of its hole.
        rim_weight: how many times an error there counts.
        reconstruction: weight of the squared error of what is painted.
        adversarial: weight of the critic's judgement in the painter's loss; 0 does without it.
        width: channels of the decoder before its last doubling.
        critic_width: channels of the critic's first convolution.
        critic_lr: learning rate of the critic, as a share of the others'.
        smallest_crop: the view shows at least this share of the image's area.
    """
    above_zero(critic_lr=critic_lr)
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    method = Inpainting(
        net,
        mean=data.mean,
        std=data.std,
        holes=Holes(data.size, hole, blocks, share, overlap, rim_weight),
        reconstruction=reconstruction,
        adversarial=adversarial,
        width=width,
        critic_width=critic_width,
    )
    view = View(crop(data, data.size, smallest_crop))
    critic = [] if method.critic is None else [method.critic]
    run = training.run(method, Views([view], data.mean, data.std), beta1=0.5, constant=critic)
    for group in run.optimizer.param_groups:
        if group.pop("constant", False):  # a group of the critic's, which is not constant
            group["lr"] *= critic_lr
    return run
