"""Methods that do something to an image and ask what it was."""

from selftaught.recipes.card import Card

FAMILY = "pretext tasks"

CARDS = {
    "rotation": Card(
        function="selftaught.recipes.pretext:rotation",
        family=FAMILY,
        modality="images",
        paper="Gidaris et al., Unsupervised Representation Learning by Predicting Image Rotations",
        year=2018,
        url="https://arxiv.org/abs/1803.07728",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Every image is shown in its four rotations, and the network says which is which. To "
            "know which way up a thing is, it has to know what the thing is."
        ),
        diagram="""\
image -> view -> turned by 0, 90, 180, 270 degrees -> encoder -> linear -> which of the four""",
        needs="images with an up and a down; any batch, each image of which counts four times",
        choose="as a first, simple method; not for images seen from above or through a microscope",
        published={
            # as in the authors' ImageNet_RotNet_AlexNet.py, but for Nesterov's momentum
            "encoder": "resnet18",
            "epochs": 50,
            "batch_size": 192,
            "optimizer": "sgd",
            "lr": 0.01,
            "weight_decay": 5e-4,
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "drops": "0.3,0.6,0.9",
            "view_share": 1.0,
            "smallest_crop": 0.08,
        },
    ),
    "jigsaw": Card(
        function="selftaught.recipes.pretext:jigsaw",
        family=FAMILY,
        modality="images",
        paper=(
            "Noroozi & Favaro, Unsupervised Learning of Visual Representations by Solving Jigsaw "
            "Puzzles"
        ),
        year=2016,
        url="https://arxiv.org/abs/1603.09246",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "An image is cut into nine tiles with gaps between them, which are shuffled in one of "
            "many known ways, and the network says in which. No tile is seen with another before "
            "each has been described, so that the parts of things have to be known."
        ),
        diagram="""\
image -> 9 tiles, each normalised -> encoder -> linear, for each alone -> 9 features
one of the permutations -> the 9 features in that order, joined -> 2 layers -> which it was""",
        needs="images of 15 pixels or more; an encoder of any size; any batch",
        choose="where things have parts in fixed places",
        published={
            "encoder": "resnet18",
            "epochs": 70,
            "batch_size": 256,
            "optimizer": "sgd",
            "lr": 0.01,
            "weight_decay": 5e-4,
            "warmup": 0.0,
            "schedule": "constant",
            "drops": "0.2857,0.5714,0.8571",  # every 100,000 of 350,000 steps
            "permutations": 1000,
            "width": 1024,
            "hidden": 4096,
            "smallest_crop": 0.77,
            "gray": 0.3,
            "channel_shift": 2 / 64,
        },
    ),
    "relative_patch": Card(
        function="selftaught.recipes.pretext:relative_patch",
        family=FAMILY,
        modality="images",
        paper=("Doersch et al., Unsupervised Visual Representation Learning by Context Prediction"),
        year=2015,
        url="https://arxiv.org/abs/1505.05192",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Two patches of an image lie next to each other, and the network says on which of "
            "eight sides of the first the second is. Gaps and jitter keep it from following lines "
            "across the border: it has to know what the patches show."
        ),
        diagram="""\
image -> patch -> encoder -> linear, norm --- \\
         gap                                   joined -> 3 layers -> which of eight sides
image -> neighbour -> encoder -> linear, norm /""",
        needs="images of 13 pixels or more; an encoder of any size; any batch",
        choose="where jigsaw's tiles would be too small",
        published={
            "encoder": "resnet18",
            "epochs": 100,
            "batch_size": 128,
            "optimizer": "sgd",
            # theirs is 1e-5 for the sum over about 2,500 pairs (512 patches in grids of 3 or 4 a
            # side), so 0.025 for their mean, without momentum; with one of 0.9 each gradient moves
            # ten times as far
            "lr": 0.0025,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "schedule": "constant",
            "grid": 2,
            "gap": 0.5,
            "jitter": 7 / 96,
            "width": 4096,
            "hidden": 4096,
            "guard": "drop",
        },
    ),
}
