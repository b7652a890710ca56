"""What can be said of an encoder without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught import pretrained, seeds
from selftaught.commands.features import finite
from selftaught.commands.settings import device_of, sample
from selftaught.data.images import Images, open_images
from selftaught.data.sources import evenly
from selftaught.errors import UserError
from selftaught.pretrained import Pretrained
from selftaught.protocols.groups import alignment, lidar, uniformity
from selftaught.protocols.spectrum import Spectrum
from selftaught.recipes.shared import Look
from selftaught.report.live import Tell, silent
from selftaught.runfolder import RunFolder

SAMPLES = 2048  # images of the spectrum, or twice the feature's width
GROUPS, VIEWS = 256, 8  # images of the groups, and views of each
BATCH = 128


def label_free(
    run: str | Path,
    data: str | Path,
    *,
    against: Sequence[str | Path] = (),
    device: str = "auto",
    tell: Tell = silent,
) -> dict[str, Any]:
    """Every label-free signal of an encoder, and of the same with random weights.

    All are of the encoder's features (RankMe's paper takes the projections). Those of the spectrum
    and of uniformity are taken on an even sample of the images as evaluation sees them, `SAMPLES`
    or twice the features' width; alignment and LiDAR on `VIEWS` random views of each of `GROUPS`
    images, the same for all methods: crops of 0.15 to 1 of the image, mirrored unless those of the
    run are not, with changed colours; each encoder sees them normalised as it was trained. They
    compare runs of one method: ``against`` are other runs of the same method and
    encoder. ``tell`` hears which is looked at.

    Returns ``{"rows": {"encoder": {"rankme": ..., ...}, "random": ..., PATH: ...}, "images": N,
    "dim": D, "groups": [N, views], "loss": {term: {"value": ..., "guess": ...}}}``; ``loss`` holds
    the terms whose value is known where nothing is learnt, as the run ended. Raises UserError for
    what the user can mend, and for runs of different methods or encoders.
    """
    encoder = pretrained.load(run)
    images = open_images(data, channels=encoder.pixels.channels)
    others = {_row(path): pretrained.load(path) for path in against}
    for path, other in others.items():
        _require_alike(run, encoder, path, other)
    place = device_of(device)
    random = pretrained.untrained(encoder.card)
    shown = {"encoder": encoder, "random": random, **others}
    rows = {}
    for name, net in shown.items():
        tell(name, 0, 0)
        rows[name] = _signals(net.to(place), images, flip=encoder.pixels.flip)
    return {
        "rows": rows,
        "images": min(len(images), _count(encoder)),
        "dim": encoder.dim,
        "groups": [min(len(images), GROUPS), VIEWS],
        "loss": _fingerprints(run),
    }


def _row(path: str | Path) -> str:
    """The name of its row, which is none of the two that are always there."""
    return f"./{path}" if str(path) in ("encoder", "random") else str(path)


def _method_of(card: Mapping[str, Any]) -> str:
    """What made an encoder, and its kind."""
    name = card.get("architecture", {}).get("name") or card["arguments"].get("encoder")
    labelled = "finetuned" in card and ("from scratch" if card.get("scratch") else "fine-tuned")
    return f"{card['recipe']} with {name}" + (f", {labelled}," if labelled else "")


def _require_alike(run: str | Path, encoder: Pretrained, path: str, other: Pretrained) -> None:
    """Raises UserError where signals say nothing of which of two encoders is the better one."""
    said = [
        f"{_method_of(card)} on {pixels.channels} x {pixels.size} x {pixels.size} pixels"
        for card, pixels in ((encoder.card, encoder.pixels), (other.card, other.pixels))
    ]
    if said[0] != said[1]:
        raise UserError(
            f"{run} is {said[0]}, {path} is {said[1]}: label-free signals compare runs of one "
            "method and encoder only; give such runs, or compare by labels without --label-free"
        )


def _fingerprints(run: str | Path) -> dict[str, dict[str, float]]:
    """The last terms of a run beside what a guess has; none of an exported encoder."""
    records = RunFolder(run).metrics()
    probed = [r for r in records if (r.get("signals") or {}).get("pretext")]
    if not probed:
        return {}
    guess, terms = probed[-1]["signals"]["pretext"]["chance"], records[-1]["terms"]
    return {n: {"value": terms[n], "guess": v} for n, v in guess.items() if n in terms}


def _count(encoder: Pretrained) -> int:
    """How many images the spectrum of an encoder's features is taken on."""
    return max(SAMPLES, 2 * encoder.dim)


def _views(net: Pretrained, images: Images, *, flip: bool) -> Tensor:
    """Random views of some images: (N, VIEWS, C, S, S)."""
    pixels, look = replace(net.pixels, flip=flip), Look(view_share=1.0)
    maker = look.views(pixels, net.encoder, count=VIEWS)  # pyright: ignore
    index = evenly(min(GROUPS, len(images)), len(images))
    read, _, _ = images.gather(index)
    drawn = maker.draw(seeds.generator(0, "views of groups"), len(index))
    return torch.stack(maker.apply(maker.crop(read, drawn), drawn), dim=1)


@torch.no_grad()
def _signals(net: Pretrained, images: Images, *, flip: bool) -> dict[str, float | None]:
    device = next(net.parameters()).device
    plain = sample(images, net.views, _count(net))
    views = _views(net, images, flip=flip)
    features = torch.cat([finite(net(x.to(device)).float().cpu()) for x in plain])
    parts = views.flatten(0, 1).split(BATCH)
    groups = torch.cat([finite(net(x.to(device)).float().cpu()) for x in parts])
    groups = groups.unflatten(0, views.shape[:2])
    spectrum = Spectrum(net.dim)
    spectrum.add(features)
    found = spectrum.signals()._asdict()
    kept = {name: value for name, value in found.items() if name not in ("n", "dim")}
    others = {"uniformity": uniformity(features), "alignment": alignment(groups)}
    return kept | others | {"lidar": lidar(groups)}
