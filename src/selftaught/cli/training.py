"""Commands that train with an encoder that has been learned."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from selftaught.cli.options import Data, How, Run, print_json
from selftaught.commands.trainings import DistilSettings, FineTuneSettings, TransferSettings


def finetune(
    run: Run,
    data: Data,
    *,
    out: Path,
    labels: str = "all",
    test: str | None = None,
    steps: int | None = None,
    settings: OmitArgPrefixes[FineTuneSettings] = FineTuneSettings(),
    how: OmitArgPrefixes[How] = How(),
) -> None:
    """Train a classifier from an encoder with few labels, beside the same one from scratch.

    Args:
        run: folder of a run, or of an exported encoder.
        data: labelled images.
        out: a new folder for both classifiers, the list of the labels used and the numbers.
        labels: 1% of each class, 10-per-class, or all.
        test: labelled images to test on; without it, the data's own test part or a held-out fifth.
        steps: of training; without it 600, or ten epochs where these are more.
        settings: how the classifier is trained.
        how: where, how long and what is printed.
    """
    from selftaught.commands.finetune import finetune

    _call(finetune, run, data, settings, how, out=out, labels=labels, test=test, steps=steps)


def distill(
    run: Run,
    data: Data,
    *,
    student: str,
    out: Path,
    labels: str | None = None,
    test: str | None = None,
    steps: int | None = None,
    settings: OmitArgPrefixes[DistilSettings] = DistilSettings(),
    how: OmitArgPrefixes[How] = How(),
) -> None:
    """Train a smaller network to say what a fine-tuned one says, on images without labels.

    Args:
        run: folder that `finetune --out` made: the teacher.
        data: images; labels are not needed, and used only as --labels says.
        student: resnet-nano, resnet-pico, vit-nano or any timm name.
        out: a new folder.
        labels: 1% of each class, 10-per-class, or all; with --label-weight.
        test: labelled images to compare on; without it, the data's own test part or a held-out
            fifth, which is not trained on.
        steps: of training; without it 600, or five epochs where these are more.
        settings: how the student is trained.
        how: where, how long and what is printed.
    """
    from selftaught.commands.distill import distill

    named = {"student": student, "labels": labels, "test": test}
    _call(distill, run, data, settings, how, out=out, steps=steps, **named)


def transfer(
    task: Positional[Literal["detection", "segmentation"]],
    run: Run,
    data: Data,
    *,
    out: Path,
    steps: int | None = None,
    settings: OmitArgPrefixes[TransferSettings] = TransferSettings(),
    how: OmitArgPrefixes[How] = How(),
) -> None:
    """Train a detector or a segmenter on an encoder, beside the same one from scratch.

    Args:
        task: detection (Faster R-CNN, box AP) or segmentation (FCN, mean IoU).
        run: folder of a run, or of an exported encoder.
        data: a folder in COCO's or in VOC's format.
        out: a new folder for both networks, the list of the images used, numbers and a picture.
        steps: of training; without it 400, or twelve epochs where these are more.
        settings: how the network is trained.
        how: where, how long and what is printed.
    """
    from selftaught.commands.transfer import transfer

    _call(partial(transfer, task), run, data, settings, how, out=out, steps=steps)


def _call(
    command: Callable[..., Any], run: Path, data: str | Path, settings: Any, how: How, **named: Any
) -> None:
    """Run a command with all its options, and print what it found if that is wanted."""
    options = asdict(how)
    json = options.pop("json")
    found = command(run, data, quiet=json, **named, **options, **asdict(settings))
    if json:
        print_json(found)
