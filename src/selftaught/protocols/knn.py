"""Weighted k-nearest-neighbour classification on frozen features."""

import torch
from torch import Tensor

from selftaught.errors import UserError

#: Queries and bank rows compared at once: the scores take 32 MB, their keys (where many tie) 64 MB.
BLOCK = (2048, 4096)
_LOW = 0xFFFFFFFF


@torch.no_grad()
def knn(
    bank: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    queries: Tensor | None = None,  # (M, D)
    *,
    k: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
    block: tuple[int, int] = BLOCK,
) -> Tensor:
    """The class that each query's k nearest features of the bank vote for, (M,) int64 on the CPU.

    Nearness is the cosine, and a neighbour's vote weighs exp(cosine / temperature): Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
    https://arxiv.org/abs/1805.01978, section 3.4; so in DINO, https://arxiv.org/abs/2104.14294.

    Without ``queries`` every feature of the bank is classified by the others (leave-one-out).
    ``k`` is clamped to the number of candidates. ``classes`` is one more than the largest label
    unless it is given. Equal cosines go to the lower bank row, equal votes to the lower class. A
    feature of length zero has cosine 0 with everything.

    Cosines are float32 products, computed where the bank lives and ``block`` at a time: what is
    needed beside the features does not grow with the size of the bank.

    Raises ``UserError`` for shapes that do not fit, labels outside [0, ``classes``), features that
    are not finite, a bank without candidates, and a ``k`` or ``temperature`` that is not positive.
    """
    labels = labels.cpu()
    rows = bank if queries is None else queries
    count = _classes(bank, labels, rows, classes)
    k = min(k, len(bank) - (queries is None))
    if k < 1 or not temperature > 0:
        raise UserError(
            f"k-NN with k {k} (after clamping to the bank) and temperature {temperature}; "
            "both must be positive, and leave-one-out needs two features"
        )
    predictions = torch.empty(len(rows), dtype=torch.int64)
    for start in range(0, len(rows), block[0]):
        query = _unit(rows[start : start + block[0]].to(bank.device))  # (B, D)
        cosine, row = _nearest(query, bank, k, block[1], start if queries is None else None)
        # A factor common to one query's votes decides nothing; taking it out avoids overflow.
        vote = ((cosine.double() - cosine[:, :1]) / temperature).exp()  # (B, k)
        votes = torch.zeros(len(query), count, dtype=torch.float64)  # (B, classes)
        votes.scatter_add_(1, labels[row], vote)
        predictions[start : start + len(query)] = votes.argmax(dim=1)
    return predictions


@torch.no_grad()
def nearest(
    bank: Tensor,  # (N, D)
    queries: Tensor,  # (M, D)
    *,
    k: int,
    block: tuple[int, int] = BLOCK,
) -> tuple[Tensor, Tensor]:
    """The k largest cosines of each query, descending, and their bank rows: (M, k), on the CPU.

    Computed as in `knn`, of which this is the first half; ``k`` is clamped to N >= 1.
    """
    found = []
    for start in range(0, len(queries), block[0]):
        query = _unit(queries[start : start + block[0]].to(bank.device))
        found.append(_nearest(query, bank, min(k, len(bank)), block[1], None))
    cosine, row = zip(*found, strict=True)
    return torch.cat(cosine), torch.cat(row)


def _nearest(
    query: Tensor, bank: Tensor, k: int, width: int, first: int | None
) -> tuple[Tensor, Tensor]:
    """The k largest cosines, descending, and their bank rows: (B, k) each, on the CPU.

    With ``first`` the queries are the bank's rows from there on, and none is its own neighbour.
    """
    best = torch.empty(len(query), 0, dtype=torch.int64, device=bank.device)
    for start in range(0, len(bank), width):
        other = _unit(bank[start : start + width])  # (W, D)
        with torch.autocast(bank.device.type, enabled=False):
            cosine = query @ other.T  # (B, W)
        if first is not None:
            column = torch.arange(len(query), device=bank.device) + first - start
            here = ((column >= 0) & (column < len(other))).nonzero().squeeze(1)
            cosine[here, column[here]] = -torch.inf
        best = torch.cat([best, _largest(cosine, start, min(k, len(other)))], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return _unpack(best.cpu())


def _largest(cosine: Tensor, start: int, k: int) -> Tensor:
    """The keys (B, k) of each row's k largest cosines; column 0 is bank row ``start``."""
    value, column = cosine.topk(k, dim=1)
    keys = _pack(value, column + start)
    tied = (cosine >= value[:, -1:]).sum(dim=1) > k  # more candidates than places
    if tied.any():
        columns = torch.arange(start, start + cosine.shape[1], device=cosine.device)
        keys[tied] = _pack(cosine[tied], columns).topk(k, dim=1).values
    return keys


def _pack(cosine: Tensor, row: Tensor) -> Tensor:
    """One int64 a cosine: larger for larger cosines and, where they are equal, for lower rows.

    All keys of a query differ, so the largest ones do not depend on how a sort breaks ties.
    """
    bits = (cosine + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # int32 that ascends with the float
    return (order.long() << 32).add_(_LOW - row)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    order = (keys >> 32).to(torch.int32)
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).view(torch.float32), _LOW - (keys & _LOW)


def _unit(x: Tensor) -> Tensor:
    """Rows scaled to length one in float32; zeros stay zeros."""
    x = x.float()
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float64)
    if not length.isfinite().all():
        raise UserError("features hold NaN or infinity; find the encoder's bad outputs first")
    return x / length.where(length > 0, 1).float()


def _classes(bank: Tensor, labels: Tensor, rows: Tensor, classes: int | None) -> int:
    """The number of classes, after checking that everything fits together."""
    if bank.ndim != 2 or rows.ndim != 2 or bank.shape[1] != rows.shape[1]:
        raise UserError(
            f"features of shapes {tuple(bank.shape)} and {tuple(rows.shape)}; "
            "k-NN needs (N, D) and (M, D)"
        )
    if len(bank) == 0 or labels.shape != (len(bank),):
        raise UserError(
            f"{len(bank)} features in the bank and labels of shape {tuple(labels.shape)}; "
            "give at least one feature, and one label for each"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise UserError(f"labels are {labels.dtype}; give class numbers as integers")
    low, high = int(labels.min()), int(labels.max())
    count = high + 1 if classes is None else classes
    if low < 0 or high >= count:
        raise UserError(f"labels run from {low} to {high}; they must lie in [0, {count})")
    return count
