"""Segmentation without training: each place takes the classes of the nearest places of others."""

import torch
from torch import Tensor
from torch.nn import functional as F

from selftaught import seeds
from selftaught.errors import UserError
from selftaught.protocols.knn import BLOCK, nearest

K, TEMPERATURE = 30, 0.02
RESAMPLES = 1000
VOID = 255  # a pixel of no class


def soft_labels(masks: Tensor, classes: int, side: int) -> tuple[Tensor, Tensor]:
    """The share of each class in each of ``side`` x ``side`` places: (B, side, side, classes).

    ``masks`` (B, S, S) are class numbers or 255, which counts for nothing; places of nothing else
    are false in the second result (B, side, side).
    """
    known = masks != VOID
    one = F.one_hot(masks.long().where(known, classes), classes + 1)[..., :classes]
    share = F.adaptive_avg_pool2d(one.permute(0, 3, 1, 2).float(), side)
    total = share.sum(1, keepdim=True)
    share = share / total.clamp(min=torch.finfo(share.dtype).tiny)
    return share.permute(0, 2, 3, 1), total[:, 0] > 0


@torch.no_grad()
def dense_knn(
    bank: Tensor,  # (N, D)
    labels: Tensor,  # (N, classes)
    queries: Tensor,  # (M, D)
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
    block: tuple[int, int] = BLOCK,
) -> Tensor:
    """Soft labels (M, classes) of places: those of the k nearest, by softmax(cosine / temperature).

    Hummingbird (Balazevic et al. 2023, https://arxiv.org/abs/2306.01667, section 3.1): attention
    from a place to the places of a bank, ``labels`` being the share of each class in these. ``k``
    is clamped to N; of equal cosines the lower row counts. Raises UserError for an empty bank.
    """
    if not len(bank):
        raise UserError("no place with a class to compare with; mask some pixels of the images")
    found = []
    for start in range(0, len(queries), block[0]):
        cosine, row = nearest(bank, queries[start : start + block[0]], k=k, block=block)
        weight = (cosine.double() / temperature).softmax(1)  # (B, k)
        found.append(torch.einsum("bk,bkc->bc", weight, labels[row].double()))
    return torch.cat(found) if found else labels.new_zeros(0, labels.shape[1]).double()


def overlaps(predicted: Tensor, truth: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels of each class in both and in either, (B, classes), of (B, S, S); 255 is left out."""
    known = truth != VOID
    pair = predicted.long() * (classes + 1) + truth.long().where(known, classes)
    place = torch.arange(len(pair))[:, None] * (classes + 1) ** 2 + pair.flatten(1)
    table = torch.bincount(place.flatten(), minlength=len(pair) * (classes + 1) ** 2)
    table = table.view(len(pair), classes + 1, classes + 1)[:, :classes, :classes]
    both = table.diagonal(dim1=1, dim2=2)
    return both, table.sum(1) + table.sum(2) - both


def mean_iou(both: Tensor, either: Tensor, there: Tensor) -> Tensor:
    """Mean over classes of intersection over union, of sums (..., K) over images.

    ``there`` (K,) are the classes that count; of these, those that are neither predicted nor there
    are left out.
    """
    return (both / either).where(there, torch.nan).nanmean(-1)


def iou_interval(
    both: Tensor, either: Tensor, there: Tensor, *, seed: int = 0
) -> tuple[float, float]:
    """That of 95 % of ``mean_iou`` over test sets of as many images (N, K), with replacement.

    ``both`` and ``either`` are float64.
    """
    g = torch.Generator().manual_seed(seeds.derive(seed, "bootstrap"))
    values = []
    for _ in range(RESAMPLES):
        index = torch.randint(len(both), (len(both),), generator=g)
        times = torch.bincount(index, minlength=len(both)).double()
        values.append(mean_iou(times @ both, times @ either, there))
    tail = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.stack(values).nanquantile(tail).tolist()
    return low, high
