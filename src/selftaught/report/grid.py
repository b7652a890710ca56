"""Images side by side in one file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

GAP, CAPTION = 2, 14  # pixels
SMALLEST = 56  # pixels of a cell's side, at least


def side_by_side(columns: Mapping[str, Tensor], path: Path) -> None:
    """Write a PNG with a row for each image and a column, with its name, for each of ``columns``.

    Each column is a batch (N, C, S, S) in [0, 1], of one or three channels.
    """
    rows = [torch.stack([_rgb(x) for x in row]) for row in zip(*columns.values(), strict=True)]
    _write(rows, path, captions=list(columns))


def tiles(images: Tensor, path: Path, across: int = 8) -> None:
    """Write a PNG of images (N, C, S, S) in [0, 1], so many in a row."""
    _write([torch.stack([_rgb(x) for x in part]) for part in images.split(across)], path)


def _rgb(x: Tensor) -> Tensor:
    """One image (C, S, S) as uint8 (S, S, 3)."""
    x = x.detach().float().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    return x.expand(3, -1, -1).permute(1, 2, 0)


def _width(caption: str) -> float:
    """Pixels that a caption takes."""
    return 2 + ImageDraw.Draw(Image.new("L", (1, 1))).textlength(caption)


def _write(rows: Sequence[Tensor], path: Path, captions: Sequence[str] = ()) -> None:
    side, across = rows[0].shape[1], max(len(row) for row in rows)
    zoom = math.ceil(max([SMALLEST, *map(_width, captions)]) / side)
    step = side * zoom + GAP
    top = CAPTION if captions else 0
    sheet = np.full((top + step * len(rows), step * across, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, cell in enumerate(row.numpy()):
            large = cell.repeat(zoom, 0).repeat(zoom, 1)
            y, x = top + i * step, j * step
            sheet[y : y + side * zoom, x : x + side * zoom] = large
    picture = Image.fromarray(sheet)
    for j, caption in enumerate(captions):
        ImageDraw.Draw(picture).text((j * step + 1, 1), caption, fill=0)
    picture.save(path, "PNG")
