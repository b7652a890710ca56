"""Images with objects marked in them: what the readers of COCO and VOC folders return."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.data.decode import Broken, size
from selftaught.data.sources import FolderImages, Images, printable
from selftaught.errors import UserError

THIN = 0.1  # pixels a side below which a box is empty
BROKEN = 0.01  # share of bad boxes above which data are refused; one box is always forgiven


class Objects(NamedTuple):
    """The marked objects of one image."""

    boxes: Tensor  # (n, 4): left, top, right and bottom in the file's pixels, float32
    labels: Tensor  # (n,) from 1 on, as `Annotated.classes` lists them
    ignored: Tensor  # (n,) bool: crowds and objects marked difficult, not asked for
    areas: Tensor  # (n,) square pixels


class Annotated(NamedTuple):
    """The images of one part, and what is marked in image i."""

    images: Images
    classes: tuple[str, ...]
    sizes: list[tuple[int, int]]  # height and width of each image
    objects: Callable[[int], Objects]
    mask: Callable[[int], Tensor]  # (H, W) uint8: 0 the background, then classes, and VOID
    digest: str  # tells these annotations from others
    left_out: int = 0  # bad boxes among good ones


class MaskedImages(FolderImages):
    """Image files with the class of each pixel as one more channel."""

    def __init__(
        self, root: Path, files: Sequence[str], channels: Any, masks: Sequence[Callable[[], Tensor]]
    ) -> None:
        super().__init__(root, files, channels)
        self._masks = masks

    def read(self, i: int) -> Tensor:
        """Image i and its mask, uint8 (C + 1, H, W); raises `Broken`."""
        x, mask = super().read(i), self._masks[i]()[None]
        if mask.shape[1:] != x.shape[1:]:  # large photographs are reduced when they are read
            mask = F.interpolate(mask[None], x.shape[1:], mode="nearest-exact")[0]
        return torch.cat([x, mask])


def masked(found: Annotated, index: Tensor) -> MaskedImages:
    """The images of these numbers with their masks."""
    images: Any = found.images
    numbers = index.tolist()
    masks = [lambda i=i: found.mask(i) for i in numbers]
    return MaskedImages(images.root, [images.names[i] for i in numbers], images.channels, masks)


def require_sizes(found: Annotated, index: Sequence[int]) -> None:
    """Raises UserError where an image is of another size than its annotations say.

    What is no image at all is left to those who read it.
    """
    root: Path = found.images.root  # pyright: ignore
    for i in index:
        try:
            height, width, _ = size(root / found.images.names[i])
        except Broken:
            continue
        if (height, width) != tuple(found.sizes[i]):
            raise UserError(
                f"{root / found.images.names[i]} has {height} x {width} pixels, its annotations "
                f"say {found.sizes[i][0]} x {found.sizes[i][1]}; give the images they were made of"
            )


def require_files(root: Path, names: Sequence[str], listed: Path) -> None:
    """Raises UserError for a file that is named and absent, or that lies outside ``root``."""
    for name in names:
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise UserError(f"{listed} names {printable(name)}, outside of {root}; mend it")
        if not os.path.isfile(root / name):
            raise UserError(
                f"{listed} names {printable(name)}, which is not in {root}; unpack all images there"
            )


def inside(box: Sequence[float], height: int, width: int) -> list[float] | None:
    """The part of a box that is in its image; None for what is no box of that image.

    That is one that is not finite, empty, or further outside than a pixel.
    """
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)):
        return None
    if min(left, top) < -1 or right > width + 1 or bottom > height + 1:
        return None
    found = [max(0.0, left), max(0.0, top), min(right, float(width)), min(bottom, float(height))]
    return found if found[2] - found[0] >= THIN and found[3] - found[1] >= THIN else None


def require_few(bad: Sequence[str], total: int, where: Path) -> None:
    """Raises UserError where more than 1 % of the boxes, and more than one, are bad."""
    if len(bad) > max(1, BROKEN * total):
        raise UserError(
            f"{where}: {len(bad)} of {total} boxes are empty or outside their image, that of "
            f"{bad[0]} the first; mend them"
        )


def objects_of(rows: Sequence[tuple[Sequence[float], int, bool, float]]) -> Objects:
    """Of (box, label, ignored, area) of each."""
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return Objects(
        boxes,
        torch.tensor([row[1] for row in rows], dtype=torch.long),
        torch.tensor([row[2] for row in rows], dtype=torch.bool),
        torch.tensor([row[3] for row in rows], dtype=torch.float32),
    )


def digest(pieces: Sequence[bytes]) -> str:
    """SHA-256 of all pieces, 16 hex digits."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()[:16]
