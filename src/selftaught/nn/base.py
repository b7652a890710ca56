"""What every encoder has."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from selftaught.errors import UserError


class TimmCall(NamedTuple):
    """How timm makes the network of an encoder: ``timm.create_model(name, **options)``."""

    name: str
    options: dict[str, Any]
    small_stem: bool = False  # whether `small_stem` follows


def encoded(encoder: Callable[[Any], Tensor], views: Sequence[Any]) -> list[Tensor]:
    """Features (B, D) of each view; tensors of one shape that follow one another go in together.

    So batch norm sees all views of a size at once and counts them as one step, as in the authors'
    codes of SwAV and DINO.
    """
    found: list[Tensor] = []
    group: list[Any] = []
    for x, following in itertools.zip_longest(views, views[1:]):
        group.append(x)
        if not _alike(x, following):
            together = torch.cat(group) if len(group) > 1 else x
            found += encoder(together).chunk(len(group))
            group = []
    return found


def _alike(x: Any, y: Any) -> bool:
    return isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape


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
