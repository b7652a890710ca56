"""Commands that write features, encoders and pictures."""

from pathlib import Path
from typing import Any, Literal

from selftaught.cli.options import Data, Device, Run, print_json

Part = Literal["train", "test"]


def embed(
    run: Run,
    data: Data,
    *,
    out: Path,
    part: Part = "train",
    device: Device = "auto",
) -> None:
    """Write the features of every image to a file.

    Args:
        run: folder of a run, or of an exported encoder.
        data: images.
        out: a new .parquet or .npy file.
        part: of data that have a test part of their own.
        device: where features are computed.
    """
    from selftaught.commands.embed import embed
    from selftaught.report.console import terminal
    from selftaught.report.live import Doing

    with Doing(terminal()) as doing:
        names, found = embed(run, data, out=out, part=part, device=device, tell=doing)
    print(f"{len(names)} x {found.shape[1]} features of the {part} part in {out}")


def classify(
    run: Run,
    data: Data,
    *,
    out: Path,
    part: Part = "train",
    device: Device = "auto",
) -> None:
    """Write the class of every image to a file, with its probability.

    Args:
        run: folder of finetune or of distill.
        data: images.
        out: a new .csv file.
        part: of data that have a test part of their own.
        device: where to compute.
    """
    from selftaught.commands.classify import classify
    from selftaught.report.console import terminal
    from selftaught.report.live import Doing

    with Doing(terminal()) as doing:
        found = classify(run, data, out=out, part=part, device=device, tell=doing)
    print(f"{len(found)} images of the {part} part and their classes in {out}")


def export(
    run: Run,
    *,
    out: Path,
    format: Literal["safetensors", "timm", "onnx", "torch_export", "sklearn"] = "safetensors",
    size: int | None = None,
    classifier: bool = False,
) -> None:
    """Write the encoder for use elsewhere, with a JSON card and a snippet that loads it.

    Args:
        run: folder of a finished run, or of an exported encoder.
        out: a new folder.
        format: what is to load it; safetensors is for selftaught itself.
        size: side in pixels of the images of onnx and torch_export; without it, that of the run.
        classifier: write what finetune or distill trained, which scores classes, as such a graph.
    """
    from selftaught.commands.export import export

    card = export(run, out=out, format=format, size=size, classifier=classifier)
    seen, tried = card["preprocessing"], card["exported"]
    what, result = ("classifier", "scores") if classifier else ("encoder", "features")
    print(
        f"the {what} is in {out}; python {out / 'load.py'} loads it. Images are seen with "
        f"{seen['channels']} x {seen['size']} x {seen['size']} pixels; by {tried['read_by']}, "
        f"{result} differ by at most {tried['largest_difference']:.1g}"
    )


def reconstruct(
    run: Run,
    data: Data,
    *,
    out: Path,
    count: int = 8,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Draw images, what the method saw of them and what it made of that, side by side.

    Args:
        run: folder of a run of a method that makes images again, finished or not.
        data: images; their test part where they have one, else what the run kept from training.
        out: a new .png file.
        count: images to draw.
        seed: of what is hidden or drawn.
        device: where to compute.
        json: print JSON.
    """
    from selftaught.commands.pictures import reconstruct

    found = reconstruct(run, data, out=out, count=count, seed=seed, device=device)
    if json:
        return print_json(found)
    similar = f", ssim {found['ssim']:.3f}" if "ssim" in found else ""
    told = f", made knowing {found['told']}" if "told" in found else ""
    which = {
        "test": "of the test part",
        "train": "of the train part",
        "kept": "that were kept from training",
        "trained": "that were trained on",
    }[found["part"]]
    print(
        f"psnr {found['psnr']:.2f} dB{similar} of whole images{told}; {found['images']} {which}, "
        f"some of them in {out}"
    )


def sample(
    run: Run,
    *,
    out: Path,
    count: int | None = None,
    between: str | None = None,
    encoder: Path | None = None,
    data: str | None = None,
    seed: int = 0,
    device: Device = "auto",
    json: bool = False,
) -> None:
    """Draw new images that the method makes.

    Args:
        run: folder of a run of a method that makes new images, finished or not.
        out: a new .png file.
        count: images to draw; 64 if it is not given.
        between: images, between whose codes the new ones lie.
        encoder: folder of a run whose features say how the new images lie to those of --data.
        data: real images.
        seed: of what is drawn.
        device: where to compute.
        json: print JSON.
    """
    from selftaught.commands.pictures import sample

    options: dict[str, Any] = {"between": between, "encoder": encoder, "data": data}
    found = sample(run, out=out, count=count, seed=seed, device=device, **options)
    if json:
        return print_json(found)
    print(f"new images in {out}")
    if found:
        print(
            f"in features of {found['encoder']}: frechet {found['frechet']:.2f}, precision "
            f"{found['precision']:.3f}, recall {found['recall']:.3f} on {found['images']} images "
            f"({found['part']} part) and as many samples"
        )
