"""Networks that keep places apart: grids of patches, context over their rows."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.base import Encoder


class SampleNorm(nn.GroupNorm):
    """Layer norm over all channels and places of a sample, in the place of a batch norm.

    An activation that was part of the batch norm (timm's BatchNormAct2d) follows as before.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(1, norm.num_features, eps=norm.eps)
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) in the same shape."""
        return self.act(self.drop(super().forward(input)))


def norm_by_sample(module: nn.Module) -> nn.Module:
    """Put a `SampleNorm` in the place of every batch norm inside ``module``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SampleNorm(child))
    return module


class PatchGrid(Encoder):
    """Cuts an image into overlapping patches and encodes each without knowing of the others.

    CPC (van den Oord et al. 2018, arXiv 1807.03748), section 3.2. Neighbours overlap by half where
    ``stride`` is not given. Of each patch ``slack`` pixels of height and width are cut away, in
    training at random and else evenly, and as many zeros are put around it, so that neighbours
    cannot be told by the pixels they share. What the grid leaves over at the right and the bottom
    is not seen. Without ``colour`` the encoder has one channel and sees the mean of the image's.

    Raises UserError for a patch that does not fit the image, and for slack that leaves nothing.
    """

    any_size = True

    def __init__(
        self,
        encoder: Encoder,
        size: int,
        *,
        patch: int,
        stride: int | None = None,
        slack: int = 0,
        colour: bool = True,
    ) -> None:
        super().__init__()
        stride = patch // 2 if stride is None else stride
        if not 1 <= patch <= size or stride < 1:
            raise UserError(
                f"patches of {patch} pixels, {stride} apart, in images of {size}; use --patch from "
                f"2 to {size}"
            )
        if not 0 <= slack < patch:
            raise UserError(f"{slack} of {patch} pixels cut away; use --slack below --patch")
        self.encoder = norm_by_sample(encoder)
        self.dim, self.dynamic = encoder.dim, encoder.dynamic
        self.patch, self.stride, self.slack, self.colour = patch, stride, slack, colour
        self.grid = self.places(size)

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return f"the mean over patches of {self.patch} pixels, and of each {self.encoder.feature}"

    def places(self, size: int) -> int:
        """Patches along a side of ``size`` pixels."""
        return (size - self.patch) // self.stride + 1

    def maps(self, x: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d g g"]:
        """One vector for each patch, none of which has seen another patch."""
        if not self.colour:
            x = x.mean(dim=1, keepdim=True)
        patches = self._cut(x)  # (B, G, G, P, P, C)
        b, rows, columns = patches.shape[:3]
        h = self.encoder(patches.flatten(0, 2).permute(0, 3, 1, 2))  # (B G G, D)
        return h.view(b, rows, columns, -1).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over patches."""
        return self.maps(x).mean(dim=(2, 3))

    def _cut(self, x: Tensor) -> Tensor:
        """The patches (B, G, G, P, P, C) of images (B, C, S, S)."""
        x = x.permute(0, 2, 3, 1)  # (B, S, S, C)
        if not self.slack:
            cut = x.unfold(1, self.patch, self.stride).unfold(2, self.patch, self.stride)
            return cut.permute(0, 1, 2, 4, 5, 3)
        n, grid, left = x.shape[0], self.places(x.shape[1]), self.patch - self.slack
        corner = self.stride * torch.arange(grid, device=x.device)
        shift = torch.full((2, n, grid, grid), self.slack // 2, device=x.device)
        if self.training:
            drawn = torch.randint(self.slack + 1, (n * dist.world_size(), 2, grid, grid))
            shift = dist.mine(drawn).to(x.device).transpose(0, 1)
        pixel = torch.arange(left, device=x.device)
        row = (corner[:, None] + shift[0])[..., None, None] + pixel[:, None]  # (B, G, G, L, 1)
        column = (corner + shift[1])[..., None, None] + pixel  # (B, G, G, 1, L)
        image = torch.arange(n, device=x.device)[:, None, None, None, None]
        before = self.slack // 2
        after = self.slack - before
        return F.pad(x[image, row, column], (0, 0, before, after, before, after))


class RowContext(nn.Module):
    """What a grid's rows say down to each place: the row itself and those above it, none below.

    The masked convolutions that CPC v2 (Henaff et al. 2019, arXiv 1905.09272, appendix) gives for
    the "PixelCNN-style" model of CPC: ``depth`` residual steps, each of which looks one row further
    up and one column further to both sides.
    """

    def __init__(self, dim: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, width, 1),
                nn.ReLU(),
                nn.Conv2d(width, width, (1, 3), padding=(0, 1)),
                nn.ZeroPad2d((0, 0, 1, 0)),
                nn.Conv2d(width, width, (2, 1)),
                nn.ReLU(),
                nn.Conv2d(width, dim, 1),
            )
            for _ in range(depth)
        )

    def forward(self, z: Float[Tensor, "b d r c"]) -> Float[Tensor, "b d r c"]:
        """The context at each place."""
        for step in self.steps:
            z = z + step(z)
        return F.relu(z)
