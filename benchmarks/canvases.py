"""Cluttered canvases with small items on them, boxes and masks exact, in COCO's format.

    SELFTAUGHT_DATA=... python benchmarks/canvases.py --out canvases/

The items are Fashion-MNIST's: of its train part on the canvases to train on, of its test part on
those to validate on. Behind them lie strokes, pieces of other items and noise. A mask is what
remains visible of an item, a box is the mask's; of each item at least `VISIBLE` remains. The same
seed gives the same canvases.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle

VISIBLE = 0.7  # share of an item that later ones leave to be seen
INK = 12  # grey levels above which a pixel is part of an item
SCALES = (0.55, 1.15)  # of an item's own size
ITEMS = (1, 4)  # on a canvas
CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def write(
    out: Path,
    parts: dict[str, tuple[np.ndarray, np.ndarray, int]],
    classes: tuple[str, ...],
    *,
    side: int = 64,
    seed: int = 0,
) -> Path:
    """Write canvases as ``images/`` and ``annotations/instances_PART.json`` below ``out``.

    ``parts`` names for each part its items (N, S, S) uint8 on black, their classes (N,), and how
    many canvases are made of them.
    """
    (out / "images").mkdir(parents=True)
    (out / "annotations").mkdir()
    for place, (part, (items, labels, count)) in enumerate(parts.items()):
        draw = np.random.default_rng((seed, place))
        images: list[dict[str, Any]] = []
        found: list[dict[str, Any]] = []
        for i in range(1, count + 1):
            canvas, masks, chosen = compose(items, labels, side, draw)
            name = f"{part}-{i:05}.png"
            Image.fromarray(canvas).save(out / "images" / name)
            images.append({"id": i, "file_name": name, "width": side, "height": side})
            for mask, label in zip(masks, chosen, strict=True):
                found.append(annotation(mask, label, i) | {"id": len(found) + 1})
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
        said = {"images": images, "annotations": found, "categories": categories}
        (out / "annotations" / f"instances_{part}.json").write_text(json.dumps(said))
    return out


def annotation(mask: np.ndarray, label: int, image: int) -> dict[str, Any]:
    """What COCO says of one object, of its mask (S, S) bool."""
    code: Any = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "image_id": image,
        "category_id": int(label) + 1,
        "bbox": [float(v) for v in rle.toBbox(code)],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask.shape), "counts": code["counts"].decode()},
    }


def compose(
    items: np.ndarray, labels: np.ndarray, side: int, draw: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """One canvas (side, side) uint8, the masks (side, side) of its items, and their classes."""
    canvas = clutter(items, side, draw)
    masks: list[np.ndarray] = []
    whole: list[int] = []
    chosen: list[int] = []
    wanted = draw.integers(ITEMS[0], ITEMS[1] + 1)
    for _ in range(20 * wanted):
        if len(chosen) == wanted:
            break
        i = int(draw.integers(len(items)))
        item = scaled(items[i], draw.uniform(*SCALES))
        y, x = draw.integers(0, side - item.shape[0] + 1), draw.integers(0, side - len(item[0]) + 1)
        mask = np.zeros((side, side), bool)
        mask[y : y + item.shape[0], x : x + item.shape[1]] = item > INK
        left = [m & ~mask for m in masks]
        if any(m.sum() < VISIBLE * n for m, n in zip(left, whole, strict=True)) or not mask.any():
            continue
        canvas[mask] = item[item > INK]
        masks, whole = [*left, mask], [*whole, int(mask.sum())]
        chosen.append(int(labels[i]))
    return canvas, masks, chosen


def clutter(items: np.ndarray, side: int, draw: np.random.Generator) -> np.ndarray:
    """A background (side, side) uint8: shades, strokes, pieces of items, noise."""
    coarse = Image.fromarray(draw.integers(0, 90, (4, 4), dtype=np.uint8))
    picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(draw.integers(3, 9)):
        ends = [tuple(map(int, draw.integers(0, side, 2))) for _ in range(2)]
        pen.line(ends, fill=int(draw.integers(30, 220)), width=int(draw.integers(1, 3)))
    canvas = np.array(picture)
    for _ in range(draw.integers(4, 10)):
        item = scaled(items[draw.integers(len(items))], draw.uniform(*SCALES))
        height, width = (int(v) for v in draw.integers(4, 10, 2))
        top, left = draw.integers(0, len(item) - 3), draw.integers(0, len(item[0]) - 3)
        piece = item[top : top + height, left : left + width]
        y, x = draw.integers(0, side - len(piece) + 1), draw.integers(0, side - len(piece[0]) + 1)
        place = canvas[y : y + piece.shape[0], x : x + piece.shape[1]]
        place[piece > INK] = piece[piece > INK]
    noisy = canvas + draw.normal(0, 12, canvas.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def scaled(item: np.ndarray, scale: float) -> np.ndarray:
    """An item of another size, its empty margin cut off."""
    size = max(6, round(len(item) * scale))
    image = Image.fromarray(item).resize((size, size), Image.Resampling.BILINEAR)
    x = np.array(image)
    rows, columns = (np.flatnonzero((x > INK).any(axis)) for axis in (1, 0))
    return x[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else x


def fashion(data: Path, train: int, val: int) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """The parts that `write` needs, of a folder of IDX files."""
    from selftaught.data.images import open_images, open_labels

    found = {}
    for name, part, count in (("train", "train", train), ("val", "test", val)):
        images, labels = open_images(data, part), open_labels(data, part)  # pyright: ignore
        found[name] = (images.x[:, 0].numpy(), labels.values.numpy(), count)  # pyright: ignore
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    data = Path(os.environ.get("SELFTAUGHT_DATA", ".")) / "fashion-mnist"
    parts = fashion(data, asked.train, asked.val)
    write(asked.out, parts, CLASSES, side=asked.side, seed=asked.seed)
    print(f"{asked.train} canvases to train on and {asked.val} to validate on in {asked.out}")


if __name__ == "__main__":
    main()
