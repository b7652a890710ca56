"""Every recipe at a size that tests can train: settings, data, batches."""

import atexit
import dataclasses
import functools
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import torch

from selftaught import checkpoint, dist, seeds
from selftaught.method import ViewBatch
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call
from selftaught.recipes.run import Pixels
from selftaught.train import fit

PIXELS = Pixels(channels=1, size=16, count=64, mean=(0.5,), std=(0.25,))
COLOUR = dataclasses.replace(PIXELS, channels=3, mean=(0.5, 0.4, 0.45), std=(0.25, 0.2, 0.3))
NEED_COLOUR = ("colorization",)
BATCH = 16
SMALL = {
    "simclr": {"hidden": 32, "dim": 16},
    "byol": {"hidden": 32, "dim": 16},
    "instdisc": {"dim": 16, "noise": 8},
    "pirl": {"dim": 16, "negatives": 8},
    "moco": {"dim": 16, "queue": 32, "groups": 4},
    "moco_v2": {"hidden": 32, "dim": 16, "queue": 32, "groups": 4},
    "moco_v3": {"hidden": 32, "dim": 16},
    "simclr_v2": {"dim": 16, "queue": 32},
    "nnclr": {"hidden": 32, "dim": 16, "predictor_hidden": 32, "queue": 32},
    "simsiam": {"hidden": 32, "dim": 16, "bottleneck": 8},
    "dino": {"hidden": 32, "bottleneck": 16, "outputs": 24, "crops": 1},
    "ibot": {"patch": 4, "hidden": 32, "bottleneck": 16, "outputs": 24, "crops": 1},
    "dinov2": {"patch": 4, "hidden": 32, "bottleneck": 16, "outputs": 24, "crops": 1},
    "barlow_twins": {"hidden": 32, "dim": 16},
    "vicreg": {"hidden": 32, "dim": 16},
    "wmse": {"hidden": 32, "dim": 4, "sub_batch": 8},
    "lejepa": {"hidden": 32, "dim": 8, "slices": 16, "crops": 1},
    "data2vec": {"patch": 4, "top": 2},
    "ijepa": {"dim": 32, "depth": 1, "heads": 2, "patch": 2},
    "swav": {
        "hidden": 32,
        "dim": 16,
        "prototypes": 24,
        "crops": 1,
        "queue": 32,
        "queue_start": 0.3,
    },
    "deepcluster": {"clusters": 8, "components": 8},
    "deepcluster_v2": {"hidden": 32, "dim": 16, "clusters": 8, "crops": 1},
    "mae": {"dim": 32, "depth": 1, "heads": 2, "patch": 4},
    "simmim": {"patch": 4},
    "maskfeat": {"patch": 4},
    "igpt": {"side": 6, "palette": 8, "dim": 32, "depth": 3, "layer": 2},
    "cpc": {"width": 16, "depth": 2},
    "amdim": {"width": 8, "dim": 16, "blocks": 2},
    "exemplar": {"dropout": 0.5},
    "autoencoder": {"dim": 8, "width": 8},
    "denoising_autoencoder": {"width": 8},
    "vae": {"dim": 8, "width": 8},
    "vqvae": {"codes": 16, "dim": 8, "width": 8},
    "rotation": {},
    "jigsaw": {"permutations": 6, "width": 16, "hidden": 32},
    "relative_patch": {"width": 16, "hidden": 32},
    "inpainting": {"width": 8, "critic_width": 8},
    "colorization": {"width": 16, "grid": 25},
    "gan": {"dim": 8, "width": 8},
    "bigan": {"dim": 8, "width": 8, "hidden": 32},
    "aae": {"dim": 8, "width": 8, "hidden": 32},
    "beit": {"smallest_block": 2},
}
NEED_TOKENIZER = {"beit"}


def build(name, seed=0, pixels=None, **more):
    torch.manual_seed(seed)
    pixels = pixels or (COLOUR if name in NEED_COLOUR else PIXELS)
    settings = {"batch_size": BATCH, "lr": 1e-3, **SMALL[name], **more}
    if name in NEED_TOKENIZER:
        settings = {"tokenizer": tokenizer(), **settings}
    return call(find(name), pixels, settings)


def papers(name, pixels=None, **more):
    """The recipe's run with the paper's settings, but for an encoder that is small."""
    pixels = pixels or (COLOUR if name in NEED_COLOUR else PIXELS)
    published = dict(RECIPES[name].published)
    if published["encoder"] != "dcgan":
        published["encoder"] = "resnet-nano"
    torch.manual_seed(0)
    return call(find(name), pixels, published | more)


@functools.cache
def tokenizer():
    """The folder of a run of vqvae, whose weights are the same in each process.

    Not trained, but with words that are in use: what it says of some places.
    """
    folder = Path(tempfile.mkdtemp(prefix="tokenizer"))
    with torch.random.fork_rng(), torch.no_grad():
        method = build("vqvae", seed=3).method.eval()
        places = torch.cat([method.embed(batch.views[0]).flatten(0, 2) for batch in whole()])
        words = method.codebook.vectors
        words.copy_(places[:: len(places) // len(words)][: len(words)])
    arguments = {"batch_size": BATCH, **SMALL["vqvae"]}
    call = {"method": "vqvae", "arguments": arguments, "seed": 3}
    described = {"call": call, "data": dataclasses.asdict(PIXELS)}
    (folder / "run.json").write_text(json.dumps(described))
    checkpoint.save(folder / "checkpoints", 0, {"method": method.state_dict()})
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


def images(pixels=PIXELS):
    """All images there are, uint8: smooth, so that they have something to learn."""
    g = seeds.generator(0, "images")
    coarse = torch.rand(pixels.count, pixels.channels, 5, 5, generator=g)
    x = torch.nn.functional.interpolate(coarse, size=pixels.size, mode="bicubic")
    return (x.clamp(0, 1) * 255).byte()


def pixels_of(run):
    """What the images look like that a run wants."""
    return COLOUR if len(run.views.mean) == 3 else PIXELS


def stream(run, start=0, fixed=False, dtype=torch.float32):
    """Endless batches, each a pure function of its step; each process takes its rows."""
    x = images(pixels_of(run))
    for step in itertools.count(start):
        g = seeds.generator(0, "batch", 0 if fixed else step)
        index = torch.randperm(len(x), generator=g)[:BATCH]
        parameters = run.views.draw(g, BATCH)
        views = run.views.apply(run.views.crop(x[index], parameters), parameters)
        yield ViewBatch(tuple(dist.mine(v).to(dtype) for v in views), dist.mine(index))


def whole(dtype=torch.float32, pixels=PIXELS):
    """All images in plain views, as a survey sees them."""
    mean, std = torch.tensor((pixels.mean, pixels.std), dtype=dtype)[:, :, None, None]
    x = (images(pixels).to(dtype) / 255 - mean) / std
    for index in torch.arange(len(x)).split(BATCH):
        yield ViewBatch((x[index],), index)


def steps(run, count, start=0, of=None, fixed=False, data=torch.float32, **options):
    """Train, yielding each step."""
    found = fit(
        run.method,
        stream(run, start, fixed, data),
        run.optimizer,
        steps=of or count,
        start=start,
        survey=lambda: whole(data, pixels_of(run)),
        survey_every=run.survey_every,
        **options,
    )
    return itertools.islice(found, count - start)


def train(run, count, **options):
    """The terms of each step as numbers."""
    return [{n: t.item() for n, t in step.terms.items()} for step in steps(run, count, **options)]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
