"""VAE: codes from a distribution that is known, so that new ones can be drawn."""

import torch
from torch import Tensor, nn

from selftaught.errors import above_zero, from_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.noise import normal
from selftaught.objectives.variational import gaussian_kl, gaussian_nll


class VAE(Method):
    """Auto-Encoding Variational Bayes.

    Kingma & Welling 2013, https://arxiv.org/abs/1312.6114, algorithm 1 and equation 10 with one
    draw a sample (L = 1). The posterior is a normal distribution with a diagonal covariance, whose
    mean and log-variance are linear in the encoder's feature; the prior is standard normal. The
    likelihood of the normalised pixels is normal with one constant ``variance``. With a ``beta`` of
    1 the two terms sum to minus the evidence lower bound, in nats a number of the image.

    Exported is the encoder, whose feature is wider than the code; the posterior's mean, one linear
    map further, is `code`. A large variance leaves less of the image in the code.

    Deviations: encoder and decoder are deep and convolutional; the variance of the likelihood is
    given, where the paper's decoder tells it for each pixel; no prior on the weights; ``beta`` is
    that of the beta-VAE (Higgins et al. 2017), 1 in the paper.

    ``decoder`` maps codes (B, dim) to images. Raises UserError for a variance that is not positive
    and for a negative beta.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        *,
        dim: int = 20,
        variance: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        above_zero(variance=variance)
        from_zero(beta=beta)
        self.encoder = encoder
        self.to_posterior = nn.Linear(encoder.dim, 2 * dim)
        self.decoder = decoder
        self.dim, self.variance, self.beta = dim, variance, beta

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, the negative log-likelihood, and ``kl``, the weighted divergence."""
        (x,) = batch.views
        mean, log_variance = self.posterior(x)
        z = mean + (log_variance / 2).exp() * normal(mean)  # (B, dim)
        size = x[0].numel()
        return {
            "reconstruction": gaussian_nll(self.decode(z), x, self.variance) / size,
            "kl": self.beta * gaussian_kl(mean, log_variance) / size,
        }

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, dim) of the codes of images."""
        both = self.to_posterior(self.encoder(x)).to(self.to_posterior.weight.dtype)
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance

    def code(self, x: Tensor) -> Tensor:
        """The posterior's mean (B, dim) of images (B, C, S, S)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """Images of codes: the mean of the likelihood."""
        return self.decoder(code)

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The images, and what was made of the mean of their codes."""
        return {"seen": x, "reconstruction": self.decode(self.code(x))}

    def sample(self, count: int) -> Tensor:
        """Images of codes drawn from the prior."""
        return self.decode(torch.randn(count, self.dim).to(self.to_posterior.weight))
