"""Words of places, as a frozen network has them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftaught.precision import float32


class Tokenizer(nn.Module):
    """The ids that ``codes.ids`` gives images that were normalised for another network.

    ``own`` and ``given`` are mean and standard deviation, one a channel, of ``codes`` and of the
    images that come.
    """

    def __init__(
        self,
        codes: Any,
        own: tuple[Sequence[float], Sequence[float]],
        given: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        super().__init__()
        self.codes = codes
        (mean, std), (other, deviation) = (
            torch.tensor(pair)[:, :, None, None] for pair in (own, given)
        )
        self.scale = nn.Buffer(deviation / std, persistent=False)
        self.shift = nn.Buffer((other - mean) / std, persistent=False)

    @float32
    def forward(self, x: Float[Tensor, "n c s s"]) -> Int[Tensor, "n l"]:
        """Ids of places, row by row."""
        return self.codes.ids(x * self.scale.to(x) + self.shift.to(x))
