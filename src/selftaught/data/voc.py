"""Folders in PASCAL VOC's format (http://host.robots.ox.ac.uk/pascal/VOC)."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from selftaught.data.annotated import (
    Annotated,
    digest,
    inside,
    objects_of,
    require_few,
    require_files,
)
from selftaught.data.decode import Broken, size
from selftaught.data.images import Part
from selftaught.data.sources import FolderImages
from selftaught.errors import UserError
from selftaught.method import VOID

LISTS: dict[Part, tuple[str, ...]] = {"train": ("train", "trainval"), "test": ("val", "test")}
CLASSES = (  # in the order of their numbers in masks
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)


class _Object(NamedTuple):
    name: str
    box: list[float]
    difficult: bool


def is_voc(root: Path) -> bool:
    """Whether a folder has the folders of VOC."""
    return (root / "JPEGImages").is_dir() or (root / "ImageSets").is_dir()


def open_voc(
    root: Path,
    part: Part,
    *,
    channels: Literal[1, 3],
    masks: bool,
    classes: Sequence[str] | None = None,
) -> Annotated:
    """One part of a VOC folder: ``masks`` of SegmentationClass/, or else boxes of Annotations/.

    The part is the list ``train.txt``, else ``trainval.txt``, or ``val.txt``, else ``test.txt``, in
    ``ImageSets/Segmentation`` or ``ImageSets/Main``. Of boxes, the classes are the names that occur
    in the part that is trained on; of masks, VOC's twenty. What is marked difficult is not asked
    for. Raises UserError.
    """
    path = _list(root, part, masks)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as UTF-8 text") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if len(names) < 2:
        raise UserError(f"{path} lists {len(names)} image(s); give at least 2")
    listed = [f"{name}.jpg" for name in names]
    require_files(root / "JPEGImages", listed, path)
    images = FolderImages(root / "JPEGImages", listed, channels)
    if masks:
        require_files(root / "SegmentationClass", [f"{name}.png" for name in names], path)
        return _masked(root, names, images)
    require_files(root / "Annotations", [f"{name}.xml" for name in names], path)
    return _boxed(root, names, images, classes)


def _list(root: Path, part: Part, masks: bool) -> Path:
    folder = root / "ImageSets" / ("Segmentation" if masks else "Main")
    for name in LISTS[part]:
        if (folder / f"{name}.txt").is_file():
            return folder / f"{name}.txt"
    raise UserError(f"{root} has no {part} part: {folder} holds no {' or '.join(LISTS[part])}.txt")


def _boxed(
    root: Path, names: Sequence[str], images: FolderImages, classes: Sequence[str] | None
) -> Annotated:
    paths = [root / "Annotations" / f"{name}.xml" for name in names]
    read = [_read(path) for path in paths]
    sizes = [found[0] for found in read]
    own = tuple(classes or sorted({o.name for _, objects in read for o in objects}))
    labels = {name: k for k, name in enumerate(own, 1)}
    rows, bad, total = [], [], 0
    for path, ((height, width), objects) in zip(paths, read, strict=True):
        rows.append([])
        for o in objects:
            total += 1
            if o.name not in labels:
                raise UserError(
                    f"{path} has a {o.name!r}, a class that the train part does not have; mend it"
                )
            box = inside(o.box, height, width)
            if box is None:
                bad.append(f"an object in {path.name}")
                continue
            area = (box[2] - box[0]) * (box[3] - box[1])
            rows[-1].append((box, labels[o.name], o.difficult, area))
    require_few(bad, total, root / "Annotations")
    return Annotated(
        images,
        own,
        sizes,
        lambda i: objects_of(rows[i]),
        _no_mask,
        digest([path.read_bytes() for path in paths]),
        len(bad),
    )


def _read(path: Path) -> tuple[tuple[int, int], list[_Object]]:
    """Height and width, and the objects; boxes begin at 0, their ends are not in them."""
    try:
        tree = ET.parse(path)
        height, width = (int(_text(tree.getroot(), f"size/{side}")) for side in ("height", "width"))
        objects = []
        for found in tree.getroot().iter("object"):
            ends = ("xmin", "ymin", "xmax", "ymax")
            left, top, right, bottom = (float(_text(found, f"bndbox/{end}")) for end in ends)
            difficult = (found.findtext("difficult") or "0").strip() == "1"
            box = [left - 1, top - 1, right, bottom]
            objects.append(_Object(_text(found, "name"), box, difficult))
    except (OSError, ET.ParseError, ValueError) as error:
        raise UserError(f"{path} is not in VOC's format ({error}); mend it") from error
    return (height, width), objects


def _text(element: ET.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"no {path}")
    return found.strip()


def _masked(root: Path, names: Sequence[str], images: FolderImages) -> Annotated:
    folder = root / "SegmentationClass"
    sizes = []
    for name in images.names:
        try:
            sizes.append(size(images.root / name)[:2])
        except Broken:
            sizes.append((0, 0))  # skipped when it is read
    return Annotated(
        images,
        CLASSES,
        sizes,
        lambda i: objects_of([]),
        lambda i: _mask(folder / f"{names[i]}.png", sizes[i]),
        digest([b"%s %d\n" % (n.encode(), (folder / f"{n}.png").stat().st_size) for n in names]),
    )


def _mask(path: Path, wanted: tuple[int, int]) -> Tensor:
    """The numbers of a palette's colours."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            mode, found = image.mode, np.array(image)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise UserError(f"{path} is no sound PNG ({error}); fetch it again") from error
    if mode not in ("P", "L") or found.shape != wanted:
        raise UserError(
            f"{path} is a {mode} image of {found.shape[0]} x {found.shape[1]} pixels; a mask has a "
            f"palette and its image's {wanted[0]} x {wanted[1]}"
        )
    known = (found <= len(CLASSES)) | (found == VOID)
    if not known.all():
        raise UserError(
            f"{path} has class {found[~known].max()}; VOC's are 1 to {len(CLASSES)}, 0 is the "
            f"background and {VOID} no class"
        )
    return torch.from_numpy(found)


def _no_mask(i: int) -> Tensor:
    raise AssertionError("opened for its boxes")
