"""W-MSE: views agree after each has been whitened, so that collapse is impossible."""

import torch
from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.information import whitened_regression


class WMSE(Method):
    """Whitening for Self-Supervised Representation Learning.

    Ermolov, Siarohin, Sangineto, Sebe 2020, https://arxiv.org/abs/2007.06346, section 3. The global
    batch is cut at random into sub-batches, alike for all views; each view of each is whitened by
    itself, and all pairs of views are compared. With several ``partitions`` that is done as often.
    As in the authors' code the projector sees all views together, and its batch norm with it; no
    gradient is stopped. Any number of views will do from two on.

    The term is not a number where a sub-batch's covariance has no Cholesky factor in single
    precision; an ``epsilon`` above 0 shrinks it towards the identity.

    Raises UserError for sub-batches that are not larger than ``dim``, or do not divide the batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 1024,
        dim: int = 64,
        sub_batch: int = 128,
        partitions: int = 1,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        if sub_batch <= dim:
            raise UserError(
                f"{sub_batch} samples cannot be whitened in {dim} dimensions; use --sub-batch with "
                "more than --dim, best twice as many"
            )
        if partitions < 1:
            raise UserError(f"{partitions} partitions of the batch; use --partitions from 1 up")
        from_zero_to_one(epsilon=epsilon)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, dim)
        self.sub_batch = sub_batch
        self.partitions = partitions
        self.epsilon = epsilon

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``whitened_regression`` of all pairs of views."""
        h = torch.cat([self.encoder(x) for x in batch.views])  # (V * B, H)
        parts = self.projector(h).chunk(len(batch.views))
        z = torch.stack([dist.gather(part) for part in parts])  # (V, N, D)
        if z.shape[1] % self.sub_batch:
            raise UserError(
                f"a batch of {z.shape[1]} is no multiple of sub-batches of {self.sub_batch}; use a "
                "--batch-size that --sub-batch divides"
            )
        orders = [torch.randperm(z.shape[1]).to(z.device) for _ in range(self.partitions)]
        losses = [whitened_regression(z[:, o], self.sub_batch, self.epsilon) for o in orders]
        return {"whitened_regression": torch.stack(losses).mean()}
