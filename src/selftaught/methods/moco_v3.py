"""MoCo v3: find an image's key among the batch's, without a queue, from a prediction."""

import math

from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import EMA
from selftaught.nn.schedules import cosine
from selftaught.nn.transformer import ViT
from selftaught.objectives.contrastive import matching


class MoCoV3(Method):
    """An Empirical Study of Training Self-Supervised Vision Transformers.

    Chen, Xie, He 2021, https://arxiv.org/abs/2104.02057, algorithm 1. Each view's prediction finds
    its own among the keys that a slow copy makes of the other view, both ways, each times twice the
    temperature. The copy's momentum rises to one along a cosine.

    As in the authors' code a vision transformer has one layer more in its projector than another
    encoder, and a predictor that ends in batch norm. Its patch projection stays as it was drawn,
    uniformly after Glorot (section 4.2), unless ``freeze_patches`` is false.

    Deviations: the transformer's feature is the encoder's own, the mean over patches, where the
    paper takes the class token's; its other layers begin as timm has them. Raises UserError for a
    temperature that is not positive and a momentum outside [0, 1].
    """

    tells_apart = ("info_nce",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 4096,
        dim: int = 256,
        momentum: float = 0.99,
        temperature: float = 0.2,
        freeze_patches: bool = True,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(momentum=momentum)
        vit = isinstance(encoder, ViT)
        if vit:
            draw_patches(encoder.net.patch_embed.proj, learn=not freeze_patches)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, *[hidden] * (2 if vit else 1), dim, norm_out=True)
        self.predictor = mlp(dim, hidden, dim, bias=False, norm_out=vit)
        self.target = EMA(encoder, self.projector)
        self.momentum = momentum
        self.temperature = temperature

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``info_nce`` of each view's predictions with the other's keys, summed over both ways."""
        x1, x2 = batch.views
        q1, q2 = (dist.gather(self.predictor(self.projector(self.encoder(x)))) for x in (x1, x2))
        k1, k2 = (dist.gather(self.target(x)) for x in (x1, x2))
        t = self.temperature
        return {"info_nce": 2 * t * (matching(q1, k2, t) + matching(q2, k1, t))}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates, as the term has it."""
        return {"info_nce": 4 * self.temperature * math.log(count)}

    def after_step(self) -> None:
        """Move the copy towards the network."""
        momentum = cosine(self.progress, self.momentum, 1.0)
        self.target.update(self.encoder, self.projector, momentum=momentum)


def draw_patches(projection: nn.Conv2d, *, learn: bool) -> None:
    """The projection of patches, drawn as that of a linear layer, without a bias at first."""
    nn.init.xavier_uniform_(projection.weight.flatten(1))
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
    projection.requires_grad_(learn)
