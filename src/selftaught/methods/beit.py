"""BEiT: see the image with blocks blanked, and name the words that a tokenizer has for them."""

from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.masking import blockwise
from selftaught.nn.transformer import ViT, begin_small, with_tokens
from selftaught.objectives.tokens import token_prediction, unigram_entropy


class BEiT(Method):
    """BEiT: BERT Pre-Training of Image Transformers.

    Bao et al. 2021, https://arxiv.org/abs/2106.08254, section 2 and algorithm 1. Blocks of patches
    are hidden; the encoder sees one learned token in the place of each hidden patch; a linear
    softmax layer predicts, from the last tokens, the words of the hidden patches. Words are those
    of a tokenizer that was trained before and does not change, one of ``words`` for each place.
    Weights begin as in section 2.5, see `begin_small`.

    Deviations: those of `blockwise`; the tokenizer is a VQ-VAE of our own where the authors take
    DALL-E's discrete VAE, and sees the image as large as the encoder does, where theirs sees it
    half as large; positions are fixed sines and cosines; no drop path, no layer scale.

    ``tokenizer(x)`` gives the words (B, L) of images, patches row by row. Raises UserError for an
    encoder without tokens and for a ratio that hides or leaves nothing.
    """

    fixed_answers = True

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: nn.Module,
        *,
        words: int,
        ratio: float = 0.4,
        smallest: int = 16,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "beit")
        if not 0 < round(ratio * encoder.length) < encoder.length:
            raise UserError(
                f"a ratio of {ratio} of {encoder.length} patches hides nothing or leaves nothing; "
                "use --ratio 0.4 or smaller patches"
            )
        if smallest < 1:
            raise UserError(f"blocks of {smallest} patches; use --smallest-block from 1")
        self.encoder: ViT = encoder
        self.tokenizer = tokenizer.requires_grad_(False)
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.head = nn.Linear(encoder.dim, words)
        begin_small(encoder, self.head)
        self.ratio, self.smallest = ratio, smallest

    def train(self, mode: bool = True) -> Any:
        """The tokenizer does not leave eval mode."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``words``, the cross-entropy of the hidden patches' words, and how many are found."""
        (x,) = batch.views
        with torch.no_grad():
            words = self.tokenizer(x)  # (B, L)
        count = round(self.ratio * self.encoder.length)
        hidden = blockwise(len(x), self.encoder.grid, count, smallest=self.smallest).to(x.device)
        tokens = self.encoder.tokens(x, hidden=hidden, blank=self.blank)  # (B, L, D)
        scores = self.head(tokens[hidden])  # (B * count, K)
        asked = words[hidden]
        self.watched = {"found": (scores.detach().argmax(1) == asked).float().mean()}
        return {"words": token_prediction(scores, asked)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The entropy of the tokenizer's words, wherever they are."""
        return {"words": unigram_entropy(self.tokenizer(x))}
