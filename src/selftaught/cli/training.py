"""Commands that train with an encoder that has been learned."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from selftaught.cli.options import Device, Precision, print_json


def finetune(
    run: Positional[Path],
    data: Positional[str],
    *,
    out: Path,
    labels: str = "all",
    test: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    from_head_layer: int = 0,
    layer_decay: float = 1.0,
    freeze: bool = False,
    freeze_norm: bool = True,
    probe: bool = True,
    batch_size: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    smallest_crop: float = 0.6,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a classifier from an encoder with few labels, beside the same one from scratch.

    Args:
        run: folder of a run, or of an exported encoder.
        data: labelled images.
        out: a new folder for both classifiers, the list of the labels used and the numbers.
        labels: 1% of each class, 10-per-class, or all.
        test: labelled images to test on; without it, the data's own test part or a held-out fifth.
        steps: of training; without it 600, or ten epochs where these are more.
        minutes: of training each of the two, instead of steps.
        from_head_layer: keep so many layers of the projection head below the classifier.
        layer_decay: factor of the learning rate from each layer to the one before it.
        freeze: train the linear classifier only.
        freeze_norm: keep the statistics of the encoder's batch norm as they are.
        probe: begin with the logistic regression on the frozen features as the last layer.
        batch_size: images a step.
        lr: learning rate of the last layer after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area.
        seed: of everything random, the choice of labels too; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.finetune import finetune

    options = dict(locals())
    for name in ("finetune", "json", "run", "data"):
        del options[name]
    found = finetune(run, data, quiet=json, **options)
    if json:
        print_json(found)


def distill(
    run: Positional[Path],
    data: Positional[str],
    *,
    student: str,
    out: Path,
    temperature: float = 1.0,
    labels: str | None = None,
    label_weight: float = 0.0,
    test: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    smallest_crop: float = 0.4,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a smaller network to say what a fine-tuned one says, on images without labels.

    Args:
        run: folder that `finetune --out` made: the teacher.
        data: images; labels are not needed, and used only as --labels says.
        student: resnet-nano, vit-nano or any timm name.
        out: a new folder.
        temperature: of both distributions; the larger, the more the unlikely classes count.
        labels: 1% of each class, 10-per-class, or all; with --label-weight.
        label_weight: share of the labels in the objective; the teacher has the rest.
        test: labelled images to compare on; without it, the data's own test part.
        steps: of training; without it ten epochs.
        minutes: of training, instead of steps.
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        smallest_crop: a view shows at least this share of the image's area.
        seed: of everything random; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.distill import distill

    options = dict(locals())
    for name in ("distill", "json", "run", "data"):
        del options[name]
    found = distill(run, data, quiet=json, **options)
    if json:
        print_json(found)


def transfer(
    task: Positional[Literal["detection", "segmentation"]],
    run: Positional[Path],
    data: Positional[Path],
    *,
    out: Path,
    images: int | None = None,
    size: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 8,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    seed: int | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    json: bool = False,
) -> None:
    """Train a detector or a segmenter on an encoder, beside the same one from scratch.

    Args:
        task: detection (Faster R-CNN, box AP) or segmentation (FCN, mean IoU).
        run: folder of a run, or of an exported encoder.
        data: a folder in COCO's or in VOC's format.
        out: a new folder for both networks, the list of the images used, numbers and a picture.
        images: labelled images to train on, chosen at random; without it all.
        size: pixels of the longer side that is seen; without it its own up to 128 (GPU: 512).
        steps: of training; without it 400, or twelve epochs where these are more.
        minutes: of training each of the two, instead of steps.
        batch_size: images a step.
        lr: learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        seed: of everything random, the choice of images too; without it 0.
        device: where to train.
        precision: of the forward passes.
        resume: go on with what is in --out.
        json: print JSON.
    """
    from selftaught.commands.transfer import transfer

    options = dict(locals())
    for name in ("transfer", "json", "task", "run", "data"):
        del options[name]
    found = transfer(task, run, data, quiet=json, **options)
    if json:
        print_json(found)
