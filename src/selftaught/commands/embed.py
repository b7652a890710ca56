"""The features of every image, in a file."""

from pathlib import Path
from typing import Any

import numpy as np

from selftaught import pretrained
from selftaught.commands.features import features
from selftaught.commands.outputs import new_file, refuse_existing
from selftaught.commands.settings import device_of
from selftaught.data.images import open_images
from selftaught.data.sources import printable
from selftaught.errors import UserError


def embed(
    run: str | Path, data: str | Path, *, out: str | Path, device: str = "auto"
) -> tuple[list[str], np.ndarray]:
    """Write each image's features to ``out``; returns the names and the features (N, dim) float32.

    A ``.parquet`` file has the columns ``name`` and ``features``; a ``.npy`` file has the features
    in the order of the names, which are written beside it as ``.names.txt``. Broken images are
    left out. Raises UserError for another ending and for a file that exists.
    """
    path = new_file(out, ".parquet", ".npy")
    refuse_existing(path.with_suffix(".names.txt"))
    encoder = pretrained.load(run).to(device_of(device))
    images = open_images(data)
    found, index = features(encoder, encoder, images)
    names = [printable(images.names[int(i)]) for i in index]
    array = found.numpy()
    try:
        _write(path, names, array)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another --out") from error
    return names, array


def _write(path: Path, names: list[str], array: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, array)
        path.with_suffix(".names.txt").write_text("".join(f"{name}\n" for name in names))
        return
    import pyarrow as pa
    from pyarrow import parquet

    values: Any = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
    parquet.write_table(pa.table({"name": names, "features": values}), path)
