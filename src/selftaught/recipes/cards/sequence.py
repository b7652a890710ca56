"""Methods that read an image as a sequence."""

from selftaught.recipes.card import Card

FAMILY = "generative modelling"

CARDS = {
    "igpt": Card(
        function="selftaught.recipes.sequence:igpt",
        family=FAMILY,
        modality="images",
        paper="Chen et al., Generative Pretraining from Pixels",
        year=2020,
        url="https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf",
        measured="Fashion-MNIST, 28 px, 240,000 images seen, three seeds",
        idea=(
            "A small copy of the image is read pixel by pixel, and the network says what colour "
            "comes next. Half-way up it has to know what it is looking at, and that is the feature."
        ),
        diagram="""\
image -> small copy -> colours of a palette -> start, pixel 1, pixel 2, ...
         lower blocks (causal) -> h -> upper blocks -> scores of the pixel that comes next
                                  |
         exported: the mean of h over places""",
        needs="an encoder of its own, gpt-nano; time that grows with the square of its pixels",
        choose="where images should be drawn too and their likelihood known; slow for features",
        published={
            "encoder": "gpt-nano",
            "epochs": 100,
            "batch_size": 128,
            "lr": 3e-3,
            "weight_decay": 0.0,
            "warmup": 0.01,
            "side": 32,
            "palette": 512,
            "dim": 512,
            "depth": 24,
            "heads": 8,
            "layer": 12,
            "smallest_crop": 0.34,
        },
    ),
}
