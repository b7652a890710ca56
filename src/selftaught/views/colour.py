"""Random changes of colour and sharpness of whole batches, in [0, 1]."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.precision import float32
from selftaught.trees import rows
from selftaught.views.drawing import (
    check_probability,
    check_range,
    products,
    uniform,
)

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, to the digits that torchvision has
TINY = torch.finfo(torch.float32).tiny
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@float32
def _change(x: Tensor, parameters: Any, change: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """x with the images that are ``on`` changed, and the others exactly as they were.

    ``change`` is given a copy of those images, which it may write to, and their parameters, where
    these were drawn.
    """
    index = parameters.on.nonzero().squeeze(1)
    chosen, index = rows(parameters, index), index.to(x.device)
    return x.index_copy(0, index, change(x[index], chosen))


class JitterParameters(NamedTuple):
    """What `Jitter` draws."""

    on: Tensor  # (n,) bool
    order: Tensor  # (n, 4) which of the four comes first, second, third, last
    factors: Tensor  # (n, 4) brightness, contrast, saturation, hue


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue changed by random amounts, in a random order.

    torchvision's ColorJitter, except that each image has its own order. The first three factors are
    uniform in [max(0, 1 - a), 1 + a], that of hue in [-a, a] (in turns; at most one half). Images
    of one channel have no saturation and no hue to change.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 0.8

    def __post_init__(self) -> None:
        check_probability(self.p)
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise UserError(
                f"{self} is out of range; give amounts of at least 0, and a hue of at most 0.5"
            )

    def draw(self, generator: Generator, n: int) -> JitterParameters:
        """Parameters for n images."""
        amounts = (self.brightness, self.contrast, self.saturation)
        factors = [uniform(generator, n, low=max(0, 1 - a), high=1 + a) for a in amounts]
        hue = uniform(generator, n, low=-self.hue, high=self.hue)
        return JitterParameters(
            on=uniform(generator, n) < self.p,
            order=uniform(generator, n, 4).argsort(1),
            factors=torch.stack([*factors, hue], 1),
        )

    def apply(self, x: Tensor, parameters: JitterParameters) -> Tensor:
        """The images x in [0, 1], (n, C, H, W) with C = 1 or 3, changed."""
        return _change(x, parameters, _jitter)


def _jitter(x: Tensor, parameters: JitterParameters) -> Tensor:
    """The first three are maps of the colours, x -> clamp(M x + b); hue is not.

    At each place of the order all images go through one such map (the identity for those whose turn
    it is to change hue), and those images through theirs.
    """
    n, channels = x.shape[:2]
    kinds = 2 if channels == 1 else 4
    order = parameters.order[parameters.order < kinds].view(n, kinds)
    luma = _luma(x).to(x.device)
    for kind in order.unbind(1):  # (n,)
        factor = parameters.factors.gather(1, kind[:, None])  # (n, 1)
        rest = torch.where(kind[:, None] == HUE, 0, 1 - factor)
        to_gray = torch.where(kind[:, None] == SATURATION, rest, 0)
        to_mean = torch.where(kind[:, None] == CONTRAST, rest, 0)
        keep = (1 - rest)[:, :, None] * torch.eye(channels)
        colours = keep + to_gray[:, :, None] * _luma(x)  # (n, C, C)
        level = to_mean.to(luma) * (x.mean((2, 3)) @ luma)[:, None]  # (n, 1)
        colours = colours.to(x.device)
        x = torch.baddbmm(level[:, :, None], colours, x.flatten(2)).clamp_(0, 1).view_as(x)
        turned = ((kind == HUE) & (factor[:, 0] != 0)).nonzero().squeeze(1)
        if len(turned):
            turns, turned = factor[turned].to(x.device), turned.to(x.device)
            x[turned] = _turn_hue(x[turned], turns)
    return x


def _luma(x: Tensor) -> Tensor:
    """The weight in its gray value of each channel of x: (C,)."""
    if x.shape[1] not in (1, 3):
        raise UserError(f"colours of images of {x.shape[1]} channels; give images of 1 or 3")
    return torch.tensor(LUMA if x.shape[1] == 3 else (1.0,))


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """The colours of x (n, 3, H, W) turned round the hue circle by ``turns`` (n, 1), as in HSV.

    In sixths of a turn from red, with M the largest channel and m the smallest, the hue of a colour
    is (G + B - R + M - 2m) / (M - m) towards green, or as far towards blue. Back from it, a channel
    at distance d (0 to 3) from the hue is M - (M - m) clamp(d - 1, 0, 1).
    """
    red, green, blue = x.unbind(1)  # (n, H, W)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    hue = (green + blue).sub_(red).add_(largest).sub_(smallest, alpha=2)
    hue = hue.div_(chroma.clamp(min=TINY)).copysign_(green - blue).add_(6 * turns[:, :, None])
    hue = hue.sub_((hue / 6).floor_(), alpha=6)  # in [0, 6]

    channel = torch.tensor((0.0, 2.0, 4.0), device=x.device)[:, None, None]
    fall = (hue[:, None] - channel).abs_().sub_(3).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(largest[:, None], chroma[:, None], fall, value=-1)


class Switch(NamedTuple):
    """What `Gray` and `Solarize` draw."""

    on: Tensor  # (n,) bool


@dataclass(frozen=True)
class Gray:
    """Colours to gray, with the number of channels kept."""

    p: float

    def __post_init__(self) -> None:
        check_probability(self.p)

    def draw(self, generator: Generator, n: int) -> Switch:
        """Parameters for n images."""
        return Switch(uniform(generator, n) < self.p)

    def apply(self, x: Tensor, parameters: Switch) -> Tensor:
        """The images x, (n, C, H, W) with C = 1 or 3, some of them gray."""
        return _change(x, parameters, _gray)


def _gray(x: Tensor, _: Switch) -> Tensor:
    weighted = x * _luma(x).to(x.device)[:, None, None]
    return weighted.sum(1, keepdim=True).expand_as(x)


@dataclass(frozen=True)
class Solarize:
    """Values of at least ``threshold`` inverted."""

    threshold: float
    p: float

    def __post_init__(self) -> None:
        check_probability(self.p)

    def draw(self, generator: Generator, n: int) -> Switch:
        """Parameters for n images."""
        return Switch(uniform(generator, n) < self.p)

    def apply(self, x: Tensor, parameters: Switch) -> Tensor:
        """The images x in [0, 1], some of them solarized."""
        return _change(x, parameters, lambda x, _: torch.where(x >= self.threshold, 1 - x, x))


class BlurParameters(NamedTuple):
    """What `Blur` draws."""

    on: Tensor  # (n,) bool
    sigma: Tensor  # (n,) in pixels


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of a width uniform in ``sigma``, over ``kernel`` by ``kernel`` pixels.

    The kernel is that of BYOL for views of 224 pixels (Grill et al. 2020,
    https://arxiv.org/abs/2006.07733, appendix B). Edges are reflected, over and over where the
    kernel is wider than the image (torchvision refuses that).
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5
    kernel: int = 23

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma)
        check_probability(self.p)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"a blur kernel of {self.kernel} pixels; give an odd number")

    def draw(self, generator: Generator, n: int) -> BlurParameters:
        """Parameters for n images."""
        low, high = self.sigma
        return BlurParameters(
            on=uniform(generator, n) < self.p, sigma=uniform(generator, n, low=low, high=high)
        )

    def apply(self, x: Tensor, parameters: BlurParameters) -> Tensor:
        """The images x in [0, 1], some of them blurred."""
        return _change(x, parameters, self._blur)

    def _blur(self, x: Tensor, parameters: BlurParameters) -> Tensor:
        offset = torch.arange(self.kernel, device=x.device) - self.kernel // 2
        sigma = parameters.sigma.to(x.device)
        taps = (-0.5 * (offset / sigma[:, None]).square()).softmax(1)  # (n, K)
        down, across = (_bands(taps, offset, size) for size in x.shape[2:])
        return products(down, x, across).clamp_(0, 1)


def _bands(taps: Tensor, offset: Tensor, size: int) -> Tensor:
    """The convolution with ``taps`` (n, K) on ``size`` pixels, reflected, as matrices (n, S, S)."""
    reach = torch.arange(size, device=taps.device)[:, None] + offset  # (S, K)
    period = max(2 * (size - 1), 1)
    reach = reach.remainder(period)
    reach = torch.minimum(reach, period - reach).clamp(max=size - 1)
    place = F.one_hot(reach, size).to(taps.dtype)  # (S, K, S)
    return (taps @ place.transpose(0, 1).flatten(1)).view(-1, size, size)
