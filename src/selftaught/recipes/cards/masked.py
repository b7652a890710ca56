"""Methods that hide a part of the image and predict it."""

from selftaught.recipes.card import Card

FAMILY = "masked modelling"

CARDS = {
    "mae": Card(
        function="selftaught.recipes.masked:mae",
        family=FAMILY,
        modality="images",
        paper="He et al., Masked Autoencoders Are Scalable Vision Learners",
        year=2021,
        url="https://arxiv.org/abs/2111.06377",
        measured="Fashion-MNIST, 28 px, 10 minutes of two CPU cores",
        idea=(
            "The encoder sees a quarter of the image's patches, and a small decoder paints the "
            "rest. To paint them it has to know what kind of thing the image shows."
        ),
        diagram="""\
image -> patches -> a quarter of them -> encoder -> tokens \\
                                                             decoder -> pixels of the hidden ones
                            a learned token a hidden patch /""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*); any batch",
        choose="where strong random views would destroy what matters, or for fine-tuning later",
        published={
            "encoder": "vit_base_patch16_224",
            "epochs": 800,
            "batch_size": 4096,
            "lr": 2.4e-3,
            "weight_decay": 0.05,
            "warmup": 0.05,
            "dim": 512,
            "depth": 8,
            "heads": 16,
            "smallest_crop": 0.2,
        },
    ),
}
