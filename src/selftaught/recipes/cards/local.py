"""Methods that compare parts of an image with one another or with the whole."""

from selftaught.recipes.card import Card

FAMILY = "local prediction"

CARDS = {
    "cpc": Card(
        function="selftaught.recipes.local:cpc",
        family=FAMILY,
        modality="images",
        paper="van den Oord et al., Representation Learning with Contrastive Predictive Coding",
        year=2018,
        url="https://arxiv.org/abs/1807.03748",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The image is cut into a grid of overlapping patches, each encoded by itself. What the "
            "upper rows say must be enough to pick the patches further below among many others."
        ),
        diagram="""\
image -> grid of patches -> encoder, one patch at a time -> z -> context of the rows above -> c
         c W_k z: softmax over the patches k rows below, of this image and of the group's others
         exported: the mean of z over the grid""",
        needs="images of several patches a side; any batch, since it is told apart in small groups",
        choose="where parts of a scene matter, and where random colour changes would do harm",
        published={
            "encoder": "resnetv2_101",
            "epochs": 100,
            "batch_size": 512,
            "lr": 2e-4,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "schedule": "constant",  # the paper names no fall
            "slack": 4,
            "colour": False,
            "first": 2,
            "rows": 5,
            "width": 256,
            "depth": 5,
            "group": 16,
            "smallest_crop": 0.73,
        },
    ),
    "amdim": Card(
        function="selftaught.recipes.local:amdim",
        family=FAMILY,
        modality="images",
        paper="Bachman et al., Learning Representations by Maximizing Mutual Information Across "
        "Views",
        year=2019,
        url="https://arxiv.org/abs/1906.00910",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The feature of a whole view must find the features of the other view's parts among "
            "those of other images. It does so at two scales, and parts find parts as well."
        ),
        diagram="""\
image -> view 1 -> encoder -> 1x1 ---> finds 5x5 and 7x7 of view 2 among all other images'
                           -> 5x5 ---> one place of it finds 5x5 of view 2
                           -> 7x7
image -> view 2 -> the same, the other way round""",
        needs="an encoder of its own, amdim-nano; a batch of 64 or more",
        choose="where features of parts are wanted as well as one of the whole",
        published={
            "encoder": "amdim-nano",
            "epochs": 50,
            "batch_size": 480,
            "optimizer": "adam",
            "lr": 2e-4,
            "weight_decay": 1e-5,
            "decay_all": True,
            "warmup": 0.004,
            "schedule": "constant",
            "drops": "0.6,0.9",
            "drop": 0.2,
            "width": 192,
            "dim": 1536,
            "blocks": 8,
            "score_clip": 20.0,
            "penalty": 5e-2,
            "view_share": 1.0,
            "smallest_crop": 0.3,
            "bicubic": True,
            "jitter": 0.4,
            "gray": 0.25,
        },
    ),
    "exemplar": Card(
        function="selftaught.recipes.local:exemplar",
        family=FAMILY,
        modality="images",
        paper="Dosovitskiy et al., Discriminative Unsupervised Feature Learning with Exemplar "
        "Convolutional Neural Networks",
        year=2014,
        url="https://arxiv.org/abs/1406.6909",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "One patch of each image, where its gradients are large, is a class of its own. The "
            "network learns to tell thousands of such classes apart under random transformations."
        ),
        diagram="""\
image -> its seed patch -> random shift, scale, turn, contrast, hue -> encoder -> classifier
                                                    softmax over as many classes as images""",
        needs="as many images as classes, and a classifier of that size; any batch",
        choose="for few images; with many the classes become alike, and simclr does better",
        published={
            "encoder": "resnet18",
            "epochs": 100,
            "batch_size": 128,
            "optimizer": "sgd",
            "lr": 0.01,  # falls by validation error in the paper, along a cosine here
            "weight_decay": 0.0,
            "warmup": 0.0,
            "classes": 8000,
            "dropout": 0.5,
            "view_share": 0.33,
            "contrast": 1.0,
            "hue": 0.1,
        },
    ),
}
