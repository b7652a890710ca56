"""An encoder on its own, to carry elsewhere."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import torch

from selftaught import pretrained, recipes
from selftaught.checkpoint import write_atomic
from selftaught.commands.classify import load_classifier
from selftaught.commands.evaluate import merged, recorded
from selftaught.commands.finetune import PLACES
from selftaught.commands.formats import COUNT, FORMATS, GRAPHS, sample, words
from selftaught.commands.snippets import snippet
from selftaught.errors import UserError
from selftaught.paths import expanded
from selftaught.pretrained import CARD, Pretrained
from selftaught.runfolder import RunFolder

ACCURACY = ("rows", "intervals", "notes", "labels", "test", "split")  # what a card says of it
TOLERANCE = 1e-3  # of the largest number in the features


def export(
    run: str | Path,
    *,
    out: str | Path,
    format: str = "safetensors",
    size: int | None = None,
    classifier: bool = False,
) -> dict[str, Any]:
    """Write the encoder, its card ``encoder.json`` and a script that loads it into a new folder.

    ``format`` is safetensors (for `selftaught.load`), timm, onnx, torch_export or sklearn. What was
    written is loaded again by its own library and compared with the encoder. A graph (onnx,
    torch_export) takes any number of images of one ``size``, without it that of the run; a network
    whose size is dynamic has to be given one. With ``classifier`` a graph makes the scores of the
    classes, whose names are on the card, by what `finetune` or `distill` trained. Returns the card:
    method, data and their hash, preprocessing, which feature, what was measured, and how far the
    two were apart. Raises UserError where ``out`` exists, and for an encoder that the format cannot
    hold.
    """
    if format not in FORMATS:
        raise UserError(f"no format named {format!r}; use --format {', '.join(FORMATS)}")
    if classifier and format not in GRAPHS:
        raise UserError(f"--classifier is for graphs; use --format {' or '.join(GRAPHS)}")
    folder = expanded(out)
    if folder.exists():
        raise UserError(f"{folder} exists and is not overwritten; give another folder to --out")
    encoder = load_classifier(run) if classifier else pretrained.load(run)
    side = _side(encoder, format, size)
    card = _card(run, encoder, side) | _classified(expanded(run))
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make {folder} ({error.strerror}); choose another --out") from error
    try:
        _write(folder, encoder, card, format, side)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return card


def _side(encoder: Pretrained, format: str, size: int | None) -> int:
    """Pixels a side of the images that an export takes."""
    net, own = encoder.encoder, encoder.pixels.size
    dynamic, any_size = getattr(net, "dynamic", False), getattr(net, "any_size", False)
    if format not in GRAPHS:
        if size is not None:
            raise UserError(f"--size is for graphs; leave it out, or use --format {GRAPHS[0]}")
        return own
    if size is None and dynamic:
        raise UserError(
            f"the size of {encoder.card['arguments'].get('encoder', 'the encoder')} is dynamic, "
            f"and a graph is made for one; fix it, by --size {own} as in the run, or use --format "
            "timm"
        )
    if size is not None and (size < 1 or not (size == own or dynamic or any_size)):
        raise UserError(f"the encoder sees {own} pixels a side, not {size}; leave out --size")
    return own if size is None else size


def _card(run: str | Path, encoder: Pretrained, side: int) -> dict[str, Any]:
    pixels, known = encoder.pixels, encoder.card
    recipe = known["recipe"]
    paper = recipes.RECIPES.get(recipe)
    source = {k: getattr(paper, k) for k in ("paper", "year", "url")} if paper else {}
    return known | {
        "method": {"name": recipe} | source,
        "dim": encoder.dim,
        "feature": f"{getattr(encoder.encoder, 'feature', 'forward(x)')}, in eval mode",
        "preprocessing": {
            "channels": pixels.channels,
            "crop": "the central square",
            "size": side,
            "resize": "bilinear, antialiased, rounded to uint8",
            "scale": "divided by 255, then (x - mean) / std",
            "mean": list(pixels.mean),
            "std": list(pixels.std),
        },
        "evaluation": _measured(expanded(run), known),
    }


def _measured(run: Path, card: dict[str, Any]) -> dict[str, Any]:
    """What was measured, by data: with each protocol's version, baselines and intervals."""
    found = dict(card.get("evaluation") or {})
    described = RunFolder(run)
    if described.begun() and "evaluation" in (said := described.describe()):
        found[said["call"]["data"]] = said["evaluation"]
    for data, later in recorded(run).items():
        found[data] = merged(found.get(data, {}), later)
    return found


def _classified(run: Path) -> dict[str, Any]:
    """The accuracies of a classifier, where the run is one, and of what it was compared with."""
    folder = run.parent if run.name in PLACES.values() else run
    for path in (folder / "finetune.json", folder / "distill.json"):
        if path.is_file():
            found = json.loads(path.read_text())
            return {"accuracy": {key: found[key] for key in ACCURACY if key in found}}
    return {}


@torch.no_grad()
def _write(folder: Path, encoder: Pretrained, card: dict[str, Any], format: str, side: int) -> None:
    given = sample(encoder, side)
    written = FORMATS[format](folder, encoder, card, given)
    wanted = encoder(given.x)
    found = torch.as_tensor(written.features).to(wanted)
    apart = (found - wanted).abs().max().item()
    if not apart <= TOLERANCE * wanted.abs().max().item():
        raise UserError(
            f"{written.reader} makes other features of the encoder than it has (by {apart:.2g}); "
            "use --format safetensors"
        )
    card["exported"] = {
        "format": format,
        "read_by": written.reader,
        "largest_difference": apart,
        "images": COUNT,
    }
    write_atomic(folder / CARD, json.dumps(card, indent=2).encode())
    timm = card.get("timm") if format == "timm" else None
    (folder / "load.py").write_text(snippet(format, _about(card), words(encoder), timm))


def _about(card: dict[str, Any]) -> str:
    """For the script: nothing in it comes from outside but numbers."""
    seen = card["preprocessing"]
    mean, std = (", ".join(f"{float(v):g}" for v in seen[name]) for name in ("mean", "std"))
    colours = "grey" if seen["channels"] == 1 else "RGB"
    return textwrap.fill(
        f"What it gives, {card['dim']} numbers, is {card['feature']}. Of an image it is given "
        f"the central square, {colours}, resized to {int(seen['size'])} pixels a side, divided by "
        f"255, less {mean} and over {std}. encoder.json says how it came about and what was "
        "measured.",
        width=88,
    )
