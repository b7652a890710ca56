"""VQ-VAE: make the image again from a few words a place, all of one small vocabulary."""

from torch import Tensor, nn

from selftaught.errors import from_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.codebook import Codebook, perplexity, straight_through
from selftaught.objectives.reconstruction import squared_error


class VQVAE(Method):
    """Neural Discrete Representation Learning.

    van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, section 3.2 and equation 3. The
    encoder's map, narrowed to ``dim`` channels, is replaced place by place by the nearest of
    ``codes`` vectors, and the decoder makes the image of these. Its gradient goes to the encoder as
    if nothing had been replaced. The vectors are drawn to what they stand for by the codebook term
    or, with a ``decay``, by moving averages (appendix A.1); what the encoder says is drawn to the
    vectors with the weight ``beta``. Exported is the encoder, whose feature is the mean of its map.
    `watched` tells the ``perplexity``: how many codes the batch has in even use.

    Deviations: the terms are means over dimensions as over places, as in the authors' code, and the
    likelihood is the squared error of normalised pixels; the encoder is the one given, and the
    decoder has no residual blocks, both with batch norm; with a decay, codes out of use begin anew
    (`nn.codebook.Codebook`). The prior over codes, a second model, is not trained.

    ``decoder`` turns maps (B, dim, H, W) into images. Raises UserError for a negative beta, for a
    bad codebook and for an encoder without maps.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        *,
        codes: int = 512,
        dim: int = 64,
        beta: float = 0.25,
        decay: float = 0.0,
        restart: float = 0.0,
    ) -> None:
        super().__init__()
        from_zero(beta=beta)
        self.encoder = encoder
        self.narrow = nn.Conv2d(encoder.dim, dim, 1)
        self.codebook = Codebook(codes, dim, decay=decay, restart=restart)
        self.decoder = decoder
        self.beta = beta

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, ``commitment`` and, without a decay, ``codebook``."""
        (x,) = batch.views
        z = self.embed(x)  # (B, H, W, dim)
        ids = self.codebook.nearest(z)  # (B, H, W)
        q = self.codebook(ids)
        self.uses = self.codebook.uses(z, ids)
        self.watched = {"perplexity": perplexity(self.uses.counts)}
        terms = {
            "reconstruction": squared_error(self.paint(straight_through(z, q)), x),
            "commitment": self.beta * squared_error(z, q.detach()),
        }
        if not self.codebook.decay:
            terms["codebook"] = squared_error(q, z.detach())
        return terms

    def after_step(self) -> None:
        """Move the codebook, where it has a decay."""
        self.codebook.update(self.uses)

    def embed(self, x: Tensor) -> Tensor:
        """What is to be replaced: vectors (B, H, W, dim) of places of images (B, C, S, S)."""
        z = self.narrow(self.encoder.maps(x)).permute(0, 2, 3, 1)
        return z.to(self.codebook.vectors.dtype)

    def ids(self, x: Tensor) -> Tensor:
        """The codes (B, H * W) of images, row by row: whole numbers below ``codes``."""
        return self.codebook.nearest(self.embed(x)).flatten(1)

    def paint(self, q: Tensor) -> Tensor:
        """Images of vectors of places (B, H, W, dim)."""
        return self.decoder(q.permute(0, 3, 1, 2))

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The images, and what was made of their codes."""
        q = self.codebook(self.codebook.nearest(self.embed(x)))
        return {"seen": x, "reconstruction": self.paint(q)}
