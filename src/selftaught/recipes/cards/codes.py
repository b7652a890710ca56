"""Methods that make an image again from a code of it."""

from selftaught.recipes.card import Card

FAMILY = "generative modelling"

CARDS = {
    "autoencoder": Card(
        function="selftaught.recipes.codes:autoencoder",
        family=FAMILY,
        modality="images",
        paper="Hinton & Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks",
        year=2006,
        url="https://doi.org/10.1126/science.1127647",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
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
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
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
            "lr": 0.01,  # ours, as the epochs and the cosine
            "weight_decay": 0.0,
            "warmup": 0.0,
            "ratio": 0.25,
            "smallest_crop": 1.0,
        },
    ),
    "vae": Card(
        function="selftaught.recipes.codes:vae",
        family=FAMILY,
        modality="images",
        paper="Kingma & Welling, Auto-Encoding Variational Bayes",
        year=2013,
        url="https://arxiv.org/abs/1312.6114",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The encoder says where an image's code lies and how exactly, and all codes together "
            "have to look like a standard normal distribution. So new images can be drawn, and "
            "between two codes lie images, too."
        ),
        diagram="""\
image -> encoder -> feature -> linear -> mean, variance -> a random code -> decoder -> image
                                         stays near N(0, I)
         exported: the feature; the mean is one linear map further""",
        needs="any encoder; any batch",
        choose="where images are to be drawn or mixed, or where a likelihood is asked for",
        published={
            "encoder": "resnet-nano",
            "epochs": 2000,
            "batch_size": 100,
            "lr": 1e-3,  # ours: the paper's Adagrad has one of 0.01, 0.02 or 0.1
            "weight_decay": 0.0,
            "warmup": 0.0,
            "dim": 20,
            "variance": 1.0,
        },
    ),
    "vqvae": Card(
        function="selftaught.recipes.codes:vqvae",
        family=FAMILY,
        modality="images",
        paper="van den Oord et al., Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "Each place of the image is told by one word of a small vocabulary that is learned "
            "with it, and the decoder makes the image of the words. So images become sentences, "
            "which other methods can predict."
        ),
        diagram="""\
image -> encoder -> a vector a place -> the nearest of 512 words -> decoder -> image
         exported: the mean of the map that the vectors are made of""",
        needs="an encoder with a map of places; any batch",
        choose="where discrete tokens of images are needed, as for beit",
        published={
            "encoder": "resnet-nano",
            "epochs": 640,
            "batch_size": 128,
            "lr": 2e-4,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "schedule": "constant",
            "stride": 4,
            "codes": 512,
            "dim": 64,
            "decay": 0.0,
            "restart": 0.0,
            "width": 64,
            "smallest_crop": 1.0,
        },
    ),
}
