"""Rotation: tell which way up an image is."""

import math

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.objectives.pretext import transformation

TURNS = 4


class Rotation(Method):
    """Unsupervised Representation Learning by Predicting Image Rotations.

    Gidaris, Singh, Komodakis 2018, https://arxiv.org/abs/1803.07728, equations 2 and 3. The views
    are the four rotations of one view of each image, and a linear classifier says of each which it
    is. All four of all images go through the encoder in one batch, as in the paper: batch norm has
    the same statistics for each rotation, which therefore cannot be told by them.

    Raises UserError for a batch without its four views, and for views that are not square.
    """

    fixed_answers = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.dim, TURNS)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``rotation``, the cross-entropy of each view's own rotation."""
        views = batch.views
        if len(views) != TURNS or len({x.shape for x in views}) != 1:
            raise UserError(f"{len(views)} views; give {TURNS} rotations of square images")
        scores = self.classifier(self.encoder(torch.cat(views)))  # (4 B, 4)
        scores = scores.unflatten(0, (TURNS, -1))  # (4, B, 4)
        which = torch.arange(TURNS, device=scores.device)[:, None].expand(scores.shape[:2])
        return {"rotation": transformation(scores, which)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of rotations."""
        return {"rotation": math.log(TURNS)}
