"""Recipes that keep the features' dimensions spread and unlike one another."""

from selftaught.errors import UserError
from selftaught.methods.barlow_twins import BarlowTwins
from selftaught.methods.lejepa import LeJEPA
from selftaught.methods.vicreg import VICReg
from selftaught.methods.wmse import WMSE
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Look, MultiCrop, Training
from selftaught.views.image import Solarize


def barlow_twins(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 1024,
    dim: int = 1024,
    weight: float = 0.005,
    second_blur: float = 0.0,
    solarize: float = 0.0,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): dimensions agree, and differ.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projector's hidden layers.
        dim: width of what is correlated.
        weight: of the correlations between different dimensions.
        second_blur: probability that the second view is blurred; blur is that of the first.
        solarize: probability that the second view is solarised.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    method = BarlowTwins(net, hidden=hidden, dim=dim, weight=weight)
    views = look.pair(data, net, second_blur=second_blur, solarize=solarize)
    return training.run(method, views)


def vicreg(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 1024,
    dim: int = 1024,
    variance_weight: float = 25.0,
    invariance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    second_blur: float = 0.0,
    solarize: float = 0.0,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """VICReg (Bardes et al. 2021, arXiv 2105.04906): views agree, dimensions vary, none covary.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projector's hidden layers.
        dim: width of the projection.
        variance_weight: of the spread of each dimension.
        invariance_weight: of the agreement of the views.
        covariance_weight: of the covariances of different dimensions.
        second_blur: probability that the second view is blurred; blur is that of the first.
        solarize: probability that the second view is solarised.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    method = VICReg(
        net,
        hidden=hidden,
        dim=dim,
        variance_weight=variance_weight,
        invariance_weight=invariance_weight,
        covariance_weight=covariance_weight,
    )
    views = look.pair(data, net, second_blur=second_blur, solarize=solarize)
    return training.run(method, views)


def wmse(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 64,
    sub_batch: int = 128,
    partitions: int = 1,
    epsilon: float = 0.0,
    views: int = 2,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """W-MSE (Ermolov et al. 2020, arXiv 2007.06346): whitened views agree.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projector's hidden layer.
        dim: width of what is whitened.
        sub_batch: samples that are whitened together; best twice the width or more.
        partitions: times that the batch is cut into sub-batches at a step.
        epsilon: how far the covariance is shrunk towards the identity, from 0 to 1.
        views: of each image; all pairs are compared.
    """
    if views < 2:
        raise UserError(f"{views} view of each image has no other; use --views with 2 or more")
    if training.batch_size % sub_batch:
        raise UserError(
            f"a batch of {training.batch_size} is no multiple of sub-batches of {sub_batch}; use a "
            "--batch-size that --sub-batch divides"
        )
    net = build(encoder, channels=data.channels, size=data.size)
    method = WMSE(
        net,
        hidden=hidden,
        dim=dim,
        sub_batch=sub_batch,
        partitions=partitions,
        epsilon=epsilon,
    )
    return training.run(method, look.views(data, net, views))


def lejepa(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 64,
    weight: float = 0.05,
    slices: int = 256,
    views: int = 2,
    solarize: float = 0.0,
    look: MultiCrop = MultiCrop(),
    training: Training = Training(),
) -> Run:
    """LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544): predict views, stay Gaussian.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projector's hidden layers.
        dim: width of what is predicted.
        weight: of the test against a Gaussian, from 0 to 1; the prediction has the rest.
        slices: directions along which is tested, new ones at each step.
        views: large views of each image, whose mean all views predict.
        solarize: probability that a view is solarised.
    """
    if views + look.crops < 2:
        raise UserError("one view of each image has no other; use --views or --crops for more")
    net = build(encoder, channels=data.channels, size=data.size)
    method = LeJEPA(net, hidden=hidden, dim=dim, weight=weight, slices=slices, large=views)
    then = Solarize(threshold=0.5, p=solarize)
    return training.run(method, look.views(data, net, views, then))
