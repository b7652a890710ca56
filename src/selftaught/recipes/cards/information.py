"""Methods that keep the features' dimensions spread and unlike one another."""

from selftaught.recipes.card import Card

FAMILY = "information maximisation"

CARDS = {
    "barlow_twins": Card(
        function="selftaught.recipes.information:barlow_twins",
        family=FAMILY,
        modality="images",
        paper="Zbontar et al., Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        year=2021,
        url="https://arxiv.org/abs/2103.03230",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Over a batch, each dimension of the projection should agree between two views, and no "
            "two dimensions should tell the same. A collapsed network cannot have both."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> z1 \\
                                                correlation matrix, pulled to the identity
image -> view 2 -> encoder -> projector -> z2 /""",
        needs="a batch of 128 or more and a wide projector; no negatives, no second network",
        choose="where negatives hurt and a wide projector is affordable",
        published={
            "encoder": "resnet50",
            "epochs": 1000,
            "batch_size": 2048,
            "optimizer": "lars",
            "lr": 1.6,
            "bias_lr": 0.024,
            "weight_decay": 1e-6,
            "warmup": 0.01,
            "last_lr": 1e-3,
            "solarize": 0.2,
            "hidden": 8192,
            "dim": 8192,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
        },
    ),
    "vicreg": Card(
        function="selftaught.recipes.information:vicreg",
        family=FAMILY,
        modality="images",
        paper="Bardes et al., VICReg: Variance-Invariance-Covariance Regularization",
        year=2021,
        url="https://arxiv.org/abs/2105.04906",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Two views should have the same projection, while over the batch every dimension keeps "
            "a spread of one and no two dimensions covary. Each of the three is a term of its own."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> z1 - variance, covariance
                                            | invariance
image -> view 2 -> encoder -> projector -> z2 - variance, covariance""",
        needs="a batch of 128 or more and a wide projector; no negatives, no second network",
        choose="where the terms should be seen apart, or the two branches differ",
        published={
            "encoder": "resnet50",
            "epochs": 1000,
            "batch_size": 2048,
            "optimizer": "lars",
            "lr": 1.6,
            "weight_decay": 1e-6,
            "warmup": 0.01,
            "last_lr": 1e-3,
            "hidden": 8192,
            "dim": 8192,
            "solarize": 0.2,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
        },
    ),
    "wmse": Card(
        function="selftaught.recipes.information:wmse",
        family=FAMILY,
        modality="images",
        paper="Ermolov et al., Whitening for Self-Supervised Representation Learning",
        year=2020,
        url="https://arxiv.org/abs/2007.06346",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The projections of a batch are whitened, so that they fill all dimensions alike; then "
            "two views of one image should be the same. What is whitened cannot collapse."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> whiten -> unit vector \\
                                                                   mean squared error
image -> view 2 -> encoder -> projector -> whiten -> unit vector /""",
        needs="a batch of a few times the projection's width; no negatives, no second network",
        choose="where one objective without weights is wanted; the projection must be narrow",
        published={  # for STL-10, where theirs keeps the max-pool that ours leaves out
            "encoder": "resnet18",
            "epochs": 2000,
            "batch_size": 512,
            "optimizer": "adam",
            "lr": 2e-3,
            "weight_decay": 1e-6,
            "decay_all": True,
            "warmup": 0.0012,
            "schedule": "constant",
            "drops": "0.975,0.9875",
            "drop": 0.2,
            "hidden": 1024,
            "dim": 128,
            "sub_batch": 256,
            "partitions": 4,
            "view_share": 1.0,
            "smallest_crop": 0.2,
            "bicubic": True,
            "jitter": 0.4,
            "gray": 0.1,
            "blur": 0.0,
        },
    ),
    "lejepa": Card(
        function="selftaught.recipes.information:lejepa",
        family=FAMILY,
        modality="images",
        paper=(
            "Balestriero & LeCun, LeJEPA: Provable and Scalable Self-Supervised Learning Without "
            "the Heuristics"
        ),
        year=2025,
        url="https://arxiv.org/abs/2511.08544",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "All views of an image predict the mean of its large ones, while the projections of a "
            "batch should be a standard Gaussian along any direction. The second keeps the first "
            "from collapsing; one number weighs them."
        ),
        diagram="""\
image -> large views -> encoder -> projector -> mean
      \\                                           | squared error
        all views   -> encoder -> projector -> z's - along random directions: Gaussian?""",
        needs="a batch of 128 or more; no negatives, no second network, no schedule",
        choose="where little should be tuned; its loss tells how well it learns",
        published={
            "encoder": "vit_large_patch14_224",
            "epochs": 100,
            "batch_size": 512,
            "optimizer": "adamw",
            "lr": 5e-4,
            "weight_decay": 5e-2,
            "decay_all": True,
            "warmup": 0.01,
            "last_lr": 1e-3,
            "weight": 0.05,
            "hidden": 2048,
            "dim": 512,
            "slices": 1024,
            "view_share": 1.0,
            "smallest_crop": 0.05,
            "largest_crop": 0.3,
            "crops": 6,
            "crop_share": 0.4375,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 0.5,
            "solarize": 0.2,
        },
    ),
}
