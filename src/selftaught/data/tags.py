"""Several labels an image, for evaluation only: in an `.npz` file, or in a CSV beside the files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from selftaught.data.images import Part, open_images, read_npz
from selftaught.errors import UserError
from selftaught.paths import expanded

FILE = "labels.csv"


class Tags(NamedTuple):
    """What evaluation compares with; pre-training never sees it."""

    values: Tensor  # (N, K) int8: 1 the image has the label, 0 it has not, -1 it isn't said
    classes: tuple[str, ...]


def open_tags(data: str | Path, part: Part) -> Tags | None:
    """Several labels an image in the order of `open_images(data, part)`, or None.

    In an `.npz` file they are `y` and `y_test`, integers (N, K) of 0, 1 or -1 (not said, such as
    what VOC calls difficult), perhaps with the `classes`, text (K,). In a folder they are
    ``labels.csv``: a header ``name,CLASS,...`` and a row of 0, 1 or -1 for each image, whose name
    is its path inside the folder. Raises UserError for whatever does not fit.
    """
    path = expanded(data)
    if path.is_file() and path.suffix == ".npz":
        return _npz(path, part)
    if (path / FILE).is_file():
        return _csv(path / FILE, open_images(data, part).names)
    return None


def _npz(path: Path, part: Part) -> Tags | None:
    count = len(open_images(path, part))  # which says what is wrong with the file
    key = "y" if part == "train" else "y_test"
    y, names = read_npz(path, key), read_npz(path, "classes")
    if y is None or y.ndim != 2 or y.shape[1] < 2:
        return None
    if y.dtype.kind not in "biu" or len(y) != count or not np.isin(y, (-1, 0, 1)).all():
        raise UserError(
            f"{path}: {key} is {y.dtype} {y.shape} for {count} images; several labels an image "
            "have to be integers (N, K) of 0, 1 or -1"
        )
    if names is None:
        names = np.arange(y.shape[1]).astype(str)
    if names.shape != y.shape[1:] or names.dtype.kind != "U":
        raise UserError(f"{path}: classes is {names.dtype} {names.shape}; give {y.shape[1]} texts")
    return _checked(path, y.astype(np.int8), names.tolist())


def _csv(path: Path, names: Sequence[str]) -> Tags:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); save it as CSV in UTF-8") from error
    if len(header) < 2 or header[0].strip() != "name":
        raise UserError(f"{path} has no header of name and classes; begin it with name,CLASS,...")
    found: dict[str, list[int]] = {}
    for row in rows:
        if len(row) != len(header) or any(cell.strip() not in ("-1", "0", "1") for cell in row[1:]):
            raise UserError(
                f"{path}: the row of {row[0]} is not a name and {len(header) - 1} times 0, 1 or -1"
                "; give a column to each class, or put images of one label into folders by it"
            )
        if row[0] in found:
            raise UserError(f"{path} has {row[0]} twice; leave one row")
        found[row[0]] = [int(cell) for cell in row[1:]]
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{path} has no row for {len(missing)} of {len(names)} images, {missing[0]} the first; "
            "add them, with paths inside the folder"
        )
    values = np.array([found[name] for name in names], dtype=np.int8)
    return _checked(path, values, [cell.strip() for cell in header[1:]])


def _checked(path: Path, values: np.ndarray, classes: Sequence[str]) -> Tags:
    if len(set(classes)) < len(classes) or not all(classes):
        raise UserError(f"{path} names a class twice, or not at all; give each a name of its own")
    return Tags(torch.from_numpy(values), tuple(classes))
