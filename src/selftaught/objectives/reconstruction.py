"""Make an image again, or what was hidden of it."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def squared_error(
    prediction: Float[Tensor, "*n"], target: Float[Tensor, "*n"]
) -> Float[Tensor, ""]:
    """The squared error, the mean over all numbers."""
    return F.mse_loss(prediction, target)


@float32
def patch_regression(
    prediction: Float[Tensor, "n l p"], patches: Float[Tensor, "n l p"], *, normalize: bool
) -> Float[Tensor, ""]:
    """Mean squared error over hidden patches, each target normalised by its own mean and sd.

    MAE (He et al. 2021, arXiv 2111.06377), section 3, "Reconstruction target". The variance is
    the unbiased one and 1e-6 is added to it, as in the authors' code.
    """
    if normalize:
        mean = patches.mean(dim=-1, keepdim=True)
        patches = (patches - mean) / (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return F.mse_loss(prediction, patches)
