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
    "denoising_autoencoder": Card(
        function="selftaught.recipes.codes:denoising_autoencoder",
        family=FAMILY,
        modality="images",
        paper="Vincent et al., Extracting and Composing Robust Features with Denoising "
        "Autoencoders",
        year=2008,
        url="https://doi.org/10.1145/1390156.1390294",
        measured="not measured yet",
        idea=(
            "A part of the image is destroyed, and the whole image has to be made again. Copying "
            "does not help, so the features have to know which images there are."
        ),
        diagram="""\
image -> masked, noisy or with salt and pepper -> encoder -> feature -> decoder -> image
  |                                                                                  |
  +------------------------------------ equal to? -----------------------------------+""",
        needs="any encoder; any batch",
        choose="instead of a plain autoencoder where the features matter more than the compression",
        published={
            "encoder": "resnet-nano",
            "epochs": 100,  # ours: the paper chooses them by the error of a classifier
            "batch_size": 20,  # ours
            "optimizer": "sgd",
            "lr": 0.01,  # ours, as the epochs
            "weight_decay": 0.0,
            "warmup": 0.0,
            "ratio": 0.25,
            "smallest_crop": 1.0,
        },
    ),
}
