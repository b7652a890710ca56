"""CPC: from an image's upper rows of patches, tell which patches lie below."""

import math

from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.local import PatchGrid, RowContext
from selftaught.objectives.local import future_nce


class CPC(Method):
    """Representation Learning with Contrastive Predictive Coding, for images.

    van den Oord, Li, Vinyals 2018, https://arxiv.org/abs/1807.03748, section 3.2. Each patch is
    encoded by itself; the context at a place is a function of its row and the rows above; for each
    offset k a matrix W_k scores the patch k rows below against other patches of the same ``group``
    of images. ``first`` is the smallest k: a patch one row below shares half of its pixels with the
    context, and figure 4 leaves it out. The paper's batch is one group a device. The loss is the
    mean over offsets.

    The paper names no negatives for images; here they are what its equation 4 asks for, samples of
    the patches k rows below. Its PixelCNN is not described either; here it is that of CPC v2.

    Raises UserError for an encoder without a grid of patches, a grid with no row so far below
    another, and a batch that groups do not divide.
    """

    tells_apart = ("info_nce",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        first: int = 2,
        rows: int = 5,
        width: int = 256,
        depth: int = 5,
        group: int = 16,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, PatchGrid):
            raise UserError("cpc needs an encoder of patches apart: put yours into a PatchGrid")
        if min(first, rows, width, depth, group) < 1:
            raise UserError(
                "a first row, a number of rows, a width, a depth and a group must be at least 1: "
                "see --first, --rows, --width, --depth and --group"
            )
        if first >= encoder.grid:
            raise UserError(
                f"a grid of {encoder.grid} x {encoder.grid} patches has no row {first} below "
                "another; use a smaller --patch or --first"
            )
        self.encoder: PatchGrid = encoder
        self.offsets = range(first, min(first + rows, encoder.grid))
        self.context = RowContext(encoder.dim, width=width, depth=depth)
        self.predictors = nn.ModuleList(
            nn.Linear(encoder.dim, encoder.dim, bias=False) for _ in self.offsets
        )
        self.group = group

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``info_nce``, the mean over offsets of finding the patches so many rows below."""
        (x,) = batch.views
        z = self.encoder.maps(x)  # (B, D, R, C)
        c = self.context(z)
        if len(z) % self.group:  # a group lies in several processes
            z, c = dist.gather(z), dist.gather(c)
        if len(z) % self.group:
            raise UserError(
                f"a batch of {len(z)} images does not make groups of {self.group}; use --group "
                "with a divisor of --batch-size"
            )
        z, c = (m.permute(0, 2, 3, 1) for m in (z, c))  # (B, R, C, D)
        losses = [
            future_nce(predictor(c[:, :-k]), z[:, k:], self.group)
            for k, predictor in zip(self.offsets, self.predictors, strict=True)
        ]
        return {"info_nce": sum(losses) / len(losses)}  # pyright: ignore

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The mean over offsets of the logarithm of the number of candidates."""
        grid = self.encoder.grid
        found = [math.log(self.group * (grid - k) * grid) for k in self.offsets]
        return {"info_nce": sum(found) / len(found)}
