"""From what the user asked for to what a run will do; each choice made here is printed."""

import difflib
import math
import multiprocessing
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from selftaught import dist, precision, recipes
from selftaught.cores import granted
from selftaught.data.batches import Readers
from selftaught.data.images import Images
from selftaught.data.sources import evenly
from selftaught.errors import UserError
from selftaught.recipes.parameters import parameters
from selftaught.recipes.run import Pixels
from selftaught.views.image import Centre, View, Views

WORKERS = 16  # at most, where none are asked for
PIECE = 128  # images read at a time
SAMPLE = 2048  # images that the normalisation is measured on
LARGEST = {"cpu": 64, "cuda": 224}  # pixels, when no size is asked for
PHOTOGRAPH = 96  # pixels a side from which the papers' settings suit
ENOUGH = 100  # batches of the paper's that the data should hold for its settings


def resolved(
    call: dict[str, Any], images: Images, device: torch.device, *, begun: bool = False
) -> dict[str, Any]:
    """The call of a run with everything decided that was left open.

    A run that was begun has all its settings: a new one is what it was without it. Raises UserError
    for what does not suit the data.
    """
    name, given, count = call["method"], call["arguments"], len(images)
    size = size_for(images, device) if call["size"] is None else call["size"]
    published = recipes.RECIPES[name].published if name in recipes.RECIPES else {}
    scale = scale_for(call.get("scale"), published, given, count, size)
    chosen = published if scale == "paper" and not begun else {}
    own = arguments(recipes.find(name), given, chosen)
    if "batch_size" in own:
        own["batch_size"] = batch_size_for(given.get("batch_size"), own["batch_size"], count)
    return call | {
        "arguments": fitted(own, given, count),
        "scale": scale,
        "size": size,
        "flip": call.get("flip") is not False,
        "seed": call["seed"] or 0,
        "precision": call.get("precision") or "auto",
    }


def arguments(
    recipe: Callable[..., Any], given: Mapping[str, Any], published: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The recipe's defaults, the published settings over them, and what was given over both.

    Raises UserError for a name the recipe does not have, with the nearest one, and for a value that
    is no number (nan).
    """
    defaults = {name: p.default for name, p in parameters(recipe).items()}
    for name in given:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1, cutoff=0)
            raise UserError(
                f"{recipe.__name__} has no parameter {name!r}; did you mean {near[0]!r}?"
            )
        if isinstance(given[name], float) and math.isnan(given[name]):
            raise UserError(f"--{name.replace('_', '-')} nan is no number; give one")
    return defaults | dict(published or {}) | dict(given)


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names that are given as a list, or as one text with commas."""
    return tuple(names.split(",") if isinstance(names, str) else names)


def scale_for(
    asked: str | None, published: Mapping[str, Any], given: Mapping[str, Any], count: int, size: int
) -> str:
    """``paper`` or ``small``: whose settings a run takes where none are given.

    The paper's, where the images are photographs and as many as its batch needs, and where no
    smaller batch is asked for; else those measured on small data. Raises UserError where the
    recipe has no published settings.
    """
    if asked == "paper" and not published:
        raise UserError("this recipe has no published settings; leave --scale out")
    if asked not in (None, "paper", "small"):
        raise UserError(f"a scale of {asked!r}; use auto, paper or small")
    if asked is not None:
        return asked
    batch = published.get("batch_size")
    fits = batch is not None and given.get("batch_size", batch) >= batch and count >= ENOUGH * batch
    return "paper" if fits and size >= PHOTOGRAPH else "small"


def device_of(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; of several processes each has its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device here; use --device cpu")
    if name == "cuda" and dist.world_size() > 1:
        count = torch.cuda.device_count()
        if dist.local_rank() >= count:
            raise UserError(f"{count} GPUs for more processes; use fewer --processes")
        name = f"cuda:{dist.local_rank()}"
    return torch.device(name)


def readers_for(workers: int | None, device: torch.device) -> Readers:
    """The processes that read images; where no number is asked for, on a GPU as many as it needs.

    That is none until reading has proved slow, and then one for each core but this process's. On a
    processor they would take its cores from training. There are none where starting a process runs
    the user's script again.
    """
    if workers is not None:
        return Readers(now=workers)
    start = multiprocessing.get_start_method(allow_none=True)
    if device.type == "cpu" or (start or multiprocessing.get_all_start_methods()[0]) != "fork":
        return Readers()
    return Readers(later=max(0, min(WORKERS, granted() // dist.local_world_size() - 1)))


def check_split(batch_size: int) -> None:
    """Raises UserError where the batch does not split evenly over the processes."""
    count = dist.world_size()
    if batch_size % count:
        raise UserError(
            f"a batch of {batch_size} does not split over {count} processes; use a --batch-size "
            f"of {max(1, batch_size // count) * count}, or other --processes"
        )


def size_for(images: Images, device: torch.device) -> int:
    """The images' own median shorter side, up to what the device can train on."""
    return min(images.sides, LARGEST[device.type])


def require_same(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UserError that names each setting of a run that is now another."""
    differ = [
        f"{name} was {before.get(name)}, not {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if differ:
        raise UserError(
            f"{what} has other settings: {'; '.join(differ)}; give the same again, or "
            "another folder to --out"
        )


def check_budget(*, steps: int | None, minutes: float | None, epochs: float | None = None) -> None:
    """Raises UserError for a budget of nothing, and for more than one."""
    given = {"--steps": steps, "--minutes": minutes, "--epochs": epochs}
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} are two budgets; give one")
    for name, value in asked.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name} {value} is no budget; give a number above 0")


def sample(images: Images, views: Views, count: int) -> list[Tensor]:
    """About ``count`` images, evenly spread, each in its one plain view; in a few batches."""
    count = min(count, len(images))
    index = evenly(count, len(images))
    found = []
    for part in index.split(PIECE):
        read, _, _ = images.gather(part)  # a few at a time: photographs may be large
        parameters = views.draw(torch.Generator(), len(part))
        found.append(views.apply(views.crop(read, parameters), parameters)[0])
    return found


def pixels_of(images: Images, size: int, *, flip: bool = True) -> Pixels:
    """What a recipe may know of the data, with mean and sd measured on an even sample.

    ``flip`` says whether a mirror image of one means the same.
    """
    if size < 4:
        raise UserError(
            f"images of {size} pixels are too small to learn from; use --size 8 or more"
        )
    views = Views([View(Centre(size))], (0.0,) * images.channels, (1.0,) * images.channels)
    parts = [x.transpose(0, 1).flatten(1) for x in sample(images, views, SAMPLE)]  # (C, n)
    count = sum(x.shape[1] for x in parts)
    mean = torch.stack([x.double().sum(1) for x in parts]).sum(0) / count
    squares = [(x.double() - mean[:, None]).square().sum(1) for x in parts]
    std = (torch.stack(squares).sum(0) / (count - 1)).sqrt().clamp(min=1 / 255)
    return Pixels(
        channels=images.channels,
        size=size,
        count=len(images),
        mean=tuple(round(v, 4) for v in mean.tolist()),
        std=tuple(round(v, 4) for v in std.tolist()),
        flip=flip,
    )


def batch_size_for(asked: int | None, default: int, count: int) -> int:
    """The recipe's batch, or the largest power of two of images there are.

    Raises UserError where a batch was asked for that the data cannot fill.
    """
    if asked is not None and not 2 <= asked <= count:
        raise UserError(f"--batch-size {asked} of {count} images; use a number from 2 to {count}")
    if asked is not None or default <= count:
        return asked or default
    return 2 ** (count.bit_length() - 1)


def fitted(own: dict[str, Any], given: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The settings with defaults that few images or a small batch cannot fill made smaller.

    Only those that were not given: what was asked for is refused by the recipe, not changed.
    """
    batch, queue = own.get("batch_size", count), own.get("queue", 0)
    if "queue" not in given:
        queue = min(queue, count // 2)
    known = min(count, own.get("instances") or count)  # images that are trained on
    bounds = {
        "queue": count // 2,
        "groups": batch // 2,
        "noise": known // 2,
        "negatives": known // 2,
        "clusters": count // 4,
        "components": count // 2,
        "prototypes": batch + queue,
    }
    if "sub_batch" in own:  # which are whitened together, in fewer dimensions
        bounds |= {"sub_batch": batch, "dim": min(own["sub_batch"], batch) // 2}
    smaller = {
        name: max(1, bound)
        for name, bound in bounds.items()
        if name in own and name not in given and own[name] > bound
    }
    return own | smaller


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware, for the record."""
    names = ("selftaught", "torch", "torchvision", "timm", "numpy", "pillow")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "versions": {name: version(name) for name in names},
        "python": platform.python_version(),
        "processor": precision_units(),
        "cores": granted(),
        "gpu": gpu,
        "processes": dist.world_size(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def precision_units() -> str:
    """The processor's architecture and its bfloat16 unit."""
    native = precision.native_bfloat16(torch.device("cpu"))
    return f"{platform.machine()}, {'with' if native else 'without'} native bfloat16"
