"""Methods in which players compete: one tells real from fake, the others make it."""

from selftaught.recipes.card import Card

FAMILY = "generative modelling"

CARDS = {
    "gan": Card(
        function="selftaught.recipes.players:gan",
        family=FAMILY,
        modality="images",
        paper="Radford et al., Unsupervised Representation Learning with Deep Convolutional "
        "Generative Adversarial Networks",
        year=2015,
        url="https://arxiv.org/abs/1511.06434",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "One network paints images from random numbers, and a critic learns to tell them from "
            "real ones while the first learns to deceive it. To stay ahead the critic has to know "
            "what real images are made of; its features are what is kept."
        ),
        diagram="""\
random numbers -> generator -> image \\
                                      encoder -> real or fake?
                     a real image ---/
           the critic is told which is which; the generator is paid where the critic errs""",
        needs="two networks; batches of 64 or more; watch for a critic that always wins",
        choose="where new images are wanted too; as features alone, others do better",
        published={
            "encoder": "dcgan",
            "epochs": 5,  # of the paper's bedrooms; the rest is dcgan_code's for faces
            "batch_size": 128,
            "optimizer": "adam",
            "lr": 2e-4,
            "weight_decay": 1e-5,
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "dim": 100,
            "prior": "uniform",
            "width": 128,
            "critic_width": 128,
        },
    ),
    "bigan": Card(
        function="selftaught.recipes.players:bigan",
        family=FAMILY,
        modality="images",
        paper="Donahue et al., Adversarial Feature Learning",
        year=2016,
        url="https://arxiv.org/abs/1605.09782",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "A generator turns codes into images and an encoder turns images into codes. A critic "
            "sees pairs of both and is deceived only where each undoes the other, though neither "
            "ever sees what the other made."
        ),
        diagram="""\
image -> encoder -> its code -----> (image, code) \\
                                                   critic: which of the two?
random code -> generator -> image -> (image, code) /
           the encoder and the generator are both paid where the critic errs""",
        needs="three networks; batches of 32 or more; watch for a critic that always wins",
        choose="over gan where images are to be encoded and painted again, or mixed by their codes",
        published={
            "encoder": "resnet18",
            "epochs": 100,
            "batch_size": 128,
            "optimizer": "adam",
            "lr": 2e-4,
            "weight_decay": 5e-5,  # theirs is 2.5e-5 beside half the terms, of biases, too
            "warmup": 0.0,
            # constant, then exponentially to a hundredth, here in ten steps around that line
            "schedule": "constant",
            "drops": "0.525,0.575,0.625,0.675,0.725,0.775,0.825,0.875,0.925,0.975",
            "drop": 0.631,
            "dim": 200,
            "prior": "uniform",
            "width": 64,
            "hidden": 1024,
        },
    ),
    "aae": Card(
        function="selftaught.recipes.players:aae",
        family=FAMILY,
        modality="images",
        paper="Makhzani et al., Adversarial Autoencoders",
        year=2015,
        url="https://arxiv.org/abs/1511.05644",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "An autoencoder paints each image again from a short code. A critic compares the codes "
            "with draws of a Gaussian, and the encoder learns to make them look alike, so that "
            "every draw of the Gaussian is the code of some image."
        ),
        diagram="""\
image -> encoder -> code -> decoder -> image again: squared error
                     |
                   critic: a code, or drawn from a Gaussian?
           the encoder is paid where the critic errs""",
        needs="an encoder, a decoder and a small critic of codes; any batch",
        choose="where codes shall fill a known space, to draw new images or to mix old ones",
        published={
            "encoder": "resnet18",
            "epochs": 500,
            "batch_size": 100,
            "lr": 1e-2,  # that it falls along a cosine is ours
            "optimizer": "sgd",
            "weight_decay": 0.0,
            "warmup": 0.0,
            "dim": 8,
            "spread": 5.0,
            "hidden": 1000,
            "weight": 1.0,
        },
    ),
}
