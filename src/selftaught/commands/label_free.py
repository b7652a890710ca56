"""What can be said of an encoder without labels."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught import pretrained, seeds
from selftaught.commands.settings import device_of, sample
from selftaught.data.images import Images, open_images
from selftaught.data.sources import evenly
from selftaught.pretrained import Pretrained
from selftaught.protocols.groups import alignment, lidar, uniformity
from selftaught.protocols.spectrum import Spectrum
from selftaught.recipes.shared import Look

SAMPLES = 2048  # images of the spectrum, or twice the feature's width
GROUPS, VIEWS = 256, 8  # images of the groups, and views of each
BATCH = 128


def label_free(run: str | Path, data: str | Path, *, device: str = "auto") -> dict[str, Any]:
    """Every label-free signal of an encoder, and of the same with random weights.

    Those of the spectrum and of uniformity are taken on an even sample of the images as evaluation
    sees them; alignment and LiDAR on random views of fewer of them, the same for all methods: crops
    of 0.15 to 1 of the image, flipped, with changed colours. They compare runs of one method, never
    two methods. Returns ``{"rows": {"encoder": {"rankme": ..., ...}, "random": ...}, "images": N,
    "groups": [N, views]}``. Raises UserError for what the user can mend.
    """
    encoder, images = pretrained.load(run), open_images(data)
    place = device_of(device)
    plain = sample(images, encoder.views, max(SAMPLES, 2 * encoder.dim))
    views = _views(encoder, images)
    rows = {
        "encoder": _signals(encoder.to(place), plain, views),
        "random": _signals(pretrained.untrained(encoder.card).to(place), plain, views),
    }
    groups = [len(views), VIEWS]
    return {"rows": rows, "images": sum(len(x) for x in plain), "groups": groups}


def _views(encoder: Pretrained, images: Images) -> Tensor:
    """Random views of some images: (N, VIEWS, C, S, S)."""
    look = Look(view_share=1.0)
    maker = look.views(encoder.pixels, encoder.encoder, count=VIEWS)  # pyright: ignore
    index = evenly(min(GROUPS, len(images)), len(images))
    read, _, _ = images.gather(index)
    drawn = maker.draw(seeds.generator(0, "views of groups"), len(index))
    return torch.stack(maker.apply(maker.crop(read, drawn), drawn), dim=1)


@torch.no_grad()
def _signals(net: Pretrained, plain: list[Tensor], views: Tensor) -> dict[str, float | None]:
    device = next(net.parameters()).device
    features = torch.cat([net(x.to(device)).float().cpu() for x in plain])
    parts = views.flatten(0, 1).split(BATCH)
    groups = torch.cat([net(x.to(device)).float().cpu() for x in parts])
    groups = groups.unflatten(0, views.shape[:2])
    spectrum = Spectrum(net.dim)
    spectrum.add(features)
    found = spectrum.signals()._asdict()
    kept = {name: value for name, value in found.items() if name not in ("n", "dim")}
    others = {"uniformity": uniformity(features), "alignment": alignment(groups)}
    return kept | others | {"lidar": lidar(groups)}
