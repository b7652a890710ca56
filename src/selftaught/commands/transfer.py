"""From an encoder to a detector or a segmenter, beside the same one without the encoder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.dense import Chosen, Detecting, Segmenting, Transferring
from selftaught.commands.outputs import own_folder
from selftaught.commands.scores import rounded_rows
from selftaught.commands.supervised import Training, call_of, same_settings
from selftaught.commands.trainings import TransferSettings, chosen
from selftaught.data.annotated import Annotated, require_sizes
from selftaught.data.dense import open_annotated
from selftaught.data.sources import evenly, printable
from selftaught.errors import UserError
from selftaught.protocols.dense import require_extra
from selftaught.report import table
from selftaught.report.console import terminal
from selftaught.report.grid import side_by_side
from selftaught.runfolder import RunFolder

Task = Literal["detection", "segmentation"]

JOBS: dict[str, type[Transferring]] = {"detection": Detecting, "segmentation": Segmenting}
LARGEST = {"cpu": 128, "cuda": 512}  # pixels, when no size is asked for
ROWS = {"pre-trained": False, "from scratch": True}  # and whether it begins from scratch
PLACES = {name: name.replace(" ", "-") for name in ROWS}  # their folders
FILES = ("images.txt", "predictions.png", "transfer.json")
SHOWN = 6  # test images in the picture


def transfer(
    task: Task,
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    resume: bool = False,
    quiet: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Train a detector or a segmenter on the encoder of ``run``, and one from random weights.

    ``data`` is a folder in COCO's or in VOC's format. ``more`` are `TransferSettings`;
    ``images`` of its train part, which ``seed`` chooses, are used, and ``images.txt`` in ``out``
    names them. Each of the two is a run in a folder of ``out`` with its ``model.safetensors``; they
    differ in the first weights of the encoder only, and see the same batches. ``resume`` goes on
    with both.

    Returns ``{"rows": {"pre-trained": scores, "from scratch": scores}, "intervals": ..., "images":
    N, "test": N, ...}`` and writes it to ``transfer.json``; scores, of the test part and in
    percent, are ``AP``, ``AP50`` and ``AP75``, or ``mIoU``. ``predictions.png`` shows some of
    that. Raises UserError for what the user can mend.
    """
    if task not in JOBS:
        raise UserError(f"no transfer to {task!r}; use {' or '.join(JOBS)}")
    require_extra()
    own, card = chosen(TransferSettings, more, "transfer"), pretrained.read_card(run)
    budget = {"steps": steps, "minutes": minutes, "seed": seed, "precision": precision}
    call = call_of(data, None, {}, **budget)
    folder = own_folder(out, (*PLACES.values(), *FILES))
    places = {name: RunFolder(folder / place) for name, place in PLACES.items()}
    for place in places.values():
        place.check(resume=resume)
    train, held = _parts(data, card, task)
    some = _choose(train, own.images, call["seed"])
    size = _size(own.size, some, settings.device_of(device).type)
    arguments = {"run": str(run)} | asdict(replace(own, size=size))
    call |= {"size": size, "arguments": arguments, "annotations": train.digest}
    call["weights"] = pretrained.weights_digest(pretrained.load(run).encoder)
    console, jobs = terminal(quiet=quiet), {}
    for name, part in (("train", train), ("test", held)):
        _say_left_out(console, name, part.left_out)
    for name, place in places.items():
        asked = call | {"method": f"{task}, {name}"}
        same_settings(place, asked, TransferSettings)
        training = Training(place, asked, device, console, card)
        jobs[name] = JOBS[task](training, some, scratch=ROWS[name])
        jobs[name].complete()
    result = {
        "task": task,
        **rounded_rows({name: job.scores(held) for name, job in jobs.items()}),
        "images": len(some.items),
        "test": len(held.images),
        "classes": train.classes,
        "left_out": {"train": train.left_out, "test": held.left_out},
        "call": call,
    }
    _write_items(folder / "images.txt", some)
    checkpoint.write_atomic(folder / "transfer.json", json.dumps(result, indent=2).encode())
    _draw(folder / "predictions.png", jobs, held)
    console.print(table.transferred(result))
    return result


def _say_left_out(console: Console, name: str, count: int) -> None:
    if count:
        boxes = "1 box" if count == 1 else f"{count} boxes"
        are = "is empty or outside its" if count == 1 else "are empty or outside their"
        console.print(f"{boxes} of the {name} part {are} image and left out")


def _parts(data: str | Path, card: Mapping[str, Any], task: str) -> tuple[Annotated, Annotated]:
    how: Any = {"channels": card["pixels"]["channels"], "masks": task == "segmentation"}
    train = open_annotated(data, "train", **how)
    held = open_annotated(data, "test", classes=train.classes, **how)
    if task == "detection" and not any(len(held.objects(i).boxes) for i in range(len(held.sizes))):
        raise UserError(f"the test part of {data} has no object; mark some, or give other data")
    require_sizes(held, range(len(held.images)))
    return train, held


def _choose(train: Annotated, count: int | None, seed: int) -> Chosen:
    """So many images at random; those without an object are not among them if there are boxes."""
    known = [~train.objects(i).ignored for i in range(len(train.images))]
    boxes = any(len(each) for each in known)
    among = torch.tensor([i for i, each in enumerate(known) if each.any() or not boxes])
    if not 2 <= (len(among) if count is None else count) <= len(among):
        raise UserError(
            f"--images {count} of {len(among)} images with labels; use a number from 2 to "
            f"{len(among)}"
        )
    order = torch.randperm(len(among), generator=seeds.generator(seed, "labels"))
    items = among[order[:count]].sort().values
    require_sizes(train, items.tolist())
    return Chosen(train, items)


def _size(asked: int | None, some: Chosen, device: str) -> int:
    """The images' median longer side up to what the device can train on."""
    if asked is not None:
        return asked
    sides = sorted(max(some.part.sizes[i]) for i in some.items.tolist())
    return max(TransferSettings.SMALLEST, min(sides[len(sides) // 2], LARGEST[device]))


def _write_items(path: Path, some: Chosen) -> None:
    names = some.part.images.names
    lines = [f"{printable(str(names[i]))}\n" for i in some.items.tolist()]
    checkpoint.write_atomic(path, "".join(lines).encode())


def _draw(path: Path, jobs: Mapping[str, Transferring], held: Annotated) -> None:
    """Some test images with their labels and with what each network says of them."""
    images, used, _ = held.images.gather(evenly(min(SHOWN, len(held.images)), len(held.images)))
    columns = {"labels": next(iter(jobs.values())).true_pictures(images, held, used.tolist())}
    columns |= {name: job.pictures(images) for name, job in jobs.items()}
    side_by_side({name: torch.stack(pictures) for name, pictures in columns.items()}, path)
