"""Whether clusters of features are classes."""

import warnings

import numpy as np
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from selftaught.errors import UserError


def clustering(x: Tensor, y: Tensor, *, seed: int = 0) -> dict[str, float]:
    """k-means on features of length one, as many clusters as classes, against the classes.

    ``accuracy`` under the best one-to-one assignment of clusters to classes (Kuhn-Munkres),
    ``nmi`` (normalised by the arithmetic mean) and ``ari`` (adjusted for chance), of x (N, D) and y
    (N,), which take no part in the clustering. Raises UserError for fewer samples than classes.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    classes, labels = y.unique(return_inverse=True)
    if len(x) <= len(classes):
        raise UserError(f"{len(x)} samples of {len(classes)} classes; give more of each")
    unit = F.normalize(x.float(), dim=1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        found = KMeans(len(classes), random_state=seed).fit_predict(unit)
    truth = labels.numpy()
    together = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(together, (found, truth), 1)
    rows, columns = linear_sum_assignment(-together)
    return {
        "accuracy": float(together[rows, columns].sum() / len(x)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
    }
