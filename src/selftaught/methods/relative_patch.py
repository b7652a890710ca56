"""Relative patch: tell on which of eight sides of a patch its neighbour lies."""

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.arrangements import CONFIGURATIONS, neighbours
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.pretext import transformation


class RelativePatch(Method):
    """Unsupervised Visual Representation Learning by Context Prediction.

    Doersch, Gupta, Efros 2015, https://arxiv.org/abs/1505.05192, section 3. The views are a square
    ``grid`` of patches of each image, row by row. Each is encoded by itself; two features are
    joined and three layers say which of eight configurations the patches are in. As in the authors'
    train.py all pairs of neighbours of the grid are asked for, in both orders, so that sides count
    more often than corners. Batch norm follows the layer of each patch and the first of a pair:
    else the features become one. As in that code it has no scale and no shift, with which the
    network could silence a layer. Its statistics are those of all patches of all images, the same
    for each pair, and can't tell a configuration.

    Deviations: the head sees the encoder's feature, not its map; its second layer has batch norm,
    too, with scale and shift, as an encoder's own may have.

    Raises UserError for a grid without neighbours and for a batch without its patches.
    """

    fixed_answers = True

    def __init__(
        self, encoder: Encoder, *, grid: int = 2, width: int = 4096, hidden: int = 4096
    ) -> None:
        super().__init__()
        pairs = neighbours(grid)
        self.first, self.second, self.which = (nn.Buffer(x, persistent=False) for x in pairs)
        self.encoder = encoder
        self.each = _layer(encoder.dim, width)  # a patch
        self.both = nn.Sequential(
            _layer(2 * width, hidden), mlp(hidden, hidden, len(CONFIGURATIONS))
        )
        self.patches = grid**2

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``neighbour``, the cross-entropy of the side on which the second patch lies."""
        if len(batch.views) != self.patches:
            raise UserError(f"{len(batch.views)} views; give {self.patches} patches of each image")
        h = self.each(self.encoder(torch.cat(batch.views)))  # (T B, W)
        h = h.unflatten(0, (self.patches, -1))  # (T, B, W)
        pairs = torch.cat([h[self.first], h[self.second]], dim=2)  # (P, B, 2 W)
        scores = self.both(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])  # (P, B, 8)
        which = self.which[:, None].expand(pairs.shape[:2])
        return {"neighbour": transformation(scores, which)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The entropy of the sides, of which corners come less often."""
        share = self.which.bincount() / len(self.which)
        return {"neighbour": torch.special.entr(share).sum().item()}


def _layer(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(*mlp(dim, width, norm_out=True), nn.ReLU(inplace=True))
