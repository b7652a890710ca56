"""Methods that learn from a copy of themselves."""

from selftaught.recipes.card import Card

FAMILY = "self-distillation"

CARDS = {
    "byol": Card(
        function="selftaught.recipes.distillation:byol",
        family=FAMILY,
        modality="images",
        paper="Grill et al., Bootstrap Your Own Latent",
        year=2020,
        url="https://arxiv.org/abs/2006.07733",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The network predicts what a slowly moving copy of itself makes of another view of the "
            "image. There are no negatives; the predictor and the slow copy keep it from "
            "collapsing."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> predictor -> p1 \\
                      |            |                        regression
                      v  average   v                       /
image -> view 2 -> slow copy of both -------------> z2 (no gradient)""",
        needs="batch norm or a batch of 64 or more; a second copy of the network",
        choose="where the batch must be small, or other images make poor negatives",
        published={
            "encoder": "resnet50",
            "epochs": 1000,
            "batch_size": 4096,
            "optimizer": "lars",
            "lr": 3.2,
            "weight_decay": 1.5e-6,
            "warmup": 0.01,
            "momentum": 0.996,
            "hidden": 4096,
            "dim": 256,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
            "solarize": 0.2,
        },
    ),
    "simsiam": Card(
        function="selftaught.recipes.distillation:simsiam",
        family=FAMILY,
        modality="images",
        paper="Chen & He, Exploring Simple Siamese Representation Learning",
        year=2020,
        url="https://arxiv.org/abs/2011.10566",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The network predicts its own projection of another view, which gets no gradient. That "
            "alone keeps it from collapsing: no negatives, no slow copy, no clusters."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> predictor -> p1 \\
                      = same weights =                       regression, and the same the other way
image -> view 2 -> encoder -> projector -> z2 (no gradient) /""",
        needs="batch norm in the head, so a batch of 32 or more; nothing besides",
        choose="where memory is short; watch the feature std, it collapses sooner than others",
        published={
            "encoder": "resnet50",
            "epochs": 100,
            "batch_size": 512,
            "optimizer": "sgd",
            "lr": 0.1,
            "weight_decay": 1e-4,
            "decay_all": True,
            "warmup": 0.0,
            "dim": 2048,
            "hidden": 2048,
            "bottleneck": 512,
            "view_share": 1.0,
            "smallest_crop": 0.2,
            "jitter": 0.4,
            "blur": 0.5,
        },
    ),
    "dino": Card(
        function="selftaught.recipes.distillation:dino",
        family=FAMILY,
        modality="images",
        paper="Caron et al., Emerging Properties in Self-Supervised Vision Transformers",
        year=2021,
        url="https://arxiv.org/abs/2104.14294",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "A slow copy of the network says which of many learned prototypes a large view is "
            "like; the network says the same of every other view, small ones too. Centring keeps "
            "one prototype from winning always, a low temperature keeps all from being equal."
        ),
        diagram="""\
image -> all views ---> encoder -> head -> softmax \\
                           |        |               cross-entropy, each large view with each other
                           v average v             /
image -> large views -> slow copies ---> less the centre -> sharp softmax (no gradient)""",
        needs="a second copy of the network; the batch may be small; small views pay for time",
        choose="for vision transformers, and where k-NN on frozen features is what counts",
        published={
            "encoder": "vit_small_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 1024,
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.04,
            "last_decay": 10.0,
            "warmup": 0.0125,
            "last_lr": 5e-4,
            "clip": 3.0,
            "clip_by": "tensor",
            "momentum": 0.996,
            "outputs": 65536,
            "head_norm": False,
            "learn_lengths": True,
            "hidden": 2048,
            "bottleneck": 256,
            "temperature_warmup": 0.0375,
            "freeze": 0.00125,
            "view_share": 1.0,
            "crops": 10,
            "crop_share": 0.43,
            "smallest_crop": 0.05,
            "bicubic": True,
            "largest_crop": 0.25,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
            "small_blur": 0.5,
            "solarize": 0.2,
        },
    ),
    "ibot": Card(
        function="selftaught.recipes.distillation:ibot",
        family=FAMILY,
        modality="images",
        paper="Zhou et al., iBOT: Image BERT Pre-Training with Online Tokenizer",
        year=2021,
        url="https://arxiv.org/abs/2111.07832",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "DINO, and besides: blocks of patches are hidden from the network, which must say of "
            "them what its slow copy says, which sees all. So not only the image's feature is "
            "learned, but that of each patch."
        ),
        diagram="""\
image -> all views ---> transformer -> head -> of views ---> cross-entropy, as in dino
         (some patches       |          |  \\--> of hidden patches -> cross-entropy
          hidden)            v average  v                          /
image -> large views -> slow copies ---> less the centres -> sharp softmax (no gradient)""",
        needs="a vision transformer and a second copy of it; small views pay for time",
        choose="for vision transformers, where features of places are wanted too",
        published={
            "encoder": "vit_small_patch16_224",
            "patch": 16,
            "epochs": 800,
            "batch_size": 1024,
            "optimizer": "adamw",
            "lr": 2e-3,
            "weight_decay": 0.04,
            "last_decay": 10.0,
            "warmup": 0.0125,
            "last_lr": 5e-4,
            "clip": 3.0,
            "clip_by": "tensor",
            "ratio": 0.3,
            "momentum": 0.996,
            "outputs": 8192,
            "head_norm": False,
            "shared": True,
            "hidden": 2048,
            "bottleneck": 256,
            "temperature_warmup": 0.0375,
            "freeze": 0.00125,
            "view_share": 1.0,
            "crops": 10,
            "crop_share": 0.43,
            "smallest_crop": 0.05,
            "bicubic": True,
            "largest_crop": 0.25,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
            "small_blur": 0.5,
            "solarize": 0.2,
        },
    ),
    "dinov2": Card(
        function="selftaught.recipes.distillation:dinov2",
        family=FAMILY,
        modality="images",
        paper="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision",
        year=2023,
        url="https://arxiv.org/abs/2304.07193",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "DINO for views and iBOT for hidden patches, each with a head of its own and targets "
            "that use all prototypes equally. Features of different images are pushed apart from "
            "their nearest neighbours."
        ),
        diagram="""\
image -> all views ---> transformer -> two heads -> views, hidden patches -> cross-entropy
         (some patches       |    \\      |                                  /
          hidden)            |     KoLeo  |                                 /
                             v average    v                                /
image -> large views -> slow copies ------> Sinkhorn-Knopp (no gradient) -""",
        needs="a vision transformer and a second copy of it; two heads; small views pay for time",
        choose="instead of ibot where the run is long and the data are many",
        published={
            "encoder": "vit_large_patch14_224",
            "patch": 14,
            "epochs": 135,  # of ImageNet-22k: theirs are 500 times 1250 steps
            "batch_size": 3072,
            "optimizer": "adamw",
            "lr": 3.5e-4,
            "weight_decay": 0.04,
            "last_decay": 5.0,
            "warmup": 0.16,
            "last_lr": 3e-3,
            "clip": 3.0,
            "clip_by": "part",
            "ratio": 0.3,
            "head_norm": False,
            "momentum": 0.994,
            "outputs": 131072,
            "hidden": 2048,
            "bottleneck": 256,
            "temperature": 0.07,
            "temperature_warmup": 0.06,
            "koleo_weight": 0.1,
            "freeze": 0.002,
            "view_share": 1.0,
            "crops": 8,
            "crop_share": 0.4375,
            "smallest_crop": 0.05,
            "bicubic": True,
            "largest_crop": 0.32,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
            "small_blur": 0.5,
            "solarize": 0.2,
        },
    ),
}
