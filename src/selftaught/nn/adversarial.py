"""What games of two players need: priors, players that hold still, and critics."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.base import Encoder
from selftaught.nn.decoders import sides
from selftaught.nn.heads import mlp

SLOPE = 0.2  # of a critic's LeakyReLU below zero


def aside(module: nn.Module, *inputs: Any) -> Any:
    """The module's outputs for inputs that its running statistics shall not know of.

    So a critic normalises its fakes by themselves, and what it remembers is what real images are
    like, which is what its features are used on.
    """
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, kept, inputs)


def frozen(module: nn.Module, *inputs: Any) -> Any:
    """The module's outputs, through which gradients reach the inputs and not its parameters.

    With it both players of a game are trained by one sum: the critic's term is taken on detached
    samples, the generator's through the frozen critic. Running statistics stay as they are, too.
    """
    held = {name: parameter.detach() for name, parameter in module.named_parameters()}
    held |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, held, inputs)


class Prior(nn.Module):
    """What codes (B, dim) are drawn from: uniform in [-1, 1], or normal.

    Drawn for the global batch, so that several processes draw what one would have drawn.

    Raises UserError for another distribution, a ``dim`` below 1 and a scale that is not positive.
    """

    def __init__(
        self, dim: int, distribution: Literal["uniform", "normal"] = "uniform", scale: float = 1.0
    ) -> None:
        super().__init__()
        if distribution not in ("uniform", "normal"):
            raise UserError(f"no prior named {distribution!r}; use --prior uniform or normal")
        if dim < 1 or scale <= 0:
            raise UserError(
                f"codes of {dim} numbers and a spread of {scale}; use --dim with 1 or more and "
                "--spread above 0"
            )
        self.dim, self.distribution, self.scale = dim, distribution, scale

    def forward(self, count: int, like: Tensor) -> Tensor:
        """``count`` codes for this process, in the type and at the place of ``like``."""
        shape = (count * dist.world_size(), self.dim)
        uniform = self.distribution == "uniform"
        z = 2 * torch.rand(shape) - 1 if uniform else torch.randn(shape)
        return self.scale * dist.mine(z).to(like)

    def bound(self, logits: Tensor) -> Tensor:
        """Any numbers (B, dim) as codes within the prior's range; a uniform prior has bounds.

        By a sigmoid, as in the authors' code of BiGAN (its ``dist.py``); a normal prior has codes
        everywhere, and they stay as they are.
        """
        if self.distribution == "normal":
            return logits
        return self.scale * (2 * logits.sigmoid() - 1)


class DCGANCritic(Encoder):
    """The critic of DCGAN without its last layer: convolutions that halve the image.

    Radford et al. 2015, arXiv 1511.06434, section 3: no pooling between them, batch norm in all
    layers but the first, LeakyReLU. ``width`` is that of the first, doubled at each one after it.
    Deviations: kernels are 4 x 4, as in the authors' dcgan.torch, where their dcgan_code has 5 x 5;
    the feature is the mean over the last map's places.

    Raises UserError for a width below 1.
    """

    any_size = True

    def __init__(self, *, channels: int, size: int, width: int = 64, widest: int = 512) -> None:
        super().__init__()
        if width < 1:
            raise UserError(f"a critic of {width} channels; give it 1 or more")
        count = max(1, len(sides(size, 4)) - 1)
        widths = [min(width * 2**i, widest) for i in range(count)]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip([channels, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(a, b, 4, 2, 1, bias=i == 0))
            layers += [nn.BatchNorm2d(b)] if i else []
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        self.layers = nn.Sequential(*layers).apply(initialize)
        self.dim = widths[-1]

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the mean over the places of the last convolution"

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over places."""
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W); each layer halves the side, rounding down."""
        return self.layers(x)


class PairCritic(nn.Module):
    """Scores (B,) of pairs of an image and a code: are they real?

    The image's features and the code's meet in layers of ``hidden`` units, as in ALI (Dumoulin et
    al. 2016, arXiv 1606.00704, appendix A).
    """

    def __init__(self, trunk: Encoder, dim: int, hidden: int = 512) -> None:
        super().__init__()
        self.trunk = trunk
        self.joint = mlp(trunk.dim + hidden, hidden, hidden, 1, norm=False)
        self.code = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(SLOPE))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Of images (B, C, S, S) and codes (B, dim)."""
        both = torch.cat([self.trunk(x), self.code(z)], dim=1)
        return self.joint(both).squeeze(1)


def initialize(module: nn.Module) -> None:
    """Weights of layers normal with a deviation of 0.02 and biases zero, as in DCGAN, section 4."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def diversity(samples: Float[Tensor, "n c s s"], images: Float[Tensor, "n c s s"]) -> float:
    """How far samples are from their nearest neighbours, over how far images are from theirs.

    Near 1 where samples are as diverse as images; near 0 where a generator makes but one, or the
    same few again and again.
    """
    apart = []
    for x in (samples, images):
        rows = x.flatten(1).float()
        distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")  # (N, N)
        apart.append(distance.fill_diagonal_(torch.inf).amin(dim=1).mean())
    return (apart[0] / apart[1].clamp(min=1e-12)).item()
