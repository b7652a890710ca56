"""Weighted k-nearest-neighbour classification on frozen features."""

import importlib.util
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from selftaught.errors import UserError

#: Queries and bank rows compared at once: the scores take 32 MB, their keys 64.
TEMPERATURE = 0.07  # of Wu et al. 2018
BLOCK = (2048, 4096)
SPARE = 16  #: candidates beyond the k nearest
_LOW = 0xFFFFFFFF
Engine = Literal["auto", "torch", "faiss"]


@torch.no_grad()
def knn(
    bank: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    queries: Tensor | None = None,  # (M, D)
    *,
    k: int = 20,
    temperature: float = TEMPERATURE,
    classes: int | None = None,
    block: tuple[int, int] = BLOCK,
    engine: Engine = "auto",
) -> Tensor:
    """The class that each query's k nearest features of the bank vote for, (M,) int64 on the CPU.

    Nearness is the cosine, and a neighbour's vote weighs exp(cosine / temperature): Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
    https://arxiv.org/abs/1805.01978, section 3.4; so in DINO, https://arxiv.org/abs/2104.14294.

    Without ``queries`` every feature of the bank is classified by the others (leave-one-out).
    ``k`` is clamped to the number of candidates. ``classes`` is one more than the largest label
    unless it is given. Equal cosines go to the lower bank row, equal votes to the lower class. A
    feature of length zero has cosine 0 with everything.

    The neighbours are exact: `nearest` says how. What is needed beside the features does not grow
    with the size of the bank.

    Raises ``UserError`` for shapes that do not fit, labels outside [0, ``classes``), features that
    are not finite, a bank without candidates, a ``k`` or ``temperature`` that is not positive, and
    for an ``engine`` that is not installed.
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
    top = _engine(engine, bank)
    predictions = torch.empty(len(rows), dtype=torch.int64)
    for start in range(0, len(rows), block[0]):
        query = _unit(rows[start : start + block[0]].to(bank.device))  # (B, D)
        own = torch.arange(start, start + len(query)) if queries is None else None
        cosine, row = _nearest(query, bank, k, block[1], own, top)
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
    engine: Engine = "auto",
) -> tuple[Tensor, Tensor]:
    """The k largest cosines of each query, descending, and their bank rows: (M, k), on the CPU.

    A cosine is the product of two rows of length one in float32, summed in float64 and rounded to
    float32; of equal ones the lower row counts. Candidates are found by products in float32, by
    PyTorch or by faiss (``auto`` takes faiss where it is installed and the bank lies in the
    computer's memory), ``block`` at a time; a query for which their rounding could have hidden a
    neighbour is compared again with all of the bank in float64. So engine, block and device decide
    nothing. ``k`` is clamped to N >= 1.
    """
    top, found = _engine(engine, bank), []
    for start in range(0, len(queries), block[0]):
        query = _unit(queries[start : start + block[0]].to(bank.device))
        found.append(_nearest(query, bank, min(k, len(bank)), block[1], None, top))
    cosine, row = zip(*found, strict=True)
    return torch.cat(cosine), torch.cat(row)


#: The k largest products of each query (B, D) with rows (W, D): their values and columns (B, k).
Top = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def _engine(name: Engine, bank: Tensor) -> Top:
    """What finds candidates."""
    installed = importlib.util.find_spec("faiss") is not None
    if name == "faiss" and not (installed and bank.device.type == "cpu"):
        raise UserError(
            "k-NN by faiss needs features on the CPU and `pip install 'selftaught[faiss]'`; "
            "or leave the choice open"
        )
    by_faiss = name == "faiss" or (name == "auto" and installed and bank.device.type == "cpu")
    return _top_by_faiss if by_faiss else _top


def _top(query: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    with torch.autocast(query.device.type, enabled=False):
        return (query @ rows.T).topk(k, dim=1)


def _top_by_faiss(query: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    import faiss

    inner = faiss.METRIC_INNER_PRODUCT
    value, column = faiss.knn(query.numpy(), rows.numpy(), k, metric=inner)  # pyright: ignore
    return torch.from_numpy(value), torch.from_numpy(column)


def _nearest(
    query: Tensor, bank: Tensor, k: int, width: int, own: Tensor | None, top: Top
) -> tuple[Tensor, Tensor]:
    """The k largest cosines, descending, and their bank rows: (B, k) each, on the CPU.

    With ``own`` (B,) the queries are these rows of the bank, and none is its own neighbour.
    """
    own = None if own is None else own.to(bank.device)
    wanted = min(k + SPARE, len(bank))
    value, row = _candidates(query, bank, wanted, width, top)
    keys = _exact(query, bank, row, own).topk(k, dim=1).values
    kth, least = _unpack(keys[:, -1])[0], value[:, -1]
    error = bank.shape[1] * 2.0**-24  # of a product of unit rows, whatever the order of its sum
    doubtful = ((kth <= least + 2 * error) & (wanted < len(bank))).nonzero().squeeze(1)
    if len(doubtful):
        mine = None if own is None else own[doubtful]
        keys[doubtful] = _all(query[doubtful], bank, k, width, mine)
    return _unpack(keys.cpu())


def _candidates(query: Tensor, bank: Tensor, k: int, width: int, top: Top) -> tuple[Tensor, Tensor]:
    """The k largest products in float32, descending, and their bank rows."""
    value = torch.empty(len(query), 0, device=bank.device)
    row = torch.empty(len(query), 0, dtype=torch.int64, device=bank.device)
    for start in range(0, len(bank), width):
        other = _unit(bank[start : start + width])  # (W, D)
        more, column = top(query, other, min(k, len(other)))
        value, row = torch.cat([value, more], 1), torch.cat([row, column + start], 1)
        value, kept = value.topk(min(k, value.shape[1]), dim=1)
        row = row.gather(1, kept)
    return value, row


def _exact(query: Tensor, bank: Tensor, row: Tensor, own: Tensor | None) -> Tensor:
    """The keys of the cosines of each query with its rows (B, K)."""
    step = max(1, 2**21 // (row.shape[1] * bank.shape[1]))  # queries at a time: 16 MB of doubles
    found = []
    for some, q in zip(row.split(step), query.split(step), strict=True):
        rows = _unit(bank[some.flatten()]).double().view(*some.shape, -1)  # (b, K, D)
        found.append((rows @ q.double().unsqueeze(2)).squeeze(2))
    cosine = torch.cat(found).float()
    if own is not None:
        cosine = cosine.masked_fill(row == own[:, None], -torch.inf)
    return _pack(cosine, row)


def _all(query: Tensor, bank: Tensor, k: int, width: int, own: Tensor | None) -> Tensor:
    """The keys (B, k) of the k largest cosines of each query with all of the bank."""
    best = torch.empty(len(query), 0, dtype=torch.int64, device=bank.device)
    for start in range(0, len(bank), width):
        other = _unit(bank[start : start + width]).double()  # (W, D)
        cosine = (query.double() @ other.T).float()  # (B, W)
        rows = torch.arange(start, start + len(other), device=bank.device)
        if own is not None:
            cosine = cosine.masked_fill(rows == own[:, None], -torch.inf)
        best = torch.cat([best, _pack(cosine, rows)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return best


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
