"""Which items' labels are used where few are allowed."""

import re

import torch
from torch import Tensor

from selftaught import seeds
from selftaught.errors import UserError


def choose(labels: Tensor, asked: str, seed: int) -> Tensor:
    """Numbers of the chosen items, ascending: the same for the same labels and seed.

    ``asked`` is ``all``, a share of each class as ``1%``, at least one of each, or ``N-per-class``.
    Raises UserError for anything else, and where a class has fewer than N.
    """
    if asked == "all":
        return torch.arange(len(labels))
    share = re.fullmatch(r"(\d+(?:\.\d+)?)%", asked)
    each = re.fullmatch(r"(\d+)-per-class", asked)
    if not (share or each) or (share and not float(share[1])):
        raise UserError(f"--labels {asked} is not understood; use 1%, 10-per-class or all")
    chosen = []
    for number in labels.unique():
        index = (labels == number).nonzero().squeeze(1)
        if share:
            count = max(1, round(len(index) * float(share[1]) / 100))
        else:
            assert each
            count = int(each[1])
        if not 1 <= count <= len(index):
            raise UserError(
                f"--labels {asked} of a class with {len(index)}; use up to {len(index)}-per-class"
            )
        g = seeds.generator(seed, "labels", int(number))
        chosen.append(index[torch.randperm(len(index), generator=g)[:count]])
    return torch.cat(chosen).sort().values
