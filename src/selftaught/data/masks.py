"""Masks of class ids beside the images, for evaluation only."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selftaught.data.decode import MEGAPIXELS, Broken, size
from selftaught.data.images import IMAGES, MASKS, PARTS, Part, open_images
from selftaught.data.sources import digest_of_files
from selftaught.errors import UserError
from selftaught.paths import expanded

VOID = 255  # a pixel of no class


class Masks:
    """The masks of a folder's images, read one by one."""

    def __init__(self, root: Path, images: Sequence[str], masks: Sequence[str]) -> None:
        self.root, self.images, self.masks = root, images, masks

    def __len__(self) -> int:
        return len(self.masks)

    def stamp(self) -> str:
        """Tells the files from others and from what they were before a change, 16 hex digits."""
        return digest_of_files(self.root, self.masks, times=True)

    def read(self, i: int) -> Tensor:
        """The class of each pixel of image i, uint8 (H, W), 255 where it has none.

        Raises UserError for what is no mask of that image.
        """
        path = self.root / self.masks[i]
        try:
            with Image.open(path, formats=("PNG",)) as file:
                mode, wide = file.mode, file.width * file.height > MEGAPIXELS * 1_000_000
                found = None if wide else np.array(file, dtype=np.uint8)
        except Exception as error:  # a decoder may raise anything on a damaged file
            reason = " ".join(str(error).split())
            raise UserError(f"{path} is no sound PNG ({reason}); save it again") from error
        if mode not in ("1", "L", "P") or found is None:
            what = f"of mode {mode}" if found is not None else f"over {MEGAPIXELS} megapixels"
            raise UserError(f"{path} is {what}; save class ids as a PNG of 8 bits, grey or palette")
        try:
            height, width, _ = size(self.root / self.images[i])
        except Broken:  # the image is skipped where it is read
            height, width = found.shape
        if found.shape != (height, width):
            raise UserError(
                f"{path} has {found.shape[1]} x {found.shape[0]} pixels and its image {width} x "
                f"{height}; save it in the image's size"
            )
        return torch.from_numpy(found)


def open_masks(data: str | Path, part: Part) -> Masks | None:
    """The masks in the order of `open_images(data, part)`, or None.

    ``images/`` holds the images and ``masks/`` a PNG for each, of the same path but for the ending,
    whose pixels are class ids (0 to 254, or 255 for none); both may lie below ``train/`` and
    ``test/``. Raises UserError for an image without a mask and a mask without an image.
    """
    root = expanded(data)
    if not root.is_dir():
        return None
    images = open_images(data, part).names
    before = images[0].partition(f"{IMAGES}/")[0]  # of its part
    folder = root / before / MASKS
    if (before and before[:-1].lower() not in PARTS) or not folder.is_dir():
        return None
    if not all(name.startswith(f"{before}{IMAGES}/") for name in images):
        return None
    masks = [_mask_of(name, before) for name in images]
    missing = [name for name, mask in zip(images, masks, strict=True) if not (root / mask).exists()]
    if missing:
        raise UserError(
            f"{root} has no mask of {len(missing)} images, {missing[0]} the first; put "
            f"{_mask_of(missing[0], before)} there"
        )
    there = {os.path.relpath(file, root) for file in folder.rglob("*.png")}
    extra = sorted(name for name in there - set(masks) if "/." not in name)  # hidden: none of ours
    if extra or len(set(masks)) < len(masks):
        first = extra[0] if extra else max(masks, key=masks.count)
        raise UserError(f"{root / first} is the mask of no image or of several; give each its own")
    return Masks(root, images, masks)


def _mask_of(name: str, before: str) -> str:
    inside = name.removeprefix(f"{before}{IMAGES}/")
    return f"{before}{MASKS}/{os.path.splitext(inside)[0]}.png"
