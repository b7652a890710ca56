"""Methods that make an image again from a code of it."""

from selftaught.recipes.card import Card

FAMILY = "generative"

CARDS = {
    "autoencoder": Card(
        function="selftaught.recipes.codes:autoencoder",
        family=FAMILY,
        modality="images",
        paper="Hinton & Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks",
        year=2006,
        url="https://doi.org/10.1126/science.1127647",
        measured="not measured yet",
        idea=(
            "The image is squeezed into a few numbers, and a decoder makes it again from them. To "
            "lose little, the numbers have to say what differs most from image to image."
        ),
        diagram="""\
image -> encoder -> feature -> linear -> code -> decoder -> image
         exported: the feature; the code is one linear map further""",
        needs="any encoder; any batch",
        choose="as the plain baseline of all methods that make images, or to compress",
        published={
            "encoder": "resnet-nano",
            "epochs": 200,
            "batch_size": 1000,
            "lr": 1e-3,  # ours: the paper's conjugate gradients have none
            "weight_decay": 0.0,
            "warmup": 0.0,
            "dim": 30,
            "smallest_crop": 1.0,
        },
    ),
}
