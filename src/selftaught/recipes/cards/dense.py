"""Methods that predict every place of an image from something less of it."""

from selftaught.recipes.card import Card

FAMILY = "pretext tasks"

CARDS = {
    "colorization": Card(
        function="selftaught.recipes.dense:colorization",
        family=FAMILY,
        modality="images",
        paper="Zhang et al., Colorful Image Colorization",
        year=2016,
        url="https://arxiv.org/abs/1603.08511",
        measured="Debian's openclipart-png, 32 px, 240,000 images seen, three seeds",
        idea=(
            "The encoder sees how light each place of an image is and must tell its colour, one of "
            "some hundred bins, rare ones counting more. To know the colour it has to know what "
            "the place shows."
        ),
        diagram="""\
image -> L -> encoder -> map -> decoder -> scores of the bins of a and b, at one pixel in some
      -> a, b -> shares of the five nearest bins: cross-entropy, weighted by how rare the bin is""",
        needs="images in colour, all looked at once before the first step; any batch",
        choose="for colour images whose things have colours of their own; other methods do better",
        published={
            "encoder": "resnet18",
            "epochs": 15.6,
            "batch_size": 40,
            "optimizer": "adam",
            "lr": 3e-5,
            "weight_decay": 1e-3 / 44**2,  # theirs is 1e-3 beside a sum over 44 x 44 places
            "decay_all": True,
            "warmup": 0.0,
            "schedule": "constant",
            "drops": "0.45,0.9",  # every 225,000 of 500,000 steps
            "stride": 4,
            "width": 256,
            "grid": 10,
            "sigma": 5,
            "mix": 0.5,
            "temperature": 0.38,
        },
    ),
    "inpainting": Card(
        function="selftaught.recipes.dense:inpainting",
        family=FAMILY,
        modality="images",
        paper="Pathak et al., Context Encoders: Feature Learning by Inpainting",
        year=2016,
        url="https://arxiv.org/abs/1604.07379",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "The encoder sees a picture with a hole and a decoder paints what is missing, which "
            "takes knowing what the rest shows. A critic that learns to tell painted from real "
            "makes the painting sharper."
        ),
        diagram="""\
image with a hole -> encoder -> map -> each channel's places connected -> decoder -> the hole
                                             squared error with the true pixels, and
                                             critic: real or painted?""",
        needs="an encoder with a map of features; any batch",
        choose="to see what a model makes of hidden parts; for features mae and others do better. "
        "The paper's settings are those of its code for painting the centre; its features were "
        "learnt on random regions without a critic, to which --hole blocks --adversarial 0 is near",
        published={
            "encoder": "resnet18",
            "epochs": 500,
            "batch_size": 64,
            "lr": 2e-3,
            "weight_decay": 0.0,
            "warmup": 0.0,
            "schedule": "constant",
            "hole": "centre",
            "overlap": 4,
            "rim_weight": 10.0,
            "reconstruction": 0.999,
            "adversarial": 0.001,
            "width": 64,
            "critic_width": 64,
            "critic_lr": 0.1,
        },
    ),
}
