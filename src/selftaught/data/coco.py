"""Folders in COCO's format: images, and one JSON file a part (https://cocodataset.org)."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from selftaught.data.annotated import (
    Annotated,
    digest,
    inside,
    objects_of,
    require_few,
    require_files,
)
from selftaught.data.images import Part
from selftaught.data.sources import FolderImages
from selftaught.errors import UserError
from selftaught.method import VOID

NAMES: dict[Part, tuple[str, ...]] = {"train": ("train",), "test": ("val", "test")}


class _Image(NamedTuple):
    file: str
    height: int
    width: int
    rows: list[tuple[list[float], int, bool, float]]  # box, label, crowd, area
    shapes: list[Any]  # of each row: polygons or run lengths


def is_coco(root: Path) -> bool:
    """Whether a folder has annotation files of any part."""
    return any(_files(root, part) for part in NAMES)


def open_coco(
    root: Path,
    part: Part,
    *,
    channels: Literal[1, 3],
    masks: bool,
    classes: Sequence[str] | None = None,
) -> Annotated:
    """One part of a COCO folder; ``masks`` says whether the outlines are needed.

    Its annotations are ``instances_train*.json``, or those of ``val`` or ``test``, in
    ``annotations/`` or beside it. Images lie in ``images/``, in a folder named as the part is
    (``train2017``), in that folder below ``images/``, or in the folder itself. ``classes`` are
    those of the part that is trained on. Bad boxes among good ones are left out. Raises UserError.
    """
    found = _files(root, part)
    if len(found) != 1:
        wanted = " or ".join(f"annotations/instances_{name}*.json" for name in NAMES[part])
        raise UserError(
            f"{root} has several {wanted}; keep one of each part"
            if found
            else f"{root} has no {wanted}; add the file, or give another folder"
        )
    path = found[0]
    try:
        images, own, bad = _images(path, _read(path), classes, masks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not in COCO's format ({error!r}); mend it") from error
    if len(images) < 2:
        raise UserError(f"{path} lists {len(images)} image(s); give at least 2")
    require_few(bad, len(bad) + sum(len(image.rows) for image in images), path)
    listed = [image.file for image in images]
    place = _folder(root, path, listed[0])
    require_files(place, listed, path)
    return Annotated(
        FolderImages(place, listed, channels),
        own,
        [(image.height, image.width) for image in images],
        lambda i: objects_of(images[i].rows),
        lambda i: _mask(path, images[i]),
        digest([path.read_bytes()]),
        len(bad),
    )


def _files(root: Path, part: Part) -> list[Path]:
    for name in NAMES[part]:
        for folder in (root / "annotations", root):
            found = sorted(folder.glob(f"instances_{name}*.json"))
            if found:
                return found
    return []


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it again") from error


def _images(
    path: Path, said: Mapping[str, Any], classes: Sequence[str] | None, masks: bool
) -> tuple[list[_Image], tuple[str, ...], list[str]]:
    """The images with what is marked in them, the classes, and the bad boxes' names."""
    names = {c["id"]: str(c["name"]) for c in said["categories"]}
    images = {
        i["id"]: _Image(str(i["file_name"]), int(i["height"]), int(i["width"]), [], [])
        for i in said["images"]
    }
    if len(images) < len(said["images"]) or len(set(names.values())) < len(said["categories"]):
        raise UserError(f"{path} has an image or a category twice; mend it")
    own = tuple(names[k] for k in sorted(names)) if classes is None else tuple(classes)
    if masks and len(own) >= VOID:
        raise UserError(
            f"{path} has {len(own)} categories, and a mask tells at most {VOID - 1} apart; leave "
            "some out, or take detection"
        )
    labels = {name: k for k, name in enumerate(own, 1)}
    bad = []
    for a in said["annotations"]:
        known = names.get(a["category_id"])
        if known not in labels or a["image_id"] not in images:
            what = f"category {a['category_id']}" if known not in labels else "image"
            raise UserError(
                f"{path}: annotation {a.get('id')} is of an unknown {what}; list it, or mend the "
                "annotation"
            )
        image = images[a["image_id"]]
        left, top, width, height = map(float, a["bbox"])
        box = inside([left, top, left + width, top + height], image.height, image.width)
        if box is None:
            bad.append(f"annotation {a.get('id')}")
            continue
        if masks:
            _require_outline(path, a, image)
        crowd, area = bool(a.get("iscrowd", 0)), float(a.get("area", width * height))
        image.rows.append((box, labels[known], crowd, area))
        image.shapes.append(a["segmentation"] if masks else None)
    return list(images.values()), own, bad


def _require_outline(path: Path, annotation: Mapping[str, Any], image: _Image) -> None:
    found = annotation.get("segmentation")
    if isinstance(found, dict):
        fits = list(found.get("size", ())) == [image.height, image.width] and "counts" in found
    else:
        fits = bool(found) and all(len(p) >= 6 and len(p) % 2 == 0 for p in found or ())
    if not fits:
        raise UserError(
            f"{path}: annotation {annotation.get('id')} has no outline: neither polygons of three "
            f"corners or more nor run lengths of {image.height} x {image.width} pixels; mend it"
        )


def _folder(root: Path, path: Path, first: str) -> Path:
    """Where the images of an annotation file are."""
    part = path.stem.removeprefix("instances_")
    places = [root / "images", root / "images" / part, root / part, root]
    return next((p for p in places if (p / first).is_file()), root / "images")


def _mask(path: Path, image: _Image) -> Tensor:
    """The class of each pixel; where objects of two classes overlap, none is asked for."""
    found = torch.zeros(image.height, image.width, dtype=torch.uint8)
    for (_, label, _, _), shape in zip(image.rows, image.shapes, strict=True):
        try:
            filled = _filled(shape, image.height, image.width)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise UserError(f"{path}: an outline in {image.file} is damaged ({error})") from error
        taken = filled & (found != 0) & (found != label)
        found[filled] = label
        found[taken] = VOID
    return found


def _filled(shape: Any, height: int, width: int) -> Tensor:
    """The pixels (H, W) bool inside polygons or run lengths; raises ValueError among others."""
    from pycocotools import mask as run_lengths

    if isinstance(shape, dict):
        counts = shape["counts"]
        runs = counts if isinstance(counts, list) else _runs(counts)
        if sum(runs) != height * width:  # pycocotools would leave the rest as it is in memory
            raise ValueError(f"its runs cover {sum(runs)} of {height * width} pixels")
    if isinstance(shape, list) or isinstance(shape["counts"], list):
        shape = run_lengths.frPyObjects(shape, height, width)  # pyright: ignore
    if isinstance(shape, list):
        shape = run_lengths.merge(shape)
    with warnings.catch_warnings():  # of NumPy 2, about how pycocotools makes its arrays
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.from_numpy(run_lengths.decode(shape)).bool()  # pyright: ignore


def _runs(counts: str) -> list[int]:
    """The lengths that COCO packs into text, as ``rleFrString`` of its ``maskApi.c``."""
    found: list[int] = []
    at = 0
    while at < len(counts):
        value, shift, more = 0, 0, True
        while more:
            c = ord(counts[at]) - 48
            value |= (c & 0x1F) << shift
            at, shift, more = at + 1, shift + 5, bool(c & 0x20)
            if not more and c & 0x10:
                value |= -1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
    return found
