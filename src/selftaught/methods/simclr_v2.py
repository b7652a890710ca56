"""SimCLR v2: SimCLR with a deeper head, whose first layer stays, and a memory of negatives."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import EMA, Queue
from selftaught.objectives.contrastive import nt_xent


class SimCLRV2(Method):
    """Big Self-Supervised Models are Strong Semi-Supervised Learners.

    Chen et al. 2020, https://arxiv.org/abs/2006.10029, section 2, the pre-training. The head has
    ``layers`` linear layers as wide as the feature, each but the last with batch norm and ReLU; the
    last ends, as in the authors' code, in a batch norm with a scale and without a shift.

    The paper's encoders are ResNets of up to 152 layers, three times as wide, with selective
    kernels; at the paper's scale it is the smallest of them here, ResNet-50, and any of timm's may
    be given. Fine-tuning goes on from the middle of the head there: from its first layer with its
    batch norm and ReLU. Batch norm is over one view, where the authors' code has it over both at
    once.

    With a ``queue`` there are more negatives: what a slow copy of the network made of past images.
    The paper says no more of it and the authors' code has none; here the second views enter it.
    Raises UserError for settings outside their range.
    """

    tells_apart = ("nt_xent",)
    kept_layers = 1

    def __init__(
        self,
        encoder: Encoder,
        *,
        layers: int = 3,
        dim: int = 128,
        temperature: float = 0.1,
        queue: int = 65536,
        momentum: float = 0.999,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(momentum=momentum)
        if layers < 2 or queue < 0:
            raise UserError(
                f"a head of {layers} layers, a queue of {queue}; use --layers with 2 or more, and "
                "--queue with 0 or more"
            )
        self.encoder = encoder
        self.projector = mlp(*[encoder.dim] * layers, dim, bias=False)
        self.projector.append(nn.BatchNorm1d(dim))
        self.projector[-1].bias.requires_grad_(False)  # pyright: ignore
        self.target = EMA(encoder, self.projector) if queue else None
        self.queue = Queue(queue, dim) if queue else None
        self.temperature = temperature
        self.momentum = momentum

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``nt_xent`` of the two views, over the global batch and the queue."""
        z1, z2 = (dist.gather(self.projector(self.encoder(x))) for x in batch.views)
        if self.target is None or self.queue is None:
            return {"nt_xent": nt_xent(z1, z2, self.temperature)}
        self.seen = dist.gather(self.target(batch.views[1]))
        return {"nt_xent": nt_xent(z1, z2, self.temperature, self.queue.rows)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates."""
        past = len(self.queue.rows) if self.queue is not None else 0
        return {"nt_xent": math.log(2 * count - 1 + past)}

    def after_step(self) -> None:
        """Move the copy towards the network, and its projections into the queue."""
        if self.target is not None and self.queue is not None:
            self.target.update(self.encoder, self.projector, momentum=self.momentum)
            self.queue.push(F.normalize(self.seen.to(self.queue.rows), dim=1))
