"""What is remembered between batches; persistent, so that a checkpoint holds it."""

import copy

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """An exponential moving average of one or several modules, applied one after the other.

    Its parameters get no gradient. Running statistics of batch norm are copied as they are: they
    are averages already.
    """

    def __init__(self, *sources: nn.Module) -> None:
        super().__init__()
        self.modules_ = nn.ModuleList(copy.deepcopy(source) for source in sources)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Apply the averaged modules in turn, without a gradient."""
        for module in self.modules_:
            x = module(x)
        return x

    @torch.no_grad()
    def update(self, *sources: nn.Module, momentum: float) -> None:
        """Move by (1 - momentum) of the way towards the sources."""
        for mean, source in zip(self.modules_, sources, strict=True):
            for a, b in zip(mean.parameters(), source.parameters(), strict=True):
                a.lerp_(b, 1 - momentum)
            for a, b in zip(mean.buffers(), source.buffers(), strict=True):
                a.copy_(b)
