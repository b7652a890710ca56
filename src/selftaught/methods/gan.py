"""GAN: make images that a critic cannot tell from real ones; what the critic sees is learnt."""

from torch import Tensor, nn

from selftaught.method import Method, ViewBatch
from selftaught.nn.adversarial import Prior, aside, diversity, frozen, initialize
from selftaught.nn.base import Encoder
from selftaught.objectives.adversarial import deception, discrimination


class GAN(Method):
    """Unsupervised Representation Learning with Deep Convolutional GANs (DCGAN).

    Radford, Metz, Chintala 2015, https://arxiv.org/abs/1511.06434, sections 3 to 5, with the losses
    of Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, equation 1 and section 3: the
    generator maximises ln D. The encoder is the critic without its last layer. Real and fake
    images are normalised apart; running statistics are those of real ones.

    Deviations: both players move at once and not in turn; the critic is any encoder, with that
    encoder's own norms and activations, and scores the mean over places. What is exported is the
    encoder's feature, where the paper's is the maps of all layers, each max-pooled to 4 x 4 places
    (section 5.1).
    """

    def __init__(self, encoder: Encoder, generator: nn.Module, prior: Prior) -> None:
        super().__init__()
        self.encoder = encoder
        self.score = nn.Linear(encoder.dim, 1).apply(initialize)
        self.generator = generator.apply(initialize)
        self.prior = prior

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``critic``, which reaches the critic alone, and ``generator``, the generator alone."""
        (x,) = batch.views
        fake = self.generator(self.prior(len(x), x))  # (B, C, S, S)
        real = self.score(self.encoder(x))  # (B, 1)
        caught = self.score(aside(self.encoder, fake.detach()))
        passed = frozen(self.score, frozen(self.encoder, fake))
        return {
            "critic": discrimination(real[:, 0], caught[:, 0]),
            "generator": deception(passed[:, 0]),
        }

    def sample(self, count: int) -> Tensor:
        """New images (count, C, S, S), normalised."""
        return self.generator(self.prior(count, self.score.weight))

    def signals(self, x: Tensor) -> dict[str, float]:
        """``sample_diversity``, by which a collapsed generator is known."""
        return {"sample_diversity": diversity(self.sample(len(x)), x)}
