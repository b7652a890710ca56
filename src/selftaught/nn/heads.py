"""Small networks on top of an encoder."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.precision import float32


def mlp(
    *dims: int, bias: bool = True, norm: bool = True, norm_out: bool = False, gelu: bool = False
) -> nn.Sequential:
    """Linear layers of the given widths with batch norm and ReLU, or GELU, between them.

    Without ``norm`` there is only the ReLU. ``norm_out`` ends with a batch norm that has no scale
    and no shift. A layer that batch norm follows has no bias; ``bias`` is the last one's where none
    does. Raises UserError for a width below 1.
    """
    if min(dims) < 1:
        raise UserError(f"a head of widths {dims}; give hidden and output at least 1")
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(dims[:-1]):
        layers.append(nn.Linear(d_in, d_out, bias=not norm))
        layers += [nn.BatchNorm1d(d_out)] if norm else []
        layers.append(nn.GELU() if gelu else nn.ReLU(inplace=True))
    layers.append(nn.Linear(dims[-2], dims[-1], bias=bias and not norm_out))
    layers += [nn.BatchNorm1d(dims[-1], affine=False)] if norm_out else []
    return nn.Sequential(*layers)


def first_layers(head: nn.Sequential, count: int) -> nn.Sequential:
    """The layers of a head up to its ``count``-th activation, that one included.

    What SimCLR v2 (Chen et al. 2020, arXiv 2006.10029, section 2) fine-tunes from. Raises UserError
    where there are fewer.
    """
    ends = [i for i, layer in enumerate(head) if isinstance(layer, nn.ReLU | nn.GELU)]
    if not 1 <= count <= len(ends):
        raise UserError(
            f"layer {count} of a head with {len(ends)} hidden layers; use --from-head-layer with a "
            f"number up to {len(ends)}"
        )
    return head[: ends[count - 1] + 1]


class ClassScores(nn.Sequential):
    """A linear layer on an encoder's feature: scores of classes, used as an encoder is.

    ``kept``, layers of a projection head, lies between the two.
    """

    feature = "the scores of the classes, whose softmax is their probabilities"

    def __init__(self, encoder: nn.Module, classes: int, kept: nn.Sequential | None = None) -> None:
        widths = [layer.out_features for layer in kept or () if isinstance(layer, nn.Linear)]
        width: int = widths[-1] if widths else encoder.dim  # pyright: ignore
        super().__init__(encoder, kept or nn.Identity(), nn.Linear(width, classes))
        self.dim = classes
        self.any_size: bool = getattr(encoder, "any_size", False)
        self.dynamic: bool = getattr(encoder, "dynamic", False)


class PrototypeHead(nn.Module):
    """How much a feature is like each of ``count`` learned prototypes.

    DINO (Caron et al. 2021, arXiv 2104.14294), appendix C and the authors' code: an MLP with GELU,
    and with batch norm if ``norm``, its output at length one, then a weight-normed linear layer.
    The lengths of ``weight``'s rows play no part; the prototypes' own are ``lengths``, one unless
    ``learn_lengths``.

    Deviation: ``lengths`` do not decay.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        bottleneck: int,
        count: int,
        *,
        norm: bool = False,
        learn_lengths: bool = False,
    ) -> None:
        super().__init__()
        if count < 2:
            raise UserError(f"a head of {count} outputs; use --outputs with 2 or more")
        self.mlp = mlp(dim, hidden, hidden, bottleneck, norm=norm, gelu=True)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        bound = bottleneck**-0.5
        self.weight = nn.Parameter(torch.empty(count, bottleneck).uniform_(-bound, bound))
        self.lengths = nn.Parameter(torch.ones(count)) if learn_lengths else None

    def embed(self, h: Float[Tensor, "*n d"]) -> Float[Tensor, "*n e"]:
        """Unit vectors that the prototypes are compared with."""
        z = self.mlp(h.flatten(0, -2)).unflatten(0, h.shape[:-1])
        return F.normalize(z.to(self.weight.dtype), dim=-1)

    @float32
    def compare(self, z: Float[Tensor, "*n e"], *, learn: bool = True) -> Float[Tensor, "*n k"]:
        """Scores; without ``learn`` the prototypes get no gradient.

        None and not zero, so that an optimiser's averages begin when they begin to learn.
        """
        weight = F.normalize(self.weight, dim=1)
        if self.lengths is not None:
            weight = self.lengths[:, None] * weight
        return F.linear(z, weight if learn else weight.detach())

    def forward(self, h: Float[Tensor, "*n d"], *, learn: bool = True) -> Float[Tensor, "*n k"]:
        """Scores of features, learning as in `compare`."""
        return self.compare(self.embed(h), learn=learn)
