"""Methods that predict representations of hidden parts."""

from selftaught.recipes.card import Card

FAMILY = "latent prediction"

CARDS: dict[str, Card] = {
    "data2vec": Card(
        function="selftaught.recipes.latent:data2vec",
        family=FAMILY,
        modality="images",
        paper="Baevski et al., data2vec: A General Framework for Self-supervised Learning in "
        "Speech, Vision and Language",
        year=2022,
        url="https://arxiv.org/abs/2202.03555",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "A slow copy of the network sees the whole image; the network sees it with blocks of "
            "patches hidden, and predicts the mean of the copy's last layers there. It paints no "
            "pixels: what it predicts has seen the context."
        ),
        diagram="""\
image, blocks hidden -> encoder -> tokens of the hidden -> linear -> p \\
                           |                                            regression
                           v average                                   /
image, whole -> slow copy -> mean of its last blocks, normalised -> target (no gradient)""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*) and a slow copy of it; any batch",
        choose="instead of mae, where one method should serve images, audio and text alike",
        published={
            "encoder": "vit_base_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 2048,
            "lr": 2e-3,
            "weight_decay": 0.05,
            "warmup": 0.05,
            "last_lr": 0.005,
            "clip": 3.0,
            "ratio": 0.612,
            "smallest_block": 16,
            "top": 6,
            "beta": 2.0,
            "momentum": 0.9998,
            "final_momentum": 0.9998,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.4,
        },
    ),
    "ijepa": Card(
        function="selftaught.recipes.latent:ijepa",
        family=FAMILY,
        modality="images",
        paper="Assran et al., Self-Supervised Learning from Images with a Joint-Embedding "
        "Predictive Architecture",
        year=2023,
        url="https://arxiv.org/abs/2301.08243",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The network sees one large part of the image, and a small predictor tells what a slow "
            "copy, which sees the whole, makes of some blocks that are cut out. It needs no random "
            "colours, and never paints a pixel."
        ),
        diagram="""\
image -> context patches -> encoder -> tokens \\
                               |       places   predictor -> tokens of each block
                               v average       /                  regression
image, whole --------------> slow copy -----------------> its tokens there (no gradient)""",
        needs="an encoder with tokens (vit-nano, vit_*, deit*), at least 5 x 5 of them; any batch",
        choose="where no random view is known that keeps what matters; large encoders",
        published={
            "encoder": "vit_huge_patch14_gap_224",
            "patch": 14,
            "epochs": 300,
            "batch_size": 2048,
            "lr": 1e-3,
            "weight_decay": 0.04,
            "last_decay": 10.0,
            "warmup": 0.05,
            "first_lr": 0.1,
            "last_lr": 1e-3,
            "dim": 384,
            "depth": 12,
            "heads": 16,
            "targets": 4,
            "smallest_target": 0.15,
            "largest_target": 0.2,
            "momentum": 0.996,
            "smallest_crop": 0.3,
        },
    ),
}
