"""Images as sequences of pixels, each of one colour of a palette."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder
from selftaught.nn.causal import CausalBlock, Past
from selftaught.nn.clusters import kmeans, nearest
from selftaught.nn.memory import Memory
from selftaught.precision import float32

PIXELS = 1 << 16  # pixels that a palette is found on


class Palette(Memory):
    """The colours that images are drawn in: random ones, until they are found by k-means.

    Image GPT (Chen et al. 2020, Generative Pretraining from Pixels), section 3.2.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        if size < 2:
            raise UserError(f"a palette of {size}; use --palette with 2 colours or more")
        self.colours = nn.Buffer(torch.randn(size, channels))  # (K, C), the darkest first

    @float32
    def ids(self, pixels: Float[Tensor, "n l c"]) -> Int[Tensor, "n l"]:
        """The nearest colour of each pixel."""
        return nearest(pixels.flatten(0, 1), self.colours).view(pixels.shape[:2])

    @torch.no_grad()
    def find(self, pixels: Float[Tensor, "n c"], iterations: int = 20) -> None:
        """Learn the colours from pixels, beginning with different ones of theirs.

        Raises UserError where the pixels have fewer colours than the palette.
        """
        pixels = pixels[torch.randperm(len(pixels))[:PIXELS].to(pixels.device)]
        known, size = pixels.unique(dim=0), len(self.colours)
        if len(known) < size:
            raise UserError(
                f"a palette of {size} for pixels of {len(known)} different colours; use --palette "
                f"with at most {len(known)}"
            )
        start = known[torch.randperm(len(known))[:size].to(pixels.device)]
        colours, _ = kmeans(pixels, start, iterations)
        self.colours.copy_(colours[colours.sum(dim=1).argsort()])


class PixelGPT(Encoder):
    """The lower blocks of a transformer that reads a small copy of an image, pixel by pixel.

    Image GPT (Chen et al. 2020), sections 2 and 3.2. The image is averaged down to ``side`` pixels
    a side and drawn in ``palette`` colours. In the place of each pixel stands the pixel before it,
    in raster order, and a learned token in the first place; so no token has seen its own pixel, and
    the last pixel is never seen. Positions are learned.

    A feature is the mean over places of what leaves the last of these blocks, each normalised as by
    the norm that comes next, without its gains (section 2.3). ``total`` is how many blocks the
    whole transformer has. Raises UserError for settings out of range.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        side: int,
        palette: int,
        dim: int,
        heads: int,
        depth: int,
        total: int,
    ) -> None:
        super().__init__()
        if not 2 <= side <= size:
            raise UserError(
                f"{side} pixels a side of images of {size}; use --side from 2 to {size}"
            )
        if not 1 <= depth <= total:
            raise UserError(f"features of block {depth} of {total}; use --layer from 1 to {total}")
        self.size, self.side, self.dim, self.heads, self.total = size, side, dim, heads, total
        self.palette = Palette(palette, channels)
        self.embedding = nn.Embedding(palette, dim)
        self.start = nn.Parameter(torch.randn(dim) * 0.02)
        self.position = nn.Parameter(torch.randn(side**2, dim) * 0.01)
        self.blocks = nn.ModuleList(CausalBlock(dim, heads, side**2, total) for _ in range(depth))
        nn.init.normal_(self.embedding.weight, std=0.02)

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return (
            f"the mean over the places of block {len(self.blocks)} of {self.total}, each normalised"
        )

    def pixels(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n l c"]:
        """The pixels of the small copies, row by row."""
        return F.adaptive_avg_pool2d(x, self.side).flatten(2).transpose(1, 2)

    def ids(self, x: Float[Tensor, "n c s s"]) -> Int[Tensor, "n l"]:
        """The colour of each pixel of the small copies."""
        return self.palette.ids(self.pixels(x))

    def images(self, ids: Int[Tensor, "n l"]) -> Float[Tensor, "n c s s"]:
        """Images of the full size in these colours."""
        small = self.palette.colours[ids].transpose(1, 2).unflatten(2, (self.side, -1))
        return F.interpolate(small, size=(self.size, self.size), mode="nearest")

    def embedded(self, before: Int[Tensor, "n k"]) -> Float[Tensor, "n l d"]:
        """What the first block sees in the first k + 1 places, given the colours of k pixels."""
        start = self.start.expand(before.shape[0], 1, -1)
        tokens = torch.cat([start, self.embedding(before)], dim=1)
        return tokens + self.position[: tokens.shape[1]]

    def tokens(
        self, embedded: Float[Tensor, "n l d"], past: Past | None = None
    ) -> Float[Tensor, "n l d"]:
        """What leaves the last block."""
        for block in self.blocks:
            embedded = block(embedded, past)
        return embedded

    def places(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n l d"]:
        """The features of the places of images."""
        return F.layer_norm(self.tokens(self.embedded(self.ids(x)[:, :-1])), (self.dim,))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over places."""
        return self.places(x).mean(dim=1)

    def maps(self, x: Tensor) -> Tensor:
        """The features of places as a map (B, dim, side, side)."""
        return self.places(x).transpose(1, 2).unflatten(2, (self.side, self.side))
