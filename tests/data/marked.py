"""Small folders in the formats of COCO and of VOC."""

import json
import warnings
from pathlib import Path

import numpy as np
from canvases import write
from PIL import Image
from pycocotools import mask as rle
from sklearn.datasets import load_digits

from selftaught.data.voc import CLASSES

PARTS = {"train": 12, "val": 8}
DIGITS = ("zero", "one", "two")


def coco(root: Path, *, side: int = 32, parts: dict[str, int] = PARTS) -> Path:
    """Canvases with the digits 0, 1 and 2."""
    found = load_digits()
    keep = found.target < len(DIGITS)
    items = np.kron(found.images[keep] * 15.9, np.ones((2, 2))).astype(np.uint8)  # (N, 16, 16)
    half = len(items) // 2
    labels = found.target[keep]
    halves = {
        "train": (items[:half], labels[:half]),
        "val": (items[half:], labels[half:]),
    }
    return write(root, {p: (*halves[p], n) for p, n in parts.items()}, DIGITS, side=side)


def said(root: Path, part: str) -> dict:
    return json.loads((root / "annotations" / f"instances_{part}.json").read_text())


def say(root: Path, part: str, what: dict) -> None:
    (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(what))


def masks(root: Path, part: str) -> dict[str, np.ndarray]:
    """The class of each pixel of each image, by its file's name, made here."""
    what = said(root, part)
    names = {i["id"]: i["file_name"] for i in what["images"]}
    found = {i["file_name"]: np.zeros((i["height"], i["width"]), np.uint8) for i in what["images"]}
    for a in what["annotations"]:
        with warnings.catch_warnings():  # of NumPy 2, about pycocotools
            warnings.simplefilter("ignore", DeprecationWarning)
            inside = rle.decode(a["segmentation"]) == 1
        found[names[a["image_id"]]][inside] = a["category_id"]
    return found


def voc(root: Path, source: Path) -> Path:
    """A COCO folder of `coco` again, as VOC would have it; classes are the first of VOC's."""
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation").mkdir()
    for part in PARTS:
        what, classes = said(source, part), masks(source, part)
        stems = []
        for image in what["images"]:
            name, stem = image["file_name"], Path(image["file_name"]).stem
            stems.append(stem)
            Image.open(source / "images" / name).save(root / f"JPEGImages/{stem}.jpg")
            mask = Image.fromarray(classes[name])
            mask.putpalette([i // 3 for i in range(768)])
            mask.save(root / f"SegmentationClass/{stem}.png")
            found = [a for a in what["annotations"] if a["image_id"] == image["id"]]
            (root / f"Annotations/{stem}.xml").write_text(xml(image, found))
        for task in ("Main", "Segmentation"):
            (root / f"ImageSets/{task}/{part}.txt").write_text("\n".join(stems) + "\n")
    return root


def xml(image: dict, annotations: list[dict]) -> str:
    objects = ""
    for a in annotations:
        left, top, width, height = (int(v) for v in a["bbox"])
        objects += (
            f"<object><name>{CLASSES[a['category_id'] - 1]}</name><difficult>0</difficult><bndbox>"
            f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + width}</xmax>"
            f"<ymax>{top + height}</ymax></bndbox></object>"
        )
    size = f"<width>{image['width']}</width><height>{image['height']}</height><depth>1</depth>"
    return f"<annotation><size>{size}</size>{objects}</annotation>"
