"""An encoder as the backbone of a detector or a segmenter."""

import math
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from selftaught.errors import UserError

STRIDES = (4, 8, 16)  # of the levels made of an encoder that has one map only


class Pyramid(nn.Module):
    """Maps of one width at several strides, from the maps that an encoder has.

    The last map of each stride from ``finest`` on goes into torchvision's feature pyramid network
    (Lin et al. 2016, https://arxiv.org/abs/1612.03144). Of an encoder with one such map, as a
    vision transformer, others are made by transposed convolutions and max-pooling, as in the simple
    pyramid of ViTDet (Li et al. 2022, https://arxiv.org/abs/2203.16527).

    ``channels`` and ``size`` are those of the images it will see. Raises UserError for an encoder
    without maps, and for images of a size that it cannot see.
    """

    def __init__(
        self, encoder: Any, *, channels: int, size: int, width: int = 64, finest: int = 4
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = width  #: as torchvision's detectors call it
        shapes = _shapes(encoder, channels, size)
        last = {side: i for i, (_, side) in enumerate(shapes)}  # the deepest of each side
        #: which of the encoder's levels are used, the finest first
        self.used = sorted(i for side, i in last.items() if size // side >= finest and side > 1)
        self.scales = nn.ModuleList(nn.Identity() for _ in self.used)
        self.strides = [size // shapes[i][1] for i in self.used]
        widths = [shapes[i][0] for i in self.used]
        if len(self.used) < 2:
            width_, side = shapes[-1]
            made = [_scaled(width_, math.log2(stride * side / size)) for stride in STRIDES]
            self.used = [len(shapes) - 1] * len(made)
            self.scales = nn.ModuleList(layers for layers, _ in made)
            widths = [d for _, d in made]
            self.strides = list(STRIDES)
        self.fpn = FeaturePyramidNetwork(widths, width, norm_layer=nn.BatchNorm2d)

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """Maps (B, width, H, W) by the names "0", "1", ..., the finest first."""
        found = self.encoder.levels(x)
        pairs = zip(self.used, self.scales, strict=True)
        return self.fpn(
            OrderedDict((str(k), scale(found[i])) for k, (i, scale) in enumerate(pairs))
        )


class Coarser(nn.Module):
    """A pyramid with one more level, its coarsest map at half the side."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.out_channels = pyramid.out_channels

    def forward(self, x: Tensor) -> "OrderedDict[str, Tensor]":
        """The pyramid's maps and "pool"."""
        found = self.pyramid(x)
        found["pool"] = F.max_pool2d(next(reversed(found.values())), 1, 2)
        return found


@torch.no_grad()
def _shapes(encoder: Any, channels: int, size: int) -> list[tuple[int, int]]:
    """Width and side of each of the encoder's levels, for images of ``size`` pixels."""
    mode = encoder.training
    x = torch.zeros(1, channels, size, size, device=next(encoder.parameters()).device)
    try:
        return [(y.shape[1], y.shape[-1]) for y in encoder.eval().levels(x)]
    except (RuntimeError, AssertionError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"this encoder is no backbone for images of {size} pixels ({reason}); use another "
            "--size, or a run of resnet-nano, vit-nano or a convolutional network of timm's"
        ) from error
    finally:
        encoder.train(mode)


def _scaled(width: int, octaves: float) -> tuple[nn.Module, int]:
    """Layers that shrink a map by so many octaves, or enlarge it, and their width."""
    steps = round(octaves)
    if steps >= 0:
        return nn.MaxPool2d(2**steps) if steps else nn.Identity(), width
    layers: list[nn.Module] = []
    for _ in range(-steps):
        layers += [nn.ConvTranspose2d(width, width // 2, 2, 2), nn.BatchNorm2d(width // 2)]
        layers.append(nn.GELU())
        width //= 2
    return nn.Sequential(*layers), width
