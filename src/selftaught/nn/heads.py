"""Small networks on top of an encoder."""

import itertools

from torch import nn

from selftaught.errors import UserError


def mlp(*dims: int, bias: bool = True) -> nn.Sequential:
    """Linear layers of the given widths with batch norm and ReLU between them.

    A layer that batch norm follows has no bias; ``bias`` is the last one's. Raises UserError for a
    width below 1.
    """
    if min(dims) < 1:
        raise UserError(f"a head of widths {dims}; give hidden and output at least 1")
    layers: list[nn.Module] = []
    for d_in, d_out in itertools.pairwise(dims[:-1]):
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(dims[-2], dims[-1], bias=bias))
