"""The features of every image, in a file."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from selftaught import pretrained
from selftaught.checkpoint import write_atomic
from selftaught.commands.features import features
from selftaught.commands.outputs import new_file, refuse_existing, warn_of_broken
from selftaught.commands.settings import device_of
from selftaught.data.images import Part, open_images
from selftaught.data.sources import printable
from selftaught.report.live import Tell, silent


def embed(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    part: Part = "train",
    device: str = "auto",
    tell: Tell = silent,
) -> tuple[list[str], np.ndarray]:
    """Write each image's features to ``out``; returns the names and the features (N, dim) float32.

    Of data that have a test part, ``part`` says which. A ``.parquet`` file has the columns ``name``
    and ``features``; a ``.npy`` file has the features in the order of the names, which are written
    beside it as ``.names.txt``. Broken images are left out, with a warning. ``tell`` hears how many
    are done. Raises UserError for another ending and for a file that exists.
    """
    path = new_file(out, ".parquet", ".npy")
    refuse_existing(path.with_suffix(".names.txt"))
    encoder = pretrained.load(run).to(device_of(device))
    images = open_images(data, part, encoder.pixels.channels)
    found, index = features(encoder, encoder, images, tell=tell)
    warn_of_broken(len(images), len(index))
    names = [printable(images.names[int(i)]) for i in index]
    array = found.numpy()
    if path.suffix == ".npy":
        lines = "".join(f"{name}\n" for name in names)
        write_atomic(path.with_suffix(".names.txt"), lines.encode())
    write_atomic(path, _bytes(path.suffix, names, array))
    return names, array


def _bytes(kind: str, names: list[str], array: np.ndarray) -> bytes:
    """What a file of that ending holds."""
    file = io.BytesIO()
    if kind == ".npy":
        np.save(file, array)
        return file.getvalue()
    import pyarrow as pa
    from pyarrow import parquet

    values: Any = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    parquet.write_table(pa.table({"name": names, "features": values}), file)
    return file.getvalue()
