"""Methods that tell every image from every other."""

from selftaught.recipes.card import Card

FAMILY = "instance discrimination"

CARDS = {
    "simclr": Card(
        function="selftaught.recipes.instance:simclr",
        family=FAMILY,
        modality="images",
        paper="Chen et al., A Simple Framework for Contrastive Learning of Visual Representations",
        year=2020,
        url="https://arxiv.org/abs/2002.05709",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Two random views of one image should look alike to the network, and unlike all other "
            "images of the batch. What the random views change, the features learn to ignore."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> z1 \\
                                                softmax over all other views of the batch
image -> view 2 -> encoder -> projector -> z2 /""",
        needs="a batch of 128 or more, whose other images are the negatives; no memory besides",
        choose="the first thing to try on images; simple, and hard to break",
        published={
            "encoder": "resnet50",
            "epochs": 1000,
            "batch_size": 4096,
            "optimizer": "lars",
            "lr": 4.8,
            "weight_decay": 1e-6,
            "warmup": 0.01,
            "temperature": 0.1,
            "hidden": 2048,
            "dim": 128,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.8,
            "blur": 0.5,
        },
    ),
    "instdisc": Card(
        function="selftaught.recipes.instance:instdisc",
        family=FAMILY,
        modality="images",
        paper=(
            "Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
        ),
        year=2018,
        url="https://arxiv.org/abs/1805.01978",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Each image is a class of its own, and its weights are what the network made of it at "
            "its last visit, kept in a memory. To tell an image from all others the features have "
            "to hold what is peculiar to it, and similar images come to lie close."
        ),
        diagram="""\
image -> view -> encoder -> linear -> z ---- softmax over, or noise drawn from,
                                      |                      |
                                      v  half of the way     |
                       memory of one vector for each image --+""",
        needs="a memory of one vector for each image, and many epochs; the batch may be small",
        choose="where one view an image is all that can be afforded, and the data are not too many",
        published={
            "encoder": "resnet50",
            "instances": 0,
            "epochs": 200,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.03,
            "weight_decay": 1e-4,
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "drops": "0.6,0.8",
            "dim": 128,
            "temperature": 0.07,
            "noise": 4096,
            "proximal": 30.0,
            "view_share": 1.0,
            "smallest_crop": 0.2,
            "jitter": 0.4,
            "hue": 1.0,
            "jitter_share": 1.0,
        },
    ),
    "pirl": Card(
        function="selftaught.recipes.instance:pirl",
        family=FAMILY,
        modality="images",
        paper=(
            "Misra & van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations"
        ),
        year=2019,
        url="https://arxiv.org/abs/1912.01991",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "What the network makes of an image and of its nine shuffled tiles should be the same: "
            "what is remembered of the image. A memory of all images provides the negatives."
        ),
        diagram="""\
image -> view ----> encoder -> linear -> z ------------ told from other images' memories by its own
image -> 9 tiles -> encoder -> linear, joined, linear -- and so are the tiles
                                         z -> half of the way -> memory of one vector each""",
        needs="a memory of one vector for each image, and tiles that the encoder can take",
        choose="where the parts of an image say what the whole is",
        published={
            "encoder": "resnet50",
            "instances": 0,
            "epochs": 800,
            "batch_size": 1024,
            "optimizer": "sgd",
            "lr": 0.12,
            "last_lr": 1e-3,
            "weight_decay": 1e-4,
            "warmup": 0.0,
            "dim": 128,
            "temperature": 0.07,
            "negatives": 32000,
            "momentum": 0.5,
            "mix": 0.5,
            "tile_share": 64 / 224,
            "smallest_jigsaw": 0.6,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "jitter": 0.4,
            "hue": 0.5,
            "jitter_share": 1.0,
        },
    ),
    "moco": Card(
        function="selftaught.recipes.instance:moco",
        family=FAMILY,
        modality="images",
        paper="He et al., Momentum Contrast for Unsupervised Visual Representation Learning",
        year=2019,
        url="https://arxiv.org/abs/1911.05722",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Each image looks for its own key among thousands of keys of earlier images. The keys "
            "are made by a slow copy of the network, so that those in the queue still fit."
        ),
        diagram="""\
image -> view 1 -> encoder -> linear -> q ----------------- softmax over k and the queue
                      |         |                           /
                      v average v                          /
image -> view 2 -> slow copies of both -> k (no gradient) -> queue of past keys""",
        needs="a second copy of the network and a queue; the batch may be small, but not below 32",
        choose="where the batch must stay small and negatives should still be many",
        published={
            "encoder": "resnet50",
            "epochs": 200,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.03,
            "weight_decay": 1e-4,
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "drops": "0.6,0.8",
            "momentum": 0.999,
            "temperature": 0.07,
            "queue": 65536,
            "view_share": 1.0,
            "smallest_crop": 0.2,
            "jitter": 0.4,
            "hue": 1.0,
            "jitter_share": 1.0,
        },
    ),
    "moco_v2": Card(
        function="selftaught.recipes.instance:moco_v2",
        family=FAMILY,
        modality="images",
        paper="Chen et al., Improved Baselines with Momentum Contrastive Learning",
        year=2020,
        url="https://arxiv.org/abs/2003.04297",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "MoCo with what SimCLR found out: a projection head with a hidden layer, blurred views "
            "and a cosine schedule. The head is thrown away after training."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> q -------------- softmax over k and the queue
                      |           |                         /
                      v  average  v                        /
image -> view 2 -> slow copies of both -> k (no gradient) -> queue of past keys""",
        needs="a second copy of the network and a queue; the batch may be small, but not below 32",
        choose="instead of moco, nearly always",
        published={
            "encoder": "resnet50",
            "epochs": 200,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.03,
            "weight_decay": 1e-4,
            "decay_all": True,
            "warmup": 0.0,
            "momentum": 0.999,
            "temperature": 0.2,
            "hidden": 2048,
            "queue": 65536,
            "view_share": 1.0,
            "smallest_crop": 0.2,
            "jitter": 0.4,
            "blur": 0.5,
        },
    ),
    "simclr_v2": Card(
        function="selftaught.recipes.instance:simclr_v2",
        family=FAMILY,
        modality="images",
        paper="Chen et al., Big Self-Supervised Models are Strong Semi-Supervised Learners",
        year=2020,
        url="https://arxiv.org/abs/2006.10029",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "SimCLR with a deeper projection head, the first layer of which stays when the network "
            "is fine-tuned on few labels. The larger the network, the fewer labels it needs; a "
            "small one can then learn from it."
        ),
        diagram="""\
image -> view 1 -> encoder -> layer 1 | layers 2, 3 -> z1 \\
                              kept    | thrown away         softmax over all other views
image -> view 2 -> encoder -> layer 1 | layers 2, 3 -> z2 / (and a queue of past ones)""",
        needs="a batch of 128 or more; with a queue, a second copy of the network besides",
        choose="where the encoder will be fine-tuned on a few labels",
        published={
            "encoder": "resnet50",
            "epochs": 800,
            "batch_size": 4096,
            "optimizer": "lars",
            "lr": 6.4,
            "weight_decay": 1e-4,
            "warmup": 0.05,
            "layers": 3,
            "dim": 128,
            "temperature": 0.1,
            "queue": 65536,
            "momentum": 0.999,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.8,
            "blur": 0.5,
        },
    ),
    "moco_v3": Card(
        function="selftaught.recipes.instance:moco_v3",
        family=FAMILY,
        modality="images",
        paper="Chen et al., An Empirical Study of Training Self-Supervised Vision Transformers",
        year=2021,
        url="https://arxiv.org/abs/2104.02057",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "MoCo without its queue: each image predicts its own key among the keys of a large "
            "batch, from one view to the other and back. A vision transformer keeps its projection "
            "of patches random, which makes its training steady."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> predictor -> q1 \\
                      |            |                        softmax over all k2
                      v  average   v                       /
image -> view 2 -> slow copies of both -> k2 (no gradient)
and the same the other way""",
        needs="a batch of 256 or more and a second copy of the network",
        choose="to contrast with a vision transformer, or where the batch can be large",
        published={
            "encoder": "vit_base_patch16_224",
            "epochs": 300,
            "batch_size": 4096,
            "optimizer": "adamw",
            "lr": 2.4e-3,
            "weight_decay": 0.1,
            "decay_all": True,
            "warmup": 40 / 300,
            "momentum": 0.99,
            "temperature": 0.2,
            "hidden": 4096,
            "dim": 256,
            "freeze_patches": True,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "jitter": 0.4,
            "saturation": 0.5,
            "blur": 1.0,
            "second_blur": 0.1,
            "solarize": 0.2,
        },
    ),
    "nnclr": Card(
        function="selftaught.recipes.instance:nnclr",
        family=FAMILY,
        modality="images",
        paper=(
            "Dwibedi et al., With a Little Help from My Friends: Nearest-Neighbor Contrastive "
            "Learning of Visual Representations"
        ),
        year=2021,
        url="https://arxiv.org/abs/2104.14548",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "An image's positive is not its own other view but its nearest neighbour among past "
            "images, which differs from it in more than random views can show. Negatives are the "
            "other images of the batch."
        ),
        diagram="""\
image -> view 1 -> encoder -> projector -> z1 -> nearest in the queue of past z1 \\
                                                                                 softmax over
image -> view 2 -> encoder -> projector -> z2 -> predictor -> p2 --------------- / all p2
and the same the other way""",
        needs="a batch of 128 or more and a queue that is shorter than the data",
        choose="where random views say little about what makes two images alike",
        published={
            "encoder": "resnet50",
            "epochs": 1000,
            "batch_size": 4096,
            "optimizer": "lars",
            "lr": 4.8,
            "weight_decay": 1e-6,
            "warmup": 0.01,
            "temperature": 0.1,
            "hidden": 2048,
            "dim": 256,
            "predictor_hidden": 4096,
            "queue": 98304,
            "view_share": 1.0,
            "smallest_crop": 0.08,
            "bicubic": True,
            "jitter": 0.8,
            "blur": 0.5,
        },
    ),
}
