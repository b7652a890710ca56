"""SwAV: predict one view's cluster code from another view."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder, encoded
from selftaught.nn.heads import mlp
from selftaught.nn.memory import Prototypes, Queue
from selftaught.objectives.clusters import sinkhorn, swapped_prediction

LARGE = 2  # views whose codes are computed: the first ones


class SwAV(Method):
    """Unsupervised Learning of Visual Features by Contrasting Cluster Assignments.

    Caron et al. 2020, https://arxiv.org/abs/2006.09882, equations 1 to 5, section 3.2 (multi-crop)
    and the authors' main_swav.py. Codes of the two large views, by Sinkhorn-Knopp over the global
    batch, are predicted from each of the other views; the term is the mean over those pairs, as in
    the code. Prototypes are frozen for a share ``freeze`` of the run.

    For small batches, past embeddings of each large view join the computation of its codes: a
    ``queue`` of them is filled from a share ``queue_start`` of the run on, and used once full.

    As in the authors' code the encoder's batch norm is over all views of a size, the projector's
    over all views. Raises UserError for settings outside their range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        freeze: float = 1 / 800,
        queue: int = 0,
        queue_start: float = 15 / 200,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature, epsilon=epsilon)
        from_zero_to_one(freeze=freeze, queue_start=queue_start)
        if prototypes < 2 or iterations < 1:
            raise UserError(
                f"{prototypes} prototypes and {iterations} iterations; use --prototypes from 2 and "
                "--iterations from 1"
            )
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, dim)
        self.prototypes = Prototypes(dim, prototypes)
        self.queues = nn.ModuleList(Queue(queue, dim) for _ in range(LARGE if queue else 0))
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.freeze, self.queue_start = freeze, queue_start

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``swap``, the mean over predictions of a large view's codes from another view."""
        h = torch.cat(encoded(self.encoder, batch.views))  # (V B, H)
        z = F.normalize(self.projector(h), dim=1).chunk(len(batch.views))  # (B, D) each
        learn = self.progress >= self.freeze
        scores = [self.prototypes(v, learn=learn) for v in z]  # (B, K)
        codes = [self._codes(s, view) for view, s in enumerate(scores[:LARGE])]
        self.seen = [dist.gather(v.detach()) for v in z[:LARGE]] if self._queueing() else []
        swaps = [
            swapped_prediction(s, q, self.temperature)
            for (i, q), (j, s) in itertools.product(enumerate(codes), enumerate(scores))
            if i != j
        ]
        return {"swap": torch.stack(swaps).mean()}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of prototypes."""
        return {"swap": math.log(len(self.prototypes.weight))}

    def after_step(self) -> None:
        """Put the prototypes back to length one, and the embeddings into the queues."""
        self.prototypes.normalize_()
        for queue, z in zip(self.queues, self.seen, strict=False):
            queue.push(z)  # pyright: ignore

    def _queueing(self) -> bool:
        return bool(self.queues) and self.progress >= self.queue_start

    @torch.no_grad()
    def _codes(self, scores: Tensor, view: int) -> Tensor:
        """Codes (B, K) of a large view, over the global batch and the queue if that is full."""
        scores = dist.gather(scores)
        if not self._queueing():
            return dist.mine(sinkhorn(scores, self.epsilon, self.iterations))
        queue: Queue = self.queues[view]  # pyright: ignore
        past = self.prototypes(queue.rows)  # (Q, K), by the prototypes of now
        present = torch.ones(len(past) + len(scores), dtype=torch.bool, device=scores.device)
        present[: len(past)] = queue.full
        codes = sinkhorn(torch.cat([past, scores]), self.epsilon, self.iterations, present)
        return dist.mine(codes[len(past) :])
