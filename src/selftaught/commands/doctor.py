"""What is in the data, what is broken and what a step costs, before any run."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from selftaught import precision, pretrained
from selftaught.commands import settings
from selftaught.data.batches import batches, moved, plain
from selftaught.data.images import Labels, check, open_images, open_labels
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.nn.transformer import fuse_attention
from selftaught.report.console import terminal
from selftaught.report.live import clock
from selftaught.train import NotFinite, fit

STEPS = 4  # timed, after one to warm up


def doctor(
    data: str | Path,
    *,
    size: int | None = None,
    method: str = "simclr",
    device: str = "auto",
    quiet: bool = False,
    **parameters: Any,
) -> dict[str, Any]:
    """Look at the data and time a few steps; nothing is written.

    ``parameters`` are the method's own, such as ``encoder``.

    Returns counts, the broken files with their reasons, seconds a step, seconds of a look at all
    images where the method takes such, and a time estimate for the method's default budget. Raises
    UserError where the data cannot be used at all.
    """
    console = terminal(quiet=quiet)
    images = open_images(data)
    place = settings.device_of(device)
    labels, said = _labels(data)
    broken = check(images)
    asked = {"method": method, "arguments": parameters, "size": size, "seed": 0}
    call = settings.resolved(asked, images, place)
    pixels = settings.pixels_of(images, call["size"])
    console.print(
        f"{images.name}: {len(images):,} images, {pixels.channels} "
        f"channel{'s' if pixels.channels > 1 else ''}, median shorter side {images.sides} px, "
        f"used at {pixels.size} px\n"
        f"{said}\n{len(broken)} broken",
    )
    for name, reason in broken:
        console.print(f"  {name}: {reason}", soft_wrap=True)
    cost = _time(images, pixels, method, call["arguments"], place)
    epoch, budget = cost["seconds_per_epoch"], cost["seconds_per_epoch"] * cost["epochs"]
    console.print(
        f"{method} with {cost['encoder']}, batch {cost['batch_size']}, {cost['precision']} on "
        f"{place}: {cost['seconds_per_step']:.2f} s a step, {cost['samples_per_second']:.0f} "
        f"samples/s\n{100 * cost['waiting']:.0f}% of the time goes to reading images and drawing "
        f"views\none epoch {clock(epoch)}, the default {cost['epochs']:g} epochs {clock(budget)}",
    )
    return {
        "images": len(images),
        "channels": pixels.channels,
        "median_side": images.sides,
        "size": pixels.size,
        "classes": list(labels.classes) if labels else None,
        "broken": broken,
        **cost,
    }


def _labels(data: str | Path) -> tuple[Labels | None, str]:
    """The labels, if any can be used, and what to say of them."""
    try:
        found = open_labels(data, "train")
    except UserError as error:
        return None, f"no labels that can be used: {error}"
    return (
        found,
        f"{len(found.classes)} classes, for evaluation only" if found else "no labels: fine",
    )


def _time(
    images: Any, pixels: Any, method: str, own: dict[str, Any], place: torch.device
) -> dict[str, Any]:
    run = pretrained.rebuild(method, pixels, own, seed=0)
    run.method.to(device=place, memory_format=torch.channels_last)  # pyright: ignore
    if place.type != "cpu":
        fuse_attention(run.method)
    images = images.spread(run.images or len(images))
    found = batches(
        images,
        run.views,
        batch_size=run.batch_size,
        seed=0,
        start=0,
        stop=STEPS + 1,
        device=place,
    )
    dtype = precision.choose("auto", place)
    began = time.perf_counter()
    drawn = (moved(batch, place) for batch, _ in found)
    views, first, waiting = pretrained.plain_views(pixels), 0.0, 0.0

    def survey() -> Iterator[ViewBatch]:
        for index, x in plain(images, views, run.batch_size):
            yield moved(ViewBatch((x,), index), place)

    shown = {"survey": survey, "survey_every": run.survey_every}
    try:
        for step in fit(run.method, drawn, run.optimizer, steps=STEPS + 1, dtype=dtype, **shown):
            waiting += step.waiting
            if step.number == 1:
                first, waiting, began = time.perf_counter() - began, 0.0, time.perf_counter()
    except NotFinite as error:
        raise UserError(f"{error} of those that were timed; try --set lr=... lower") from error
    seconds = (time.perf_counter() - began) / STEPS
    steps = len(images) // run.batch_size  # an epoch
    looking = max(0.0, first - seconds) if run.survey_every else 0.0
    looks = steps / run.survey_every if run.survey_every else 0
    return {
        "encoder": own.get("encoder"),
        "batch_size": run.batch_size,
        "precision": str(dtype).removeprefix("torch."),
        "seconds_per_step": seconds,
        "samples_per_second": run.batch_size / seconds,
        "waiting": min(1.0, waiting / STEPS / seconds),
        "seconds_per_look": looking,
        "seconds_per_epoch": seconds * steps + looks * looking,
        "epochs": run.epochs,
    }
