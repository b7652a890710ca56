"""Make an image again, or what was hidden of it."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
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


@float32
def masked_distance(
    prediction: Float[Tensor, "n l p"], target: Float[Tensor, "n l p"], hidden: Bool[Tensor, "n l"]
) -> Float[Tensor, ""]:
    """Mean absolute error over the hidden places.

    SimMIM (Xie et al. 2021, arXiv 2111.09886), equation 1.
    """
    return F.l1_loss(prediction[hidden], target[hidden])


@float32
def masked_error(
    prediction: Float[Tensor, "n l p"], target: Float[Tensor, "n l p"], hidden: Bool[Tensor, "n l"]
) -> Float[Tensor, ""]:
    """Mean squared error over the hidden places.

    MaskFeat (Wei et al. 2021, arXiv 2112.09133), section 3.1.
    """
    return F.mse_loss(prediction[hidden], target[hidden])
