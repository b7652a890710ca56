"""Encoders without batch norm, whose features depend on each row alone."""

import torch
from torch import nn

from selftaught.method import ViewBatch


class Rows(nn.Module):
    """A linear map of rows of numbers."""

    any_size = True

    def __init__(self, d_in=6, dim=5):
        super().__init__()
        self.linear = nn.Linear(d_in, dim)
        self.dim = dim

    def forward(self, x):
        return self.linear(x)


def rows(n, d=6, views=2, seed=0, dtype=torch.float64):
    """A batch of random rows in several unrelated views."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(views, n, d, generator=g, dtype=dtype)
    return ViewBatch(tuple(x.unbind()), torch.arange(n))
