"""Random transformations of the one patch that stands for its image.

Exemplar-CNN (Dosovitskiy et al. 2014, https://arxiv.org/abs/1406.6909), section 2: a seed patch is
taken from each image at a random position and scale, with a probability in proportion to the mean
squared gradient within it; views are random transformations of it. The paper does not say from
which scales; here a patch has half of the image's side to all of it.

A run meets an image many times, in no order, and the patch must be the same every time. So its
position and scale are random by the pixels: a hash of them is the quantile at which the
distribution is read off. All of that is integers, equal on every machine and in every batch.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from selftaught import seeds
from selftaught.errors import UserError
from selftaught.precision import float32
from selftaught.views.crop import Centre
from selftaught.views.drawing import check_range, uniform
from selftaught.views.image import View

PRIME = 2**31 - 1
GRAY = 1e-4  # a difference of channels that is none, but rounding
NEXT = 48271  # Park & Miller's multiplier for that prime: from one random number to another


class Seeds(NamedTuple):
    """One square patch an image, in pixels: (n,) long tensors."""

    top: Tensor
    left: Tensor
    side: Tensor


def seed_patches(x: Tensor, share: tuple[float, float]) -> Seeds:
    """The patch that stands for each of the square images x, uint8 (n, C, S, S).

    Its side is uniform in ``share`` of the image's. Its place is drawn in proportion to the squared
    gradients inside, central differences of the pixels with one-sided ones at the border, summed
    over channels; where there are none, all places are equally likely.
    """
    n, size = len(x), x.shape[-1]
    scale, place = quantiles(x)  # (n,), (n,)
    low, high = share
    side = ((low + (high - low) * scale) * size).round().long().clamp(1, size)  # (n,)
    sums = _window_sums(_squared_gradients(x), side)  # (n, S, S)
    fits = torch.arange(size, device=x.device) <= size - side[:, None]  # (n, S)
    fits = (fits[:, :, None] & fits[:, None, :]).long()
    sums = torch.where((sums == 0).all((1, 2))[:, None, None], fits, sums * fits)
    below = sums.view(n, -1).cumsum(1)  # (n, S S)
    wanted = (place * below[:, -1]).long()  # less than the last of `below`
    found = torch.searchsorted(below, wanted[:, None], right=True)[:, 0]
    return Seeds(found // size, found % size, side)


def quantiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers in [0, 1) an image, float64 (n,), by its pixels x alone, uint8 (n, ...).

    The first is the pixels' product with fixed random numbers modulo a prime (Carter & Wegman 1979,
    Universal classes of hash functions).
    """
    weights = _weights(x[0].numel()).to(x.device)
    hashed = (x.flatten(1).long() * weights).sum(1) % PRIME
    return hashed.double() / PRIME, (hashed * NEXT % PRIME).double() / PRIME


@functools.lru_cache(maxsize=2)
def _weights(count: int) -> Tensor:
    return torch.randint(1, PRIME, (count,), generator=seeds.generator(0, "seed patches"))


def _squared_gradients(x: Tensor) -> Tensor:
    """Four times the squared gradients of x (n, C, S, S), summed over channels: long (n, S, S)."""
    padded = F.pad(x.double(), (1, 1, 1, 1), mode="replicate").long()
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down[:, :, [0, -1]] *= 2
    across[:, :, :, [0, -1]] *= 2
    return (down.square() + across.square()).sum(1)


def _window_sums(x: Tensor, side: Tensor) -> Tensor:
    """The sums of x (n, S, S) over windows of ``side`` (n,) from each place on, long (n, S, S).

    A window that goes beyond the image ends there.
    """
    n, size = len(x), x.shape[-1]
    total = F.pad(x.cumsum(1).cumsum(2), (1, 0, 1, 0))  # (n, S + 1, S + 1)
    end = (torch.arange(size, device=x.device) + side[:, None]).clamp(max=size)  # (n, S)
    rows = total.gather(1, end[:, :, None].expand(n, size, size + 1)) - total[:, :-1]
    return rows.gather(2, end[:, None, :].expand(n, size, size)) - rows[:, :, :-1]


class PatchParameters(NamedTuple):
    """What `Patch` draws."""

    shift: Tensor  # (n, 2) to the right and down, in shares of the view
    scale: Tensor  # (n,) of the patch: above 1 its surroundings are seen
    angle: Tensor  # (n,) in degrees, clockwise


@dataclass(frozen=True)
class Patch:
    """The seed patch of an image of ``source`` pixels, shifted, scaled and turned at random.

    The ranges are the paper's: a fifth of the patch, a factor of 0.7 to 1.4 (here uniform in its
    logarithm), 20 degrees. ``share`` is the seed's side as a share of the image's. What lies beyond
    the image is its mirror image.
    """

    size: int
    source: int
    share: tuple[float, float] = (0.5, 1.0)
    shift: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    angle: float = 20.0

    def __post_init__(self) -> None:
        check_range("scale", self.scale)
        check_range("the seed patch's share of the image's side", self.share)
        if self.share[1] > 1 or self.size < 1:
            raise UserError(
                f"seed patches of up to {self.share[1]} of the image in views of {self.size} "
                "pixels; give a share of at most 1 and a size of at least 1"
            )

    def draw(self, generator: Generator, n: int) -> PatchParameters:
        """Parameters for n images."""
        return PatchParameters(
            shift=uniform(generator, n, 2, low=-self.shift, high=self.shift),
            scale=log_uniform(generator, n, bounds=self.scale),
            angle=uniform(generator, n, low=-self.angle, high=self.angle),
        )

    def cut(self, x: Tensor, parameters: PatchParameters) -> Tensor:
        """The transformed patches of x, uint8 (n, C, source, source): (n, C, size, size)."""
        patches = moved(x, seed_patches(x, self.share), parameters, self.size)
        return patches.round_().clamp_(0, 255).to(torch.uint8)


@float32
def moved(x: Tensor, seed: Seeds, parameters: PatchParameters, size: int) -> Tensor:
    """The seed patches of x (n, C, S, S), moved and resized: float32 (n, C, size, size).

    Bilinear and, unlike `resized_crop`, not antialiased. Where the patch is the whole image it is
    torchvision's affine with the scale's reciprocal.
    """
    shift, scale, angle = (p.to(x.device) for p in parameters)
    zoom = scale * seed.side / x.shape[-1]  # (n,)
    sine, cosine = torch.deg2rad(angle).sin() * zoom, torch.deg2rad(angle).cos() * zoom
    turn = torch.stack([cosine, sine, -sine, cosine], 1).view(-1, 2, 2)
    centre = torch.stack([seed.left, seed.top], 1) + seed.side[:, None] / 2  # (n, 2)
    centre = 2 * centre / x.shape[-1] - 1 - (turn @ (2 * shift[:, :, None]))[:, :, 0]
    where = torch.cat([turn, centre[:, :, None]], 2)  # (n, 2, 3)
    grid = F.affine_grid(where, [len(x), 1, size, size], align_corners=False)
    return F.grid_sample(x.float(), grid, padding_mode="reflection", align_corners=False)


class ContrastParameters(NamedTuple):
    """What `Contrast` draws."""

    components: Tensor  # (n, 3) factor of each principal component of the colours
    power: Tensor  # (n,) of saturation and value
    factor: Tensor  # (n,) of both, after the power
    added: Tensor  # (n,) to both, after the factor


@dataclass(frozen=True)
class Contrast:
    """The paper's two changes of contrast, in their full ranges where ``strength`` is 1.

    Deviation: the principal components are those of the patch, where the paper has those of all
    pixels of the data.

    First each principal component of the patch's own colours is scaled by 0.5 to 2; then saturation
    and value are raised to a power of 0.25 to 4, multiplied by 0.7 to 1.4, and -0.1 to 0.1 is added
    to them. Images of one channel have one component and no saturation. The paper names the bounds
    alone; factors and powers are uniform in their logarithm.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise UserError(f"a contrast of {self.strength}; give a number of at least 0")

    def draw(self, generator: Generator, n: int) -> ContrastParameters:
        """Parameters for n images."""
        return ContrastParameters(
            components=log_uniform(generator, n, 3, bounds=(0.5, 2.0)) ** self.strength,
            power=log_uniform(generator, n, bounds=(0.25, 4.0)) ** self.strength,
            factor=log_uniform(generator, n, bounds=(0.7, 1.4)) ** self.strength,
            added=uniform(generator, n, low=-0.1, high=0.1) * self.strength,
        )

    @float32
    def apply(self, x: Tensor, parameters: ContrastParameters) -> Tensor:
        """The images x in [0, 1], (n, C, H, W) with C = 1 or 3, changed."""
        components, power, factor, added = (p.to(x.device) for p in parameters)
        return raise_contrast(scale_components(x, components), power, factor, added)


def raise_contrast(x: Tensor, power: Tensor, factor: Tensor, added: Tensor) -> Tensor:
    """x (n, C, H, W) with y^power factor + added for saturation and value y; the hue stays.

    With M the largest and m the smallest channel, value is M and saturation (M - m) / M, and a
    channel c is M (1 - saturation (M - c) / (M - m)). Gray stays gray.
    """
    power, factor, added = (p[:, None, None, None] for p in (power, factor, added))

    def change(y: Tensor) -> Tensor:
        return (y**power * factor + added).clamp_(0, 1)

    value = x.amax(1, keepdim=True)  # (n, 1, H, W)
    if x.shape[1] == 1:
        return change(value)
    chroma = value - x.amin(1, keepdim=True)
    saturation = change(chroma / value.clamp(min=GRAY))
    return change(value) * (1 - saturation * (value - x) / chroma.clamp(min=GRAY))


def scale_components(x: Tensor, factors: Tensor) -> Tensor:
    """x (n, C, H, W) with its colours' principal components, from the smallest, times (n, >= C)."""
    colours = x.flatten(2)  # (n, C, H W)
    mean = colours.mean(2, keepdim=True)
    colours = colours - mean
    _, axes = torch.linalg.eigh(colours @ colours.mT)  # (n, C, C), an axis a column
    change = (axes * factors[:, None, : x.shape[1]]) @ axes.mT
    return (change @ colours + mean).clamp_(0, 1).view_as(x)


def log_uniform(generator: Generator, *shape: int, bounds: tuple[float, float]) -> Tensor:
    """Numbers between the bounds whose logarithms are uniform."""
    low, high = map(math.log, bounds)
    return uniform(generator, *shape, low=low, high=high).exp()


class PatchView(View):
    """A view of each image's seed patch: moved, then changed in its colours."""

    def __init__(self, patch: Patch, *then: Any) -> None:
        super().__init__(Centre(patch.source), *then)
        self.whole = View(Centre(patch.source))
        self.cropper = patch
        self.size = patch.size

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[Any, ...]) -> Tensor:
        """The moved patches of the images' central squares, uint8 (n, C, size, size)."""
        x = self.whole.crop(images, self.whole.draw(Generator(), len(images)))
        return self.cropper.cut(x, parameters[0])
