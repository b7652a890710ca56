"""Encoders: from a batch of images to one vector each, and to tokens where they have them.

Backbones come from timm by name. Two small ones of our own are made for small images and a
processor without a GPU. timm is imported where an encoder of it is built, since that takes seconds.
"""

import difflib
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.masking import take

OWN = ("resnet-nano", "vit-nano", "amdim-nano", "dcgan")
MEAN_OF_PATCHES = {"global_pool": "avg", "fc_norm": False}  # timm's words for `ViT`'s feature
SMALL = 64  # pixels: up to this side an image is too small for a stem that shrinks it


class TimmCall(NamedTuple):
    """How timm makes the network of an encoder: ``timm.create_model(name, **options)``."""

    name: str
    options: dict[str, Any]
    small_stem: bool = False  # whether `small_stem` follows


class Encoder(nn.Module):
    """Maps images (B, C, S, S) to features (B, dim)."""

    dim: int
    any_size: bool = False  # whether images of another side than it was built for may be given
    dynamic: bool = False  # whether what it adds to a place depends on the size of the image
    timm: TimmCall | None = None  # where its network, ``net``, is one of timm's

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the encoder's result"

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of images (B, C, S, S)."""
        raise NotImplementedError

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W), of which ``forward`` is a summary.

        Raises UserError where the encoder has none.
        """
        raise UserError(
            f"{type(self).__name__} has no features of places; use --encoder resnet-nano, vit-nano "
            "or a convolutional network of timm's"
        )

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features of places at several depths (B, D, H, W), the last from the deepest.

        Raises UserError where the encoder has none.
        """
        return [self.maps(x)]


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution without bias that is one matrix product where the map is tiny.

    On a processor, the backward pass of a convolution over a map of 3 x 3 takes more than twice as
    long as that of the same product of matrices. Where the result is a single pixel, that of
    PyTorch 2.14 is wrong too: in bfloat16 and with a stride of 2, it leaves the gradient of those
    weights that saw only padding as it finds it in memory.
    """

    TINY = 4  # pixels a side
    FEW = 256  # images; of many, as of patches, the convolution is quicker

    def __init__(self, d_in: int, d_out: int, stride: int = 1) -> None:
        super().__init__(d_in, d_out, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        if torch.compiler.is_exporting():  # a graph for any number of images cannot choose by it
            return super().forward(input)
        step = self.stride[0]
        height, width = ((side - 1) // step + 1 for side in input.shape[2:])
        largest = max(height, width)
        tiny = largest <= self.TINY and (len(input) <= self.FEW or largest == 1)
        if input.device.type != "cpu" or not tiny:
            return super().forward(input)
        x = F.pad(input, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, d_in)
        rows, columns = step * (height - 1) + 1, step * (width - 1) + 1
        seen = [
            x[:, i : i + rows : step, j : j + columns : step] for i in range(3) for j in range(3)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # (d_out, 9 d_in)
        return F.linear(torch.cat(seen, dim=-1), weight).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip (He et al. 2015, arXiv 1512.03385, figure 2)."""

    def __init__(self, d_in: int, d_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(d_in, d_out, stride)
        self.norm1 = nn.BatchNorm2d(d_out)
        self.conv2 = Conv3x3(d_out, d_out)
        self.norm2 = nn.BatchNorm2d(d_out)
        self.skip = nn.Sequential(nn.Conv2d(d_in, d_out, 1, stride, bias=False))
        self.skip.append(nn.BatchNorm2d(d_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x), inplace=True)


class ResNetNano(Encoder):
    """A residual net for images of 8 to 64 pixels: a 3x3 stem at full size, then blocks that halve.

    Wide where the image is small, so that most of its arithmetic is in matrices large enough for a
    processor's matrix unit. With a ``stride`` of 1, 2 or 4 only the first blocks halve; None lets
    all of them. Raises UserError for a stride that they cannot make.
    """

    any_size = True

    def __init__(
        self,
        *,
        channels: int,
        stem: int = 32,
        widths: tuple[int, ...] = (64, 128, 256),
        stride: int | None = None,
    ) -> None:
        super().__init__()
        if stride is None:
            stride = 2 ** len(widths)
        strides = [2 if 2**i < stride else 1 for i in range(len(widths))]
        if math.prod(strides) != stride:
            fits = ", ".join(str(2**i) for i in range(len(widths) + 1))
            raise UserError(f"a stride of {stride}; use --stride with one of {fits}")
        self.stem = Conv3x3(channels, stem)
        self.norm = nn.BatchNorm2d(stem)
        dims = (stem, *widths)
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, b, s) for a, b, s in zip(dims, widths, strides, strict=False))
        )
        self.dim = dims[-1]

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the mean over the places of the last block"

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over places."""
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W), where each halving of the side is rounded up."""
        return self.blocks(F.relu(self.norm(self.stem(x)), inplace=True))

    def levels(self, x: Tensor) -> list[Tensor]:
        """The map after each block."""
        found = [F.relu(self.norm(self.stem(x)), inplace=True)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:]


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


class ViT(Encoder):
    """A timm vision transformer that can leave tokens out, or hide them.

    Its positions are fixed two-dimensional sines and cosines, as in MAE (arXiv 2111.06377,
    appendix A.1) and MoCo v3; its feature is the mean of the last layer's normalised patch tokens.
    An image of another size has the same sines at as many places as it has patches.
    """

    any_size = True

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.dim: int = net.embed_dim
        self.patch: int = net.patch_embed.patch_size[0]
        self.grid: int = net.patch_embed.grid_size[0]
        self.prefix: int = net.num_prefix_tokens
        position = sine_position(self.dim, self.grid)
        with torch.no_grad():
            net.pos_embed.zero_()[:, -len(position) :] = position
        net.pos_embed.requires_grad_(False)
        net.patch_embed.strict_img_size = False
        for block in net.blocks:
            block.attn.fused_attn = self.grid**2 >= FUSED_FROM

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the mean over the last layer's normalised patch tokens"

    @property
    def length(self) -> int:
        """How many patches an image has."""
        return self.grid**2

    def patches(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n l p"]:
        """The image's patches as rows of pixels, row by row, each pixel's channels together."""
        n, c, side, _ = x.shape
        grid = side // self.patch
        x = x.reshape(n, c, grid, self.patch, grid, self.patch)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(n, grid**2, -1)

    def images(self, patches: Float[Tensor, "n l p"]) -> Float[Tensor, "n c s s"]:
        """The images that have these ``patches``."""
        n, length, _ = patches.shape
        grid = math.isqrt(length)
        x = patches.reshape(n, grid, grid, self.patch, self.patch, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, -1, grid * self.patch, grid * self.patch)

    def tokens(
        self,
        x: Float[Tensor, "n c s s"],
        keep: Int[Tensor, "n k"] | None = None,
        *,
        hidden: Bool[Tensor, "n l"] | None = None,
        blank: Float[Tensor, " d"] | None = None,
    ) -> Float[Tensor, "n k d"]:
        """The last layer's normalised patch tokens.

        Patches not in ``keep`` are never looked at; those that are ``hidden`` are replaced by the
        token ``blank`` before their positions are added.
        """
        tokens = self.net.blocks(self._embedded(x, keep, hidden, blank))
        return self.net.norm(tokens)[:, self.prefix :]

    def layers(
        self,
        x: Float[Tensor, "n c s s"],
        *,
        hidden: Bool[Tensor, "n l"] | None = None,
        blank: Float[Tensor, " d"] | None = None,
    ) -> list[Float[Tensor, "n l d"]]:
        """The patch tokens after each block, from first to last, before the final norm."""
        tokens = self._embedded(x, None, hidden, blank)
        found = []
        for block in self.net.blocks:
            tokens = block(tokens)
            found.append(tokens[:, self.prefix :])
        return found

    def _embedded(
        self, x: Tensor, keep: Tensor | None, hidden: Tensor | None, blank: Tensor | None
    ) -> Tensor:
        """What the first block sees (B, prefix + K, D)."""
        net, grid = self.net, x.shape[-1] // self.patch
        tokens = net.patch_embed(x)  # (B, L, D)
        if hidden is not None:
            assert blank is not None
            tokens = torch.where(hidden.unsqueeze(-1), blank.to(tokens.dtype), tokens)
        if grid == self.grid:
            position = net.pos_embed[:, -self.length :]
        else:
            position = sine_position(self.dim, grid, self.grid).to(tokens)
        tokens = tokens + position
        if keep is not None:
            tokens = take(tokens, keep)
        tokens_before = (net.cls_token, getattr(net, "dist_token", None), net.reg_token)
        prefix = [t for t in tokens_before if t is not None]
        tokens = torch.cat([*(t.expand(x.shape[0], -1, -1) for t in prefix), tokens], dim=1)
        return net.norm_pre(net.pos_drop(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over patches."""
        return self.tokens(x).mean(dim=1)

    def maps(self, x: Tensor) -> Tensor:
        """The patch tokens as a map (B, dim, H, W)."""
        grid = x.shape[-1] // self.patch
        return self.tokens(x).transpose(1, 2).unflatten(2, (grid, grid))


def stages(encoder: nn.Module) -> list[nn.Module]:
    """The parts of an encoder from its input to its output: stem, blocks or layers, last norm.

    The elements of what holds parts in a row count one by one.
    """
    trunk = getattr(encoder, "net", encoder)
    found: list[nn.Module] = []
    for name, part in trunk.named_children():
        row = isinstance(part, nn.Sequential | nn.ModuleList) and name in ("blocks", "stages")
        found += list(part.children()) if row else [part]
    return [part for part in found if any(True for _ in part.parameters())]


FUSED_FROM = 256  # tokens; below, plain attention has the faster backward on a processor


def sine_position(dim: int, grid: int, extent: int | None = None) -> Float[Tensor, "l d"]:
    """Fixed positions of a square grid, row by row: half of the channels for each coordinate.

    Each half is the sines, then the cosines of the coordinate over wavelengths from 2 pi to
    10,000 * 2 pi, as in MAE's code; the column comes first. With ``extent`` the grid is stretched
    over a square of that many places a side.
    """
    frequency = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))  # (D/4,)
    stretch = (extent or grid) / grid
    place = (torch.arange(grid, dtype=torch.float64) + 0.5) * stretch - 0.5
    row, column = torch.meshgrid(place, place, indexing="ij")
    halves = []
    for coordinate in (column, row):
        angle = coordinate.reshape(-1, 1) * frequency  # (L, D/4)
        halves += [angle.sin(), angle.cos()]
    return torch.cat(halves, dim=1).float()


def transformer(dim: int, depth: int, heads: int, length: int) -> nn.Sequential:
    """Pre-norm transformer blocks with a final norm, for ``length`` tokens of ``dim`` channels."""
    from timm.models.vision_transformer import Block

    blocks: list[Any] = [Block(dim, heads, qkv_bias=True) for _ in range(depth)]
    for block in blocks:
        block.attn.fused_attn = length >= FUSED_FROM
    return nn.Sequential(*blocks, nn.LayerNorm(dim, eps=1e-6))


def fuse_attention(module: nn.Module) -> None:
    """Take the fused attention everywhere, as suits a GPU whatever the number of tokens."""
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = True  # pyright: ignore


def build(
    name: str, *, channels: int, size: int, patch: int | None = None, stride: int | None = None
) -> Encoder:
    """The encoder of that name for square images of ``size`` pixels.

    ``patch`` is for vision transformers, ``stride`` for resnet-nano: pixels a side of one place of
    the map. Raises UserError for an unknown name, naming the nearest, for a patch that does not
    tile the image and for a stride that resnet-nano cannot have.
    """
    if name == "resnet-nano":
        return ResNetNano(channels=channels, stride=stride)
    if name == "amdim-nano":
        from selftaught.nn.scales import AmdimNano

        return AmdimNano(channels=channels, size=size)
    if name == "dcgan":
        from selftaught.nn.adversarial import DCGANCritic

        return DCGANCritic(channels=channels, size=size)
    import timm
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    options: dict[str, Any] = {"in_chans": channels, "num_classes": 0}
    if name == "vit-nano" or name.startswith(("vit_", "deit")):
        patch = patch or patch_for(size)
        if patch < 1 or size % patch:
            fits = [p for p in range(1, size + 1) if size % p == 0 and size // p >= 2]
            raise UserError(
                f"patches of {patch} pixels do not tile images of {size}; use --patch with one of "
                f"{', '.join(map(str, fits))}, or another --size"
            )
        options |= {"img_size": size, "patch_size": patch}
    if name == "vit-nano":
        shape = {"embed_dim": 128, "depth": 6, "num_heads": 4, "class_token": False}
        options |= shape | MEAN_OF_PATCHES
        found = ViT(VisionTransformer(**options))
        found.timm = TimmCall("vit_tiny_patch16_224", options)
        return found
    if name not in timm.list_models():
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], n=1, cutoff=0)
        raise UserError(f"no encoder named {name!r}; did you mean {near[0]!r}?")
    try:
        net = timm.create_model(name, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(f"{name} cannot be built for {channels}x{size}x{size}: {error}") from error
    small = isinstance(net, ResNet) and size <= SMALL
    if small:
        small_stem(net, channels)
    plain = isinstance(net, VisionTransformer) and isinstance(net.pos_embed, nn.Parameter)
    encoder = ViT(net) if plain else Convolutional(net)
    encoder.timm = TimmCall(name, options | (MEAN_OF_PATCHES if plain else {}), small)
    return encoder


@torch.no_grad()
def map_side(encoder: Encoder, channels: int, size: int) -> int:
    """Places a side of the encoder's map of an image of ``size`` pixels.

    Raises UserError for an encoder without maps.
    """
    mode = encoder.training
    found = encoder.eval().maps(torch.zeros(1, channels, size, size)).shape
    encoder.train(mode)
    return found[-1]


def patch_for(size: int) -> int:
    """The patch of 2 to 16 pixels that gives about 7 x 7 tokens."""
    fits = [p for p in range(2, 17) if size % p == 0] or [1]
    return min(fits, key=lambda p: abs(math.log(size / p / 7)))


def small_stem(net: Any, channels: int) -> None:
    """Look at every pixel of a small image: a 3x3 convolution of stride 1 and no max-pool."""
    width = net.layer1[0].conv1.in_channels
    net.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
    net.bn1 = nn.BatchNorm2d(width)
    net.maxpool = nn.Identity()
