"""How far a number could be off."""

from statistics import NormalDist

import torch
from torch import Tensor

from selftaught import seeds

RESAMPLES = 1000


def bootstrap(values: Tensor, *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of (N,) values over samples of the same size drawn with replacement.

    The percentile interval of Efron; of the test set's part in the uncertainty, not the training's.
    Where all are hits, or all are misses, no sample differs: then it is Wilson's (1927).
    """
    values = values.double().cpu()
    kinds, counts = values.unique(return_counts=True)
    tail = (1 - level) / 2
    if len(kinds) == 1 and kinds[0] in (0, 1):
        z = NormalDist().inv_cdf(1 - tail)
        far = z**2 / (len(values) + z**2)
        return (0.0, far) if kinds[0] == 0 else (1 - far, 1.0)
    g = torch.Generator().manual_seed(seeds.derive(seed, "bootstrap"))
    if len(kinds) <= 2:  # hits and misses: how many hits is binomial
        share = torch.full((RESAMPLES,), float(counts[-1] / len(values)), dtype=torch.float64)
        hits = torch.binomial(torch.full_like(share, float(len(values))), share, generator=g)
        means = kinds[0] + (kinds[-1] - kinds[0]) * hits / len(values)
    else:
        drawn = [torch.randint(len(values), (len(values),), generator=g) for _ in range(RESAMPLES)]
        means = torch.stack([values[index].mean() for index in drawn])
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
