"""BiGAN: the encoder and the generator undo one another to fool a critic of (image, code) pairs."""

from torch import Tensor, nn

from selftaught.method import Method, ViewBatch
from selftaught.nn.adversarial import Prior, aside, diversity, frozen, initialize
from selftaught.nn.base import Encoder
from selftaught.objectives.adversarial import deception, discrimination


class BiGAN(Method):
    """Adversarial Feature Learning.

    Donahue, Krähenbühl, Darrell 2016, https://arxiv.org/abs/1605.09782, equation 3, with the
    exchanged labels of section 3.4; the same game is ALI (Dumoulin et al. 2016,
    https://arxiv.org/abs/1606.00704). The critic sees pairs: an image with its code, or a code with
    its image. Codes of images are bounded as the prior's are, else they would give the pair away.
    All players move at once, as in the authors' code. What is exported is the encoder before its
    last layer, whose features that code finds the better ones.

    Deviations: the critic is of DCGAN's kind and joins image and code after its convolutions, in
    layers that begin as PyTorch has them, as does the encoder's last one; the recipe shows whole
    images, where the authors' code shows random crops of 64 of 72 pixels.
    """

    def __init__(
        self, encoder: Encoder, generator: nn.Module, critic: nn.Module, prior: Prior
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, prior.dim)
        self.generator = generator.apply(initialize)
        self.critic = critic  # of an image (B, C, S, S) and a code (B, D): a score (B,)
        self.prior = prior

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """A term a player: ``critic``, ``generator`` and ``encoder``."""
        (x,) = batch.views
        z = self.prior(len(x), x)  # (B, D)
        code, image = self.code(x), self.decode(z)
        real = self.critic(x, code.detach())  # (B,)
        fake = aside(self.critic, image.detach(), z)
        return {
            "critic": discrimination(real, fake),
            "generator": deception(frozen(self.critic, image, z)),
            "encoder": deception(-frozen(self.critic, x, code)),
        }

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images, within what the prior draws from."""
        return self.prior.bound(self.head(self.encoder(x)))

    def decode(self, code: Tensor) -> Tensor:
        """Images (B, C, S, S), normalised, of codes."""
        return self.generator(code)

    def sample(self, count: int) -> Tensor:
        """New images (count, C, S, S), normalised."""
        return self.decode(self.prior(count, self.head.weight))

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The image, and what the generator makes of its code."""
        return {"seen": x, "reconstruction": self.decode(self.code(x))}

    def signals(self, x: Tensor) -> dict[str, float]:
        """``sample_diversity``, by which a collapsed generator is known."""
        return {"sample_diversity": diversity(self.sample(len(x)), x)}
