"""AAE: an autoencoder whose codes a critic cannot tell from a prior's."""

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.errors import above_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.adversarial import Prior, diversity, frozen
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.adversarial import deception, discrimination


class AAE(Method):
    """Adversarial Autoencoders.

    Makhzani et al. 2015, https://arxiv.org/abs/1511.05644, section 2, with codes that are functions
    of the image. The autoencoder lowers its squared error; a critic of two hidden layers tells
    codes from draws of the prior, and the encoder makes its codes pass for such.

    Deviations: the reconstruction and the regularisation phase are one step, weighted by
    ``weight`` where the paper has learning rates of their own.

    Raises UserError for a weight that is not positive.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        prior: Prior,
        *,
        hidden: int = 1000,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        above_zero(weight=weight)
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, prior.dim)
        self.decoder = decoder
        self.critic = mlp(prior.dim, hidden, hidden, 1, norm=False)
        self.prior = prior
        self.weight = weight

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, ``critic``, and ``encoder``, which makes codes like the prior's."""
        (x,) = batch.views
        code = self.code(x)  # (B, D)
        drawn = self.critic(self.prior(len(x), x))  # (B, 1)
        found = self.critic(code.detach())
        passed = frozen(self.critic, code)
        return {
            "reconstruction": F.mse_loss(self.decode(code), x),
            "critic": discrimination(drawn[:, 0], found[:, 0]),
            "encoder": self.weight * deception(passed[:, 0]),
        }

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images."""
        return self.head(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, S, S), normalised, of codes."""
        return self.decoder(code)

    def sample(self, count: int) -> Tensor:
        """New images (count, C, S, S), normalised: decoded draws of the prior."""
        return self.decode(self.prior(count, self.head.weight))

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The image, and what the decoder makes of its code."""
        return {"seen": x, "reconstruction": self.decode(self.code(x))}

    def signals(self, x: Tensor) -> dict[str, float]:
        """``sample_diversity``, by which a collapsed decoder is known."""
        return {"sample_diversity": diversity(self.sample(len(x)), x)}
