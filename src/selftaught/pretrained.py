"""Trained encoders: how they are written, loaded and used."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from selftaught import checkpoint, recipes, seeds
from selftaught.checkpoint import write_atomic
from selftaught.data.decode import Broken, decode, tensor_of
from selftaught.errors import UserError
from selftaught.method import Method
from selftaught.nn.encoders import build
from selftaught.paths import expanded
from selftaught.recipes.parameters import call
from selftaught.recipes.run import Pixels, Run
from selftaught.runfolder import RunFolder
from selftaught.views.image import Centre, View, Views

WEIGHTS, CARD = "encoder.safetensors", "encoder.json"
LARGE, TINY = 64, 32  # pixels a side: of larger images raw pixels are those of a tiny one
OURS = ("safetensors", "sklearn")  # formats of exports that `load` reads


class Pretrained(nn.Module):
    """An encoder together with its preprocessing, in eval mode.

    ``encoder(encoder.preprocess(images))`` is the features (N, dim). ``card`` says how it came
    about: recipe, arguments, data, preprocessing and the numbers that were measured.
    """

    def __init__(self, encoder: nn.Module, pixels: Pixels, card: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim: int = encoder.dim  # pyright: ignore
        self.pixels = pixels
        self.card = card
        self.eval()

    @property
    def views(self) -> Views:
        """The one view that evaluation sees: the central square, resized, normalised."""
        return plain_views(self.pixels)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, dim) of preprocessed images (N, C, S, S)."""
        return self.encoder(x)

    def preprocess(self, images: Any) -> Tensor:
        """Images as the encoder wants them, and where it is: float32 (N, C, S, S).

        ``images`` is one image or a list: a path, a PIL image, a uint8 array (H, W) or (H, W, C) or
        a uint8 tensor (C, H, W). Raises UserError for a file that is not a sound image.
        """
        one = isinstance(images, str | Path | Image.Image | Tensor | np.ndarray)
        if not one and not len(images):
            raise UserError("no images to preprocess; give at least one")
        read = [_pixels(image, self.pixels.channels) for image in ([images] if one else images)]
        views = self.views
        parameters = views.draw(torch.Generator(), len(read))
        (x,) = views.apply(views.crop(read, parameters), parameters)
        own = next(itertools.chain(self.parameters(), self.buffers()), x)
        return x.to(own.device)


class RawPixels(nn.Module):
    """An encoder's baseline: the image as it was before it was normalised, in [0, 1].

    Of images above `LARGE` pixels a side a tiny one, as in Torralba et al. 2008 (80 Million Tiny
    Images): numbers by the hundred thousand would be too many to fit a classifier to.
    """

    def __init__(self, encoder: Pretrained) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(encoder.pixels.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(encoder.pixels.std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (N, C S S) of preprocessed images (N, C, S, S), or (N, C 32 32) of large ones."""
        found = self.image(x)
        return (adaptive_avg_pool2d(found, TINY) if x.shape[-1] > LARGE else found).flatten(1)

    def image(self, x: Tensor) -> Tensor:
        """All pixels (N, C, S, S) of preprocessed images."""
        return x * self.std.to(x) + self.mean.to(x)


def _pixels(image: Any, channels: int) -> Tensor:
    """One image as uint8 (C, H, W)."""
    if isinstance(image, str | Path):
        try:
            return decode(image, channels)  # pyright: ignore
        except Broken as broken:
            raise UserError(f"cannot read {image}: {broken}") from broken
    if isinstance(image, Image.Image):
        return tensor_of(image, channels)
    if isinstance(image, np.ndarray):
        own = np.array(image)  # a copy: torch knows no negative strides and no read-only arrays
        image = torch.from_numpy(own if own.ndim == 3 else own[..., None]).permute(2, 0, 1)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != channels:
        raise UserError(
            f"an image of {image.dtype} {tuple(image.shape)}; give uint8 with {channels} channels"
        )
    return image


def plain_views(pixels: Pixels) -> Views:
    """The central square of each image, resized and normalised; nothing random."""
    return Views([View(Centre(pixels.size))], pixels.mean, pixels.std)


def rebuild(name: str, pixels: Pixels, arguments: Mapping[str, Any], seed: int) -> Run:
    """The recipe's run with freshly initialised weights, which depend on the seed alone.

    Raises UserError for settings that the recipe, or a network in it, refuses.
    """
    recipe = recipes.find(name)
    with torch.random.fork_rng([]):
        seeds.plant(seeds.derive(seed, "weights"))
        try:
            return call(recipe, pixels, arguments)
        except UserError:
            raise
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise UserError(f"{name} cannot be built with these settings: {error}") from error


def method_of(run: str | Path) -> tuple[Method, Pixels, str]:
    """The whole method of a run at its newest checkpoint, what it sees, and its name.

    Raises UserError where there is none.
    """
    folder = RunFolder(run)
    if not folder.begun():
        raise UserError(f"there is no run at {run}; give the folder that `pretrain --out` made")
    description = folder.describe()
    call, pixels = description["call"], Pixels.read(description["data"])
    found = checkpoint.latest(folder.checkpoints)
    if found is None:
        raise UserError(f"{run} has no checkpoint yet; wait for its first, or resume the run")
    method = rebuild(call["method"], pixels, call["arguments"], call["seed"]).method
    method.load_state_dict(found[1]["method"])
    return method, pixels, call["method"]


def write(folder: Path, encoder: nn.Module, card: Mapping[str, Any]) -> None:
    """Write ``encoder.safetensors`` and ``encoder.json`` into a folder, each atomically."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(tensors))
    write_atomic(folder / CARD, json.dumps(card, indent=2).encode())


def load(run: str | Path) -> Pretrained:
    """The encoder of a run, or of an exported folder, in eval mode, with its preprocessing.

    Raises UserError where there is none or where it is damaged.
    """
    card = read_card(run)
    form = card.get("exported", {}).get("format", "safetensors")
    if form not in OURS:
        raise UserError(
            f"{run} holds an encoder for others ({form}), which load.py there loads; give the run"
        )
    path = expanded(run) / WEIGHTS
    encoder = untrained(card)
    try:
        encoder.encoder.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged: {reason}; copy it anew, or make it again") from error
    return encoder


def raw(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, on the CPU: NaN equals itself there."""
    return tensor.cpu().contiguous().flatten().view(torch.uint8)


def weights_digest(net: nn.Module) -> str:
    """Tells a network's weights and buffers from others, 32 hex digits."""
    found = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(raw(tensor).numpy().data)
    return found.hexdigest()[:32]


def untrained(card: dict[str, Any], seed: int | None = None) -> Pretrained:
    """The encoder of a card as its run began, with random weights.

    A card with an ``architecture`` says how the encoder is built without its recipe.
    """
    pixels = Pixels.read(card["pixels"])
    chosen: int = card["seed"] if seed is None else seed
    if "architecture" not in card:
        run = rebuild(card["recipe"], pixels, card["arguments"], chosen)
        return Pretrained(run.method.encoder, pixels, card)
    with torch.random.fork_rng([]):
        seeds.plant(seeds.derive(chosen, "weights"))
        encoder = build(**card["architecture"], channels=pixels.channels, size=pixels.size)
    return Pretrained(encoder, pixels, card)


def read_card(run: str | Path) -> dict[str, Any]:
    """What is written beside an encoder about how it came about."""
    path = expanded(run) / CARD
    if not path.parent.is_dir():
        raise UserError(f"there is no run at {run}; give the folder that `pretrain --out` made")
    if (tuned := path.parent / "fine-tuned").is_dir():
        raise UserError(f"{run} holds networks that `finetune` trained; give {tuned}")
    if not path.is_file():
        raise UserError(
            f"{run} holds no finished encoder; finish the run with `selftaught pretrain ... "
            "--resume`, or give another folder"
        )
    try:
        card = json.loads(path.read_text())
        missing = {"recipe", "arguments", "seed", "pixels"} - card.keys()
        if missing:
            raise KeyError(*missing)
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); copy it anew, or make it again") from error
    return card


def parameter_count(modules: Iterable[nn.Module]) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
