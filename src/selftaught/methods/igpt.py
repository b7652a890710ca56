"""Image GPT: say of each pixel what colour it has, knowing those before it."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.causal import CausalBlock, Past
from selftaught.nn.pixels import PixelGPT
from selftaught.objectives.tokens import token_prediction, unigram_entropy

SOME = 32  # pixels of each image that the palette is found on


class IGPT(Method):
    """Generative Pretraining from Pixels.

    Chen et al. 2020, https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf,
    section 2.1, the autoregressive objective. A causal transformer reads a small copy of the image
    in raster order and in the colours of a palette, which k-means finds on all images before the
    first step (section 3.2). The layer that gives scores is zero at first. The encoder is the lower
    blocks, since features are best in the middle (section 4.1); the blocks above are the method's.

    Deviations: blocks have layer norm and GELU as the paper says, where the authors' code has a
    norm that does not subtract the mean and an approximation of GELU; an exported feature is
    normalised without the gains of the next block's norm; the palette is found, and colours are
    compared, with each channel over its standard deviation, where theirs are as they are.

    Needs one `survey`, before the first step. Raises UserError for an encoder that does not read
    pixels and, in the survey, for a palette of more colours than the images have.
    """

    fixed_answers = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if not isinstance(encoder, PixelGPT):
            raise UserError(
                "igpt needs an encoder that reads pixels in turn: use --encoder gpt-nano"
            )
        self.encoder: PixelGPT = encoder
        length, total = encoder.side**2, encoder.total
        self.blocks = nn.ModuleList(
            CausalBlock(encoder.dim, encoder.heads, length, total)
            for _ in range(total - len(encoder.blocks))
        )
        self.norm = nn.LayerNorm(encoder.dim)
        self.head = nn.Linear(encoder.dim, len(encoder.palette.colours), bias=False)
        nn.init.zeros_(self.head.weight)

    def survey(self, whole: Iterable[ViewBatch]) -> None:
        """Find the palette, on the same number of random pixels of each image."""
        found = []
        for batch in whole:
            pixels = self.encoder.pixels(batch.views[0])  # (B, L, C)
            chosen = torch.randperm(pixels.shape[1])[:SOME].to(pixels.device)
            found.append(pixels[:, chosen].flatten(0, 1))
        self.encoder.palette.find(torch.cat(found))

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``bits_per_pixel`` of the small copies in the palette's colours."""
        (x,) = batch.views
        ids = self.encoder.ids(x)  # (B, L)
        scores = self.scores(self.encoder.embedded(ids[:, :-1]))
        return {"bits_per_pixel": token_prediction(scores, ids) / math.log(2)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The entropy of the colours of pixels, wherever they are."""
        return {"bits_per_pixel": unigram_entropy(self.encoder.ids(x)) / math.log(2)}

    def scores(
        self, embedded: Float[Tensor, "n l d"], past: Past | None = None
    ) -> Float[Tensor, "n l k"]:
        """Scores of the colours that each place may have."""
        tokens = self.encoder.tokens(embedded, past)
        for block in self.blocks:
            tokens = block(tokens, past)
        return self.head(self.norm(tokens))

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """New images (count, C, S, S), pixel by pixel, each of a colour drawn as it is likely."""
        ids = torch.zeros(count, 0, dtype=torch.long, device=self.head.weight.device)
        past: Past = {}
        for _ in range(self.encoder.side**2):
            scores = self.scores(self.encoder.embedded(ids)[:, -1:], past)[:, 0]  # (B, K)
            ids = torch.cat([ids, torch.multinomial(scores.float().softmax(dim=1), 1)], dim=1)
        return self.encoder.images(ids)
