"""Jigsaw: tell in which of many orders the tiles of an image lie."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.arrangements import permutations as unlike
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.masking import take
from selftaught.objectives.pretext import transformation

TILES = 9


class Jigsaw(Method):
    """Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles.

    Noroozi & Favaro 2016, https://arxiv.org/abs/1603.09246, section 3. The views are the nine tiles
    of each image in their right order. A context-free network sees each tile by itself: encoder and
    one layer of ``width`` are shared; the nine features, in the order of one of ``permutations``,
    are joined, and a hidden layer finds which it was. Shuffling features is shuffling tiles, since
    none has seen another.

    An encoder's batch norm takes its statistics over all tiles of all images, which are the same in
    any order and so can't tell it; the paper's AlexNet has none. Deviations: the head sees the
    encoder's feature, not its map, and has batch norm instead of dropout.

    Raises UserError for a batch without its nine tiles and for a number of permutations that there
    isn't.
    """

    fixed_answers = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        permutations: int = 1000,
        width: int = 1024,
        hidden: int = 4096,
    ) -> None:
        super().__init__()
        self.orders = nn.Buffer(unlike(TILES, permutations).clone())  # (P, 9)
        self.encoder = encoder
        self.each = nn.Linear(encoder.dim, width)  # a tile
        self.all = mlp(TILES * width, hidden, permutations)  # the tiles together

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``permutation``, the cross-entropy of the order in which the tiles are shown."""
        if len(batch.views) != TILES:
            raise UserError(f"{len(batch.views)} views; give the {TILES} tiles of each image")
        h = F.relu(self.each(self.encoder(torch.cat(batch.views))))  # (9 B, W)
        h = torch.stack(h.chunk(TILES), dim=1)  # (B, 9, W)
        drawn = torch.randint(len(self.orders), (len(h) * dist.world_size(),))
        which = dist.mine(drawn).to(h.device)
        shuffled = take(h, self.orders[which])
        return {"permutation": transformation(self.all(shuffled.flatten(1)), which)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of permutations."""
        return {"permutation": math.log(len(self.orders))}
