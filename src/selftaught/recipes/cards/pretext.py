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
        measured="not measured yet",
        idea=(
            "Every image is shown in its four rotations, and the network says which is which. To "
            "know which way up a thing is, it has to know what the thing is."
        ),
        diagram="""\
image -> view -> turned by 0, 90, 180, 270 degrees -> encoder -> linear -> which of the four""",
        needs="images with an up and a down; any batch, each image of which counts four times",
        choose="as a first, simple method; not for images seen from above or through a microscope",
        published={
            "encoder": "resnet18",
            "epochs": 30,
            "batch_size": 192,
            "optimizer": "sgd",
            "lr": 0.01,
            "weight_decay": 5e-4,
            "warmup": 0.0,
            "view_share": 1.0,
            "smallest_crop": 0.08,
        },
    ),
}
