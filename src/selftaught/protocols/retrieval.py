"""Whether an image's nearest others are of its class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.errors import UserError

RECALLS = (1, 5, 10)
BLOCK = 256


@torch.no_grad()
def retrieval(
    bank: Tensor,  # (N, D)
    labels: Tensor,  # (N,)
    queries: Tensor,  # (M, D)
    classes: Tensor,  # (M,)
    *,
    block: int = BLOCK,
) -> dict[str, Tensor]:
    """For each query whose class is in the bank, by cosine: (M',) values from 0 to 1 of each kind.

    ``map`` is the average precision of the whole ranking of the bank; ``recall@k`` is whether any
    of the k nearest is of its class. Of equal cosines the lower row comes first. ``block`` queries
    are ranked at once. Raises UserError where no query's class is in the bank.
    """
    bank, labels = F.normalize(bank.float(), dim=1), labels.cpu()
    known = torch.isin(classes.cpu(), labels)
    if not known.any():
        raise UserError("no query has a class of the bank; evaluate on the same classes")
    queries, classes = queries[known], classes[known].cpu()
    place = torch.arange(1, len(bank) + 1, dtype=torch.float64)
    found: dict[str, list[Tensor]] = {"map": [], **{f"recall@{k}": [] for k in RECALLS}}
    for start in range(0, len(queries), block):
        query = F.normalize(queries[start : start + block].float(), dim=1)
        cosine = (query.to(bank.device) @ bank.T).cpu()
        order = cosine.argsort(dim=1, descending=True, stable=True)
        right = labels[order] == classes[start : start + block, None]  # (B, N)
        precision = right.double().cumsum(1) / place
        found["map"].append((precision * right).sum(1) / right.sum(1))
        for k in RECALLS:
            found[f"recall@{k}"].append(right[:, :k].any(1).double())
    return {name: torch.cat(values) for name, values in found.items()}
