"""What a method that makes images makes: reconstructions, samples, and how good they are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught import pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.heldout import kept
from selftaught.commands.outputs import new_file
from selftaught.data.images import has_part, open_images
from selftaught.errors import UserError
from selftaught.method import Codes, Method, Reconstructs, Samples
from selftaught.protocols import pictures
from selftaught.recipes.run import Pixels
from selftaught.report import grid
from selftaught.runfolder import RunFolder

SHOWN = 8  # images of a row, or rows of a picture
SCORED = 2048  # images that a figure is taken on
BATCH = 128


def reconstruct(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    count: int = SHOWN,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Draw images, what the method saw of them and what it made of that, side by side.

    The images are those of the data's test part. Where they have none, they are those that the run
    kept from training on the same data; a run that kept none is shown images that it was trained
    on. Returns ``{"psnr": dB, "ssim": ..., "images": N, "part": "test", "kept", "trained" or, of
    other data, "train"}``, means over whole images, what was seen included; an image made exactly
    again counts 100 dB. No ``ssim`` for images smaller than its window; ``told`` where the method
    was told something of what it did not see. Raises UserError for a run that makes no images
    again.
    """
    _check_count(count)
    method, pixels, name = pretrained.method_of(run)
    method.to(settings.device_of(device))
    if not isinstance(method, Reconstructs):
        raise UserError(f"{name} does not make images again; use a run of mae or of an autoencoder")
    path = new_file(out, ".png")
    x, part = _sample(data, pixels, run=RunFolder(run).describe())
    found: dict[str, list[Tensor]] = {"psnr": [], "ssim": []}
    shown: dict[str, Tensor] = {}
    with undisturbed(method, seed):
        for batch in x.split(BATCH):
            made = _made(method, batch, pixels)
            real, last = made["input"], list(made.values())[-1]
            found["psnr"].append(pictures.psnr(real, last.expand_as(real)))
            if pixels.size >= pictures.WINDOW:
                found["ssim"].append(pictures.ssim(real, last.expand_as(real)))
            shown = shown or {what: images[:count] for what, images in made.items()}
    _written(path, lambda: grid.side_by_side(shown, path))
    scores: dict[str, Any] = {w: torch.cat(v).mean().item() for w, v in found.items() if v}
    told = {"told": method.told} if method.told else {}
    return scores | {"images": len(x), "part": part} | told


def sample(
    run: str | Path,
    *,
    out: str | Path,
    count: int | None = None,
    between: str | Path | None = None,
    encoder: str | Path | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Draw ``count`` new images, 64 if it is not given; or those ``between`` pairs of that data's.

    They lie between the codes of these. With ``encoder``, a run of selftaught's, and ``data``,
    returns how the features of new images lie to those of real ones: ``{"frechet": ...,
    "precision": ..., "recall": ..., "images": N, "encoder": ...}``; else an empty dict. Raises
    UserError for a run that makes no new images.
    """
    if between is not None and (count, encoder, data) != (None, None, None):
        raise UserError("images between others are 64 and not measured; leave out what is for that")
    count = 64 if count is None else count
    _check_count(count)
    if (encoder is None) != (data is None):
        raise UserError("samples are measured by an encoder on data; give --encoder and --data")
    method, pixels, name = pretrained.method_of(run)
    method.to(settings.device_of(device))
    path = new_file(out, ".png")
    if between is not None:
        if not isinstance(method, Codes):
            raise UserError(
                f"{name} has no codes to go between; use a run of vae, bigan, aae or one of the "
                "autoencoders"
            )
        x, _ = _sample(between, pixels, 2 * SHOWN)
        x = x[: len(x) // 2 * 2]
        with undisturbed(method, seed):
            rows = _between(method, x)
        _written(path, lambda: grid.tiles(_shown(rows, pixels), path, across=SHOWN))
        return {}
    if not isinstance(method, Samples):
        raise UserError(f"{name} makes no new images; use a run of vae, gan, bigan, aae or igpt")
    with undisturbed(method, seed):
        _written(path, lambda: grid.tiles(_shown(method.sample(count), pixels), path))
    return {} if data is None or encoder is None else _measured(method, pixels, encoder, data, seed)


def draw(method: Method, pixels: Pixels, x: Tensor, folder: Path, step: int) -> None:
    """Pictures of a run on its way, for methods that make images; training is not disturbed.

    ``x`` are a few preprocessed images (N, C, S, S).
    """
    if not isinstance(method, Reconstructs | Samples):
        return
    folder.mkdir(exist_ok=True)
    with undisturbed(method, seed=0):
        if isinstance(method, Reconstructs):
            made = _made(method, x[:SHOWN], pixels)
            grid.side_by_side(made, folder / f"step-{step:08d}-reconstructed.png")
        if isinstance(method, Samples):
            made = _shown(method.sample(SHOWN**2), pixels)
            grid.tiles(made, folder / f"step-{step:08d}-sampled.png", across=SHOWN)


@contextmanager
def undisturbed(method: Method, seed: int) -> Iterator[None]:
    """Eval mode, no gradient and random numbers of one's own."""
    device, training = next(method.parameters()).device, method.training
    cuda = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(cuda):
        seeds.plant(seeds.derive(seed, "pictures"), device)
        method.eval()
        try:
            yield
        finally:
            method.train(training)


def _made(method: Reconstructs, x: Tensor, pixels: Pixels) -> dict[str, Tensor]:
    """The images, what was seen and what was made, each in [0, 1] on the CPU."""
    assert isinstance(method, Method)
    x = x.to(next(method.parameters()).device)
    made = {"input": x, **method.pictures(x)}
    return {name: _shown(images, pixels) for name, images in made.items()}


def _between(method: Codes, x: Tensor) -> Tensor:
    """Images along the lines between the codes of each two neighbours of x."""
    assert isinstance(method, Method)
    first, second = method.code(x.to(next(method.parameters()).device)).chunk(2)  # (B, D)
    share = torch.linspace(0, 1, SHOWN, device=first.device)[:, None]
    lines = [method.decode(torch.lerp(a, b, share)) for a, b in zip(first, second, strict=True)]
    return torch.cat(lines)


def _shown(x: Tensor, pixels: Pixels) -> Tensor:
    mean, std = torch.tensor((pixels.mean, pixels.std))[:, :, None, None]
    return (x.float().cpu() * std + mean).clamp(0, 1)


def _sample(
    data: str | Path, pixels: Pixels, count: int = SCORED, run: Mapping[str, Any] | None = None
) -> tuple[Tensor, str]:
    """Preprocessed images, evenly spread, of the data's test part where it has one; and the part.

    With the description of a ``run``, those that it kept from training rather than the others.
    """
    part = "test" if has_part(data, "test") else "train"
    images = open_images(data, part, pixels.channels)
    if part == "train" and run and images.fingerprint() == run["data"]["fingerprint"]:
        index = kept(len(images), run["call"]["arguments"].get("batch_size", 0))
        part = "kept" if 0 < len(index) == run.get("held_out") else "trained"
        images = images.take(index) if part == "kept" else images
    return torch.cat(settings.sample(images, pretrained.plain_views(pixels), count)), part


def _measured(
    method: Samples, pixels: Pixels, encoder: str | Path, data: str | Path, seed: int
) -> dict[str, Any]:
    assert isinstance(method, Method)
    device = next(method.parameters()).device
    judge = pretrained.load(encoder).to(device)
    if (judge.pixels.channels, judge.pixels.size) != (pixels.channels, pixels.size):
        raise UserError(
            f"{encoder} sees {judge.pixels.channels} x {judge.pixels.size} pixels, the samples "
            f"have {pixels.channels} x {pixels.size}; give an encoder of the same data"
        )
    x, part = _sample(data, judge.pixels)
    mean, std = torch.tensor((judge.pixels.mean, judge.pixels.std))[:, :, None, None]
    with undisturbed(method, seed):
        real = torch.cat([judge(batch.to(device)).cpu() for batch in x.split(BATCH)])
        batches = [_shown(method.sample(len(batch)), pixels) for batch in x.split(BATCH)]
        made = torch.cat([judge(((batch - mean) / std).to(device)).cpu() for batch in batches])
    precision, recall = pictures.precision_recall(real, made)
    found = {"frechet": pictures.frechet(real, made), "precision": precision, "recall": recall}
    return found | {"images": len(x), "part": part, "encoder": str(encoder)}


def _check_count(count: int) -> None:
    if count < 1:
        raise UserError(f"{count} images to draw; use --count with 1 or more")


def _written(path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another --out") from error
