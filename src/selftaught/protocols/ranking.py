"""Average precision: whether what has a label is ranked above what has not."""

from typing import NamedTuple

import torch
from torch import Tensor

from selftaught import seeds
from selftaught.errors import UserError

RESAMPLES, BLOCK = 1000, 50


class Precision(NamedTuple):
    """Average precisions of each class, nan where no sample has the label."""

    area: Tensor  # (..., K)
    eleven: Tensor  # (..., K)


@torch.no_grad()
def average_precision(scores: Tensor, truth: Tensor, weights: Tensor | None = None) -> Precision:
    """Of scores (M, K) for truth (M, K): 1 has the label, 0 has not, -1 counts for nothing.

    Precision at a recall is the best at that recall or a higher one, as in PASCAL VOC. ``area`` is
    its integral (VOC from 2010 on, and VISSL), ``eleven`` its mean at recalls of 0, 0.1, ..., 1
    (VOC 2007; Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", section 4.2).
    Equal scores count together. ``weights`` (R, M) say how often each sample is there in each of R
    test sets; then the results are (R, K).
    """
    times = torch.ones(1, len(scores), dtype=torch.float64) if weights is None else weights
    areas, elevens = [], []
    for s, y in zip(scores.cpu().T, truth.cpu().T, strict=True):
        kept = y >= 0
        order = s[kept].argsort(descending=True)
        y, s = y[kept][order].double(), s[kept][order]
        w = times.double()[:, kept.nonzero().squeeze(1)[order]]  # (R, M')
        last = torch.cat([s[1:] != s[:-1], torch.ones(min(len(s), 1), dtype=torch.bool)])
        right, seen = (w * y).cumsum(1)[:, last], w.cumsum(1)[:, last]
        precision = right / seen.clamp(min=1)
        precision = precision.flip(1).cummax(1).values.flip(1) if len(s) else precision
        total = right[:, -1:] if len(s) else right.new_zeros(len(times), 1)
        recall = right / total  # nan where there is none
        steps = recall.diff(dim=1, prepend=torch.zeros_like(total))
        areas.append((steps * precision).sum(1).where(total[:, 0] > 0, torch.nan))
        elevens.append(_eleven(right, total, precision))
    found = Precision(torch.stack(areas, 1), torch.stack(elevens, 1))
    return found if weights is not None else Precision(*(part[0] for part in found))


def _eleven(right: Tensor, total: Tensor, precision: Tensor) -> Tensor:
    """(R,) the mean precision at eleven recalls; ``right`` (R, T) counts are whole numbers."""
    if not precision.shape[1]:
        return precision.new_full((len(precision),), torch.nan)
    levels = torch.arange(11, dtype=torch.float64)
    place = torch.searchsorted(10 * right, levels * total)  # the first with that recall
    found = precision.gather(1, place.clamp(max=precision.shape[1] - 1))
    return found.mean(1).where(total[:, 0] > 0, torch.nan)


def mean_precision(scores: Tensor, truth: Tensor, *, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Means over classes, ``map`` by area and ``map11`` by eleven recalls: (value, low, high).

    The interval is that of 95 % over test sets of the same size, drawn with replacement. Classes
    that no sample has are left out. Raises UserError where that is all.
    """
    value = average_precision(scores, truth)
    if value.area.isnan().all():
        raise UserError("no test sample has any label; give some that have")
    g = torch.Generator().manual_seed(seeds.derive(seed, "bootstrap"))
    drawn = []
    for _ in range(RESAMPLES // BLOCK):
        index = torch.randint(len(scores), (BLOCK, len(scores)), generator=g)
        weights = torch.zeros(index.shape, dtype=torch.float64)
        weights.scatter_add_(1, index, torch.ones_like(weights))
        drawn.append(average_precision(scores, truth, weights))
    tail = torch.tensor([0.025, 0.975], dtype=torch.float64)
    found = {}
    for name, one, many in zip(("map", "map11"), value, zip(*drawn, strict=True), strict=True):
        low, high = torch.cat(many).nanmean(1).nanquantile(tail).tolist()
        found[name] = (one.nanmean().item(), low, high)
    return found
