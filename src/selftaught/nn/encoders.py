"""Encoders: from a batch of images to one vector each, and to tokens where they have them.

Backbones come from timm by name, beside a few small ones of our own for small images and a
processor without a GPU. timm is imported where an encoder of it is built, since that takes seconds.
"""

import difflib
import itertools
import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder, TimmCall
from selftaught.nn.residual import ResNetNano
from selftaught.nn.transformer import ViT

RESNETS = {"resnet-nano": 32, "resnet-pico": 16}  # channels of the stem; each block doubles them
OWN = (*RESNETS, "vit-nano", "amdim-nano", "dcgan")
MEAN_OF_PATCHES = {"global_pool": "avg", "fc_norm": False}  # timm's words for `ViT`'s feature
PLACES = 7  # patches a side of an image, about, where nothing else is said
SMALL = 64  # pixels: up to this side an image is too small for a stem that shrinks it


class Convolutional(Encoder):
    """A timm network without its classifier, pooled by its own rule."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.dim = getattr(net, "head_hidden_size", net.num_features)  # of what forward returns
        self.any_size = not hasattr(net, "patch_embed")
        said = any(getattr(part, "dynamic_img_size", False) for part in net.modules())
        self.dynamic = said or type(net).__name__ == "NaFlexVit"

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        pool = getattr(self.net, "global_pool", None)
        return f"the last layer, pooled by timm's rule ({getattr(pool, 'pool_type', pool)})"

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim)."""
        return self.net(x)

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W). Raises UserError for a network without a map."""
        found = self.net.forward_features(x)
        if found.ndim != 4 or found.shape[1] != self.dim:
            return super().maps(x)
        return found

    def levels(self, x: Tensor) -> list[Tensor]:
        """The map after each stage, by timm. Raises UserError for a network without maps."""
        if not hasattr(self.net, "forward_intermediates"):
            return [self.maps(x)]
        found = self.net.forward_intermediates(x, intermediates_only=True)
        return found if all(y.ndim == 4 for y in found) else [self.maps(x)]


def stages(encoder: nn.Module) -> list[nn.Module]:
    """The parts of an encoder from its input to its output: stem, blocks or layers, last norm.

    The elements of what holds parts in a row count one by one.
    """
    trunk = getattr(encoder, "net", encoder)
    found: list[nn.Module] = []
    for name, part in trunk.named_children():
        row = isinstance(part, nn.Sequential | nn.ModuleList) and name in ("blocks", "stages")
        inner = stages(part) if name == "encoder" else [part]  # of one around another
        found += list(part.children()) if row else inner
    return [part for part in found if any(True for _ in part.parameters())]


def build(
    name: str,
    *,
    channels: int,
    size: int,
    patch: int | None = None,
    stride: int | None = None,
    width: int | None = None,
) -> Encoder:
    """The encoder of that name for square images of ``size`` pixels.

    ``patch`` is for vision transformers, ``stride`` for resnet-nano and resnet-pico: pixels a side
    of one place of the map. Without a ``patch`` it is the one of the name, as in
    vit_base_patch16_224, where that gives 7 x 7 places or more, else `patch_for` the size.
    ``width`` is for dcgan: channels of its first convolution. Raises UserError for an unknown name,
    naming the nearest, for a network that cannot see such images, for a patch that does not tile
    the image and for a stride that the network cannot have.
    """
    if name in RESNETS:
        stem = RESNETS[name]
        widths = (2 * stem, 4 * stem, 8 * stem)
        return ResNetNano(channels=channels, stem=stem, widths=widths, stride=stride)
    if name == "amdim-nano":
        from selftaught.nn.scales import AmdimNano

        return AmdimNano(channels=channels, size=size)
    if name == "dcgan":
        from selftaught.nn.adversarial import DCGANCritic

        more = {} if width is None else {"width": width, "widest": 8 * width}
        return DCGANCritic(channels=channels, size=size, **more)
    import timm
    from timm.models.vision_transformer import VisionTransformer

    options: dict[str, Any] = {"in_chans": channels, "num_classes": 0}
    if name == "vit-nano" or name.startswith(("vit_", "deit")):
        options |= {"img_size": size, "patch_size": _patch(patch, name, size)}
    if name == "vit-nano":
        shape = {"embed_dim": 128, "depth": 6, "num_heads": 4, "class_token": False}
        options |= shape | MEAN_OF_PATCHES
        found = ViT(VisionTransformer(**options))
        found.timm = TimmCall("vit_tiny_patch16_224", options)
        return found
    if name not in timm.list_models():
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], n=1, cutoff=0)
        raise UserError(f"no encoder named {name!r}; did you mean {near[0]!r}?")
    return _of_timm(name, channels, size, options)


def _of_timm(name: str, channels: int, size: int, options: dict[str, Any]) -> Encoder:
    """The network of that name if it can see such images; UserError with the cause if not.

    Some can only where they are told the size, and few refuse to be told.
    """
    causes: list[Exception] = []
    for more in ({}, {"img_size": size}):
        try:
            encoder = _wrapped(name, channels, size, options | more)
            with torch.no_grad():
                encoder.eval()(torch.zeros(1, channels, size, size))
        except Exception as error:  # networks of many authors, each with its own
            causes.append(error)
        else:
            return encoder.train()
    why = " ".join(str(causes[0]).split())
    raise UserError(
        f"{name} cannot see images of {channels} x {size} x {size} ({why}); use a larger --size or "
        "another --encoder"
    ) from causes[0]


@torch.no_grad()
def sees(encoder: Encoder, channels: int, size: int) -> bool:
    """Whether the encoder can see images of ``size`` pixels a side."""
    mode = encoder.training
    try:
        encoder.eval()(_black(encoder, channels, size))
    except Exception:  # networks of many authors, each with its own
        return False
    finally:
        encoder.train(mode)
    return True


def _wrapped(name: str, channels: int, size: int, options: dict[str, Any]) -> Encoder:
    import timm
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    net = timm.create_model(name, **options)
    small = isinstance(net, ResNet) and size <= SMALL
    if small:
        small_stem(net, channels)
    plain = isinstance(net, VisionTransformer) and isinstance(net.pos_embed, nn.Parameter)
    if plain and net.dynamic_img_size:
        options = options | {"dynamic_img_size": False}
    pools = plain and (isinstance(net.norm, nn.Identity) or net.attn_pool is not None)
    if pools or (plain and net.dynamic_img_size):  # its last norm is of pools, or its tokens a map
        net = timm.create_model(name, **options, **MEAN_OF_PATCHES)
    encoder = ViT(net) if plain else Convolutional(net)
    encoder.timm = TimmCall(name, options | (MEAN_OF_PATCHES if plain else {}), small)
    return encoder


@torch.no_grad()
def map_side(encoder: Encoder, channels: int, size: int) -> int:
    """Places a side of the encoder's map of an image of ``size`` pixels.

    Raises UserError for an encoder without maps.
    """
    mode = encoder.training
    found = encoder.eval().maps(_black(encoder, channels, size)).shape
    encoder.train(mode)
    return found[-1]


def _black(encoder: Encoder, channels: int, size: int) -> Tensor:
    """An image (1, channels, size, size) where the encoder is."""
    own = next(itertools.chain(encoder.parameters(), encoder.buffers()), torch.empty(0))
    return torch.zeros(1, channels, size, size, device=own.device)


def _patch(asked: int | None, name: str, size: int) -> int:
    """The patch that is asked for, or else fits; UserError for one that does not tile the image."""
    patch = asked or patch_of(name, size) or patch_for(size)
    if patch < 1 or size % patch:
        fits = [p for p in range(1, size + 1) if size % p == 0 and size // p >= 2]
        raise UserError(
            f"patches of {patch} pixels do not tile images of {size}; use --patch with one of "
            f"{', '.join(map(str, fits))}, or another --size"
        )
    return patch


def patch_of(name: str, size: int) -> int | None:
    """The patch in timm's name of an encoder, where it tiles images of ``size`` into 7 x 7 or more.

    A smaller image has a finer patch, since a few places would tell little of it.
    """
    found = re.search(r"patch(\d+)", name)
    patch = int(found[1]) if found else size
    return patch if size % patch == 0 and size // patch >= PLACES else None


def patch_for(size: int) -> int:
    """The patch of 2 to 16 pixels that gives about 7 x 7 tokens."""
    fits = [p for p in range(2, 17) if size % p == 0] or [1]
    return min(fits, key=lambda p: abs(math.log(size / p / PLACES)))


def small_stem(net: Any, channels: int) -> None:
    """Look at every pixel of a small image: a 3x3 convolution of stride 1 and no max-pool."""
    width = net.layer1[0].conv1.in_channels
    net.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    net.maxpool = nn.Identity()
