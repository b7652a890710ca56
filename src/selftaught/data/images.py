"""Where images come from: folders, IDX files, NumPy archives and known data sets.

Images and labels are opened by two functions that never meet. Pre-training calls `open_images`
only; `open_labels` is for evaluation. Labels never enter pre-training.
"""

import difflib
import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selftaught.data.decode import Broken
from selftaught.data.sources import (
    ArrayImages,
    FolderImages,
    Images,
    Skipped,
    folder_name,
    recoloured,
)
from selftaught.errors import UserError
from selftaught.paths import expanded

Part = Literal["train", "test"]
IMAGES, MASKS = "images", "masks"  # folders of a part whose images have masks

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)

#: Names of a folder's parts, in any case, and what they mean.
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
STRAY = 0.1  # share of images beside class folders up to which they are there by mistake
RUNS = {"run.json", "transfer.json"}  # in folders of our own, whose pictures are no data

_DAMAGE = (zipfile.BadZipFile, zlib.error)
_BY_FLAG: dict[Part, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_BY_SPLIT: dict[Part, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_TORCHVISION: dict[str, tuple[str, dict[Part, dict[str, Any]]]] = {
    "cifar10": ("CIFAR10", _BY_FLAG),
    "cifar100": ("CIFAR100", _BY_FLAG),
    "fashionmnist": ("FashionMNIST", _BY_FLAG),
    "mnist": ("MNIST", _BY_FLAG),
    "stl10": ("STL10", _BY_SPLIT),
    "stl10-unlabeled": ("STL10", {"train": {"split": "unlabeled"}}),
    "svhn": ("SVHN", _BY_SPLIT),
}
NAMES = ("digits", *_TORCHVISION)


class Labels(NamedTuple):
    """What evaluation compares with; pre-training never sees it."""

    values: Tensor  # (N,) int64, in the order of the images
    classes: tuple[str, ...]


def open_images(
    data: str | Path, part: Part = "train", channels: Literal[1, 3] | None = None
) -> Images:
    """The images of DATA, without labels: they never meet here, `open_labels` is another function.

    With ``channels`` they are grey or in colour, as an encoder wants them, whatever they are.

    DATA is one of

    - a folder of images, at any depth; where all lie below `train/` and `test/` (or `val/`), these
      are the parts, in any case and also as `training/`, `testing/`, `valid/` or `validation/`.
      Hidden files and folders of runs are left out, links are followed, each folder is listed once.
      Where a part has `images/` and `masks/` and nothing else, what lies in `masks/` are labels;
    - a folder of IDX files as MNIST has them, gzipped or not;
    - an `.npz` file with `x`, uint8 (N, H, W) or (N, H, W, C), and perhaps `x_test`;
    - `digits`, scikit-learn's 8x8 digits, which have no test part;
    - a data set of torchvision by name (see `NAMES`), kept in `$XDG_CACHE_HOME/selftaught`
      (`~/.cache/selftaught`) and downloaded where there is a network.

    Raises `UserError`: no such data or part, nothing in it, fewer than two images, not understood.
    """
    source = _open(data, part)
    items = source.items(part)
    if len(items) < 2:
        raise UserError(f"{data} holds {len(items)} image(s) in its {part} part; give at least 2")
    if isinstance(items, np.ndarray):
        x = torch.from_numpy(items)
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        return ArrayImages(recoloured(x, channels or (1 if x.shape[1] == 1 else 3)), source.name)
    root = expanded(data)
    if part == "train" or channels:
        return FolderImages(root, items, channels)
    train = FolderImages(root, list(source.items("train")))
    return FolderImages(root, items, train.channels)


def open_labels(data: str | Path, part: Part) -> Labels | None:
    """The labels in the order of `open_images(data, part)`, or None; for evaluation only.

    In a folder they are the names of the first folders, where every image lies below one and there
    are two at least; in an `.npz` file `y` and `y_test`, integers or text. Numbered over all parts
    together, so that a class has one number. Several labels an image (`selftaught.data.tags`) and
    masks (`selftaught.data.masks`) are none of these. Raises `UserError`, also for a few images
    beside the folders.
    """
    source = _open(data, part)
    found = {p: source.labels(p) for p in source.parts}
    values = found[part]
    if values is None:
        return None
    known = [v for v in found.values() if v is not None]
    wide = [v if v.dtype.kind == "U" else v.astype(np.int64) for v in known]  # never a float
    classes = np.unique(np.concatenate(wide))
    if len(classes) < 2:
        return None
    numbers = torch.from_numpy(np.searchsorted(classes, values.astype(classes.dtype))).long()
    return Labels(numbers, tuple(map(str, classes)))


def has_part(data: str | Path, part: Part) -> bool:
    """Whether the data have that part of their own. Raises `UserError` where there are no data."""
    return part in _source(data).parts


def read_npz(path: Path, key: str) -> np.ndarray | None:
    """An array of an `.npz` file, or None. Raises `UserError` for what cannot be read."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays.get(key)
    except (OSError, ValueError, EOFError, TypeError, RuntimeError, *_DAMAGE) as error:
        raise UserError(
            f"{path} cannot be read ({error}); save it again by numpy.savez, without objects"
        ) from error


def check(images: Images) -> Skipped:
    """Decode every image and list the broken ones, as (name, reason)."""
    broken: Skipped = []
    for i, name in enumerate(images.names):
        try:
            images.read(i)
        except Broken as reason:
            broken.append((name, str(reason)))
    return broken


class _Source(NamedTuple):
    """What data hold in each part: pixels (N, H, W[, C]) or paths, and apart from them labels."""

    name: str
    parts: tuple[Part, ...]
    items: Callable[[Part], np.ndarray | list[str]]
    labels: Callable[[Part], np.ndarray | None]


def _open(data: str | Path, part: Part) -> _Source:
    source = _source(data)
    if part not in source.parts:
        raise UserError(f"{data} has no {part} part; it has {', '.join(source.parts)}")
    return source


def _source(data: str | Path) -> _Source:
    if not str(data):
        raise UserError("no data; give a folder of images, an .npz file or a known name")
    path = expanded(data)
    if os.path.isdir(path):
        return _idx(path) if _idx_file(path, "train", "images", 3) else _folder(path)
    if os.path.isfile(path) and path.suffix == ".npz":
        return _npz(path)
    if os.path.exists(path):
        raise UserError(f"{data} is not understood; give a folder of images, or an .npz file")
    if str(data) == "digits":
        return _digits()
    if str(data) in _TORCHVISION:
        return _torchvision(str(data))
    near = difflib.get_close_matches(str(data).lower(), NAMES, n=1)
    advice = f"did you mean {near[0]}?" if near else f"known names are {', '.join(NAMES)}"
    raise UserError(f"there is no folder, file or data set {data}; {advice}")


# Folders of images


def _folder(root: Path) -> _Source:
    files = _walk(root)
    if not files:
        raise UserError(
            f"{root} holds no image files ({' '.join(EXTENSIONS)}); unpack archives first"
        )
    prefixes = _prefixes(root, files)

    def below(part: Part) -> list[str]:
        start = prefixes[part]
        inside = [file for file in files if file.startswith(start)]
        first = {file.removeprefix(start).split("/")[0] for file in inside}
        start += f"{IMAGES}/" if first == {IMAGES, MASKS} else ""
        return [file for file in inside if file.startswith(start)]

    def labels(part: Part) -> np.ndarray | None:
        inside = [file.removeprefix(prefixes[part]) for file in below(part)]
        stray = [file for file in inside if "/" not in file]
        if stray and len(stray) <= STRAY * len(inside):
            raise UserError(
                f"{root / prefixes[part]} holds folders and {len(stray)} images beside them, "
                f"{stray[0]} the first; where the folders are classes, move them into one"
            )
        if stray:
            return None
        return np.array([file.split("/")[0] for file in inside])

    return _Source(folder_name(root), tuple(prefixes), below, labels)


def _prefixes(root: Path, files: list[str]) -> dict[Part, str]:
    """Where each part's files begin: `train/`, and `test/` or `val/`; or all are one part.

    Raises `UserError` where other things lie beside such two, which would make classes of them.
    """
    first = {file.split("/")[0] if "/" in file else "" for file in files}
    known = {name: PARTS[name.lower()] for name in sorted(first) if name.lower() in PARTS}
    others = sorted(first - known.keys())
    if "train" not in known.values() or (others and len(known) == 1):
        return {"train": ""}
    names = {part: name for name, part in known.items()}
    if others or len(names) < len(known):
        there = ", ".join(f"{name}/" if name else "images" for name in (*known, *others[:1]))
        raise UserError(
            f"{root} holds {there}; leave one folder of each part there and nothing else, or give "
            f"{root / names['train']}"
        )
    test = names.get("test", names.get("val"))
    parts: dict[Part, str] = {"train": f"{names['train']}/"}
    if test:
        parts["test"] = f"{test}/"
    return parts


def _walk(root: Path) -> list[str]:
    """Paths of the image files below a folder, relative and sorted; each real folder once."""
    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        path = os.path.join(root, folder)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                found = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        except OSError as error:
            raise UserError(
                f"{path} cannot be listed ({error.strerror}); mend its permissions or move it away"
            ) from error
        if any(entry.name in RUNS for entry in found):
            continue
        for entry in reversed(found):
            if _is_folder(entry):
                waiting.append(f"{folder}{entry.name}/")
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                files.append(folder + entry.name)
    return sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


# Arrays


def _digits() -> _Source:
    from sklearn.datasets import load_digits

    def pixels(part: Part) -> np.ndarray:
        x, _ = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
        return np.rint(np.asarray(x).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)

    def labels(part: Part) -> np.ndarray:
        return np.asarray(load_digits(return_X_y=True)[1])

    return _Source("digits", ("train",), pixels, labels)


def _npz(path: Path) -> _Source:
    def pixels(part: Part) -> np.ndarray:
        key = "x" if part == "train" else "x_test"
        x = read_npz(path, key)
        if x is None:
            raise UserError(f"{path} has no array {key}; save it by numpy.savez(path, x=images)")
        sound = x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))
        if x.dtype != np.uint8 or not sound or not x.size:
            raise UserError(
                f"{path}: {key} is {x.dtype} {x.shape}; it has to be uint8 (N, H, W) or "
                "(N, H, W, C) with C 1 or 3"
            )
        return x

    def labels(part: Part) -> np.ndarray | None:
        key = "y" if part == "train" else "y_test"
        y = read_npz(path, key)
        if y is not None and y.ndim == 2 and y.shape[1] > 1:
            return None  # several labels an image: `selftaught.data.tags`
        if y is not None and (y.dtype.kind not in "iuU" or y.shape != (len(pixels(part)),)):
            raise UserError(
                f"{path}: {key} is {y.dtype} {y.shape}; it has to be one integer or text an image"
            )
        return y

    parts: tuple[Part, ...] = ("train",) if read_npz(path, "x_test") is None else ("train", "test")
    return _Source(path.stem, parts, pixels, labels)


def _idx(root: Path) -> _Source:
    def pixels(part: Part) -> np.ndarray:
        file = _idx_file(root, part, "images", 3)
        assert file is not None
        return _read_idx(file, 3)

    def labels(part: Part) -> np.ndarray | None:
        file = _idx_file(root, part, "labels", 1)
        if file is None:
            return None
        values, count = _read_idx(file, 1), len(pixels(part))
        if len(values) != count:
            raise UserError(f"{file} has {len(values)} labels for {count} images; fetch it again")
        return values

    test: tuple[Part, ...] = ("test",) if _idx_file(root, "test", "images", 3) else ()
    return _Source(folder_name(root), ("train", *test), pixels, labels)


def _idx_file(root: Path, part: Part, what: str, ndim: int) -> Path | None:
    stem = "train" if part == "train" else "t10k"
    names = (f"{stem}-{what}{dot}idx{ndim}-ubyte{end}" for dot in "-." for end in ("", ".gz"))
    return next((root / name for name in names if os.path.isfile(root / name)), None)


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """The bytes of an IDX file, in its shape (http://yann.lecun.com/exdb/mnist)."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            data = file.read()
    except (OSError, EOFError, *_DAMAGE) as error:
        raise UserError(f"{path} is truncated or damaged ({error}); fetch it again") from error
    start = 4 + 4 * ndim
    if len(data) < start or data[:4] != bytes((0, 0, 8, ndim)):
        raise UserError(f"{path} is not an IDX file of bytes in {ndim} dimensions; fetch it again")
    shape = struct.unpack(f">{ndim}I", data[4:start])
    if math.prod(shape) != len(data) - start:
        raise UserError(
            f"{path} promises {math.prod(shape)} bytes and holds {len(data) - start}; "
            "fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _torchvision(name: str) -> _Source:
    kind, choices = _TORCHVISION[name]
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "selftaught"

    def load(part: Part) -> Any:
        from torchvision import datasets

        try:
            return getattr(datasets, kind)(root=cache / name, download=True, **choices[part])
        except (OSError, RuntimeError, *_DAMAGE) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{name} could not be brought to {cache / name} ({reason}); run once where there "
                "is a network, or copy that folder from there"
            ) from error

    def pixels(part: Part) -> np.ndarray:
        x = np.asarray(load(part).data)
        return x.transpose(0, 2, 3, 1) if kind in ("STL10", "SVHN") else x

    def labels(part: Part) -> np.ndarray | None:
        if name == "stl10-unlabeled":
            return None
        data = load(part)
        return np.asarray(data.labels if kind in ("STL10", "SVHN") else data.targets)

    return _Source(name, tuple(choices), pixels, labels)
